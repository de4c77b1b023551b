//! The sections of a manifest (activeupdate.md, server.ini).
//!
//! Owns which names mean what, and who sees a section. Invariant: a section that nobody knows is for programs' eyes alone.

use std::sync::Arc;

use crate::manifest::catalogue::Class;

/// Who sees a section: its header, comments, blanks, and lines without a class of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Every scope: `[Server]`.
    Always,
    /// Its comments by every scope, its other lines as this class: before the first header.
    FrameAlways(Class),
    /// Scopes that see this class.
    By(Class),
}

/// A section while its lines come.
pub(super) struct OpenSection<'a> {
    pub(super) name: &'a [u8],
    /// The name as unknown lines show it, made when the first needs it.
    pub(super) shown: Option<Arc<str>>,
    pub(super) family: Family,
    /// The class of its lines. Under `[Info_...]` that of its most restricted package so far.
    pub(super) class: Option<Class>,
    pub(super) version: Option<&'a [u8]>,
    pub(super) build: Option<&'a [u8]>,
}

/// The sections that the grammar tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Before the first header.
    Loose,
    Server,
    Pattern,
    Engine,
    AllProduct,
    Info,
    Unknown,
}

impl<'a> OpenSection<'a> {
    pub(super) fn new(name: &'a [u8], family: Family) -> Self {
        Self { name, shown: None, family, class: None, version: None, build: None }
    }

    pub(super) fn class(&self) -> Class {
        match self.family {
            Family::Pattern => Class::Pattern,
            Family::Engine => Class::Engine,
            Family::Info => self.class.unwrap_or(Class::Program),
            Family::Loose | Family::Server | Family::AllProduct | Family::Unknown => Class::Program,
        }
    }

    /// `Version`, `Build`, or both with a dot between.
    pub(super) fn version(&self) -> Box<str> {
        match (self.version, self.build) {
            (Some(version), Some(build)) => joined(version, b'.', build),
            (Some(one), None) | (None, Some(one)) => lossy(one),
            (None, None) => "".into(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        match self.family {
            Family::Server => Seen::Always,
            Family::Loose => Seen::FrameAlways(self.class()),
            _ => Seen::By(self.class()),
        }
    }
}

impl Family {
    pub(super) fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("Server") {
            Self::Server
        } else if is("PATTERN") {
            Self::Pattern
        } else if is("ENGINE") {
            Self::Engine
        } else if is("All_Product") {
            Self::AllProduct
        } else if name.get(..INFO_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(INFO_PREFIX)) {
            Self::Info
        } else {
            Self::Unknown
        }
    }

    pub(super) fn makes_manifest(self) -> bool {
        matches!(self, Self::Server | Self::Pattern | Self::Engine | Self::Info)
    }
}

/// Text of a line as text, whatever its bytes.
pub(super) fn lossy(text: &[u8]) -> Box<str> {
    String::from_utf8_lossy(text).into()
}

/// Two texts of a line with a byte between.
pub(super) fn joined(before: &[u8], between: u8, after: &[u8]) -> Box<str> {
    lossy(&[before, &[between], after].concat())
}

const INFO_PREFIX: &[u8] = b"Info_";
