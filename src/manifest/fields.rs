//! What stands in one key and one value of a manifest: component ids, paths, versions, sizes (activeupdate.md, server.ini).
//!
//! Never looks beyond the one line. Invariant: a field that is read is valid; everything else is a [`FieldError`].

use thiserror::Error;

use crate::base::path::{PathError, TreePath};
use crate::manifest::ini::trim;

/// Why a value under a known key is not what the key asks for. Quoted text is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// A field is empty or not there.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// The size has other characters than digits, or is beyond 64 bits.
    #[error("size '{0}' is not a number of bytes")]
    Size(Box<str>),
    /// The path is no path inside the tree.
    #[error("path '{text}': {reason}")]
    Path {
        /// The path as it was written.
        text: Box<str>,
        /// What is wrong with it.
        reason: PathError,
    },
    /// The path is `server.ini` or `ini_xml.zip`, which no manifest lists.
    #[error("path '{0}' is the manifest's own")]
    Reserved(Box<str>),
    /// The number after `.Merge.` is not one.
    #[error("'{0}' is no number of an increment: they count from 1")]
    Number(Box<str>),
    /// The value of a merge count is not a number.
    #[error("'{0}' is no count of increments")]
    Count(Box<str>),
}

/// A key under `[PATTERN]`. `id` is digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatternKey<'a> {
    /// `P.ID`.
    Package { id: &'a [u8] },
    /// `P.ID.Merge.N`, with N as it was written.
    Increment { id: &'a [u8], number: &'a [u8] },
    /// `P.ID.MergeCountEx` or `P.ID.MergeCount`.
    Count { id: &'a [u8] },
    /// `Version`.
    Version,
    /// `Path_VSAPI`.
    Path,
    /// Nothing that the relay knows.
    Unknown,
}

/// What a line lists: a path, its size, and the version beside it (empty where the line has none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub(super) path: TreePath,
    pub(super) version: &'a [u8],
    pub(super) size: u64,
}

impl<'a> PatternKey<'a> {
    /// Reads a key without padding.
    pub(super) fn read(key: &'a [u8]) -> Self {
        if key.eq_ignore_ascii_case(b"Version") {
            return Self::Version;
        }
        if key.eq_ignore_ascii_case(b"Path_VSAPI") {
            return Self::Path;
        }
        let mut parts = key.split(|byte| *byte == b'.');
        let (Some(b"P" | b"p"), Some(id)) = (parts.next(), parts.next()) else { return Self::Unknown };
        if !is_number(id) {
            return Self::Unknown;
        }
        match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => Self::Package { id },
            (Some(merge), Some(number), None) if merge.eq_ignore_ascii_case(b"Merge") => {
                Self::Increment { id, number }
            }
            (Some(count), None, _)
                if count.eq_ignore_ascii_case(b"MergeCountEx")
                    || count.eq_ignore_ascii_case(b"MergeCount") =>
            {
                Self::Count { id }
            }
            _ => Self::Unknown,
        }
    }
}

/// Whether a key under `[ENGINE]` is `E.ID`.
pub(super) fn is_engine_key(key: &[u8]) -> bool {
    matches!(key, [b'E' | b'e', b'.', id @ ..] if is_number(id))
}

/// Reads `path,version,size`; what follows is left alone.
pub(super) fn package(value: &[u8]) -> Result<Item<'_>, FieldError> {
    let mut fields = fields(value);
    let path = path(fields.next())?;
    let version = present(fields.next(), "version")?;
    Ok(Item { path, version, size: size(fields.next())? })
}

/// Reads `label,path,version,size`; what follows (a minimum version) is left alone.
pub(super) fn engine(value: &[u8]) -> Result<(&[u8], Item<'_>), FieldError> {
    let mut fields = fields(value);
    let label = present(fields.next(), "label")?;
    let path = path(fields.next())?;
    let version = present(fields.next(), "version")?;
    Ok((label, Item { path, version, size: size(fields.next())? }))
}

/// Reads `path,size`; what follows is left alone.
pub(super) fn file(value: &[u8]) -> Result<Item<'_>, FieldError> {
    let mut fields = fields(value);
    let path = path(fields.next())?;
    Ok(Item { path, version: b"", size: size(fields.next())? })
}

/// What a value under an unknown key seems to list: the first field that is a path with a folder, the last whole number
/// after it as its size, and the field next to it, unless that is a number, as its version. A guess: nothing is an error.
pub(super) fn guess(value: &[u8]) -> Option<Item<'_>> {
    let mut fields = fields(value);
    let path =
        fields.find_map(|field| field.contains(&b'/').then(|| TreePath::parse(field).ok()).flatten())?;
    let (mut version, mut size) = (&b""[..], None);
    for (index, field) in fields.enumerate() {
        match number(field) {
            Some(bytes) => size = Some(bytes),
            None if index == 0 => version = field,
            None => {}
        }
    }
    Some(Item { path, version, size: size? })
}

