//! One agent, from its arrival to its end: the manifest, then what it wants of it, file by file. One that is told checks in before, and
//! reports after.
//!
//! What it wants follows from the plan's seed, its number and the manifest that it was given; it holds no list. Never does I/O.
//! Invariant: it goes forward only, and ends after at most one walk over its menu.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use crate::load::draw::{Purpose, draw};
use crate::load::figures::Kind;
use crate::load::menu::{File, Menu};
use crate::load::plan::{Plan, Signatures};
use crate::load::told::errand::Errand;
use crate::load::told::events::Notice;
use crate::load::wanted::{Outcome, Taken, Then, Wanted};
use crate::policy::scope::Scope;

/// An agent between two requests.
#[derive(Clone, Debug)]
pub struct Agent {
    number: u32,
    scope: Scope,
    step: Step,
    tries: u8,
    failed: bool,
    /// The item at which it gives up; none has this number in an agent that does not.
    leaves_at: u32,
    /// When it arrived, from the start of the run.
    arrived: Duration,
    /// When its next request is due.
    due: Duration,
    menu: Option<Arc<Menu>>,
    /// In a box: those who come by themselves have none.
    errand: Option<Box<Errand>>,
}

/// Where an agent is; files by the number of their item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    CheckIn,
    Manifest,
    File(u32),
    Signature(u32),
    Report,
    Gone,
}

impl Agent {
    /// An agent that arrives.
    pub fn arrive(number: u32, at: Duration, plan: &Plan) -> Self {
        let scope = plan.scopes.pick(&mut draw(plan.seed, Purpose::Scope, number, 0));
        Self {
            number,
            scope,
            step: Step::Manifest,
            tries: 0,
            failed: false,
            leaves_at: NOWHERE,
            arrived: at,
            due: at,
            menu: None,
            errand: None,
        }
    }

    /// An agent that is told at this moment; it reports that it updates from this source.
    pub fn told(number: u32, notice: Notice, at: Duration, source: Arc<str>, plan: &Plan) -> Self {
        let errand = Errand::new(notice, source);
        Self { step: Step::CheckIn, errand: Some(errand.into()), ..Self::arrive(number, at, plan) }
    }

    /// Its number, counted from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// When it arrived.
    pub fn arrived(&self) -> Duration {
        self.arrived
    }

    /// When its next request is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// When it had all that it wanted, where it has something to report after that.
    pub fn ended(&self) -> Option<Duration> {
        self.errand.as_ref()?.ended()
    }

    /// Its next request; `None` when it is done.
    pub fn wanted(&self, plan: &Plan) -> Option<Wanted> {
        let of =
            |kind, path, size, drop_after| Some(Wanted { kind, path, size, drop_after, says: Bytes::new() });
        let call = |kind, says| Some(Wanted { kind, path: None, size: None, drop_after: None, says });
        match self.step {
            Step::CheckIn => call(Kind::CheckIn, self.errand.as_ref()?.check_in()),
            Step::Report => call(Kind::Report, self.errand.as_ref()?.report(self.failed, self.arrived)),
            Step::Manifest => of(Kind::Manifest, None, None, None),
            Step::Gone => None,
            Step::File(item) => {
                let file = self.file(item, plan)?;
                let kind = if file.is_increment { Kind::Increment } else { Kind::Package };
                let drop_after = (item == self.leaves_at).then(|| self.drops_after(file.size, plan));
                of(kind, Some(file.path.clone()), Some(file.size), drop_after)
            }
            Step::Signature(item) => of(Kind::Signature, self.file(item, plan)?.path.signature(), None, None),
        }
    }

    /// Whether nothing follows its next request if that goes well.
    pub fn is_at_last(&self, plan: &Plan) -> bool {
        self.step != Step::Manifest && self.after_whole(plan) == Step::Gone
    }

