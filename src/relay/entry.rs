//! One file of a tree, as a generation names it, and how much of it the relay has.
//!
//! Generations that name the same file share the entry. Invariant: an entry's state only moves on: listed, seen, held; it
//! falls back only where its blob is lost.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use hyper::header::HeaderValue;

use crate::base::blob::BlobId;
use crate::base::path::TreePath;
use crate::base::tree::{GenerationNumber, TreeName};
use crate::base::validator::Validator;
use crate::relay::fill::{Fill, FillError};
use crate::store::blobs::BlobName;

/// What a file is to its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The full file.
    Package,
    /// What takes the component from one version to another.
    Increment,
    /// What a line that nobody knew seems to name; it need not be there.
    Guess,
    /// The `.sig` of any of these.
    Signature,
}

impl Role {
    /// The role's name in the index and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Increment => "increment",
            Self::Guess => "guess",
            Self::Signature => "signature",
        }
    }
}

/// What tells one entry from another: equal identities share an entry across generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The tree.
    pub tree: TreeName,
    /// The path in the tree.
    pub path: TreePath,
    /// What it is to its component.
    pub role: Role,
    /// The component's key in the manifest, such as `P.4`.
    pub component: Box<str>,
    /// The version that the manifest names; for an increment both versions.
    pub version: Box<str>,
    /// How many bytes the manifest says; it says nothing of signatures.
    pub size: Option<u64>,
    /// The generation that a signature belongs to (R1.7); nothing else belongs to one alone.
    pub generation: Option<GenerationNumber>,
}

/// A file of a tree.
#[derive(Debug)]
pub struct Entry {
    identity: Identity,
    state: ArcSwap<State>,
    /// What the relay had under this path before: fetched again only if the upstream says that it changed.
    prior: Option<Prior>,
    /// Guards the fill under way, or why the last one failed.
    filling: Mutex<Filling>,
    /// The hour of its last use, counted from 1; 0 is never.
    used_hour: AtomicU32,
}

/// What was held under the same path before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    /// Its bytes.
    pub blob: BlobName,
    /// What the upstream said of them.
    pub validator: Validator,
}

/// Whether an entry is being fetched.
#[derive(Debug, Default)]
pub(super) enum Filling {
    /// It is not.
    #[default]
    None,
    /// It is.
    Running(Arc<Fill>),
    /// It could not be, and is not asked for again before this monotonic time.
    Failed(Arc<FillError>, Duration),
}

/// How much of an entry the relay has.
#[derive(Clone, Debug)]
pub enum State {
    /// The manifest names it, no more is known.
    Listed,
    /// The upstream's head is known.
    Seen(Stamp),
    /// It is in the store.
    Held(BlobName, Stamp),
    /// The upstream has no such file.
    Absent,
}

/// What agents are told of an entry's state; the same from the first byte on, after the fill and after a restart (R3.1).
#[derive(Clone, Debug)]
pub struct Stamp {
    /// What the upstream said.
    pub validator: Validator,
    /// The relay's strong entity tag.
    pub etag: HeaderValue,
    /// How many bytes, where that is known.
    pub length: Option<HeaderValue>,
    /// The upstream's date, where it is one.
    pub last_modified: Option<(HeaderValue, SystemTime)>,
}

impl Entry {
    /// An entry of which nothing is known yet but the manifest and what was held before.
    pub fn new(identity: Identity, prior: Option<Prior>) -> Self {
        Self {
            identity,
            state: ArcSwap::from_pointee(State::Listed),
            prior,
            filling: Mutex::default(),
            used_hour: AtomicU32::new(0),
        }
    }

    /// What tells it from others.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its path in the tree.
    pub fn path(&self) -> &TreePath {
        &self.identity.path
    }

    /// What was held under its path before.
    pub fn prior(&self) -> Option<&Prior> {
        self.prior.as_ref()
    }

    /// How much of it the relay has now.
    pub fn state(&self) -> Guard<Arc<State>> {
        self.state.load()
    }

    /// The blob, if it is held.
    pub fn held(&self) -> Option<BlobName> {
        match &**self.state() {
            State::Held(blob, _) => Some(*blob),
            _ => None,
        }
    }

    /// The entity tag that agents are told, if the upstream was asked already.
    pub fn etag(&self) -> Option<HeaderValue> {
        match &**self.state() {
            State::Seen(stamp) | State::Held(_, stamp) => Some(stamp.etag.clone()),
            State::Listed | State::Absent => None,
        }
    }

    /// What names it in the staging folder; nothing for a signature, which is not worth going on with.
    pub fn staging_key(&self) -> Option<BlobId> {
        let Identity { tree, path, role, version, size, .. } = &self.identity;
        let size = (*size)?.to_string();
        let parts = [tree.as_str(), path.as_str(), role.name(), version, &size];
        Some(BlobId::of(parts.join("\n").as_bytes()))
    }

    /// How many bytes it has, if that is known.
    pub fn size(&self) -> Option<u64> {
        self.identity.size.or_else(|| self.held().map(|blob| blob.size))
    }

    /// Notes what the upstream's head says.
    pub fn set_seen(&self, validator: Validator) {
        self.state.store(Arc::new(State::Seen(self.stamped(validator))));
    }

