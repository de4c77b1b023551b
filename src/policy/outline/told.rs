//! What a change of the tree means, in words for the person who is to say yes to it: how many of each kind, then setting by setting.
//!
//! Invariants: what is removed is said in capitals and counted whole, however short the list is kept; no secret is in it, nor the
//! hash of one.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use crate::policy::outline::path::{DomainPath, paths};
use crate::policy::outline::write::value;
use crate::policy::sources::{Entry, Range};
use crate::policy::tree::change::Changed;
use crate::policy::tree::difference::Difference;
use crate::policy::tree::enrolment::Enrolment;
use crate::policy::tree::file::SettingsFile;
use crate::policy::tree::id::DomainId;
use crate::policy::tree::keys::{Keys, Standing};
use crate::policy::tree::setting::{Setting, SettingSet, Values};
use crate::policy::tree::{Agent, Domain, Tree};

/// Things of one kind that are told one by one.
const TOLD_MAX: usize = 20;

/// What becomes of a thing, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Removed,
    Added,
    Changed,
}

/// A kind of thing: how one and several are called. In the order in which they are told.
const KINDS: [(&str, &str); 8] = [
    ("root", "root"),
    ("future domains", "future domains"),
    ("domain", "domains"),
    ("agent", "agents"),
    ("enrolment", "enrolments"),
    ("range", "ranges"),
    ("update source", "update sources"),
    ("settings file", "settings files"),
];

/// Tells a change in lines, of which the first counts; none where nothing changes.
pub fn told(before: &Tree, changed: &Changed) -> Vec<String> {
    let mut teller = Teller { before: paths(before), after: paths(&changed.tree), told: BTreeMap::new() };
    for difference in &changed.differences {
        teller.tell(difference);
    }
    let mut counts = Vec::new();
    let mut lines = Vec::new();
    for ((kind, fate), mut all) in teller.told {
        let count = all.len();
        let counted = |count: usize| {
            let (one, several) = KINDS[kind];
            let noun = if count == 1 { one } else { several };
            format!("{} {noun} {}", grouped(count), fate.word())
        };
        match kind {
            0 | 1 => counts.push(format!("{} changed", KINDS[kind].0)),
            _ => counts.push(counted(count)),
        }
        all.sort_unstable();
        lines.extend(all.into_iter().take(TOLD_MAX));
        if let Some(more) = count.checked_sub(TOLD_MAX).filter(|more| *more > 0) {
            let more = counted(more);
            let (number, rest) = more.split_once(' ').unwrap_or((&more, ""));
            lines.push(format!("and {number} more {rest}"));
        }
    }
    if !counts.is_empty() {
        lines.insert(0, counts.join(", "));
    }
    lines
}

struct Teller {
    before: HashMap<DomainId, DomainPath>,
    after: HashMap<DomainId, DomainPath>,
    /// The lines of each kind and fate.
    told: BTreeMap<(usize, Fate), Vec<String>>,
}

impl Teller {
    fn tell(&mut self, difference: &Difference) {
        match difference {
            Difference::Root { before, after } => {
                self.say(0, Fate::Changed, format!("root: {}", settings(before, after).join(", ")));
            }
            Difference::Future { before, after } => {
                let line = format!("future domains: {}", settings(before, after).join(", "));
                self.say(1, Fate::Changed, line);
            }
            Difference::Domain { id, before, after } => self.domain(*id, before.as_deref(), after.as_deref()),
            Difference::Agent { id, before, after } => self.agent(id, before.as_ref(), after.as_ref()),
            Difference::Enrolment { id, before, after } => {
                self.enrolment(id, before.as_ref(), after.as_ref());
            }
            Difference::Range { from, before, after } => {
                let (before, after) = (before.map(|id| self.was(id)), after.map(|id| self.is(id)));
                let fate = fate(before.as_ref(), after.as_ref());
                let what = [before, after].into_iter().flatten().collect::<Vec<_>>().join(" -> ");
                self.say(5, fate, format!("range {from}: {}{what}", fate.mark("of ")));
            }
            Difference::Customised { before, after } => self.customised(before, after),
            Difference::File { domain, name, before, after } => {
                let at = domain.map_or_else(|| "the root".to_owned(), |id| self.either(id));
                let (before, after) = (before.as_ref(), after.as_ref());
                let fate = fate(before, after);
                let size = |file: &SettingsFile| {
                    format!("{} bytes", grouped(usize::try_from(file.content.bytes).unwrap_or(usize::MAX)))
                };
                let sizes = [before, after].into_iter().flatten().map(size).collect::<Vec<_>>().join(" -> ");
                self.say(7, fate, format!("settings file {name} at {at}: {}{sizes}", fate.mark("")));
            }
        }
    }

