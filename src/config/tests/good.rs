//! Files as administrators write them, a start without one, and what a reload cannot change.

use std::time::Duration;

use crate::config::settings::{Listen, Prefetch, Settings, Upstream};
use crate::config::tests::TREE;
use crate::config::{parse, restart_needed};
use crate::policy::decide::Unknown;

#[test]
fn a_branch_office_file_is_read() {
    let settings = parse(
        r#"
        data = "/var/lib/forebay"
        listen = ["[2001:db8::7]:80", "[fe80::1%3]:80"]
        admin.listen = "127.0.0.1:9000"

        [[tree]]
        upstream = ["http://a.example/au", "http://b.example"]
        refresh_secs = 600
        prefetch = "used"
        [[tree.catalogue]]
        path = "engine/driver.zip"
        class = "driver"

        [[tree]]
        path = "/OSCE/14/"
        upstream = "au"

        [[agents.range]]
        from = "2001:db8::/32"
        scope = "patterns"

        [limits]
        head_bytes_max = "32 KiB"
        drain_secs = 0
        "#,
    )
    .unwrap();
    assert!(matches!(&settings.listen, Listen::Configured(addresses) if addresses.len() == 2));
    assert_eq!(settings.admin, Listen::Configured(vec!["127.0.0.1:9000".parse().unwrap()]));
    let [first, second] = &settings.trees[..] else { panic!("{:?}", settings.trees) };
    let Upstream::Urls(urls) = &first.upstream else { panic!("{:?}", first.upstream) };
    assert_eq!(
        urls.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["http://a.example/au/", "http://b.example/"]
    );
    assert_eq!((first.name.as_str(), first.refresh), ("activeupdate", Duration::from_mins(10)));
    assert_eq!((first.prefetch, first.catalogue.len()), (Prefetch::Used, 1));
    assert_eq!((second.name.as_str(), second.path.as_str()), ("osce-14", "/OSCE/14/"));
    assert_eq!(second.upstream, Upstream::Directory("au".into()));
    assert_eq!(settings.agents.unknown, Unknown::Refuse);
    assert_eq!(settings.limits.head_bytes_max, 32 << 10);
    assert_eq!(settings.limits.drain, Duration::ZERO);
}

#[test]
fn a_start_without_a_file_is_a_file_with_one_line() {
    assert_eq!(Settings::for_upstream("/srv/au").unwrap(), parse(TREE).unwrap());
    assert_eq!(Settings::for_upstream("/srv/au").unwrap().agents.unknown, Unknown::Open);
    let url = Settings::for_upstream("https://u.example/au").unwrap();
    assert!(
        matches!(&url.trees[0].upstream, Upstream::Urls(urls) if urls[0].as_str() == "https://u.example/au/")
    );
    let message = Settings::for_upstream("http://u:secret@x/").unwrap_err().to_string();
    assert!(message.starts_with("upstream = \"http://***@x/\": "), "{message}");
    Settings::for_upstream("").unwrap_err();
}

#[test]
fn only_what_a_reload_cannot_change_needs_a_restart() {
    let old = parse(&format!("{TREE}{TREE}path = \"/b/\"")).unwrap();
    assert!(restart_needed(&old, &old).is_empty());
    let mut new = old.clone();
    new.trees.reverse();
    new.trees[0].refresh = Duration::from_secs(1);
    new.agents.unknown = Unknown::Refuse;
    new.listen = Listen::Configured(old.listen.addresses().iter().rev().copied().collect());
    assert!(restart_needed(&old, &new).is_empty());
    let top = r#"
        data = "d"
        workers = 1
        listen = "[::]:1"
        admin.listen = "[::]:2"
        admin.clear_text = "allow"
        log.format = "json"
        limits.connections_max = 7
        fill.at_once = 5
    "#;
    new = parse(&format!("{top}\n{TREE}")).unwrap();
    assert_eq!(
        restart_needed(&old, &new),
        [
            "data",
            "workers",
            "listen",
            "admin.listen",
            "log.format",
            "tree",
            "limits.connections_max",
            "fill.at_once"
        ]
    );
}
