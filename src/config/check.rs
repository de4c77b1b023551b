//! Sections -> [`Settings`]: which keys there are, and what holds between their values.
//!
//! A value that is refused is noted and its default used on, so that what follows is still checked; the
//! settings made here count only where nothing was noted.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::base::tree::TreeName;
use crate::config::admin_access::admin_access;
use crate::config::error::{ConfigError, ConfigErrors, shown};
use crate::config::listen::{listen, tls};
use crate::config::notices::notices;
use crate::config::proxying::{cache, mounts, proxy, routes};
use crate::config::reader::Section;
use crate::config::settings::{
    AccessLog, AgentRange, AgentSettings, ClearText, FillSettings, Http2Settings, LimitSettings, LogFormat,
    LogLevel, LogSettings, Prefetch, ScrubSettings, Sendfile, Settings, TreeSettings, Upstream,
};
use crate::config::table::row;
use crate::config::upstream::{origin, reach, tree_upstream, upstream};
use crate::config::value::{PublicBase, TreeBase, file_path, prefix};
use crate::manifest::catalogue::{Class, Pattern, Rule};
use crate::policy::decide::Unknown;
use crate::policy::scope::Scope;

impl Settings {
    /// Every default, and one tree from this upstream: a URL, or anything without `://` as a folder. For a
    /// start without a file.
    ///
    /// # Errors
    /// As for `tree.upstream` in a file, but without a line.
    pub fn for_upstream(upstream: &str) -> Result<Self, ConfigErrors> {
        let source = origin(upstream).map_err(|reason| ConfigError::Refused {
            line: None,
            key: "upstream".into(),
            value: Some(shown(&format!("{upstream:?}"))),
            reason,
            allowed: row("tree.upstream").allowed.to_string(),
        })?;
        Ok(Self::with_trees(vec![default_tree(source.alone())]))
    }
}

/// Reads all settings from the top level.
pub(super) fn settings(mut root: Section<'_>) -> Settings {
    let default = Settings::with_trees(Vec::new());
    let mut settings = Settings {
        data: root.text("data", file_path).unwrap_or(default.data),
        quota_bytes: root.bytes("quota_bytes"),
        workers: root.number("workers"),
        sendfile: root.word("sendfile", SENDFILES).unwrap_or(default.sendfile),
        listen: listen(&mut root, default.listen, &mut Vec::new()),
        ..default
    };
    let mut admin = root.section("admin");
    let mut taken = settings.listen.addresses().to_vec();
    settings.admin = listen(&mut admin, settings.admin, &mut taken);
    if !admin.has("listen") {
        taken.extend(settings.admin.addresses());
    }
    settings.admin_access = admin_access(&mut admin, &settings.admin, &mut taken);
    settings.trusted_proxies = root.texts("trusted_proxies", PROXIES_MAX, prefix).unwrap_or_default();
    settings.tls = tls(&mut root.section("tls"), &mut taken);
    let mut socks = root.section("socks");
    settings.socks.listen = listen(&mut socks, settings.socks.listen, &mut taken);
    settings.log = log(root.section("log"));
    settings.trees = trees(&mut root);
    settings.agents = agents(root.section("agents"));
    settings.notices = notices(root.section("notices"));
    settings.limits = limits(root.section("limits"));
    settings.http2 = http2(root.section("http2"));
    settings.fill = fill(root.section("fill"));
    settings.upstream = upstream(root.section("upstream"));
    settings.scrub = scrub(root.section("scrub"));
    settings.proxy = proxy(root.section("proxy"));
    settings.cache = cache(root.section("cache"));
    settings.mounts = mounts(&mut root, &settings.trees);
    settings.routes = routes(&mut root);
    settings
}

fn log(mut section: Section<'_>) -> LogSettings {
    let default = LogSettings::default();
    LogSettings {
        format: section
            .word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
            .unwrap_or(default.format),
        level: section.word("level", LEVELS).unwrap_or(default.level),
        access: section
            .word("access", &[("on", AccessLog::On), ("off", AccessLog::Off)])
            .unwrap_or(default.access),
    }
}

fn trees(root: &mut Section<'_>) -> Vec<TreeSettings> {
    let sections = root.sections("tree", TREES_MAX);
    if sections.as_ref().is_some_and(Vec::is_empty) {
        root.missing("tree", "at least one table [[tree]], with an upstream".into());
    }
    let mut trees: Vec<TreeSettings> = Vec::new();
    for section in sections.into_iter().flatten() {
        trees.extend(tree(section, &trees));
    }
    trees
}