    fn domain(&mut self, id: DomainId, before: Option<&Domain>, after: Option<&Domain>) {
        let fate = fate(before, after);
        let mut parts = Vec::new();
        match fate {
            Fate::Removed => parts.push("REMOVED".to_owned()),
            Fate::Added => parts.push("added".to_owned()),
            Fate::Changed => {
                let was = self.was(id);
                parts.extend((was != self.is(id)).then(|| format!("was {was}")));
            }
        }
        if let Some(after) = after {
            let (none, no_marks) = (Values::default(), SettingSet::default());
            let was = before.map_or((&none, no_marks), |before| (&before.values, before.started_with));
            parts.extend(settings(was.0, &after.values));
            let marks = (marks(was.1), marks(after.started_with));
            if marks.0 != marks.1 {
                parts.push(format!("started with {} -> {}", marks.0, marks.1));
            }
        }
        // A domain that moved with the one that holds it differs in nothing of its own.
        self.say(2, fate, format!("domain {}: {}", self.either(id), parts.join(", ")));
    }

    fn agent(&mut self, id: &dyn Display, before: Option<&Agent>, after: Option<&Agent>) {
        let fate = fate(before, after);
        let (was, is) =
            (before.map(|agent| self.was(agent.domain)), after.map(|agent| self.is(agent.domain)));
        let mut parts = Vec::new();
        match (was, is) {
            (Some(was), None) => parts.push(format!("REMOVED from {was}")),
            (None, Some(is)) => parts.push(format!("added to {is}")),
            (Some(was), Some(is)) if before.map(|agent| agent.domain) != after.map(|agent| agent.domain) => {
                parts.push(format!("domain {was} -> {is}"));
            }
            _ => {}
        }
        if let Some(after) = after {
            let none = Values::default();
            let values = |agent: Option<&Agent>| agent.and_then(|agent| agent.values.as_deref().cloned());
            parts.extend(settings(&values(before).unwrap_or_default(), &values(Some(after)).unwrap_or(none)));
            let was = before.and_then(|agent| agent.keys).unwrap_or_default();
            parts.extend(keys(&was, &after.keys.unwrap_or_default()));
        }
        self.say(3, fate, format!("agent {id}: {}", parts.join(", ")));
    }

    fn enrolment(&mut self, id: &dyn Display, before: Option<&Enrolment>, after: Option<&Enrolment>) {
        let fate = fate(before, after);
        let whole = |domain: String, enrolment: &Enrolment| {
            format!("{} agents into {domain} until {}", enrolment.left, enrolment.until)
        };
        let parts = match (before, after) {
            (Some(before), Some(after)) => {
                let mut parts = Vec::new();
                let mut differs = |what: &str, was: String, is: String| {
                    parts.extend((was != is).then(|| format!("{what} {was} -> {is}")));
                };
                differs("domain", self.was(before.domain), self.is(after.domain));
                differs("left", before.left.to_string(), after.left.to_string());
                differs("until", before.until.to_string(), after.until.to_string());
                parts.extend((before.secret != after.secret).then(|| "another secret".to_owned()));
                parts.join(", ")
            }
            (Some(before), None) => format!("REMOVED, {}", whole(self.was(before.domain), before)),
            (None, Some(after)) => format!("added, {}", whole(self.is(after.domain), after)),
            (None, None) => String::new(),
        };
        self.say(4, fate, format!("enrolment {id}: {parts}"));
    }