    /// Its request ended at this moment.
    pub fn took(&mut self, taken: Taken, now: Duration, plan: &Plan) -> Then {
        let before = self.step;
        let is_call = matches!(before, Step::CheckIn | Step::Report);
        let mut pause = None;
        self.step = match taken {
            Taken::Manifest(menu) => {
                self.menu = Some(menu);
                self.leaves_at = self.leaves_at(plan);
                self.next_from(0, plan)
            }
            Taken::Whole => self.after_whole(plan),
            Taken::GaveUp => {
                self.step = Step::Gone;
                return Then::Gone(if self.failed { Outcome::Failed } else { Outcome::GaveUp });
            }
            Taken::Failed { retry_after: Some(after), .. } if self.tries < TRIES_MAX => {
                self.tries += 1;
                pause = Some(after.min(RETRY_AFTER_MAX));
                before
            }
            // Agents call a relay again that said nothing.
            Taken::Failed { status: None, .. } if is_call && self.tries < TRIES_MAX => {
                pause = Some(self.calls_again(plan));
                self.tries += 1;
                before
            }
            Taken::Failed { .. } => {
                self.failed = true;
                match before {
                    Step::File(item) | Step::Signature(item) => self.next_from(item + 1, plan),
                    Step::Manifest => self.last(),
                    Step::CheckIn | Step::Report | Step::Gone => Step::Gone,
                }
            }
        };
        if let (Step::Report, Some(errand)) = (self.step, &mut self.errand) {
            errand.end(now);
        }
        if self.step == Step::Gone {
            return Then::Gone(if self.failed { Outcome::Failed } else { Outcome::Updated });
        }
        if self.step != before {
            self.tries = 0;
        }
        let pause = pause.unwrap_or_else(|| self.thinks(plan));
        self.due = now + pause;
        if pause.is_zero() { Then::On } else { Then::Waits }
    }

    /// So many bytes came.
    pub fn received(&mut self, bytes: u64) {
        let is_file = matches!(self.step, Step::File(_));
        if let (true, Some(errand)) = (is_file || self.step == Step::Manifest, &mut self.errand) {
            errand.received(bytes, is_file);
        }
    }

    fn after_whole(&self, plan: &Plan) -> Step {
        match self.step {
            Step::CheckIn if self.errand.as_ref().is_some_and(|errand| !errand.is_for_components()) => {
                Step::Report
            }
            Step::CheckIn => Step::Manifest,
            Step::Manifest => self.next_from(0, plan),
            Step::File(item) => {
                let signature = self.file(item, plan).and_then(|file| file.path.signature());
                match (plan.signatures, signature) {
                    (Signatures::Taken, Some(_)) => Step::Signature(item),
                    (Signatures::Left, _) | (_, None) => self.next_from(item + 1, plan),
                }
            }
            Step::Signature(item) => self.next_from(item + 1, plan),
            Step::Report | Step::Gone => Step::Gone,
        }
    }

    /// What follows the last file.
    fn last(&self) -> Step {
        if self.errand.is_some() { Step::Report } else { Step::Gone }
    }

    /// How long it waits before it calls the relay again: longer each time, half of it at random.
    fn calls_again(&self, plan: &Plan) -> Duration {
        let whole = CALL_AGAIN * 2_u32.pow(self.tries.into());
        let mut random = draw(plan.seed, Purpose::Again, self.number, u32::from(self.tries) | 1 << 31);
        whole / 2 + (whole / 2).mul_f64(random.random_range(0.0..=1.0))
    }

    /// The next file from an item on.
    fn next_from(&self, item: u32, plan: &Plan) -> Step {
        let items = self.menu.as_ref().map_or(0, |menu| menu.items().len());
        let items = u32::try_from(items).unwrap_or(NOWHERE);
        (item..items).find(|item| self.file(*item, plan).is_some()).map_or(self.last(), Step::File)
    }

    /// What it takes of an item: nothing outside its scope, and what the mix says within.
    fn file(&self, item: u32, plan: &Plan) -> Option<&File> {
        let menu = self.menu.as_ref()?;
        let listed = menu.items().get(item as usize).filter(|listed| self.scope.sees(listed.class))?;
        let mut random = draw(plan.seed, Purpose::Choice, self.number, item);
        let choice = plan.mix.pick(&mut random);
        listed.chosen(choice, &mut random)
    }

