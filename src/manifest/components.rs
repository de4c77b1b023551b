//! The components of `[PATTERN]`: one package each, and increments that take an agent to it.
//!
//! Never reads a field. Invariant, once checked: each component with increments has a package, and their numbers differ.

use std::collections::HashMap;

use crate::manifest::fields::quote;
use crate::manifest::server_ini::{ManifestError, ManifestReason};

/// Components by id, each also by the index at which it first came.
#[derive(Default)]
pub(super) struct Components<'a> {
    indices: HashMap<&'a [u8], usize>,
    components: Vec<Component<'a>>,
}

struct Component<'a> {
    id: &'a [u8],
    package: Option<Package<'a>>,
    increments: Vec<Increment<'a>>,
}

struct Package<'a> {
    line: usize,
    key: &'a [u8],
    value: &'a [u8],
    version: &'a [u8],
}

struct Increment<'a> {
    number: u32,
    line: usize,
    key: &'a [u8],
}

impl<'a> Components<'a> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.components.len()
    }

    /// The index of a component, new or not. Its lines stand together, so the last is tried first.
    pub(super) fn index(&mut self, id: &'a [u8]) -> usize {
        if self.components.last().is_some_and(|last| last.id == id) {
            return self.components.len() - 1;
        }
        let next = self.components.len();
        let index = *self.indices.entry(id).or_insert(next);
        if index == next {
            self.components.push(Component { id, package: None, increments: Vec::new() });
        }
        index
    }

    /// A line gives a component its package. The same value twice is one.
    pub(super) fn package(
        &mut self,
        id: &'a [u8],
        line: usize,
        key: &'a [u8],
        value: &'a [u8],
        version: &'a [u8],
    ) -> Result<(), ManifestReason> {
        let index = self.index(id);
        let there = self.components[index].package.get_or_insert(Package { line, key, value, version });
        if there.value == value {
            return Ok(());
        }
        Err(ManifestReason::TwoPackages { key: quote(key), other: there.line })
    }

    /// A line gives a component an increment; says the component's index.
    pub(super) fn increment(&mut self, id: &'a [u8], line: usize, key: &'a [u8], number: u32) -> usize {
        let index = self.index(id);
        self.components[index].increments.push(Increment { number, line, key });
        index
    }

    /// Holds all components against the invariant, once every line has come.
    pub(super) fn check(&mut self) -> Result<(), ManifestError> {
        for component in &mut self.components {
            let Some(first) = component.increments.first() else { continue };
            if component.package.is_none() {
                let reason = ManifestReason::NoComponent { key: quote(first.key) };
                return Err(ManifestError { line: first.line, reason });
            }
            component.increments.sort_by_key(|increment| increment.number);
            for pair in component.increments.windows(2) {
                if pair[0].number == pair[1].number {
                    let reason =
                        ManifestReason::TwoIncrements { key: quote(pair[1].key), other: pair[0].line };
                    return Err(ManifestError { line: pair[1].line, reason });
                }
            }
        }
        Ok(())
    }

    /// The key and version of a checked component's package.
    pub(super) fn package_of(&self, index: usize) -> (&'a [u8], &'a [u8]) {
        let package = self.components[index].package.as_ref();
        package.map(|package| (package.key, package.version)).expect("check found each increment's package")
    }
}
