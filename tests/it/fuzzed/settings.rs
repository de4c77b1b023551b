//! Any text as settings: what is accepted is within every bound, and what is refused is named, in messages of one line each.

use std::collections::HashSet;
use std::net::SocketAddr;

use forebay::config::error::ConfigError;
use forebay::config::rows::TABLE;
use forebay::config::settings::{Settings, TreeSettings, Upstream};
use forebay::config::table::Allowed;
use forebay::config::{parse, restart_needed};
use url::Url;

/// Checks the claim.
pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text) {
        Ok(settings) => {
            check_settings(&settings);
            assert_eq!(parse(text).as_ref(), Ok(&settings));
            assert!(restart_needed(&settings, &settings).is_empty());
        }
        Err(errors) => {
            assert!(errors.iter().count() > 0);
            errors.iter().for_each(|error| check_error(error, text));
        }
    }
    if let Ok(settings) = Settings::for_upstream(text) {
        check_settings(&settings);
    }
}

fn check_error(error: &ConfigError, text: &str) {
    let said = error.to_string();
    assert!(!said.chars().any(char::is_control), "{said:?}");
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    assert!(error.line().is_some_and(|line| (1..=lines).contains(&line)), "{said}");
    match error {
        ConfigError::Syntax { column, message, .. } => assert!(*column > 0 && !message.is_empty(), "{said}"),
        ConfigError::UnknownKey { key, table, allowed, .. } => {
            assert!(!key.is_empty() && !table.is_empty() && !allowed.is_empty(), "{said}");
        }
        ConfigError::Missing { key, allowed, .. } | ConfigError::Refused { key, allowed, .. } => {
            let plain: Vec<_> = key.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect();
            let (exact, table) = (plain.join("."), format!("{}.", plain.join(".")));
            assert!(TABLE.iter().any(|row| row.key == exact || row.key.starts_with(&table)), "{said}");
            assert!(!allowed.is_empty(), "{said}");
        }
    }
}

fn check_settings(settings: &Settings) {
    for row in TABLE {
        let (Allowed::Number(least, most) | Allowed::Bytes(least, most)) = row.allowed else { continue };
        for number in held(settings, row.key) {
            assert!((least..=most).contains(&number), "{} = {number}", row.key);
        }
    }
    assert!(settings.limits.path_bytes_max <= settings.limits.head_bytes_max);
    assert!(settings.fill.prefetch_at_once <= settings.fill.at_once);
    assert!(settings.trusted_proxies.len() <= 64);
    assert!(settings.trusted_proxies.iter().all(|net| *net == net.trunc()));
    check_places(settings);
    check_trees(&settings.trees);
    let prefixes: HashSet<_> = settings.agents.ranges.iter().map(|range| range.from).collect();
    assert_eq!(prefixes.len(), settings.agents.ranges.len(), "a prefix stands twice");
    assert!(prefixes.len() <= 1024 && prefixes.iter().all(|net| *net == net.trunc()));
}

/// No two listeners that a file names clash; certificates and their listeners come together.
fn check_places(settings: &Settings) {
    let (agents, admin) = (settings.listen.addresses(), settings.admin.addresses());
    assert!(!agents.is_empty() && !admin.is_empty());
    assert_eq!(settings.tls.listen.is_empty(), settings.tls.certificates.is_empty());
    assert!(settings.tls.client_authorities.is_empty() || !settings.tls.listen.is_empty());
    assert!(settings.tls.client_authorities.len() <= 16);
    assert!([agents.len(), admin.len(), settings.tls.listen.len()].iter().all(|count| *count <= 64));
    let all: Vec<&SocketAddr> = agents.iter().chain(admin).chain(&settings.tls.listen).collect();
    for (index, one) in all.iter().enumerate() {
        for other in &all[..index] {
            let same_port = one.port() == other.port() && one.port() != 0 && one.is_ipv4() == other.is_ipv4();
            let overlap = one == other || one.ip().is_unspecified() || other.ip().is_unspecified();
            assert!(!(same_port && overlap), "{one} and {other}");
        }
    }
}

