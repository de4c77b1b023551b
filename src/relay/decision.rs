//! What a path of a tree names, and what is decided of a request for it: once for who asks for a file, and for who asks why an agent
//! did not get it.
//!
//! Never changes anything, nor waits. Invariant: whoever explains a decision has had it made by the same code as the request.

use std::sync::Arc;
use std::time::Duration;

use crate::base::path::{PathError, TreePath};
use crate::policy::caller::Caller;
use crate::policy::decide::{Ask, Permission, Permit, Refusal};
use crate::relay::entry::{Entry, Filling, State};
use crate::relay::fill::FillError;
use crate::relay::generation::Listed;
use crate::relay::live::Live;
use crate::relay::pins::Pins;
use crate::relay::refresh::MANIFEST;
use crate::relay::snapshot::Snapshot;
use crate::relay::tree::Tree;

/// What clients ask for first; its inside is unknown, so it is always 404 and they take the manifest
/// (activeupdate.md, Tree).
const MANIFEST_ARCHIVE: &str = "ini_xml.zip";

/// What a path below a tree's base names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The manifest.
    Manifest,
    /// A file, which the tree may have or not.
    File(TreePath),
    /// Nothing, in any tree.
    Nothing,
}

impl Named {
    /// Reads what is left of a path behind a tree's base.
    pub fn parse(rest: &str) -> Result<Self, PathError> {
        Ok(match rest {
            "" | MANIFEST_ARCHIVE => Self::Nothing,
            MANIFEST => Self::Manifest,
            rest => Self::File(rest.parse()?),
        })
    }
}

/// What is decided of a request for a file, at one moment.
#[derive(Debug)]
pub struct Decision<'s> {
    /// The file in the generation that counts for who asks; `None` where no kept generation names it.
    pub listed: Option<&'s Listed>,
    /// Whether who asks may take packages now, as far as check-ins say.
    pub permission: Permission,
    /// What the policy says.
    pub said: Result<Permit, Refusal>,
}

/// Decides a request for a file. `now_secs` is monotonic.
pub fn of_file<'s>(
    live: &Live,
    tree: &Tree,
    snapshot: Option<&'s Snapshot>,
    path: &TreePath,
    caller: &Caller,
    now_secs: u64,
) -> Decision<'s> {
    let pinned = tree.pins.find(caller.pinned(), now_secs);
    let on = |number| pinned.is_some_and(|pinned| Pins::same(pinned, number));
    let listed = snapshot.and_then(|snapshot| snapshot.find(path, |generation| on(generation.number())));
    let ask = listed.map_or(Ask::Unlisted, |listed| Ask::Component(listed.class));
    let permission = live.agents.permission(caller, now_secs);
    Decision { listed, permission, said: live.policy.decide(caller, ask, permission) }
}

/// Decides a request for a manifest.
pub fn of_manifest(live: &Live, caller: &Caller) -> Result<Permit, Refusal> {
    live.policy.decide(caller, Ask::Manifest, Permission::Closed)
}

/// What a request that was allowed would find.
#[derive(Clone, Debug)]
pub enum Supply {
    /// The file is in the store.
    Held,
    /// It is being fetched, and so many of its bytes have come.
    UnderWay(u64),
    /// It is fetched when somebody asks for it.
    OnDemand,
    /// It could not be fetched a moment ago, and the upstream is not asked again yet.
    Failed(Arc<FillError>),
    /// The upstream has no such file.
    Absent,
}

impl Supply {
    /// How it is with an entry; `now` is monotonic.
    pub fn of(entry: &Entry, now: Duration) -> Self {
        match &**entry.state() {
            State::Held(..) => return Self::Held,
            State::Absent => return Self::Absent,
            State::Listed | State::Seen(_) => {}
        }
        match &*entry.filling() {
            Filling::Running(fill) => Self::UnderWay(fill.watch().borrow().written.total()),
            Filling::Failed(error, until) if now < *until => Self::Failed(error.clone()),
            Filling::None | Filling::Failed(..) => Self::OnDemand,
        }
    }
}