    /// Entry by entry, by their ranges.
    fn customised(&mut self, before: &[Entry], after: &[Entry]) {
        let find = |all: &[Entry], range: Range| all.iter().find(|entry| entry.range == range).cloned();
        let source = |entry: &Entry| {
            let families = value_of(&entry.source.families());
            format!("{} ({families})", entry.source.url())
        };
        let mut differs = false;
        for entry in before.iter().chain(after.iter().filter(|entry| find(before, entry.range).is_none())) {
            let (was, is) = (find(before, entry.range), find(after, entry.range));
            if was == is {
                continue;
            }
            differs = true;
            let fate = fate(was.as_ref(), is.as_ref());
            let what = [was, is].iter().flatten().map(source).collect::<Vec<_>>().join(" -> ");
            self.say(6, fate, format!("update source of {}: {}{what}", entry.range, fate.mark("")));
        }
        if !differs {
            self.say(6, Fate::Changed, "update sources: the same in another order".to_owned());
        }
    }

    fn say(&mut self, kind: usize, fate: Fate, line: String) {
        self.told.entry((kind, fate)).or_default().push(line);
    }

    fn was(&self, id: DomainId) -> String {
        self.before.get(&id).map_or_else(|| format!("domain {id}"), ToString::to_string)
    }

    fn is(&self, id: DomainId) -> String {
        self.after.get(&id).map_or_else(|| format!("domain {id}"), ToString::to_string)
    }

    /// Where a domain is, or was.
    fn either(&self, id: DomainId) -> String {
        if self.after.contains_key(&id) { self.is(id) } else { self.was(id) }
    }
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::Removed => "REMOVED",
            Self::Added => "added",
            Self::Changed => "changed",
        }
    }

    /// What stands before the thing itself.
    fn mark(self, of: &str) -> String {
        match self {
            Self::Removed | Self::Added => format!("{}, {of}", self.word()),
            Self::Changed => String::new(),
        }
    }
}

fn fate<T>(before: Option<&T>, after: Option<&T>) -> Fate {
    match (before, after) {
        (_, None) => Fate::Removed,
        (None, _) => Fate::Added,
        _ => Fate::Changed,
    }
}

/// The settings that differ.
fn settings(before: &Values, after: &Values) -> Vec<String> {
    let at = |values: &Values, setting| {
        if values.holds(setting) { plain(&value(values, setting)) } else { "not set".to_owned() }
    };
    let all = Setting::ALL.into_iter().map(|setting| (setting, at(before, setting), at(after, setting)));
    all.filter(|(_, was, is)| was != is)
        .map(|(setting, was, is)| format!("{setting} {was} -> {is}"))
        .collect()
}

fn marks(set: SettingSet) -> String {
    let names: Vec<_> = set.settings().map(Setting::name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") }
}

fn keys(before: &Keys, after: &Keys) -> Vec<String> {
    let mut parts = Vec::new();
    match (before.standing, after.standing) {
        (Standing::Admitted, Standing::Revoked) => parts.push("REVOKED".to_owned()),
        (Standing::Revoked, Standing::Admitted) => parts.push("readmitted".to_owned()),
        _ => {}
    }
    match (before.secret, after.secret) {
        (None, Some(_)) => parts.push("gets a secret".to_owned()),
        (Some(_), None) => parts.push("loses its secret".to_owned()),
        (before, after) => parts.extend((before != after).then(|| "gets another secret".to_owned())),
    }
    let shown = |certificate: Option<_>| {
        certificate.map_or_else(
            || "none".to_owned(),
            |fingerprint: crate::policy::identity::Fingerprint| fingerprint.to_string(),
        )
    };
    if before.certificate != after.certificate {
        parts.push(format!("certificate {} -> {}", shown(before.certificate), shown(after.certificate)));
    }
    parts
}

fn value_of(value: &impl serde::Serialize) -> String {
    toml::Value::try_from(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A text without its quotes.
fn plain(text: &str) -> String {
    let within = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    within.unwrap_or(text).to_owned()
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group).into_owned()).collect::<Vec<_>>().join(",")
}