/// Reads a tree; `None` where name or path is refused, so that no later tree is held against it.
fn tree(mut section: Section<'_>, before: &[TreeSettings]) -> Option<TreeSettings> {
    let path = tree_path(&mut section, before);
    let name = tree_name(&mut section, path.as_ref(), before);
    let default = default_tree(tree_upstream(&mut section));
    let tree = TreeSettings {
        reach: reach(&mut section),
        refresh: section.seconds("refresh_secs").unwrap_or(default.refresh),
        jitter_percent: section.number("jitter_percent").unwrap_or(default.jitter_percent),
        prefetch: section.word("prefetch", PREFETCHES).unwrap_or(default.prefetch),
        keep_generations: section.number("keep_generations").unwrap_or(default.keep_generations),
        public_base: section.text("public_base", PublicBase::parse),
        catalogue: section
            .sections("catalogue", CATALOGUE_RULES_MAX)
            .into_iter()
            .flatten()
            .filter_map(catalogue_rule)
            .collect(),
        ..default
    };
    Some(TreeSettings { name: name?, path: path?, ..tree })
}

fn tree_path(section: &mut Section<'_>, before: &[TreeSettings]) -> Option<TreeBase> {
    let configured = section.text("path", TreeBase::parse);
    let path = if section.has("path") { configured? } else { TreeBase::default() };
    let overlap = before.iter().find(|tree| {
        tree.path.as_str().starts_with(path.as_str()) || path.as_str().starts_with(tree.path.as_str())
    });
    if let Some(other) = overlap {
        section.refuse("path", format!("{path} and {} of the tree '{}' overlap", other.path, other.name));
        return None;
    }
    Some(path)
}

/// Reads a tree's name, or makes it of its path; `None` where there is neither.
fn tree_name(
    section: &mut Section<'_>,
    path: Option<&TreeBase>,
    before: &[TreeSettings],
) -> Option<TreeName> {
    let configured = section
        .text("name", |text| TreeName::parse(text).map_err(|_| "no name for a folder and a label".into()));
    let name = if section.has("name") {
        configured?
    } else {
        let path = path?;
        let Some(name) = path.name() else {
            section.refuse("name", format!("no name can be made of the path {path}, so the tree needs one"));
            return None;
        };
        name
    };
    if before.iter().any(|tree| tree.name == name) {
        section.refuse("name", format!("another tree is named '{name}'"));
        return None;
    }
    Some(name)
}

fn catalogue_rule(mut section: Section<'_>) -> Option<Rule> {
    let pattern = |text: &str| Pattern::parse(text).map_err(|error| error.to_string());
    let label = section.text("label", pattern);
    let path = section.text("path", pattern);
    let class = section.word("class", CLASSES);
    section.require("class");
    if !section.has("path") {
        section.require("label");
    }
    Some(Rule { label, path, class: class? })
}

fn agents(mut section: Section<'_>) -> AgentSettings {
    let unknown = section.word("unknown", UNKNOWNS);
    let mut seen = HashSet::new();
    let sections = section.sections("range", AGENT_RANGES_MAX);
    let ranges: Vec<_> =
        sections.into_iter().flatten().filter_map(|range| agent_range(range, &mut seen)).collect();
    let default = if ranges.is_empty() { AgentSettings::default().unknown } else { Unknown::Refuse };
    AgentSettings {
        unknown: unknown.unwrap_or(default),
        ranges,
        permission: section.seconds("permission_secs").unwrap_or(AgentSettings::default().permission),
        clear_text_enrolment: section.word("clear_text_enrolment", CLEAR_TEXTS).unwrap_or(ClearText::Refuse),
    }
}

fn agent_range(mut section: Section<'_>, seen: &mut HashSet<IpNet>) -> Option<AgentRange> {
    let from = section.text("from", |text| {
        let net = prefix(text)?;
        if seen.insert(net) { Ok(net) } else { Err("another range has this prefix".into()) }
    });
    let scope = section.word("scope", SCOPES);
    section.require("from");
    section.require("scope");
    Some(AgentRange { from: from?, scope: scope? })
}

