//! The path of a file inside a tree, such as `pattern/icrc/ioth1668300.zip`.
//!
//! Owns the one rule for what may stand in such a path; manifests, requests and directories all pass through it.
//! Invariant: a `TreePath` joined to a folder names a place inside that folder.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS};
use thiserror::Error;

/// The longest path of a tree, in bytes: ActiveUpdate's stay under 120, file systems end at 4,096.
pub const PATH_BYTES_MAX: usize = 1024;

/// The longest name of one file or folder, in bytes, as file systems have it.
pub const SEGMENT_BYTES_MAX: usize = 255;

/// A relative path of `/`-separated names. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath(Arc<str>);

/// Why bytes are no path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// Nothing there.
    #[error("the path is empty")]
    Empty,
    /// Longer than [`PATH_BYTES_MAX`], or a name in it longer than [`SEGMENT_BYTES_MAX`].
    #[error("the path is too long (a path has at most 1024 bytes, a name in it 255)")]
    TooLong,
    /// Starts with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// `//`, or `/` at the end.
    #[error("the path has an empty name in it")]
    EmptySegment,
    /// `.` or `..`.
    #[error("the path has '.' or '..' in it")]
    Dots,
    /// A control character, NUL, a backslash or bytes that are not UTF-8.
    #[error("the path has a control character, a backslash or bytes that are not UTF-8 in it")]
    Character,
}

impl TreePath {
    /// Reads a path as it stands in a manifest, or in a request once percent-decoded.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        str::from_utf8(bytes).map_err(|_| PathError::Character)?.parse()
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where this file's signature lies: the last extension replaced by `.sig` (activeupdate.md, Tree).
    /// `None` for a path that is a signature already.
    pub fn signature(&self) -> Option<Self> {
        let name_at = self.0.rfind('/').map_or(0, |slash| slash + 1);
        let stem = match self.0[name_at..].rfind('.') {
            Some(dot) if dot > 0 => &self.0[..name_at + dot],
            _ => &self.0[..],
        };
        let signature = format!("{stem}.sig");
        (signature != *self.0).then(|| Self(signature.into()))
    }
}

impl FromStr for TreePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if !is_surely_plain(text) && text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(PathError::Character);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        for segment in text.as_bytes().split(|byte| *byte == b'/') {
            match segment {
                b"" => return Err(PathError::EmptySegment),
                b"." | b".." => return Err(PathError::Dots),
                long if long.len() > SEGMENT_BYTES_MAX => return Err(PathError::TooLong),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }
}

/// Whether all of it is printable ASCII without a backslash.
fn is_surely_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'[' | b']'..=b'~'))
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for TreePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for TreePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for TreePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// What may not stand in a URL's path as it is (RFC 3986 section 3.3).
pub const PATH_ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn signature_replaces_the_last_extension_only() {
        let cases = [
            ("pattern/vsapi349.zip", Some("pattern/vsapi349.sig")),
            ("pattern/icrc/ioth_1669700.1669900", Some("pattern/icrc/ioth_1669700.sig")),
            ("engine/v6.2/plain", Some("engine/v6.2/plain.sig")),
            ("a/.hidden", Some("a/.hidden.sig")),
            ("pattern/vsapi349.sig", None),
        ];
        for (from, to) in cases {
            assert_eq!(path(from).signature(), to.map(path), "{from}");
        }
    }

    #[test]
    fn paths_that_could_leave_the_tree_are_refused() {
        let cases: [(&[u8], PathError); 12] = [
            (b"", PathError::Empty),
            (b"/etc/passwd", PathError::Absolute),
            (b"..", PathError::Dots),
            (b"pattern/../../etc", PathError::Dots),
            (b"./x", PathError::Dots),
            (b"a//b", PathError::EmptySegment),
            (b"a/", PathError::EmptySegment),
            (b"a\\..\\b", PathError::Character),
            (b"a\0b", PathError::Character),
            (b"a\nb", PathError::Character),
            (b"\xff", PathError::Character),
            (&[b'a'; 2000], PathError::TooLong),
        ];
        for (bytes, error) in cases {
            assert_eq!(TreePath::parse(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }
}