    /// Notes that it is in the store.
    pub fn set_held(&self, blob: BlobName, validator: Validator) {
        let stamp = Stamp { length: Some(blob.size.into()), ..self.stamped(validator) };
        self.state.store(Arc::new(State::Held(blob, stamp)));
    }

    /// Notes that the upstream has no such file.
    pub fn set_absent(&self) {
        self.state.store(Arc::new(State::Absent));
    }

    /// Notes what the upstream's head says, unless a fill has brought the file meanwhile.
    pub fn set_probed(&self, validator: Validator) {
        let seen = Arc::new(State::Seen(self.stamped(validator)));
        self.state.rcu(|now| match **now {
            State::Listed | State::Absent | State::Seen(_) => seen.clone(),
            State::Held(..) => now.clone(),
        });
    }

    /// Notes that the blob of this state is lost: it is fetched again on demand. Nothing happens where it was already.
    /// Gives the state that it leaves.
    pub fn set_lost(&self, held: &Arc<State>) -> Option<Arc<State>> {
        let State::Held(_, stamp) = &**held else { return None };
        let lost = Arc::new(State::Seen(stamp.clone()));
        let before = self.state.compare_and_swap(held, lost.clone());
        Arc::ptr_eq(&before, held).then_some(lost)
    }

    /// Notes that the blob that was lost to this state is in the store again. Nothing happens where more is known by now.
    pub fn set_found(&self, lost: &Arc<State>, blob: BlobName) {
        if let State::Seen(stamp) = &**lost {
            self.state.compare_and_swap(lost, Arc::new(State::Held(blob, stamp.clone())));
        }
    }

    /// Has the upstream asked again at the next request, though it refused the file a moment ago.
    pub fn forget_failure(&self) {
        let mut filling = self.filling();
        if matches!(*filling, Filling::Failed(..)) {
            *filling = Filling::None;
        }
    }

    /// Notes that an agent asked for it at this monotonic time: `None` where that is known of this hour, else whether it is
    /// the first time.
    pub fn set_used(&self, now: Duration) -> Option<bool> {
        let hour = u32::try_from(now.as_secs() / 3600 + 1).unwrap_or(u32::MAX);
        // Read first: requests for a file that is in use already only share the cache line.
        if self.used_hour.load(Ordering::Relaxed) == hour {
            return None;
        }
        let before = self.used_hour.swap(hour, Ordering::Relaxed);
        (before != hour).then_some(before == 0)
    }

    /// What the index calls its kind of use.
    pub fn usage(&self) -> String {
        format!("{}/{}", self.identity.component, self.identity.role.name())
    }

    /// The fill under way, once the upstream's head is known.
    pub(super) fn fill_begun(&self) -> Option<Arc<Fill>> {
        match &*self.filling() {
            Filling::Running(fill) if fill.has_begun() => Some(fill.clone()),
            _ => None,
        }
    }

    /// The fill under way; not held across an await, nor while a task is started.
    pub(super) fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamped(&self, validator: Validator) -> Stamp {
        let Identity { tree, path, version, size, generation, .. } = &self.identity;
        let etag = entity_tag(&[
            tree.as_str(),
            path.as_str(),
            version,
            &size.map_or_else(String::new, |size| size.to_string()),
            &generation.map_or_else(String::new, |number| number.to_string()),
            validator.essence(),
        ]);
        let last_modified = validator.last_modified.as_deref().and_then(|date| {
            let time = httpdate::parse_http_date(date).ok()?;
            Some((HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok()?, time))
        });
        Stamp { validator, etag, length: size.map(HeaderValue::from), last_modified }
    }
}

/// A strong entity tag over what names a state: 128 bits of BLAKE3, each part with its length before it.
pub fn entity_tag(parts: &[&str]) -> HeaderValue {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let tag = format!("\"{}\"", &hasher.finalize().to_hex()[..32]);
    HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: Option<u64>) -> Entry {
        let identity = Identity {
            tree: TreeName::parse("activeupdate").unwrap(),
            path: TreePath::parse(b"pattern/a.zip").unwrap(),
            role: Role::Package,
            component: "P.4".into(),
            version: "1".into(),
            size: Some(3),
            generation: generation.map(GenerationNumber),
        };
        Entry::new(identity, None)
    }

    fn tag(etag: &str) -> Validator {
        Validator { etag: Some(etag.to_owned()), last_modified: None }
    }

    #[test]
    fn the_entity_tag_is_the_same_when_seen_held_and_after_a_restart_r3_1() {
        let first = entry(None);
        first.set_seen(tag("\"x\""));
        let seen = first.etag().unwrap();
        first.set_held(BlobName { id: crate::base::blob::BlobId::of(b"abc"), size: 3 }, tag("\"x\""));
        assert_eq!(first.etag().unwrap(), seen);
        let again = entry(None);
        again.set_seen(tag("\"x\""));
        assert_eq!(again.etag().unwrap(), seen);
    }

    #[test]
    fn the_entity_tag_moves_with_the_upstreams_validator_and_a_signatures_generation_r3_1() {
        let tags = [(None, "\"x\""), (None, "\"y\""), (Some(1), "\"x\""), (Some(2), "\"x\"")].map(
            |(number, etag)| {
                let entry = entry(number);
                entry.set_seen(tag(etag));
                entry.etag().unwrap()
            },
        );
        for (index, tag) in tags.iter().enumerate() {
            assert!(!tags[..index].contains(tag));
        }
    }
}
