//! The text of an outline, read and checked whole: what is wrong is told with its line, and reading goes on, so that one run tells
//! all of it.
//!
//! Never says what the tree would make of it. Invariants: an outline that was read names no domain that is not in it, and nothing
//! twice; what is read at a time is one piece of the text, however long that is.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use jiff::Timestamp;
use toml::de::{DeTable, DeValue};
use url::Url;

use crate::base::blob::BlobId;
use crate::policy::identity::Fingerprint;
use crate::policy::outline::error::{ERRORS_MAX, OutlineErrors, excerpt};
use crate::policy::outline::path::DomainPath;
use crate::policy::outline::pieces::{PIECE_BYTES_MAX, Piece, pieces};
use crate::policy::outline::section::{Notes, SECRET_HASH, Section};
use crate::policy::outline::{AgentOutline, DomainOutline, EnrolmentOutline, Outline};
use crate::policy::secret::SecretHash;
use crate::policy::sources::{Customised, Entry, Families, Range, Source};
use crate::policy::tree::admit::{check_file, check_range};
use crate::policy::tree::file::{Content, FileName};
use crate::policy::tree::id::{AgentId, DomainId, EnrolmentId};
use crate::policy::tree::keys::{Keys, Standing};
use crate::policy::tree::setting::SettingSet;

/// Bytes of a whole text: a fleet of 200,000 agents, each with a key.
pub const TEXT_BYTES_MAX: usize = 64 << 20;

/// What a text says: the outline, and the bytes of the settings files in it by their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The outline.
    pub outline: Outline,
    /// The bytes.
    pub contents: BTreeMap<BlobId, Vec<u8>>,
}

/// Reads an outline.
pub fn read(text: &str) -> Result<Read, OutlineErrors> {
    let notes = Notes::default();
    let mut reader = Reader::new(&notes);
    for piece in pieces(text) {
        reader.piece(&piece);
        if notes.is_full() {
            break;
        }
    }
    let read = reader.end();
    notes.close().map_or(Ok(read), Err)
}

/// The tables that a text may have.
const TABLES: [&str; 8] = ["root", "future", "domain", "agent", "enrolment", "range", "source", "file"];

/// What is said of a text that no parser takes.
const NOT_TOML: &str = "not valid TOML";

struct Reader<'n> {
    notes: &'n Notes,
    read: Read,
    /// Which domains are named where: they may come later.
    named: BTreeMap<DomainPath, (usize, &'static str)>,
    /// Many agents name one domain.
    paths: HashMap<String, DomainPath>,
    /// The line of each entry of the customised list.
    sources: Vec<usize>,
}