    /// The item at which it gives up, if it does: one of those that it takes.
    fn leaves_at(&self, plan: &Plan) -> u32 {
        let mut random = draw(plan.seed, Purpose::GiveUp, self.number, 0);
        if !random.random_bool(plan.give_ups.of_one()) {
            return NOWHERE;
        }
        let items = self.menu.as_ref().map_or(0, |menu| menu.items().len());
        let taken: Vec<u32> = (0..u32::try_from(items).unwrap_or(NOWHERE))
            .filter(|item| self.file(*item, plan).is_some())
            .collect();
        if taken.is_empty() { NOWHERE } else { taken[random.random_range(0..taken.len())] }
    }

    /// Between a tenth and nine tenths of a file.
    fn drops_after(&self, size: u64, plan: &Plan) -> u64 {
        let mut random = draw(plan.seed, Purpose::GiveUp, self.number, 1);
        random.random_range(size / 10..=size - size / 10)
    }

    fn thinks(&self, plan: &Plan) -> Duration {
        let place = match self.step {
            Step::Report => return Duration::ZERO,
            Step::CheckIn | Step::Manifest | Step::Gone => NOWHERE,
            Step::File(item) => item.wrapping_mul(2),
            Step::Signature(item) => item.wrapping_mul(2).wrapping_add(1),
        };
        plan.think.pick(&mut draw(plan.seed, Purpose::Think, self.number, place))
    }
}

/// No item has this number: a manifest lists far fewer.
const NOWHERE: u32 = u32::MAX;

/// How often an agent comes back for the same file when it is told to.
pub const TRIES_MAX: u8 = 5;

/// How long an agent waits, at most, before it calls a relay again that did not answer; twice as long each time.
const CALL_AGAIN: Duration = Duration::from_secs(2);

