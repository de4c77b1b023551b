//! Several trees in one relay: own paths, upstreams and generations, one store (R1.1, R1.3).

use forebay::config::settings::{TreeSettings, Upstream};
use forebay::relay::refresh::Last;

use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// A second tree beside the first: `/other/`.
fn other(site: &Site) -> TreeSettings {
    let text = format!("[[tree]]\npath = \"/other/\"\nupstream = \"{}\"\n", site.text());
    let mut tree = forebay::config::parse(&text).unwrap().trees.remove(0);
    assert_eq!(tree.upstream, Upstream::Directory(site.dir().to_owned()));
    tree.refresh = std::time::Duration::from_hours(24);
    tree
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), path, &[])
}

#[test]
fn trees_have_their_own_paths_and_generations_and_share_equal_bytes_r1_1_r1_3() {
    let (first, second) = (Site::with(5, &[4]), Site::with(7, &[6]));
    let mut settings = settings(first.text());
    settings.trees.push(other(&second));
    let relay = Running::refreshed(settings);
    relay.wait_tree(1, |progress| progress.ended >= 1);
    assert_eq!(get(&relay, "/activeupdate/server.ini").whole(200), site::view(5, &[4]).as_bytes());
    assert_eq!(get(&relay, "/other/server.ini").whole(200), site::view(7, &[6]).as_bytes());
    assert_eq!(get(&relay, &format!("/activeupdate/{}", site::package(7))).head.status, 404);
    assert_eq!(get(&relay, &format!("/other/{}", site::package(5))).head.status, 404);
    for base in ["/activeupdate/", "/other/"] {
        assert!(get(&relay, &format!("{base}{}", site::ENGINE)).whole(200) == site::bytes(site::ENGINE, 0));
    }
    // The engine and its signature are the same in both.
    assert_eq!(site::blobs(relay.data()).len(), 6 + 6 - 2);

    second.publish(8, &[7]);
    assert!(matches!(relay.refresh_tree(1), Last::New(_)));
    assert_eq!(get(&relay, "/other/server.ini").whole(200), site::view(8, &[7]).as_bytes());
    assert_eq!(get(&relay, "/activeupdate/server.ini").whole(200), site::view(5, &[4]).as_bytes());
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["1"]);
    assert_eq!(site::generations(relay.data(), "other"), ["1", "2"]);
    relay.stop();
}

#[test]
fn a_blob_that_one_tree_drops_stays_for_the_other_r1_3() {
    let (first, second) = (Site::with(5, &[4]), Site::with(5, &[4]));
    let mut settings = settings(first.text());
    settings.trees.push(other(&second));
    settings.trees[0].keep_generations = 1;
    let relay = Running::refreshed(settings);
    relay.wait_tree(1, |progress| progress.ended >= 1);
    first.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    let (settings, data) = relay.stop();
    let held = site::blobs(data.path());
    for path in site::paths(5, &[4]) {
        assert!(held.contains(&site::blob(&site::bytes(&path, 5))), "{path}");
    }
    let relay = Running::start_on(settings, data);
    assert!(
        get(&relay, &format!("/other/{}", site::package(5))).whole(200) == site::bytes(&site::package(5), 5)
    );
    relay.stop();
}