impl<'n> Reader<'n> {
    fn new(notes: &'n Notes) -> Self {
        let (named, paths) = (BTreeMap::new(), HashMap::new());
        Self { notes, read: Read::default(), named, paths, sources: Vec::new() }
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        if piece.text.len() > PIECE_BYTES_MAX {
            let reason = format!(
                "its table has more than {PIECE_BYTES_MAX} bytes: a bracket or a quote is not closed, or a header is missing"
            );
            return self.notes.refuse(piece.line, NOT_TOML, None, reason);
        }
        let table = match DeTable::parse(piece.text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let line = piece.line_of(error.span().map_or(0, |span| span.start));
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                return self.notes.refuse(line, NOT_TOML, None, message);
            }
        };
        for (key, value) in table {
            if self.notes.is_full() {
                return;
            }
            match TABLES.into_iter().find(|name| *name == key.get_ref()) {
                Some(name) => self.table(piece, name, value.span().start, value.into_inner()),
                None => {
                    let line = piece.line_of(key.span().start);
                    let reason = format!("unknown; allowed: {}", TABLES.join(", "));
                    self.notes.refuse(line, &excerpt(key.get_ref()), None, reason);
                }
            }
        }
    }

    /// What stands under one name of the top level.
    fn table(&mut self, piece: &Piece<'_>, name: &'static str, at: usize, value: DeValue<'_>) {
        let line = piece.line_of(at);
        match (name, value) {
            ("root" | "future", DeValue::Table(table)) => {
                if self.notes.is_first(name, String::new(), line) {
                    let values = Section::new(self.notes, piece, name, at, table).settings();
                    let Outline { root, future, .. } = &mut self.read.outline;
                    *(if name == "root" { root } else { future }) = values;
                }
            }
            ("root" | "future", other) => {
                self.notes.refuse_type(line, name, &other, &format!("a table, [{name}]"));
            }
            (_, DeValue::Array(items)) => {
                for item in items {
                    let at = item.span().start;
                    match item.into_inner() {
                        _ if self.notes.is_full() => return,
                        DeValue::Table(table) => {
                            self.section(name, Section::new(self.notes, piece, name, at, table));
                        }
                        other => {
                            let allowed = format!("tables, each as [[{name}]]");
                            self.notes.refuse_type(piece.line_of(at), name, &other, &allowed);
                        }
                    }
                }
            }
            (_, other) => {
                self.notes.refuse_type(line, name, &other, &format!("tables, each as [[{name}]]"));
            }
        }
    }

    fn section(&mut self, name: &str, section: Section<'_>) {
        match name {
            "domain" => self.domain(section),
            "agent" => self.agent(section),
            "enrolment" => self.enrolment(section),
            "range" => self.range(section),
            "source" => self.source(section),
            _ => self.file(section),
        }
    }

    fn domain(&mut self, mut section: Section<'_>) {
        let path: Option<DomainPath> = section.need("path");
        let id: Option<DomainId> = section.may("id");
        let started_with: SettingSet = section.may("started_with").unwrap_or_default();
        let values = section.values();
        section.end(&["path", "id", "started_with", "values"]);
        if let Some(without) = started_with.settings().find(|setting| !values.holds(*setting)) {
            let reason = "is not among the domain's values: only what is can have been started with";
            section.refuse("started_with", None, format!("'{without}' {reason}"));
        }
        let line = section.line;
        if let Some(id) = id {
            self.notes.is_first("domain.id", id.to_string(), line);
        }
        let Some(path) = path else { return };
        if self.notes.is_first("domain.path", path.to_string(), line) {
            if let Some(above) = path.parent() {
                self.name(above, line, "domain.path");
            }
            self.read.outline.domains.insert(path, DomainOutline { id, values, started_with });
        }
    }

    fn agent(&mut self, mut section: Section<'_>) {
        let id: Option<AgentId> = section.need("id");
        let domain = self.need_domain(&mut section, "agent.domain");
        let values = section.values();
        let secret: Option<SecretHash> = section.may(SECRET_HASH);
        let certificate: Option<Fingerprint> = section.may("certificate");
        let revoked = section.may("revoked") == Some(true);
        section.end(&["id", "domain", "values", SECRET_HASH, "certificate", "revoked"]);
        let line = section.line;
        if let Some(certificate) = certificate {
            self.notes.is_first("agent.certificate", certificate.to_string(), line);
        }
        let keys = Keys { secret, certificate, ..Keys::default() };
        let keys = match (revoked, keys == Keys::default()) {
            (false, true) => None,
            (false, false) => Some(keys),
            (true, true) => Some(Keys { standing: Standing::Revoked, ..keys }),
            (true, false) => {
                let reason = "an agent that is shut out has no keys: leave secret_hash and certificate out, or revoked";
                return section.refuse("revoked", Some("true"), reason);
            }
        };
        let (Some(id), Some(domain)) = (id, domain) else { return };
        if self.notes.is_first("agent.id", id.to_string(), line) {
            let values = (!values.is_empty()).then(|| values.into());
            self.read.outline.agents.insert(id, AgentOutline { domain, values, keys });
        }
    }

    fn enrolment(&mut self, mut section: Section<'_>) {
        let id: Option<EnrolmentId> = section.need("id");
        let domain = self.need_domain(&mut section, "enrolment.domain");
        let secret: Option<SecretHash> = section.need(SECRET_HASH);
        let left: Option<u32> = section.need("left");
        let until: Option<Timestamp> = section.need("until");
        let line = section.line;
        section.end(&["id", "domain", SECRET_HASH, "left", "until"]);
        let (Some(id), Some(domain), Some(secret), Some(left), Some(until)) =
            (id, domain, secret, left, until)
        else {
            return;
        };
        if self.notes.is_first("enrolment.id", id.to_string(), line) {
            self.read.outline.enrolments.insert(id, EnrolmentOutline { domain, secret, left, until });
        }
    }

    fn range(&mut self, mut section: Section<'_>) {
        let from: Option<IpNet> = section.need("from");
        let domain = self.need_domain(&mut section, "range.domain");
        let line = section.line;
        section.end(&["from", "domain"]);
        let (Some(from), Some(domain)) = (from, domain) else { return };
        if let Err(refused) = check_range(from) {
            section.refuse("from", Some(&from.to_string()), refused.to_string());
        } else if self.notes.is_first("range.from", from.to_string(), line) {
            self.read.outline.ranges.insert(from, domain);
        }
    }

    fn source(&mut self, mut section: Section<'_>) {
        let range: Option<Range> = section.need("range");
        let url: Option<Url> = section.need("url");
        let families: Families = section.may("families").unwrap_or_default();
        let line = section.line;
        section.end(&["range", "url", "families"]);
        let (Some(range), Some(url)) = (range, url) else { return };
        match Source::new(url, families) {
            Ok(source) => {
                self.read.outline.customised.push(Entry { range, source });
                self.sources.push(line);
            }
            // Its user and password would be in it.
            Err(error) => section.refuse("url", None, error.to_string()),
        }
    }

    fn file(&mut self, mut section: Section<'_>) {
        let domain: Option<DomainPath> = section.may("domain");
        let name: Option<FileName> = section.need("name");
        let text: Option<String> = section.may("text");
        let base64: Option<String> = section.may("base64");
        let line = section.line;
        section.end(&["domain", "name", "text", "base64"]);
        let bytes = match (text, base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => {
                let digits: String = digits.split_ascii_whitespace().collect();
                match STANDARD.decode(digits) {
                    Ok(bytes) => bytes,
                    Err(error) => return section.refuse("base64", None, error.to_string()),
                }
            }
            _ => {
                let reason =
                    "its bytes stand in 'text', or where they are no UTF-8 in 'base64', and in one of them";
                return section.refuse("text", None, reason);
            }
        };
        let Some(name) = name else { return };
        let content = Content { hash: BlobId::of(&bytes), bytes: bytes.len() as u64 };
        if let Err(refused) = check_file(&name, content) {
            return section.refuse("text", None, refused.to_string());
        }
        let place = domain.as_ref().map_or_else(|| format!("/{name}"), |domain| format!("{domain}/{name}"));
        if let Some(domain) = &domain {
            self.name(domain.clone(), line, "file.domain");
        }
        if self.notes.is_first("file.name", place, line) {
            self.read.outline.files.insert((domain, name), content);
            self.read.contents.insert(content.hash, bytes);
        }
    }

    /// What only the whole text shows.
    fn end(self) -> Read {
        let missing = self.named.iter().filter(|(path, _)| !self.read.outline.domains.contains_key(path));
        for (path, (line, key)) in missing.take(ERRORS_MAX) {
            let path = format!("{:?}", path.to_string());
            self.notes.refuse(
                *line,
                key,
                Some(&path),
                format!("there is no [[domain]] with the path {path}"),
            );
        }
        if let Err(error) = Customised::new(self.read.outline.customised.clone()) {
            let line = self.sources.last().copied().unwrap_or(1);
            self.notes.refuse(line, "source", None, error.to_string());
        }
        self.read
    }

    /// Notes that a domain must be in the text.
    fn name(&mut self, path: DomainPath, line: usize, key: &'static str) {
        self.named.entry(path).or_insert((line, key));
    }

    fn need_domain(&mut self, section: &mut Section<'_>, key: &'static str) -> Option<DomainPath> {
        let known = section.text("domain").and_then(|text| self.paths.get(text)).cloned();
        if known.is_some() {
            section.pass_over("domain");
            return known;
        }
        let path: DomainPath = section.need("domain")?;
        self.paths.insert(path.to_string(), path.clone());
        self.name(path.clone(), section.line, key);
        Some(path)
    }
}
