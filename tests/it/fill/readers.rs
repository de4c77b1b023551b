//! Readers of a fill under way: of a late range, slow ones, several ranges at once, HTTP/1.0 (R2.2, R3.1).

use super::ground::{Ground, PATH};
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
use crate::raw::answer::End;

const SIZE: usize = 4_000_000;

#[test]
fn a_late_range_does_not_wait_for_slow_early_readers_r2_2() {
    let ground = Ground::with(&[SIZE], |settings| settings.fill.far_lanes = 0);
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(3_000_000, gate.clone()));
    let mut slow = Client::connect(ground.relay.v4());
    slow.ask("GET", PATH, &[]).unwrap();
    slow.read_head("GET").unwrap();
    assert!(slow.read(10).0 == ground.files[0][..10]);
    // The slow reader takes nothing more for now; the upstream waits before the last million.
    let late = ground.ask(PATH, &[("Range", "bytes=2900000-2999999")]);
    assert!(late.whole(206) == ground.files[0][2_900_000..3_000_000]);
    let mut last = Client::connect(ground.relay.v6());
    last.ask("GET", PATH, &[("Range", "bytes=-5")]).unwrap();
    let head = last.read_head("GET").unwrap();
    assert_eq!((head.status, head.header("content-range")), (206, Some("bytes 3999995-3999999/4000000")));
    gate.open();
    assert_eq!(last.read(usize::MAX), (ground.files[0][SIZE - 5..].to_vec(), Some(End::Complete)));
    let (rest, end) = slow.read(usize::MAX);
    assert_eq!(end, Some(End::Complete));
    assert!(rest == ground.files[0][10..]);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn several_ranges_of_a_fill_come_as_from_the_store_r3_1() {
    let mut ground = Ground::new(&[SIZE]);
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(1_000_000, gate.clone()));
    let ranges = [("Range", "bytes=3500000-3500009,5-8,-1")];
    let mut agent = Client::connect(ground.relay.v4());
    agent.ask("GET", PATH, &ranges).unwrap();
    gate.wait_reached();
    gate.open();
    let during = agent.answer("GET").unwrap();
    assert!(ground.settle(PATH));
    for answer in [during, ground.ask(PATH, &ranges)] {
        assert_eq!((answer.head.status, answer.end), (206, End::Complete));
        let spans = [3_500_000..3_500_010, 5..9, SIZE - 1..SIZE];
        for (part, span) in answer.parts().unwrap().iter().zip(spans) {
            assert_eq!((part.start, &part.bytes[..]), (span.start, &ground.files[0][span]));
        }
    }
    ground.relay.stop();
}

#[test]
fn head_tag_and_length_are_those_of_the_stored_file_from_the_first_byte_on_r3_1() {
    let mut ground = Ground::new(&[SIZE]);
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(0, gate.clone()));
    let mut agent = Client::connect(ground.relay.v4());
    agent.ask("GET", PATH, &[]).unwrap();
    let during = agent.read_head("GET").unwrap();
    gate.open();
    assert!(agent.read(usize::MAX).0 == ground.files[0]);
    assert!(ground.settle(PATH));
    let after = Client::connect(ground.relay.v4()).exchange("HEAD", PATH, &[]).unwrap().head;
    for name in ["etag", "content-length", "last-modified", "accept-ranges"] {
        assert_eq!(during.header(name), after.header(name), "{name}");
        assert!(after.header(name).is_some(), "{name}");
    }
    ground.relay.stop();
}

#[test]
fn a_client_of_http_1_0_follows_to_the_end_or_sees_that_it_broke_r2_3() {
    let request = format!("GET {PATH} HTTP/1.0\r\n\r\n");
    let ground = Ground::new(&[SIZE]);
    ground.origin.script(PATH, Fault::CloseAfter(1_000_000));
    let mut agent = Client::connect(ground.relay.v4());
    agent.send(request.as_bytes()).unwrap();
    assert!(agent.answer("GET").unwrap().whole(200) == ground.files[0]);
    assert_eq!(agent.read_to_close(), (vec![], End::Closed));
    ground.relay.stop();

    let ground = Ground::new(&[SIZE]);
    ground.origin.script(PATH, Fault::CloseAfter(1_000_000));
    for _ in 0..10 {
        ground.origin.script(PATH, Fault::Status(503));
    }
    let mut agent = Client::connect(ground.relay.v4());
    agent.send(request.as_bytes()).unwrap();
    let broken = agent.answer("GET").unwrap();
    assert_eq!(broken.head.header("content-length"), Some("4000000"));
    assert!(matches!(broken.end, End::Short | End::Reset), "{:?}", broken.end);
    ground.relay.stop();
}

#[test]
fn a_head_that_the_upstream_does_not_answer_is_learnt_by_the_fill() {
    let dir = tempfile::TempDir::new().unwrap();
    let bytes = super::ground::bytes(0, SIZE);
    super::ground::write_tree(dir.path(), std::slice::from_ref(&bytes));
    let origin = crate::origin::Origin::start(dir.path());
    origin.script(PATH, Fault::Status(405));
    let relay = crate::relay::Running::refreshed(super::ground::lazy(&origin.url("/activeupdate/")));
    let head = Client::connect(relay.v4()).exchange("HEAD", PATH, &[]).unwrap();
    assert_eq!(head.head.header("content-length"), Some("4000000"));
    assert!(crate::raw::fetch(relay.v4(), PATH, &[]).whole(200) == bytes);
    assert_eq!(
        origin.seen().body_bytes(PATH),
        SIZE as u64 + 1,
        "the file, and its first byte in place of its head"
    );
    relay.stop();
}