/// Reads the N of `P.ID.Merge.N`: from 1.
pub(super) fn increment_number(text: &[u8]) -> Result<u32, FieldError> {
    let in_range = number(text).and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    in_range.ok_or_else(|| FieldError::Number(quote(text)))
}

/// Reads the value of a merge count.
pub(super) fn count(value: &[u8]) -> Result<u64, FieldError> {
    number(value).ok_or_else(|| FieldError::Count(quote(value)))
}

/// Whether the text is digits and nothing else.
pub(super) fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Bytes as a message or a log line can show them: escaped, and cut after [`QUOTE_BYTES_MAX`].
pub(super) fn quote(text: &[u8]) -> Box<str> {
    match text.get(..QUOTE_BYTES_MAX) {
        Some(head) if text.len() > QUOTE_BYTES_MAX => format!("{}...", head.escape_ascii()).into(),
        _ => text.escape_ascii().to_string().into(),
    }
}

fn fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

fn present<'a>(field: Option<&'a [u8]>, name: &'static str) -> Result<&'a [u8], FieldError> {
    field.filter(|field| !field.is_empty()).ok_or(FieldError::Missing(name))
}

fn path(field: Option<&[u8]>) -> Result<TreePath, FieldError> {
    let field = present(field, "path")?;
    if RESERVED.iter().any(|reserved| field.eq_ignore_ascii_case(reserved.as_bytes())) {
        return Err(FieldError::Reserved(quote(field)));
    }
    TreePath::parse(field).map_err(|reason| FieldError::Path { text: quote(field), reason })
}

fn size(field: Option<&[u8]>) -> Result<u64, FieldError> {
    let field = present(field, "size")?;
    number(field).ok_or_else(|| FieldError::Size(quote(field)))
}

/// Digits alone: `u64::from_str` would take a sign as well.
fn number(text: &[u8]) -> Option<u64> {
    if !is_number(text) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// What a message quotes of a text, in bytes: a path or a key whole, a hostile line not.
const QUOTE_BYTES_MAX: usize = 120;

/// The manifest itself, and the one that is always answered with 404 (activeupdate.md, Tree).
const RESERVED: [&str; 2] = ["server.ini", "ini_xml.zip"];

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn pattern_keys_are_read_without_case_and_their_ids_are_digits() {
        let cases: [(&[u8], PatternKey<'_>); 12] = [
            (b"P.4", PatternKey::Package { id: b"4" }),
            (b"p.48020000", PatternKey::Package { id: b"48020000" }),
            (b"P.4.Merge.14", PatternKey::Increment { id: b"4", number: b"14" }),
            (b"P.4.mErGe.x", PatternKey::Increment { id: b"4", number: b"x" }),
            (b"P.4.MergeCountEx", PatternKey::Count { id: b"4" }),
            (b"P.4.MERGECOUNT", PatternKey::Count { id: b"4" }),
            (b"version", PatternKey::Version),
            (b"PATH_vsapi", PatternKey::Path),
            (b"P.x", PatternKey::Unknown),
            (b"P.", PatternKey::Unknown),
            (b"P.4.Merge", PatternKey::Unknown),
            (b"P.4.Merge.1.2", PatternKey::Unknown),
        ];
        for (key, expected) in cases {
            assert_eq!(PatternKey::read(key), expected, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn spaces_may_follow_commas_and_an_engine_may_lack_its_minimum_version() {
        let item = Item { path: tree_path("a/b.zip"), version: b"1.0", size: 5 };
        assert_eq!(package(b"a/b.zip,\t1.0, 5"), Ok(item.clone()));
        assert_eq!(engine(b"LABEL, a/b.zip, 1.0, 5"), Ok((&b"LABEL"[..], item.clone())));
        assert_eq!(engine(b"LABEL,a/b.zip,1.0,5,0.9"), Ok((&b"LABEL"[..], item)));
    }

    #[test]
    fn a_size_is_digits_within_64_bits() {
        for text in ["12x", "-1", "+1", "0x10", "1.5", "18446744073709551616", "1 2"] {
            let refused = FieldError::Size(text.into());
            assert_eq!(file(format!("a/b,{text}").as_bytes()), Err(refused), "{text}");
        }
        assert_eq!(file(b"a/b,18446744073709551615").map(|item| item.size), Ok(u64::MAX));
    }

    #[test]
    fn a_guess_takes_the_first_path_and_the_last_number_after_it() {
        let item = |path, version, size| Some(Item { path: tree_path(path), version, size });
        let cases = [
            ("product/a.zip,7", item("product/a.zip", b"", 7)),
            ("x, 1, product/a.zip, 2.5, 3, 9, z", item("product/a.zip", b"2.5", 9)),
            ("9,product/a.zip", None),
            ("plain.zip,7", None),
            ("../a/b,7", None),
            ("http://host/a,7", None),
            ("/a/b,7", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(guess(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn a_quote_is_escaped_and_cut() {
        assert_eq!(&*quote(b"a\0\xff"), "a\\x00\\xff");
        assert_eq!(quote(&[b'a'; 5000]).len(), QUOTE_BYTES_MAX + 3);
    }
}
