//! The agent tree on the disk (R5.4; design.md, invariants 2 and 3): what was acknowledged is there after whatever end, none half,
//! none twice.
//!
//! `keeps`: restarts, the audit log, snapshots; `cuts`: journals that are cut or damaged anywhere; `faults`: each step on the disk
//! failed, torn and lost; `kill`: SIGKILL in a stream of changes (`FOREBAY_CRASHES=all` for 200 of them); `power`: cuts of
//! power (10 of them); `group`: many changes, few syncs.

mod cuts;
mod faults;
mod group;
mod keeps;
mod kill;
mod power;

use std::path::Path;
use std::sync::{Arc, Mutex};

use forebay::base::clock::SystemClock;
use forebay::disk::Disk;
use forebay::policy::scope::Scope;
use forebay::policy::secret::SecretHash;
use forebay::policy::tree::Tree;
use forebay::policy::tree::change::{Action, Patch, Reach};
use forebay::policy::tree::id::{AgentId, DomainId, DomainName};
use forebay::policy::tree::keys::Key;
use forebay::policy::tree::refused::Refused;
use forebay::policy::tree::setting::Values;
use forebay::state::load::LoadError;
use forebay::state::record::{Author, Serial};
use forebay::state::{Done, Keep, State};

fn open(folder: &Path, disk: &Disk, keep: Keep) -> Result<State, LoadError> {
    State::open(disk, folder, keep, Arc::new(SystemClock::default()))
}

fn opened(folder: &Path) -> State {
    open(folder, &Disk::default(), Keep::default()).unwrap()
}

/// A snapshot after every few changes.
const OFTEN: Keep = Keep { journal_bytes_max: 2_000, audit_bytes_max: 10_000 };

fn author() -> Author {
    Author::parse("a test").unwrap()
}

fn domain(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

fn agent(number: u64) -> AgentId {
    AgentId::parse(&format!("a{number}")).unwrap()
}

fn scoped(scope: Scope) -> Patch {
    Patch::set(Values { scope: Some(scope), ..Values::default() })
}

/// The change of this number of a stream that never ends: each has its number and differs from every other, and most name two
/// agents, so that half of one shows. The first makes two domains.
fn numbered(number: u64) -> Vec<Action> {
    let name = |number: u32| DomainName::parse(&format!("d{number}")).unwrap();
    let add = |number: u32, parent| Action::AddDomain {
        domain: domain(number),
        name: name(number),
        parent,
        values: Values::default(),
    };
    let add_agent =
        |number, domain| Action::AddAgent { agent: agent(number), domain, values: Values::default() };
    let scope = Scope::ALL[usize::try_from(number % 3).unwrap()];
    match number {
        1 => vec![add(1, None), add(2, Some(domain(1)))],
        _ if number.is_multiple_of(10) => {
            let reach = if number.is_multiple_of(20) { Reach::AllAgents } else { Reach::FutureDomainsOnly };
            vec![Action::SetRoot { reach, patch: scoped(scope) }, add_agent(number, domain(2))]
        }
        _ if number.is_multiple_of(7) => {
            let agents = vec![agent(number), agent(1_000_000 + number)];
            let values = Values { scope: Some(scope), ..Values::default() };
            vec![
                Action::AddAgent { agent: agents[0], domain: domain(1), values },
                add_agent(1_000_000 + number, domain(1)),
                Action::MoveAgents { agents, to: domain(2) },
            ]
        }
        _ => {
            let key = Key::Secret(SecretHash::of(&number.to_le_bytes()));
            let give = Action::GiveKey { agent: agent(number), key };
            vec![add_agent(number, domain(1)), give, add_agent(1_000_000 + number, domain(2))]
        }
    }
}

/// The tree after so many of them; each is made once.
fn after(changes: u64) -> Tree {
    static MADE: Mutex<Vec<Tree>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap();
    while made.len() as u64 <= changes {
        let next = match made.last() {
            Some(last) => last.changed(&numbered(made.len() as u64)).unwrap().tree,
            None => Tree::default(),
        };
        made.push(next);
    }
    made[usize::try_from(changes).unwrap()].clone()
}

/// Makes the next change of the stream, whatever the tree has so far.
fn make_next(state: &State) -> Result<Done, forebay::state::ChangeError> {
    state.plan(author(), |tree: &Tree| Ok::<_, Refused>(numbered(next_of(tree)))).unwrap().wait()
}

/// Which change of the stream comes next.
fn next_of(tree: &Tree) -> u64 {
    if tree.domain_count() == 0 {
        return 1;
    }
    let numbers = tree.agents().map(|(id, _)| id.as_str()[1..].parse::<u64>().unwrap());
    numbers.filter(|number| *number < 1_000_000).max().map_or(2, |last| last + 1)
}

/// The tree of a folder is that after so many changes of the stream, no more and no less; gives how many.
fn check(folder: &Path) -> u64 {
    let state = opened(folder);
    let current = state.current();
    let changes = next_of(current.tree()) - 1;
    assert_eq!(current.tree(), &after(changes), "after {changes} changes");
    let done = make_next(&state).unwrap();
    assert_eq!(done.serial, Some(Serial(changes + 1)), "the journal goes on");
    drop(state);
    assert_eq!(opened(folder).current().tree(), &after(changes + 1));
    changes
}
