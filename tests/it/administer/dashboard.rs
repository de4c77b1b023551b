//! The dashboard for Grafana shows metrics that there are, and all of them (R11.2).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::raw::fetch;
use crate::relay::{Running, settings};
use crate::served::FIXTURE;

const DASHBOARD: &str = include_str!("../../../grafana/forebay.json");

/// The samples of a metrics page: their names, each with its labels.
fn samples(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut samples: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let labels =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        samples.entry(name).or_default().extend(labels);
    }
    samples
}

/// The metrics that an expression names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("forebay_"))
}

#[test]
fn the_dashboard_shows_each_metric_of_a_relay_and_no_other_r11_2() {
    let relay = Running::refreshed(settings(FIXTURE));
    let page = String::from_utf8(fetch(relay.admin(), "/metrics", &[]).whole(200)).unwrap();
    let samples = samples(&page);
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["title"].is_string() && panel["description"].is_string(), "{panel:#}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            for name in named(expression) {
                let labels = samples.get(name).unwrap_or_else(|| panic!("no relay has {name}: {expression}"));
                let by = expression.split_once("by (").and_then(|(_, rest)| rest.split_once(')'));
                assert!(by.is_none_or(|(label, _)| labels.contains(label)), "{expression}: {labels:?}");
                shown.insert(name);
            }
        }
    }
    let all: BTreeSet<_> = samples.keys().copied().collect();
    assert_eq!(all.difference(&shown).collect::<Vec<_>>(), Vec::<&&str>::new(), "shown by no panel");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for name in variables.iter().filter_map(|variable| variable["definition"].as_str()).flat_map(named) {
        assert!(samples.contains_key(name), "{name}");
    }
    relay.stop();
}
