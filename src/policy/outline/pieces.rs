//! The text of an outline in pieces that are TOML by themselves: each begins with a header such as `[[agent]]`.
//!
//! A parser keeps some 60 bytes for each sign of a text: of a whole file that would be gigabytes. Never says what is valid: a piece
//! that was cut in the wrong place is one that no parser takes. Invariant: the pieces together are the text.

/// Bytes of a piece: the largest is a settings file, of 1 MiB and a third of that in base64.
pub(super) const PIECE_BYTES_MAX: usize = 2 << 20;

/// Some lines of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    pub(super) text: &'t str,
    /// The number of its first line, counted from 1.
    pub(super) line: usize,
    /// Where its lines end: it may have more tables than anybody would count lines for, one by one.
    ends: Vec<usize>,
}

impl Piece<'_> {
    /// The line of the text in which a byte of the piece is.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.line + self.ends.partition_point(|end| *end < at)
    }
}

/// Cuts a text before each header that does not go on with the one before it: `[agent.values]` does.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let (mut begin, mut line) = (0, 1);
    let mut cutter = Cutter { bytes: text.as_bytes(), at: 0, open: 0 };
    std::iter::from_fn(move || {
        let rest = text.get(begin..).filter(|rest| !rest.is_empty())?;
        let end = cutter.next_header().unwrap_or(text.len());
        // Headers begin with ASCII, so cuts are between characters.
        let text = text.get(begin..end).unwrap_or(rest);
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
        // What is too large is refused as it is.
        let ends: Vec<_> = if text.len() <= PIECE_BYTES_MAX { ends.collect() } else { Vec::new() };
        let piece = Piece { text, line, ends };
        line += text.bytes().filter(|byte| *byte == b'\n').count();
        begin = end;
        Some(piece)
    })
}

/// Follows the text as far as it must to know whether a line begins outside of strings and brackets.
struct Cutter<'t> {
    bytes: &'t [u8],
    at: usize,
    /// Brackets and braces that are open.
    open: usize,
}

impl Cutter<'_> {
    /// Where the next line with a header of its own begins.
    fn next_header(&mut self) -> Option<usize> {
        while self.at < self.bytes.len() {
            self.skip_line();
            if self.open == 0 && self.begins_piece() {
                return Some(self.at);
            }
        }
        None
    }

    fn begins_piece(&self) -> bool {
        let rest = &self.bytes[self.at..];
        let indent = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let Some(header) = rest[indent..].strip_prefix(b"[") else { return false };
        // A name with a dot goes on with what is before it.
        !header.iter().take_while(|byte| !matches!(byte, b']' | b'\n')).any(|byte| *byte == b'.')
    }

    /// Goes behind the end of the line, and of lines that end within a string.
    fn skip_line(&mut self) {
        while let Some(byte) = self.bytes.get(self.at).copied() {
            self.at += 1;
            match byte {
                b'\n' => return,
                b'#' => self.skip_to(|byte| byte == b'\n'),
                b'"' | b'\'' => self.skip_string(byte),
                b'[' | b'{' => self.open += 1,
                b']' | b'}' => self.open = self.open.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Goes to the next byte like this, which is not read yet.
    fn skip_to(&mut self, is_it: impl Fn(u8) -> bool) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|byte| is_it(*byte)).unwrap_or(rest.len());
    }

    /// Goes behind a string whose first quote was read.
    fn skip_string(&mut self, quote: u8) {
        let several = self.bytes[self.at..].starts_with(&[quote, quote]);
        self.at += if several { 2 } else { 0 };
        loop {
            self.skip_to(|byte| byte == quote || byte == b'\\' || byte == b'\n');
            match self.bytes.get(self.at).copied() {
                None => return,
                Some(b'\\') if quote == b'"' => self.at = self.bytes.len().min(self.at + 2),
                // It is no string then, and the parser says so.
                Some(b'\n') if !several => return,
                Some(byte) if byte == quote => {
                    let quotes =
                        self.bytes[self.at..].iter().take(5).take_while(|byte| **byte == quote).count();
                    if !several || quotes >= 3 {
                        self.at += if several { quotes } else { 1 };
                        return;
                    }
                    self.at += quotes;
                }
                Some(_) => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        pieces(text).map(|piece| piece.text).collect()
    }

    #[test]
    fn a_text_is_cut_before_each_header_and_nowhere_within_a_value() {
        let all = [
            "# head\nx.y = 1\n",
            "[root]\nscope = \"[[agent]]\" # it's\n",
            "[[agent]]\nid = 'a\\'\n[agent.values]\nx = 1\n",
            "  [[agent]]\nlist = [\n[1],\n[\"]\"],\n]\nz = { a = [\n1 ] }\n",
            "[[file]]\ntext = \"\"\"\n[[agent]]\n\\\"\"\"\n[root]\n\"\"\"\"\"\n",
            "[[file]]\ntext = '''\n[[agent]]\n\\'''\n",
            "[[file]]\ntext = \"\"\n",
            "[end]",
        ];
        assert_eq!(cut(&all.concat()), all);
        let lines: Vec<_> = pieces(&all.concat()).map(|piece| piece.line).collect();
        assert_eq!(lines, [1, 3, 5, 9, 16, 22, 26, 28]);
    }

    proptest! {
        #[test]
        fn the_pieces_of_any_text_are_the_text(text in "([\\[\\]{}\"'\\\\#\\n a.=\u{fc}]|\"\"\"|''')*") {
            prop_assert_eq!(cut(&text).concat(), text);
        }

        /// What a parser makes of the whole, it makes of the pieces one after the other.
        #[test]
        fn a_text_that_is_toml_is_cut_into_toml(
            values in prop::collection::vec("[\\[\\]{}\"'\\\\#\\n a.=\u{fc}]{0,12}", 0..6),
            several in any::<bool>(),
        ) {
            let mut text = String::new();
            for value in &values {
                let quoted = toml::Value::String(value.clone()).to_string();
                let quoted = if several && !value.contains("'''") && !value.ends_with('\'') {
                    format!("'''\n{value}'''")
                } else {
                    quoted
                };
                text.extend(["[[a]]\nv = ", &*quoted, "\nw = [\n[1],\n]\n"]);
            }
            let whole: toml::Table = text.parse().unwrap();
            let mut together = Vec::new();
            for piece in cut(&text) {
                let table: toml::Table = piece.parse().unwrap();
                together.extend(table["a"].as_array().unwrap().clone());
            }
            let whole = whole.get("a").and_then(|all| all.as_array().cloned()).unwrap_or_default();
            prop_assert_eq!(whole.len(), values.len());
            prop_assert_eq!(together, whole);
        }
    }
}