fn limits(mut section: Section<'_>) -> LimitSettings {
    let default = LimitSettings::default();
    let mut limits = LimitSettings {
        head_bytes_max: section.bytes("head_bytes_max").unwrap_or(default.head_bytes_max),
        path_bytes_max: section.bytes("path_bytes_max").unwrap_or(default.path_bytes_max),
        ranges_max: section.number("ranges_max").unwrap_or(default.ranges_max),
        head_timeout: section.seconds("head_timeout_secs").unwrap_or(default.head_timeout),
        stall_timeout: section.seconds("stall_timeout_secs").unwrap_or(default.stall_timeout),
        connections_max: section.number("connections_max").unwrap_or(default.connections_max),
        drain: section.seconds("drain_secs").unwrap_or(default.drain),
        ..default
    };
    limits.connections_per_address_max = section
        .number("connections_per_address_max")
        .unwrap_or_else(|| three_quarters(limits.connections_max));
    if limits.path_bytes_max > limits.head_bytes_max {
        section.refuse("path_bytes_max", format!("over head_bytes_max, {}", limits.head_bytes_max));
    }
    limits
}

/// Of so many places, what one address may have: not all, but at least one.
fn three_quarters(places: usize) -> usize {
    (places - places.div_ceil(4)).max(1)
}

fn http2(mut section: Section<'_>) -> Http2Settings {
    let default = Http2Settings::default();
    Http2Settings {
        streams_max: section.number("streams_max").unwrap_or(default.streams_max),
        resets_max: section.number("resets_max").unwrap_or(default.resets_max),
        control_frames_max: section.number("control_frames_max").unwrap_or(default.control_frames_max),
        ping: section.seconds("ping_secs").unwrap_or(default.ping),
        send_buffer_bytes: section.bytes("send_buffer_bytes").unwrap_or(default.send_buffer_bytes),
    }
}

fn fill(mut section: Section<'_>) -> FillSettings {
    let default = FillSettings::default();
    let at_once = section.number("at_once").unwrap_or(default.at_once);
    let fill = FillSettings {
        first_byte: section.seconds("first_byte_secs").unwrap_or(default.first_byte),
        silence: section.seconds("silence_secs").unwrap_or(default.silence),
        attempts: section.number("attempts").unwrap_or(default.attempts),
        far_lanes: section.number("far_lanes").unwrap_or(default.far_lanes),
        wait: section.seconds("wait_secs").unwrap_or(default.wait),
        at_once,
        // A lower `at_once` alone lowers the default of this too.
        prefetch_at_once: section.number("prefetch_at_once").unwrap_or(default.prefetch_at_once.min(at_once)),
    };
    if fill.prefetch_at_once > fill.at_once {
        section.refuse("prefetch_at_once", format!("over at_once, {}", fill.at_once));
    }
    fill
}

fn scrub(mut section: Section<'_>) -> ScrubSettings {
    let default = ScrubSettings::default();
    ScrubSettings {
        every_days: section.number("every_days").unwrap_or(default.every_days),
        bytes_per_sec: section.bytes("bytes_per_sec").unwrap_or(default.bytes_per_sec),
    }
}

fn default_tree(upstream: Upstream) -> TreeSettings {
    TreeSettings::new(default_name(), TreeBase::default(), upstream)
}

fn default_name() -> TreeName {
    TreeBase::default().name().expect("the default path makes a name")
}

const SENDFILES: &[(&str, Sendfile)] =
    &[("auto", Sendfile::Auto), ("on", Sendfile::On), ("off", Sendfile::Off)];

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const PREFETCHES: &[(&str, Prefetch)] =
    &[("all", Prefetch::All), ("used", Prefetch::Used), ("none", Prefetch::None)];

const CLASSES: &[(&str, Class)] = &[
    ("pattern", Class::Pattern),
    ("engine", Class::Engine),
    ("driver", Class::Driver),
    ("hotfix", Class::Hotfix),
    ("program", Class::Program),
];

pub(super) const SCOPES: &[(&str, Scope)] = &[
    ("patterns", Scope::Patterns),
    ("patterns-engines-drivers", Scope::PatternsEnginesDrivers),
    ("all", Scope::All),
];

pub(super) const CLEAR_TEXTS: &[(&str, ClearText)] =
    &[("refuse", ClearText::Refuse), ("allow", ClearText::Allow)];

const UNKNOWNS: &[(&str, Unknown)] = &[
    ("refuse", Unknown::Refuse),
    ("patterns", Unknown::Scope(Scope::Patterns)),
    ("patterns-engines-drivers", Unknown::Scope(Scope::PatternsEnginesDrivers)),
    ("all", Unknown::Scope(Scope::All)),
];

/// Balancers before one relay; each new connection is held against them.
const PROXIES_MAX: usize = 64;

/// Product lines of one relay; each has its own refresh and generations.
const TREES_MAX: usize = 64;

/// Rules of one tree; each component is held against them.
const CATALOGUE_RULES_MAX: usize = 1024;

/// Address ranges, as many as a list of sources has (R7.1).
const AGENT_RANGES_MAX: usize = 1024;
