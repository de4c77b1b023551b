//! The table tells the truth; any subset of its keys is a file; damage and junk never panic.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::base::limits::SMALL_BLOB_BYTES_MAX;
use crate::config::rows::TABLE;
use crate::config::settings::Settings;
use crate::config::table::{Allowed, Preset, Row, markdown, row};
use crate::config::{parse, restart_needed};

/// The default, or for keys that have none some valid value.
fn example(row: &Row) -> String {
    match row.default {
        Preset::Toml(value) => value.into(),
        Preset::Otherwise(_) | Preset::Required => match row.key {
            "workers" => "4",
            "quota_bytes" => "\"200 GiB\"",
            "tree.name" => "\"activeupdate\"",
            "tree.upstream" => "[\"http://a.example/au\", \"https://[2001:db8::1]/au/\"]",
            "tree.public_base" => "\"https://relay.example:8443\"",
            "tree.catalogue.label" => "\"VSAPI32_NT_I386\"",
            "tree.catalogue.path" => "\"engine/engv_nt386_v12500-1004.zip\"",
            "tree.catalogue.class" => "\"driver\"",
            "agents.unknown" => "\"patterns\"",
            "agents.range.from" => "\"10.0.0.0/8\"",
            "agents.range.scope" => "\"patterns-engines-drivers\"",
            "trusted_proxies" => "[\"10.0.0.5\", \"2001:db8::/64\"]",
            "tls.listen" => "[\"[::]:8443\", \"0.0.0.0:8443\"]",
            "tls.client_ca_files" => "[\"/etc/forebay/agents.pem\"]",
            "tls.certificate.chain" => "\"/etc/forebay/relay.pem\"",
            "tls.certificate.key" => "\"/etc/forebay/relay.key\"",
            "admin.tls.listen" => "[\"[::]:8444\", \"0.0.0.0:8444\"]",
            "admin.tls.client_ca_files" => "[\"/etc/forebay/people.pem\"]",
            "admin.tls.certificate.chain" => "\"/etc/forebay/admin.pem\"",
            "admin.tls.certificate.key" => "\"/etc/forebay/admin.key\"",
            "admin.tls.client.name" => "\"alice.corp.example\"",
            "admin.tls.client.role" => "\"operator\"",
            "limits.connections_per_address_max" => "500",
            "tree.source_ipv4" | "mount.source_ipv4" => "\"192.0.2.7\"",
            "tree.source_ipv6" | "mount.source_ipv6" => "\"2001:db8::7\"",
            "upstream.nameservers" => "[\"192.0.2.53\", \"[2001:db8::53]:5353\"]",
            "upstream.hosts" => "[\"192.0.2.1 au.example\", \"2001:db8::1 au.example\"]",
            "upstream.no_proxy" => "[\"*.corp.example\", \"10.0.0.0/8\"]",
            "proxy.allow.name" => "\"vendor\"",
            "proxy.allow.to" => "[\"*.example.net\", \"192.0.2.0/24\"]",
            "proxy.user.name" => "\"branch-7\"",
            "proxy.user.secret_hash" => {
                "\"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\""
            }
            "mount.path" => "\"/programs/\"",
            "mount.upstream" => "\"https://files.example/programs/\"",
            "route.via" => "[\"http://parent.example:3128\", \"direct\"]",
            "route.credentials" => "\"/etc/forebay/parent\"",
            "upstream.ca_file" => "\"/etc/ssl/site.pem\"",
            other => panic!("{other} has no example"),
        }
        .into(),
    }
}