fn check_trees(trees: &[TreeSettings]) {
    assert!((1..=64).contains(&trees.len()));
    for (index, tree) in trees.iter().enumerate() {
        let path = tree.path.as_str();
        assert!(path.len() > 1 && path.starts_with('/') && path.ends_with('/'), "{path}");
        for other in &trees[..index] {
            assert_ne!(tree.name, other.name);
            let other = other.path.as_str();
            assert!(!path.starts_with(other) && !other.starts_with(path), "{path} and {other}");
        }
        match &tree.upstream {
            Upstream::Directory(folder) => assert!(!folder.as_os_str().is_empty()),
            Upstream::Urls(urls) => {
                assert!((1..=16).contains(&urls.len()));
                assert!(urls.iter().all(is_place), "{urls:?}");
                assert_eq!(urls.iter().collect::<HashSet<_>>().len(), urls.len(), "{urls:?}");
            }
        }
        assert!(tree.catalogue.len() <= 1024);
        assert!(tree.catalogue.iter().all(|rule| rule.label.is_some() || rule.path.is_some()));
        assert!(tree.server_base().is_none_or(|base| Url::parse(&base).as_ref().is_ok_and(is_http)));
    }
}

fn is_place(url: &Url) -> bool {
    is_http(url) && url.path().ends_with('/')
}

fn is_http(url: &Url) -> bool {
    let plain = url.username().is_empty() && url.password().is_none();
    plain
        && url.query().is_none()
        && url.fragment().is_none()
        && url.has_host()
        && url.scheme().starts_with("http")
}

/// What the settings hold under a numeric key, for each table that has it.
fn held(settings: &Settings, key: &str) -> Vec<u64> {
    let count = |number: usize| number as u64;
    let each = |of: fn(&TreeSettings) -> u64| settings.trees.iter().map(of).collect();
    let Settings { limits, http2, fill, upstream, scrub, .. } = settings;
    vec![match key {
        "quota_bytes" => return settings.quota_bytes.into_iter().collect(),
        "workers" => return settings.workers.map(count).into_iter().collect(),
        "tree.refresh_secs" => return each(|tree| tree.refresh.as_secs()),
        "tree.jitter_percent" => return each(|tree| tree.jitter_percent.into()),
        "tree.keep_generations" => return each(|tree| tree.keep_generations as u64),
        "limits.head_bytes_max" => count(limits.head_bytes_max),
        "limits.path_bytes_max" => count(limits.path_bytes_max),
        "limits.ranges_max" => count(limits.ranges_max),
        "limits.head_timeout_secs" => limits.head_timeout.as_secs(),
        "limits.stall_timeout_secs" => limits.stall_timeout.as_secs(),
        "limits.connections_max" => count(limits.connections_max),
        "limits.connections_per_address_max" => count(limits.connections_per_address_max),
        "limits.drain_secs" => limits.drain.as_secs(),
        "http2.streams_max" => http2.streams_max.into(),
        "http2.resets_max" => count(http2.resets_max),
        "http2.ping_secs" => http2.ping.as_secs(),
        "http2.send_buffer_bytes" => count(http2.send_buffer_bytes),
        "http2.control_frames_max" => http2.control_frames_max.into(),
        "scrub.every_days" => scrub.every_days,
        "scrub.bytes_per_sec" => scrub.bytes_per_sec,
        "fill.far_lanes" => count(fill.far_lanes),
        "fill.first_byte_secs" => fill.first_byte.as_secs(),
        "fill.silence_secs" => fill.silence.as_secs(),
        "fill.wait_secs" => fill.wait.as_secs(),
        "fill.attempts" => fill.attempts.into(),
        "fill.at_once" => count(fill.at_once),
        "fill.prefetch_at_once" => count(fill.prefetch_at_once),
        "upstream.connect_secs" => upstream.connect.as_secs(),
        "upstream.attempt_delay_ms" => u64::try_from(upstream.attempt_delay.as_millis()).unwrap_or(u64::MAX),
        "agents.permission_secs" => settings.agents.permission.as_secs(),
        "notices.under_way_max" => settings.notices.under_way_max.into(),
        "notices.per_sec" => settings.notices.per_sec.into(),
        "notices.repeat_secs" => settings.notices.repeat.as_secs(),
        "notices.repeats_max" => settings.notices.repeats_max.into(),
        "proxy.tunnel_idle_secs" => settings.proxy.tunnel_idle.as_secs(),
        "proxy.tunnel_total_secs" => settings.proxy.tunnel_total.as_secs(),
        "cache.bytes_max" => settings.cache.bytes_max,
        "cache.file_bytes_max" => settings.cache.file_bytes_max,
        "cache.entries_max" => count(settings.cache.entries_max),
        other => panic!("{other} has bounds that nothing checks: name it here"),
    }]
}
