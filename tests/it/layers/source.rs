//! A Rust file as the names in it: every path, with uses unfolded and `self` and `super` resolved.
//!
//! Reads tokens, not grammar: comments, strings and character literals are dropped, braces count modules. Invariant: what
//! is dropped never holds code, so that nothing imported is missed; a path that is no import may be read as one.

use std::path::Path;

/// The names in a file.
#[derive(Debug)]
pub(super) struct Source {
    /// The folder below src/, or the name of a file right below it; `crate` for src/lib.rs.
    pub(super) folder: String,
    pub(super) names: Vec<Name>,
}

/// A path in the code.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) line: usize,
    /// As the file says it, a use unfolded.
    pub(super) path: String,
    /// The folder that it leads to, when it leads into the crate.
    pub(super) target: Option<String>,
    /// In a module compiled for tests only.
    pub(super) in_tests: bool,
    /// The module is declared here, by `mod name;`.
    pub(super) declares: bool,
}

impl Name {
    /// Whether these segments, joined by `::`, stand side by side in the path.
    pub(super) fn holds(&self, wanted: &str) -> bool {
        let wanted: Vec<_> = wanted.split("::").collect();
        let segments: Vec<_> = self.path.split("::").collect();
        segments.windows(wanted.len()).any(|window| window == wanted)
    }
}

/// The folder that a path below src/ belongs to.
pub(super) fn folder(path: &Path) -> String {
    let first = path.iter().next().unwrap_or_default().to_string_lossy();
    match first.strip_suffix(".rs").unwrap_or(&first) {
        "lib" => "crate".into(),
        name => name.into(),
    }
}

impl Source {
    /// Reads a file, given by its path below src/ and its text.
    pub(super) fn read(path: &Path, text: &str) -> Self {
        let folder = folder(path);
        let mut module: Vec<String> =
            path.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        let tokens = tokens(text);
        let mut reader = Reader {
            folder: &folder,
            tokens: &tokens,
            at: 0,
            module,
            inline: Vec::new(),
            depth: 0,
            names: Vec::new(),
        };
        reader.file();
        let names = reader.names;
        Self { folder, names }
    }
}

struct Reader<'a> {
    folder: &'a str,
    tokens: &'a [Token],
    at: usize,
    /// The module that the reader is in, from the crate's root.
    module: Vec<String>,
    /// Modules written out in the file that are open: the depth of braces around each, and whether it is for tests.
    inline: Vec<(usize, bool)>,
    depth: usize,
    names: Vec<Name>,
}