/// A file with these keys and values, each table once; tables that are there for no key of their own are left
/// out.
fn file<'a>(values: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut tables: Vec<(&str, String)> = vec![("", String::new()), ("tree", String::new())];
    for (key, value) in values {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let at = tables.iter().position(|(known, _)| *known == table).unwrap_or_else(|| {
            tables.push((table, String::new()));
            tables.len() - 1
        });
        writeln!(tables[at].1, "{name} = {value}").unwrap();
    }
    let mut text = String::new();
    for (table, keys) in tables {
        match table {
            "" => {}
            "tree"
            | "tree.catalogue"
            | "agents.range"
            | "tls.certificate"
            | "proxy.allow"
            | "proxy.user"
            | "mount"
            | "route"
            | "admin.tls.certificate"
            | "admin.tls.client" => {
                writeln!(text, "[[{table}]]").unwrap();
            }
            _ => writeln!(text, "[{table}]").unwrap(),
        }
        text += &keys;
    }
    text
}

/// How the variant of a word stands in the settings' debug text: `log.level`, `warn` -> `level: Warn`.
fn variant(key: &str, word: &str) -> String {
    let field = key.rsplit('.').next().unwrap_or(key);
    let camel = word.split('-').map(|part| format!("{}{}", part[..1].to_uppercase(), &part[1..]));
    let name: String = camel.collect();
    match (key, word) {
        ("agents.unknown", scope) if scope != "refuse" => format!("{field}: Scope({name})"),
        _ => format!("{field}: {name}"),
    }
}

#[test]
fn the_table_tells_each_key_its_default_and_its_words() {
    for own in TABLE {
        let mut keys = vec![(own.key, example(own))];
        let beside: &[&str] = match own.key {
            "tree.upstream" => &[],
            "tree.catalogue.class" => &["tree.upstream", "tree.catalogue.label"],
            key if key.starts_with("tree.catalogue") => &["tree.upstream", "tree.catalogue.class"],
            "agents.range.from" => &["tree.upstream", "agents.range.scope"],
            "agents.range.scope" => &["tree.upstream", "agents.range.from"],
            "proxy.allow.name" => &["tree.upstream", "proxy.allow.to"],
            "proxy.allow.to" => &["tree.upstream", "proxy.allow.name"],
            key if key.starts_with("proxy.allow") => &["tree.upstream", "proxy.allow.name", "proxy.allow.to"],
            "proxy.user.name" => &["tree.upstream", "proxy.user.secret_hash"],
            "proxy.user.secret_hash" => &["tree.upstream", "proxy.user.name"],
            "mount.path" => &["tree.upstream", "mount.upstream"],
            "mount.upstream" => &["tree.upstream", "mount.path"],
            key if key.starts_with("mount") => &["tree.upstream", "mount.path", "mount.upstream"],
            "route.via" => &["tree.upstream", "route.to"],
            key if key.starts_with("route") => &["tree.upstream", "route.via"],
            "tls.listen" => &["tree.upstream", "tls.certificate.chain", "tls.certificate.key"],
            "tls.client_ca_files" => {
                &["tree.upstream", "tls.listen", "tls.certificate.chain", "tls.certificate.key"]
            }
            "tls.certificate.chain" => &["tree.upstream", "tls.listen", "tls.certificate.key"],
            "admin.tls.listen" => {
                &["tree.upstream", "admin.tls.certificate.chain", "admin.tls.certificate.key"]
            }
            "admin.tls.client_ca_files" => &[
                "tree.upstream",
                "admin.tls.listen",
                "admin.tls.certificate.chain",
                "admin.tls.certificate.key",
            ],
            "admin.tls.certificate.chain" => {
                &["tree.upstream", "admin.tls.listen", "admin.tls.certificate.key"]
            }
            "admin.tls.certificate.key" => {
                &["tree.upstream", "admin.tls.listen", "admin.tls.certificate.chain"]
            }
            "admin.tls.client.name" => &[
                "tree.upstream",
                "admin.tls.client.role",
                "admin.tls.client_ca_files",
                "admin.tls.listen",
                "admin.tls.certificate.chain",
                "admin.tls.certificate.key",
            ],
            "admin.tls.client.role" => &[
                "tree.upstream",
                "admin.tls.client.name",
                "admin.tls.client_ca_files",
                "admin.tls.listen",
                "admin.tls.certificate.chain",
                "admin.tls.certificate.key",
            ],
            "tls.certificate.key" => &["tree.upstream", "tls.listen", "tls.certificate.chain"],
            _ => &["tree.upstream"],
        };
        keys.extend(beside.iter().map(|key| (*key, example(row(key)))));
        let settings = parse(&file(keys.clone())).unwrap_or_else(|errors| panic!("{}: {errors}", own.key));
        let unset = parse(&file(keys[1..].to_vec()));
        match own.default {
            Preset::Toml(_) => {
                let mut unset = unset.unwrap();
                assert!(restart_needed(&settings, &unset).is_empty(), "{}", own.key);
                unset.listen = settings.listen.clone();
                unset.admin = settings.admin.clone();
                unset.socks = settings.socks.clone();
                assert_eq!(settings, unset, "{}", own.key);
            }
            Preset::Required => drop(unset.unwrap_err()),
            Preset::Otherwise(_) => {}
        }
        if let Allowed::Words(words) = own.allowed {
            for word in words {
                keys[0].1 = format!("\"{word}\"");
                let read = format!("{:?}", parse(&file(keys.clone())).unwrap());
                assert!(read.contains(&variant(own.key, word)), "{} {word}: {read}", own.key);
            }
        }
        assert!(markdown().contains(&format!("| `{}` | {} |", own.key, own.default)));
    }
    assert!(markdown().lines().all(|line| line.matches(" | ").count() == 3 || line.starts_with("|---")));
}

