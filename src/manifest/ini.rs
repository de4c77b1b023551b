//! The lines of an INI file, without losing a byte.
//!
//! Owns where lines and their parts begin and end; never says what a key means. Invariant: the parts of a line, put
//! together, are the line, and the lines are the file.

use std::fmt;

use bytes::Bytes;

/// A file as lines. Any bytes are one.
#[derive(Clone)]
pub struct Ini {
    bytes: Bytes,
    /// Where each line begins. A byte order mark stands before the first line and belongs to none.
    starts: Vec<usize>,
}

/// One line, cut into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Everything before the line's ending.
    pub content: Content<'a>,
    /// CRLF, LF, or nothing on a last line without one.
    pub ending: &'a [u8],
}

/// What a line is. Padding is spaces and tabs; a CR that no LF follows is data like any other byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// `[name]`.
    Section {
        /// Padding and the bracket before the name.
        open: &'a [u8],
        /// The name, without padding.
        name: &'a [u8],
        /// From the end of the name to the end of the line.
        close: &'a [u8],
    },
    /// `key=value`, cut at the first `=`; either may be empty.
    Pair {
        /// Padding before the key.
        indent: &'a [u8],
        /// The key, without padding.
        key: &'a [u8],
        /// `=` with the padding around it.
        equals: &'a [u8],
        /// The value, without padding.
        value: &'a [u8],
        /// Padding after the value.
        trail: &'a [u8],
    },
    /// The first byte after padding is `;`. The whole content.
    Comment(&'a [u8]),
    /// Nothing, or padding alone.
    Blank(&'a [u8]),
    /// Anything else: no `=`, or a `[` without its `]`. The whole content.
    Other(&'a [u8]),
}

impl Ini {
    /// Cuts bytes into lines.
    pub fn parse(bytes: Bytes) -> Self {
        let mut at = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut starts = Vec::new();
        for line in bytes[at..].split_inclusive(|byte| *byte == b'\n') {
            starts.push(at);
            at += line.len();
        }
        Self { bytes, starts }
    }

    /// The file as it was parsed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The byte order mark before the first line, or nothing.
    pub fn mark(&self) -> &[u8] {
        if self.bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK } else { &[] }
    }

    /// The line at an index counted from 0, uncut, with its ending.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn raw(&self, index: usize) -> &[u8] {
        let end = self.starts.get(index + 1).copied().unwrap_or(self.bytes.len());
        &self.bytes[self.starts[index]..end]
    }

    /// The line at an index counted from 0, cut into its parts.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn line(&self, index: usize) -> Line<'_> {
        Line::cut(self.raw(index))
    }

    /// All lines in order.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line<'_>> {
        (0..self.starts.len()).map(|index| self.line(index))
    }

    /// The file again, put together from the parts of its lines.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        out.extend_from_slice(self.mark());
        for line in self.lines() {
            line.print(&mut out);
        }
        out
    }
}

impl fmt::Debug for Ini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ini").field("bytes", &self.bytes.len()).field("lines", &self.starts.len()).finish()
    }
}

impl<'a> Line<'a> {
    /// Cuts one line with its ending into parts.
    fn cut(raw: &'a [u8]) -> Self {
        let (content, ending) = match raw {
            [.., b'\r', b'\n'] => raw.split_at(raw.len() - 2),
            [.., b'\n'] => raw.split_at(raw.len() - 1),
            _ => (raw, &raw[raw.len()..]),
        };
        Self { content: Content::cut(content), ending }
    }

    /// Appends the line's parts in their order.
    pub fn print(&self, out: &mut Vec<u8>) {
        let parts: &[&[u8]] = match &self.content {
            Content::Section { open, name, close } => &[open, name, close],
            Content::Pair { indent, key, equals, value, trail } => &[indent, key, equals, value, trail],
            Content::Comment(text) | Content::Blank(text) | Content::Other(text) => &[text],
        };
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(self.ending);
    }
}

impl<'a> Content<'a> {
    fn cut(text: &'a [u8]) -> Self {
        match trim_start(text) {
            [] => Self::Blank(text),
            [b';', ..] => Self::Comment(text),
            [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
                Some(close_at) => Self::cut_section(text, trim(&rest[..close_at]), text.len() - rest.len()),
                None => Self::Other(text),
            },
            _ => match text.iter().position(|byte| *byte == b'=') {
                Some(equals_at) => Self::cut_pair(text, equals_at),
                None => Self::Other(text),
            },
        }
    }