/// The longest that an agent waits when it is told to come back.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
pub(in crate::load) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::load::plan::samples::plan;
    use crate::load::plan::{Share, Think, Weights};
    use crate::manifest::catalogue::Catalogue;
    use crate::manifest::server_ini::Manifest;

    pub(in crate::load) fn menu() -> Arc<Menu> {
        let text = "[PATTERN]\nP.4=p/a.zip,3,30\nP.4.Merge.1=p/a_2.3,2,2\nP.4.Merge.2=p/a_1.3,1,3\n\
                    [ENGINE]\nE.4=VSAPI,e/b.zip,1.0.1,40,1.0\n[Info_1]\nVersion=1\nPath=product/c.zip,50\n";
        Arc::new(Menu::of(&Manifest::read(Bytes::from(text), &Catalogue::builtin()).unwrap()))
    }

    /// Plays an agent whose requests all go well; gives what it asked for, and its end.
    fn walk(number: u32, plan: &Plan) -> (Vec<String>, Outcome) {
        let mut agent = Agent::arrive(number, Duration::ZERO, plan);
        let mut asked = Vec::new();
        loop {
            let wanted = agent.wanted(plan).unwrap();
            let at_last = agent.is_at_last(plan);
            asked.push(wanted.path.map_or("server.ini".into(), |path| path.to_string()));
            let taken = match wanted {
                Wanted { kind: Kind::Manifest, .. } => Taken::Manifest(menu()),
                Wanted { drop_after: Some(after), size: Some(size), .. } => {
                    assert!(after <= size && after >= size / 10);
                    Taken::GaveUp
                }
                _ => Taken::Whole,
            };
            match agent.took(taken, Duration::ZERO, plan) {
                Then::Gone(outcome) => {
                    assert!(agent.wanted(plan).is_none());
                    assert!(at_last || asked.len() == 1 || outcome == Outcome::GaveUp);
                    return (asked, outcome);
                }
                Then::On => assert!(!at_last),
                Then::Waits => assert!(plan.think != Think::default()),
            }
        }
    }

    #[test]
    fn an_agent_takes_the_manifest_and_then_each_file_with_its_signature_r12_1() {
        let expected =
            ["server.ini", "p/a.zip", "p/a.sig", "e/b.zip", "e/b.sig", "product/c.zip", "product/c.sig"];
        assert_eq!(walk(0, &plan("full")), (expected.map(str::to_owned).into(), Outcome::Updated));
        let left = Plan { signatures: Signatures::Left, ..plan("increment") };
        let (asked, _) = walk(0, &left);
        assert!(asked[1] == "p/a_2.3" || asked[1] == "p/a_1.3", "{asked:?}");
        assert_eq!(asked[2..], ["e/b.zip", "product/c.zip"]);
        assert_eq!(walk(0, &plan("current")).0, ["server.ini"]);
    }

    #[test]
    fn a_scope_bounds_what_is_wanted_r12_1() {
        let scopes = Weights::parse("patterns", &Scope::ALL, Scope::name).unwrap();
        let patterns = Plan { scopes, signatures: Signatures::Left, ..plan("full") };
        assert_eq!(walk(0, &patterns).0, ["server.ini", "p/a.zip"]);
    }

    #[test]
    fn an_agent_comes_back_when_it_is_told_to_but_not_for_ever_r10_1() {
        let plan = plan("full");
        let mut agent = Agent::arrive(0, Duration::ZERO, &plan);
        let told = Taken::Failed { retry_after: Some(Duration::from_secs(7)), status: Some(503) };
        for times in 1..=TRIES_MAX {
            let now = Duration::from_secs(100 * u64::from(times));
            assert_eq!(agent.took(told.clone(), now, &plan), Then::Waits);
            assert_eq!(agent.due(), now + Duration::from_secs(7));
            assert_eq!(agent.wanted(&plan).unwrap().kind, Kind::Manifest);
        }
        assert_eq!(agent.took(told, Duration::ZERO, &plan), Then::Gone(Outcome::Failed));
    }

    #[test]
    fn after_an_error_an_agent_goes_on_with_the_next_file_and_has_failed_at_its_end() {
        let plan = plan("full");
        let mut agent = Agent::arrive(0, Duration::ZERO, &plan);
        agent.took(Taken::Manifest(menu()), Duration::ZERO, &plan);
        assert_eq!(
            agent.took(Taken::Failed { retry_after: None, status: Some(404) }, Duration::ZERO, &plan),
            Then::On
        );
        assert_eq!(agent.wanted(&plan).unwrap().path.unwrap().as_str(), "e/b.zip");
        agent.took(Taken::Whole, Duration::ZERO, &plan);
        agent.took(Taken::Whole, Duration::ZERO, &plan);
        agent.took(Taken::Whole, Duration::ZERO, &plan);
        let then = agent.took(Taken::Whole, Duration::ZERO, &plan);
        assert_eq!(then, Then::Gone(Outcome::Failed));
    }

    #[test]
    fn a_waiting_agent_is_small() {
        assert!(size_of::<Agent>() <= 80, "{}", size_of::<Agent>());
    }

    proptest! {
        #[test]
        fn every_agent_ends_and_plays_the_same_with_the_same_seed_r12_1(
            seed in any::<u64>(), number in 0_u32..1000, full in 0_u32..3, increment in 1_u32..3, give_ups in 0..=100,
        ) {
            let plan = Plan {
                seed,
                give_ups: Share::parse(&format!("{give_ups}%")).unwrap(),
                think: Think::parse("0s..1s").unwrap(),
                ..plan(&format!("full={full},increment={increment},current=1"))
            };
            let (asked, outcome) = walk(number, &plan);
            prop_assert_eq!((&asked, outcome), (&walk(number, &plan).0, outcome));
            prop_assert!(asked.len() <= 7);
            if give_ups == 100 && asked.len() > 1 {
                prop_assert_eq!(outcome, Outcome::GaveUp);
            }
            if give_ups == 0 {
                prop_assert_eq!(outcome, Outcome::Updated);
            }
        }
    }
}