/// Numeric keys whose bounds depend on another key.
const DEPENDENT: [&str; 3] =
    ["limits.path_bytes_max", "limits.connections_per_address_max", "fill.prefetch_at_once"];

/// The numeric rows whose values do not depend on each other, each with a number within its bounds or
/// nothing.
fn numbers() -> impl Strategy<Value = Vec<(&'static Row, u64)>> {
    let rows: Vec<_> = TABLE
        .iter()
        .filter(|row| !DEPENDENT.contains(&row.key))
        .filter_map(|row| match row.allowed {
            Allowed::Number(least, most) | Allowed::Bytes(least, most) => {
                Some(prop_oneof![Just(least), Just(most), least..=most].prop_map(move |number| (row, number)))
            }
            Allowed::Words(_) | Allowed::Text(_) => None,
        })
        .collect();
    let count = rows.len();
    (rows, prop::collection::vec(any::<bool>(), count)).prop_map(|(rows, there)| {
        rows.into_iter().zip(there).filter_map(|(row, there)| there.then_some(row)).collect()
    })
}

/// What the settings hold under a numeric key.
fn number(settings: &Settings, key: &str) -> Option<u64> {
    let tree = &settings.trees[0];
    let count = |number: usize| u64::try_from(number).unwrap();
    Some(match key {
        "quota_bytes" => settings.quota_bytes?,
        "workers" => count(settings.workers?),
        "tree.refresh_secs" => tree.refresh.as_secs(),
        "tree.jitter_percent" => tree.jitter_percent.into(),
        "tree.keep_generations" => count(tree.keep_generations),
        "limits.head_bytes_max" => count(settings.limits.head_bytes_max),
        "limits.ranges_max" => count(settings.limits.ranges_max),
        "limits.head_timeout_secs" => settings.limits.head_timeout.as_secs(),
        "limits.stall_timeout_secs" => settings.limits.stall_timeout.as_secs(),
        "limits.connections_max" => count(settings.limits.connections_max),
        "limits.drain_secs" => settings.limits.drain.as_secs(),
        "http2.streams_max" => settings.http2.streams_max.into(),
        "http2.resets_max" => count(settings.http2.resets_max),
        "http2.control_frames_max" => settings.http2.control_frames_max.into(),
        "http2.ping_secs" => settings.http2.ping.as_secs(),
        "http2.send_buffer_bytes" => count(settings.http2.send_buffer_bytes),
        "fill.first_byte_secs" => settings.fill.first_byte.as_secs(),
        "fill.silence_secs" => settings.fill.silence.as_secs(),
        "fill.wait_secs" => settings.fill.wait.as_secs(),
        "fill.attempts" => settings.fill.attempts.into(),
        "fill.far_lanes" => count(settings.fill.far_lanes),
        "fill.at_once" => count(settings.fill.at_once),
        "upstream.connect_secs" => settings.upstream.connect.as_secs(),
        "upstream.attempt_delay_ms" => settings.upstream.attempt_delay.as_millis().try_into().unwrap(),
        "scrub.every_days" => settings.scrub.every_days,
        "scrub.bytes_per_sec" => settings.scrub.bytes_per_sec,
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
        other => panic!("{other} is no numeric key"),
    })
}