    fn cut_section(text: &'a [u8], name: &'a [u8], bracket_end: usize) -> Self {
        let padding = text[bracket_end..].len() - trim_start(&text[bracket_end..]).len();
        let (open, rest) = text.split_at(bracket_end + padding);
        let close = &rest[name.len()..];
        Self::Section { open, name, close }
    }

    fn cut_pair(text: &'a [u8], equals_at: usize) -> Self {
        let (before, after) = (&text[..equals_at], &text[equals_at + 1..]);
        let key = trim(before);
        let indent = &before[..before.len() - trim_start(before).len()];
        let padded = trim_start(after);
        let value = trim(after);
        let equals = &text[indent.len() + key.len()..text.len() - padded.len()];
        Self::Pair { indent, key, equals, value, trail: &padded[value.len()..] }
    }
}

/// Without padding on both sides.
pub fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    let end = text.iter().rposition(|byte| !is_padding(*byte)).map_or(0, |last| last + 1);
    &text[..end]
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_padding(*byte)).unwrap_or(text.len());
    &text[start..]
}

fn is_padding(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// UTF-8's mark, which some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &'static [u8]) -> Ini {
        Ini::parse(Bytes::from_static(text))
    }

    #[test]
    fn a_pair_is_cut_into_key_value_and_the_padding_between() {
        let ini = parsed(b" \tP.4 = a , b \r\n");
        let expected =
            Content::Pair { indent: b" \t", key: b"P.4", equals: b" = ", value: b"a , b", trail: b" " };
        assert_eq!(ini.line(0), Line { content: expected, ending: b"\r\n" });
    }

    #[test]
    fn a_section_keeps_what_surrounds_its_name() {
        let ini = parsed(b" [ PATTERN ] ; daily\n[]");
        let expected = Content::Section { open: b" [ ", name: b"PATTERN", close: b" ] ; daily" };
        assert_eq!(ini.line(0), Line { content: expected, ending: b"\n" });
        assert_eq!(ini.line(1).content, Content::Section { open: b"[", name: b"", close: b"]" });
    }

    #[test]
    fn kinds_are_told_by_the_first_byte_after_padding() {
        let ini = parsed(b" ;a=b\n \t\nloose\n[open=1\n=\n a= \n");
        let contents: Vec<_> = ini.lines().map(|line| line.content).collect();
        assert_eq!(
            contents[..4],
            [
                Content::Comment(b" ;a=b"),
                Content::Blank(b" \t"),
                Content::Other(b"loose"),
                Content::Other(b"[open=1"),
            ]
        );
        let empty = Content::Pair { indent: b"", key: b"", equals: b"=", value: b"", trail: b"" };
        assert_eq!(contents[4], empty);
        let valueless = Content::Pair { indent: b" ", key: b"a", equals: b"= ", value: b"", trail: b"" };
        assert_eq!(contents[5], valueless);
    }

    #[test]
    fn a_lone_cr_is_data_and_a_nul_is_too() {
        let ini = parsed(b"a=\0\r b\r\r\nc\r");
        assert_eq!(ini.lines().len(), 2);
        let Content::Pair { value, .. } = ini.line(0).content else { panic!("not a pair") };
        assert_eq!(value, b"\0\r b\r");
        assert_eq!(ini.line(1), Line { content: Content::Other(b"c\r"), ending: b"" });
    }

    #[test]
    fn a_byte_order_mark_hides_no_section() {
        let ini = parsed(b"\xef\xbb\xbf[Server]\n");
        assert!(matches!(ini.line(0).content, Content::Section { name: b"Server", .. }));
        assert_eq!(ini.print(), b"\xef\xbb\xbf[Server]\n");
    }

    proptest! {
        #[test]
        fn any_bytes_print_as_themselves(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let ini = Ini::parse(bytes.clone().into());
            prop_assert_eq!(ini.print(), bytes);
        }

        #[test]
        fn ini_like_bytes_print_as_themselves(text in "(\u{feff})?[\\[\\]=;, \t\r\nP.4a\0]{0,200}") {
            let ini = Ini::parse(text.clone().into());
            prop_assert_eq!(ini.print(), text.as_bytes());
            let raw: usize = (0..ini.lines().len()).map(|index| ini.raw(index).len()).sum();
            prop_assert_eq!(raw + ini.mark().len(), text.len());
        }
    }
}