impl Reader<'_> {
    fn file(&mut self) {
        let mut for_tests = false;
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "#" if self.says(&["#", "[", "cfg", "(", "test", ")", "]"]) => {
                    for_tests = true;
                    self.at += 7;
                }
                "mod" => self.module_begins(std::mem::take(&mut for_tests)),
                "use" => {
                    for_tests = false;
                    self.at += 1;
                    self.tree(&[]);
                }
                "{" => {
                    for_tests = false;
                    self.depth += 1;
                    self.at += 1;
                }
                ";" => {
                    for_tests = false;
                    self.at += 1;
                }
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline.pop_if(|(depth, _)| *depth == self.depth).is_some() {
                        self.module.pop();
                    }
                    self.at += 1;
                }
                _ if token.is_word() => self.path(),
                _ => self.at += 1,
            }
        }
    }

    fn says(&self, texts: &[&str]) -> bool {
        texts.iter().enumerate().all(|(index, text)| self.text(self.at + index) == *text)
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// `mod name;` or `mod name {`.
    fn module_begins(&mut self, for_tests: bool) {
        let name = self.text(self.at + 1).to_owned();
        if self.text(self.at + 2) == "{" {
            self.inline.push((self.depth, for_tests));
            self.depth += 1;
            self.module.push(name);
        } else {
            let mut path = self.module.clone();
            path.insert(0, "crate".into());
            path.push(name);
            self.note(&path, true);
        }
        self.at += 3;
    }

    /// A path in code: words joined by `::`.
    fn path(&mut self) {
        let mut path = vec![self.text(self.at).to_owned()];
        self.at += 1;
        while self.text(self.at) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            path.push(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        // A keyword alone is a visibility: `pub(crate)`.
        if path != ["crate"] {
            self.note(&path, false);
        }
    }

    /// The tree of a use, behind a prefix: unfolded into its paths.
    fn tree(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        loop {
            match self.text(self.at) {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(self.at), "}" | "") {
                        self.tree(&path);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "as" => {
                    self.note(&path, false);
                    self.at += 2;
                    return;
                }
                word if word == "*" || self.tokens.get(self.at).is_some_and(Token::is_word) => {
                    path.push(word.to_owned());
                    self.at += 1;
                }
                _ => {
                    self.note(&path, false);
                    return;
                }
            }
        }
    }

    fn note(&mut self, path: &[String], declares: bool) {
        let line = self.tokens[(self.at.max(1) - 1).min(self.tokens.len() - 1)].line;
        let target = self.target(path);
        let in_tests = self.inline.iter().any(|(_, for_tests)| *for_tests);
        self.names.push(Name { line, path: path.join("::"), target, in_tests, declares });
    }

    /// The folder that a path leads to, if it begins at a place in the crate.
    fn target(&self, path: &[String]) -> Option<String> {
        // The binary sees the library as an outside crate.
        let mut base = match path.first().map(String::as_str)? {
            "crate" | "forebay" => Vec::new(),
            "self" | "super" if path.len() > 1 => self.module.clone(),
            _ => return None,
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "forebay" | "self" => {}
                "super" => {
                    base.pop();
                }
                name => base.push(name.to_owned()),
            }
        }
        match base.first() {
            // `use crate::{self as root}` and the like give the whole crate away.
            None => Some(if path.iter().any(|segment| segment == "super") && self.module.is_empty() {
                self.folder.to_owned()
            } else {
                "crate".into()
            }),
            // Types and constants right in src/lib.rs.
            Some(name) if name.starts_with(char::is_uppercase) || name == "*" => Some("crate".into()),
            // Inside a file right below src/ that has no module of its own: src/main.rs.
            Some(_) if self.folder == "main" && matches!(path[0].as_str(), "self" | "super") => {
                Some("main".into())
            }
            Some(name) => Some(name.clone()),
        }
    }
}

/// A word, `::`, or one character.
#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut left = text;
    let mut line = 1;
    while let Some(first) = left.chars().next() {
        let skipped = skipped(left);
        if skipped > 0 {
            line += left[..skipped].matches('\n').count();
            left = &left[skipped..];
            continue;
        }
        let word = left.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(left.len());
        let length = if word > 0 {
            word
        } else if left.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(Token { text: left[..length].to_owned(), line });
        left = &left[length..];
    }
    tokens
}

/// How many bytes at the beginning are no code: space, a comment, a string or a character.
fn skipped(left: &str) -> usize {
    let bytes = left.as_bytes();
    let space = left.len() - left.trim_start().len();
    if space > 0 {
        return space;
    }
    if left.starts_with("//") {
        return left.find('\n').unwrap_or(left.len());
    }
    if left.starts_with("/*") {
        return block_comment(left);
    }
    for prefix in ["br", "cr", "r"] {
        if let Some(rest) = left.strip_prefix(prefix) {
            let hashes = rest.len() - rest.trim_start_matches('#').len();
            if rest[hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let body = &rest[hashes + 1..];
                let length = body.find(&end).map_or(body.len(), |at| at + end.len());
                return prefix.len() + hashes + 1 + length;
            }
        }
    }
    let quote = usize::from(matches!(bytes, [b'b' | b'c', b'"' | b'\'', ..]));
    match bytes[quote] {
        b'"' => quoted(left, quote, b'"'),
        // A lifetime has no closing quote right after its first letter.
        b'\'' if bytes.get(quote + 1) == Some(&b'\\') => quoted(left, quote, b'\''),
        b'\'' => {
            let letter = left[quote + 1..].chars().next().map_or(0, char::len_utf8);
            if bytes.get(quote + 1 + letter) == Some(&b'\'') { quote + letter + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted(left: &str, open: usize, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in left.bytes().enumerate().skip(open + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    left.len()
}

/// Block comments nest.
fn block_comment(left: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < left.len() {
        let two = &left.as_bytes()[at..(at + 2).min(left.len())];
        match two {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    left.len()
}