proptest! {
    #[test]
    fn any_numbers_within_bounds_come_back_and_the_rest_are_defaults(set in numbers()) {
        let upstream = ("tree.upstream", example(row("tree.upstream")));
        let bare = parse(&file([upstream.clone()])).unwrap();
        let values = set.iter().map(|(row, value)| (row.key, value.to_string()));
        let settings = parse(&file(values.chain([upstream]))).unwrap();
        for row in TABLE.iter().filter(|row| matches!(row.allowed, Allowed::Number(..) | Allowed::Bytes(..))) {
            if DEPENDENT.contains(&row.key) {
                continue;
            }
            let expected = set.iter().find(|(there, _)| there.key == row.key).map(|(_, value)| *value);
            prop_assert_eq!(number(&settings, row.key), expected.or(number(&bare, row.key)), "{}", row.key);
        }
    }

    #[test]
    fn any_subset_of_keys_is_a_file(there in prop::collection::vec(any::<bool>(), TABLE.len())) {
        let needed = |key: &str| {
            let there = |prefix: &str| {
                TABLE.iter().zip(&there).any(|(row, there)| *there && row.key.starts_with(prefix))
            };
            match key {
                "tree.upstream" => true,
                "tree.catalogue.class" | "tree.catalogue.label" => there("tree.catalogue."),
                key if key.starts_with("tls.") => there("tls."),
                "admin.tls.client.name" | "admin.tls.client.role" => there("admin.tls.client."),
                key if key.starts_with("admin.tls.") => there("admin.tls."),
                "agents.range.from" | "agents.range.scope" => there("agents.range."),
                "proxy.allow.name" | "proxy.allow.to" => there("proxy.allow."),
                "proxy.user.name" | "proxy.user.secret_hash" => there("proxy.user."),
                "mount.path" | "mount.upstream" => there("mount."),
                "route.via" => there("route."),
                _ => false,
            }
        };
        let rows = TABLE.iter().zip(&there).filter(|(row, there)| **there || needed(row.key));
        let text = file(rows.map(|(row, _)| (row.key, example(row))));
        prop_assert!(parse(&text).is_ok(), "{}\n{:?}", text, parse(&text));
    }

    #[test]
    fn a_damaged_file_never_panics(at in any::<prop::sample::Index>(), len in 0usize..12, junk in ".{0,6}") {
        let whole = file(TABLE.iter().map(|row| (row.key, example(row))));
        let start = at.index(whole.len());
        let end = (start + len).min(whole.len());
        let _ = parse(&format!("{}{junk}{}", &whole[..start], &whole[end..]));
    }

    #[test]
    fn junk_never_panics(text in "[\\[\\]\\{\\}=.,\"'# \n\\-a-z0-9:/%]{0,80}", any in ".{0,40}") {
        let _ = parse(&text);
        let _ = parse(&any);
        let _ = parse(&format!("[[tree]]\nupstream = {any:?}\nlisten = {text:?}"));
        let _ = Settings::for_upstream(&any);
    }
}

#[test]
fn the_table_names_the_size_from_which_the_kernel_sends_files() {
    let size = format!("more than {} KiB", SMALL_BLOB_BYTES_MAX >> 10);
    assert!(row("sendfile").reason.contains(&size), "{size}");
}
