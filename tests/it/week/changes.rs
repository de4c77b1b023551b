//! What administrators and users do in a week.
//!
//! Invariant: the agent tree changes by actions alone, as over the relay's own interfaces.

use forebay::policy::check_in::Why;
use forebay::policy::tree::change::{Action, Patch, Reach};
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::{Roaming, ZoneName};
use forebay::schedule::notices::notice::StartId;

use super::fleet::{ZONES, domain, some_schedule};
use super::world::{Event, World, other};

/// Some settings change at the root, at domains or at agents; now and then agents move.
pub(super) fn change(world: &mut World) {
    let tree = world.known.compiled.tree().clone();
    let dice = &mut world.dice;
    let domains = tree.domain_count() as u64;
    let some = |dice: &mut super::dice::Dice, count: u64| {
        let all = world.machines.len() as u64;
        let picked = (0..count).map(|_| world.machines[usize::try_from(dice.within(0..all)).unwrap()].id);
        picked.collect::<Vec<_>>()
    };
    let mut patch = Patch::set(some_values(dice));
    // What is set there already is cleared at times, so that what is above counts.
    if dice.percent(20) {
        patch = Patch::clear(patch.settings().collect::<Vec<_>>());
    }
    let action = match dice.within(0..10) {
        0 => Action::SetRoot { reach: Reach::AllAgents, patch },
        1..6 => {
            let domains = vec![domain(dice.within(1..domains + 1))];
            Action::Set { domains, agents: Vec::new(), patch }
        }
        6..9 => {
            let mut agents = some(dice, 10);
            agents.sort_unstable();
            agents.dedup();
            Action::Set { domains: Vec::new(), agents, patch }
        }
        _ => {
            let mut agents = some(dice, 20);
            agents.sort_unstable();
            agents.dedup();
            Action::MoveAgents { agents, to: domain(dice.within(1..domains + 1)) }
        }
    };
    let changed = tree.changed(&[action]).unwrap();
    world.known.compiled = world.known.compiled.after(changed.tree, &changed.differences);
    world.notices.tree_changed();
    for number in 0..world.machines.len() {
        if world.machines[number].is_connected() {
            world.plan_turn(number);
        }
    }
}

fn some_values(dice: &mut super::dice::Dice) -> Values {
    let none = Values::default();
    match dice.within(0..8) {
        0 | 1 => Values { schedule: Some(some_schedule(dice)), ..none },
        2 => Values { scheduled_updates: Some(dice.percent(60).into()), ..none },
        3 => Values { update_on_generation: Some(dice.percent(50).into()), ..none },
        4 => Values { update_on_start: Some(dice.percent(50).into()), ..none },
        5 => Values { time_zone: Some(ZoneName::parse(dice.one_of::<&str>(&ZONES)).unwrap()), ..none },
        6 => {
            let roaming = [Roaming::AsDeclared, Roaming::Always, Roaming::Never];
            Values { roaming: Some(*dice.one_of(&roaming)), ..none }
        }
        _ => Values { toggle_schedule: Some(dice.percent(50).into()), ..none },
    }
}

/// An administrator has some agents update: a few, those of a domain, or all that are not up to date.
pub(super) fn start(world: &mut World) {
    if !world.is_up {
        return;
    }
    let picked = if world.is_quiet() { 9 } else { world.dice.within(0..10) };
    let of = domain(world.dice.within(1..4));
    let chosen: Vec<_> = (0..world.machines.len())
        .filter(|number| {
            let machine = &world.machines[*number];
            match picked {
                0..4 => world.dice.percent(5),
                4..7 => {
                    world.known.compiled.tree().agent(&machine.id).is_some_and(|agent| agent.domain == of)
                }
                _ => machine.has < world.generation,
            }
        })
        .collect();
    let start = world.notices.next_start();
    let ids = chosen.iter().map(|number| world.machines[*number].id);
    let records = world.notices.start(start, ids, world.now).unwrap();
    world.rules.started(start, chosen.into_iter(), world.now);
    world.write(&records);
    world.started_last |= world.is_quiet();
    if !world.is_quiet() && world.dice.percent(30) {
        let time = world.dice.secs(10..8 * 3600);
        world.after(time, Event::Cancel(start));
    }
}

pub(super) fn cancel(world: &mut World, start: StartId) {
    if world.is_up {
        let records = world.notices.cancel(start);
        world.rules.cancelled(start);
        world.write(&records);
    }
}

/// A user takes the machine along, switches its schedule, or wants to update.
pub(super) fn user_acts(world: &mut World, number: usize) {
    let machine = &mut world.machines[number];
    match world.dice.within(0..3) {
        0 => machine.roaming = other(machine.roaming),
        1 => {
            machine.switch = other(machine.switch);
            if machine.is_connected() {
                world.known.switches[number] = machine.switch;
                let id = machine.id;
                world.notices.agent_changed(&id);
                world.plan_turn(number);
            }
        }
        _ => {
            if machine.is_connected() && machine.update.is_none() && world.admits(number, Why::UpdateNow) {
                world.begin(number, None);
            }
        }
    }
}
