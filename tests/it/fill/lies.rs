//! Upstreams that lie: nothing wrong is served as complete, agents learn no detail, and nothing is left behind (R1.5).

use super::ground::{Ground, NOT_FETCHED, PATH, path};
use crate::origin::fault::{Fault, Gate};
use crate::raw::answer::End;
use crate::raw::{self, Client};

const SIZE: usize = 300_000;

#[test]
fn each_lie_before_the_first_byte_is_a_502_and_is_forgotten_when_the_upstream_behaves_r1_5() {
    let lies = [
        Fault::WrongLength { declared: SIZE + 1 },
        Fault::WrongLength { declared: SIZE - 1 },
        Fault::WrongLength { declared: 0 },
        Fault::Html,
        Fault::ContentEncodingGzip,
        Fault::Status(204),
        Fault::Status(206),
        Fault::Status(304),
        Fault::Status(403),
        Fault::Status(500),
        Fault::Status(503),
        Fault::GarbageHead,
        Fault::Redirect("ftp://127.0.0.1/pattern/p0.zip".into()),
        Fault::Redirect("//".into()),
        // From here on a refresh asks after what is gone, and its fills count too.
        Fault::Status(404),
        Fault::Status(410),
    ];
    let mut ground = Ground::new(&vec![SIZE; lies.len() + 1]);
    let (looped, counted) = (path(lies.len()), lies.len() - 2);
    let mut cases: Vec<_> = lies.into_iter().enumerate().map(|(number, lie)| (path(number), lie)).collect();
    cases.push((looped.clone(), Fault::Redirect(ground.origin.url(&looped))));
    for (path, lie) in &cases {
        ground.origin.always(path, lie.clone());
    }
    for (number, (path, lie)) in cases.iter().enumerate() {
        let answer = ground.get(path);
        assert_eq!(answer.head.status, 502, "{lie:?}");
        assert_eq!(answer.whole(502), NOT_FETCHED);
        let ended = number as u64 + 1;
        if number < counted {
            assert_eq!((ground.fills(), ground.fills_now()), ([ended, 0, ended], 0), "{lie:?}");
            assert_eq!((ground.staged(), ground.blobs().len()), (0, 0), "{lie:?}");
        }
    }
    let metrics = raw::fetch(ground.relay.admin(), "/metrics", &[]).whole(200);
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.lines().any(|line| line.starts_with("forebay_fills_failed_total")), "{metrics}");
    assert_eq!(ground.gets(&looped), 6, "the request and five redirects");
    ground.origin.behave();
    for (number, (path, lie)) in cases.iter().enumerate() {
        ground.forget(path);
        assert!(ground.get(path).whole(200) == ground.files[number], "after {lie:?}");
    }
    ground.relay.stop();
}

#[test]
fn a_redirect_is_followed() {
    let ground = Ground::new(&[SIZE]);
    let elsewhere = "/elsewhere.zip";
    std::fs::write(ground.dir.path().join("elsewhere.zip"), &ground.files[0]).unwrap();
    ground.origin.always(PATH, Fault::Redirect(elsewhere.into()));
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    assert_eq!(ground.origin.seen().body_bytes(elsewhere), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn chunks_without_a_length_are_right_when_they_are_as_many_as_the_manifest_says_r1_5() {
    let ground = Ground::new(&[SIZE]);
    ground.origin.always(PATH, Fault::Chunked);
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    ground.relay.stop();
}

#[test]
fn chunks_that_are_more_or_fewer_never_end_cleanly_r1_5() {
    for size in [SIZE + 1, SIZE + 5_000_000, SIZE - 1, 1] {
        let mut ground = Ground::new(&[SIZE]);
        let mut other = ground.files[0].clone();
        other.resize(size, 7);
        std::fs::write(ground.dir.path().join("activeupdate/pattern/p0.zip"), other).unwrap();
        ground.origin.always(PATH, Fault::Chunked);
        let answer = ground.get(PATH);
        if answer.head.status == 200 {
            assert!(matches!(answer.end, End::Short | End::Reset), "{size}: {:?}", answer.end);
            assert!(answer.body[..] == ground.files[0][..answer.body.len()]);
        } else {
            assert_eq!(answer.whole(502), NOT_FETCHED);
        }
        assert!(!ground.settle(PATH));
        assert_eq!((ground.staged(), ground.blobs().len()), (0, 0));
        let bytes = ground.origin.seen().body_bytes(PATH);
        assert!(bytes <= 10 * SIZE.max(size) as u64, "{size}: {bytes}");
        std::fs::write(ground.dir.path().join("activeupdate/pattern/p0.zip"), &ground.files[0]).unwrap();
        ground.forget(PATH);
        assert!(ground.get(PATH).whole(200) == ground.files[0]);
        ground.relay.stop();
    }
}

#[test]
fn a_file_that_is_not_there_is_not_asked_for_again_and_again() {
    for status in [404, 403] {
        let mut ground = Ground::new(&[SIZE]);
        ground.origin.always(PATH, Fault::Status(status));
        for _ in 0..50 {
            assert_eq!(ground.get(PATH).whole(502), NOT_FETCHED);
        }
        assert_eq!(ground.gets(PATH), 1, "{status}");
        assert_eq!(ground.fills(), [1, 0, 1]);
        ground.relay.stop();
    }
}

#[test]
fn agents_that_wait_for_a_head_share_its_failure() {
    let ground = Ground::new(&[SIZE]);
    let gate = Gate::default();
    ground.origin.script_together(PATH, vec![Fault::StallBeforeHead(gate.clone()), Fault::Status(404)]);
    let mut agents: Vec<_> = (0..20).map(|_| Client::connect(ground.relay.v4())).collect();
    for agent in &mut agents {
        agent.ask("GET", PATH, &[]).unwrap();
    }
    gate.wait_reached();
    gate.open();
    for agent in &mut agents {
        assert_eq!(agent.answer("GET").unwrap().whole(502), NOT_FETCHED);
    }
    assert_eq!(ground.gets(PATH), 1);
    ground.relay.stop();
}
