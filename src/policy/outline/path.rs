//! Where a domain stands, said by names: `Branches/North`.
//!
//! Invariant: a path has a name at least, and no more than domains may stand deep. Paths are in the order of trees: a domain comes
//! before what it holds, and that before its neighbours.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use crate::policy::tree::id::{DomainId, DomainName, DomainNameError};
use crate::policy::tree::{DEPTH_MAX, Tree};

/// The names from below the root down to a domain. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct DomainPath(Arc<[DomainName]>);

/// The text is no domain's path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DomainPathError {
    /// One of its names is none.
    #[error("{0}; a path is the names of domains with '/' between them, such as 'Branches/North'")]
    Name(#[from] DomainNameError),
    /// It has too many.
    #[error("it is {0} domains deep, {DEPTH_MAX} at most are allowed")]
    Deep(usize),
}

/// Stands between two names, and in none.
const BETWEEN: char = '/';

impl DomainPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, DomainPathError> {
        let deep = text.split(BETWEEN).count();
        if deep > DEPTH_MAX {
            return Err(DomainPathError::Deep(deep));
        }
        Ok(Self(text.split(BETWEEN).map(DomainName::parse).collect::<Result<_, _>>()?))
    }

    /// Its names, from below the root down.
    pub fn names(&self) -> impl Iterator<Item = &DomainName> {
        self.0.iter()
    }

    /// The domain's own name.
    pub fn name(&self) -> &DomainName {
        self.0.last().expect("a path has a name")
    }

    /// The path of what holds it; `None` right below the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        (!above.is_empty()).then(|| Self(above.into()))
    }

    fn with(above: Option<&Self>, name: &DomainName) -> Self {
        Self(above.iter().flat_map(|above| above.0.iter()).chain([name]).cloned().collect())
    }
}

/// The path of each domain.
pub(super) fn paths(tree: &Tree) -> HashMap<DomainId, DomainPath> {
    let mut paths: HashMap<DomainId, DomainPath> = HashMap::with_capacity(tree.domain_count());
    let mut waiting: Vec<_> = tree.domains_in(None).map(|(name, id)| (None, name, id)).collect();
    while let Some((above, name, id)) = waiting.pop() {
        let path = DomainPath::with(above.and_then(|above| paths.get(&above)), name);
        paths.insert(id, path);
        waiting.extend(tree.domains_in(Some(id)).map(|(name, below)| (Some(id), name, below)));
    }
    paths
}

impl TryFrom<String> for DomainPath {
    type Error = DomainPathError;

    fn try_from(text: String) -> Result<Self, DomainPathError> {
        Self::parse(&text)
    }
}

impl fmt::Display for DomainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for DomainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_and_in_the_order_of_the_tree() {
        let path = |text: &str| DomainPath::parse(text).unwrap();
        assert_eq!(path("Branches/North").to_string(), "Branches/North");
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!((path("a").parent(), path("a/b").name().as_str()), (None, "b"));
        // By letters alone, "a b" would stand between "a" and "a/b".
        assert!(path("a") < path("a/b") && path("a/b") < path("a b"));
        assert!(DomainPath::parse(&["d"; DEPTH_MAX].join("/")).is_ok());
        for text in
            ["", "/", "/a", "a/", "a//b", "a/ b", &["d"; DEPTH_MAX + 1].join("/"), &"/".repeat(1 << 20)]
        {
            let refused = DomainPath::parse(text).unwrap_err().to_string();
            assert!(refused.len() < 400, "{refused}");
        }
    }
}
