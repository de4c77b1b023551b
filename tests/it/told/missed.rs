//! Releases that come while the relay is down, between two of its starts (R9.1a).

use std::fs;

use super::line::Line;
use super::{fleet, follow, token};
use crate::relay::Running;
use crate::site::{self, Site};

/// Where the relay remembers whom it told of what.
const JOURNAL: &str = "notices/journal";

fn listen(relay: &Running, id: &str) -> Line {
    Line::open(relay.v4(), &token(id), "")
}

#[test]
fn a_release_that_came_while_the_relay_was_down_is_told_to_whom_it_concerns_once_they_are_back_r9_1a() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let mut line = listen(&relay, "engines");
    site.publish(6, &[5]);
    relay.refresh();
    assert_eq!(line.told(), (1, "generation".into()));
    assert_eq!(follow(&relay, "engines"), 200);

    let (settings, data) = relay.stop();
    let text = site::manifest(6, &[5]).replace("1.0.1", "1.0.2");
    site.put("server.ini", text.as_bytes());
    let relay = Running::start_on(settings, data);
    relay.refresh();
    let mut patterns = listen(&relay, "patterns");
    assert_eq!(listen(&relay, "engines").told(), (2, "generation".into()));
    assert!(patterns.is_untold(), "its scope sees what it saw before");
    assert_eq!(follow(&relay, "engines"), 200);

    // Started once more, it knows who has followed, and who has not been there yet.
    let relay = relay.restart();
    let mut engines = listen(&relay, "engines");
    assert_eq!(listen(&relay, "all").told(), (3, "generation".into()));
    assert!(engines.is_untold(), "it was told of this release, and has reported");
    relay.stop();
}

#[test]
fn a_release_that_was_taken_by_a_relay_that_died_before_it_told_anybody_is_told_by_the_next_r9_1a() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site);
    let mut line = listen(&relay, "all");
    site.publish(6, &[5]);
    relay.refresh();
    assert_eq!(line.told().0, 1);
    assert_eq!(follow(&relay, "all"), 200);
    let (settings, data) = relay.stop();
    let journal = fs::read(data.path().join(JOURNAL)).unwrap();

    let relay = Running::start_on(settings, data);
    let mut line = listen(&relay, "all");
    site.publish(7, &[6]);
    relay.refresh();
    assert_eq!(line.told().0, 2);
    let number = relay.generation();
    let (settings, data) = relay.stop();
    // What is in the store stays; of what was told, nothing was written down.
    fs::write(data.path().join(JOURNAL), journal).unwrap();
    let relay = Running::start_on(settings, data);
    assert_eq!(relay.generation(), number);
    assert_eq!(listen(&relay, "all").told(), (2, "generation".into()));
    assert_eq!(follow(&relay, "all"), 200);
    relay.stop();
}

#[test]
fn the_first_release_that_a_relay_ever_has_is_told_to_nobody_r9_1a() {
    let site = Site::with(5, &[4]);
    let relay = fleet(&site).restart();
    relay.refresh();
    let mut all = listen(&relay, "all");
    site.publish(6, &[5]);
    relay.refresh();
    assert_eq!(all.told(), (1, "generation".into()), "it is the first notice");
    relay.stop();
}
