//! Ranges are slices of the file, wherever its bytes are: in memory, on the disk, in a view, or still on their way (R3.1).

use std::cell::RefCell;
use std::ops::Range;

use forebay::config::settings::Prefetch;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::raw::answer::{Answer, End, content_range};
use crate::raw::{self, Client};
use crate::relay::{Running, settings};

const FIXTURE: &str = "fixtures/activeupdate";
const SMALL: &str = "pattern/vsapi_1932700.1932900";
const LARGE: &str = "pattern/vsapi329.zip";
const RANGES_MAX: usize = 16;

/// One element of a `Range` header.
#[derive(Clone, Copy, Debug)]
enum Spec {
    FromTo(usize, usize),
    From(usize),
    Last(usize),
}

impl Spec {
    fn text(self) -> String {
        match self {
            Self::FromTo(first, last) => format!("{first}-{last}"),
            Self::From(first) => format!("{first}-"),
            Self::Last(count) => format!("-{count}"),
        }
    }

    /// The model: what it means for a file of this size; an error where it means nothing at all.
    fn span(self, size: usize) -> Result<Range<usize>, ()> {
        match self {
            Self::FromTo(first, last) if first > last => Err(()),
            Self::FromTo(first, last) => Ok(first.min(size)..(last + 1).min(size)),
            Self::From(first) => Ok(first.min(size)..size),
            Self::Last(count) => Ok(size - count.min(size)..size),
        }
    }
}

/// What a header asks of a file: all of it (`None`), or these slices.
fn model(specs: &[Spec], size: usize) -> Option<Vec<Range<usize>>> {
    let spans: Vec<_> = specs.iter().map(|spec| spec.span(size)).collect::<Result<_, _>>().ok()?;
    let spans: Vec<_> = spans.into_iter().filter(|span| !span.is_empty()).collect();
    let total: usize = spans.iter().map(ExactSizeIterator::len).sum();
    let refused = spans.len() > RANGES_MAX || (spans.len() > 1 && total > size);
    (!refused).then_some(spans)
}

fn specs(size: usize) -> impl Strategy<Value = Vec<Spec>> {
    let near = prop_oneof![0..=size + 2, 0..=20usize, size.saturating_sub(20)..=size + 20];
    let spec = prop_oneof![
        4 => (near.clone(), 0..=size / 8).prop_map(|(first, more)| Spec::FromTo(first, first + more)),
        2 => (near.clone(), near.clone()).prop_map(|(first, last)| Spec::FromTo(first, last)),
        1 => near.clone().prop_map(Spec::From),
        1 => near.prop_map(Spec::Last),
    ];
    prop_oneof![4 => prop::collection::vec(spec.clone(), 1..4), 1 => prop::collection::vec(spec, 1..20)]
}

fn header(specs: &[Spec]) -> String {
    format!("bytes={}", specs.iter().map(|spec| spec.text()).collect::<Vec<_>>().join(","))
}

/// Checks an answer to a GET with these ranges against the file.
fn check(answer: Answer, specs: &[Spec], file: &[u8], media: &str) {
    let Some(spans) = model(specs, file.len()) else {
        assert!(answer.head.header("content-range").is_none());
        assert!(answer.whole(200) == file);
        return;
    };
    assert_eq!(answer.end, End::Complete, "{:?}", answer.head);
    match &spans[..] {
        [] => {
            let whole = format!("bytes */{}", file.len());
            assert_eq!(answer.head.header("content-range"), Some(&*whole));
            answer.whole(416);
        }
        [span] => {
            let place = answer.head.header("content-range").and_then(content_range);
            assert_eq!(place, Some((span.start, span.end, file.len())));
            assert_eq!(answer.head.header("content-type"), Some(media));
            assert!(answer.whole(206) == file[span.clone()]);
        }
        spans => {
            assert!(answer.head.header("content-range").is_none(), "only the parts have one");
            let length = answer.head.header("content-length").map(str::parse);
            assert_eq!(length, Some(Ok(answer.body.len())));
            let parts = answer.parts().unwrap();
            assert_eq!(answer.head.status, 206);
            assert_eq!(parts.len(), spans.len(), "each range is a part, in the order asked for");
            for (part, span) in parts.iter().zip(spans) {
                assert_eq!((part.start, part.whole), (span.start, file.len()));
                assert_eq!(part.content_type.as_deref(), Some(media));
                assert!(part.bytes == file[span.clone()]);
            }
        }
    }
}

#[test]
fn any_ranges_of_any_file_are_slices_of_it_r3_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    for (path, media) in [
        (SMALL, "application/octet-stream"),
        (LARGE, "application/octet-stream"),
        ("server.ini", "text/plain"),
    ] {
        let target = format!("/activeupdate/{path}");
        let mut client = Client::connect(relay.v4());
        let file = client.exchange("GET", &target, &[]).unwrap().whole(200);
        let size = file.len();
        let client = RefCell::new(client);
        let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
        let tried = TestRunner::new(config).run(&specs(size), |specs| {
            let range = header(&specs);
            let answer = client.borrow_mut().exchange("GET", &target, &[("Range", &range)]);
            check(answer.unwrap(), &specs, &file, media);
            Ok(())
        });
        tried.unwrap_or_else(|error| panic!("{path}, {size} bytes: {error}"));
    }
    relay.stop();
}

#[test]
fn ranges_of_a_file_that_is_being_filled_are_slices_of_it_and_cost_nothing_r2_1_r3_1() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    let relay = Running::refreshed(settings);
    let file = std::fs::read(format!("{FIXTURE}/{LARGE}")).unwrap();
    let (size, held) = (file.len(), 100_000);
    let gate = Gate::default();
    origin.script(&format!("/{LARGE}"), Fault::StallAfter(held, gate.clone()));
    let target = format!("/activeupdate/{LARGE}");
    let ask = |specs: &[Spec]| {
        let mut client = Client::connect(relay.v4());
        client.ask("GET", &target, &[("Range", &header(specs))]).unwrap();
        client
    };
    // What has arrived is served while the rest is held back, whoever waits for that.
    let late = ask(&[Spec::Last(10)]);
    origin.wait_for_bytes(&format!("/{LARGE}"), held as u64);
    for early in [[Spec::FromTo(0, 99)], [Spec::FromTo(held - 100, held - 1)]] {
        check(ask(&early).answer("GET").unwrap(), &early, &file, "application/octet-stream");
    }
    let mut runner = TestRunner::deterministic();
    let mut waiting = vec![(late, vec![Spec::Last(10)])];
    for _ in 0..40 {
        let specs = specs(size).new_tree(&mut runner).unwrap().current();
        waiting.push((ask(&specs), specs));
    }
    gate.open();
    for (mut client, specs) in waiting {
        check(client.answer("GET").unwrap(), &specs, &file, "application/octet-stream");
    }
    let seen = origin.seen();
    assert_eq!(seen.body_bytes(&format!("/{LARGE}")), size as u64, "each byte once");
    relay.stop();
}

#[test]
fn ranges_that_cannot_be_had_are_ignored_or_416_and_head_has_none_r3_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let target = format!("/activeupdate/{LARGE}");
    let file = std::fs::read(format!("{FIXTURE}/{LARGE}")).unwrap();
    let mut client = Client::connect(relay.v4());
    let mut ask = |method: &str, headers: &[(&str, &str)]| client.exchange(method, &target, headers).unwrap();
    let many = (0..=RANGES_MAX).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    for ignored in [
        "bytes=",
        "bytes",
        "0-1",
        "lines=0-1",
        "bytes=1-0",
        "bytes=a-b",
        "bytes=0-1,x",
        "bytes=0x0-0x1",
        "bytes=0-1;x",
        "bytes=- 1",
        "bytes=\u{fc}",
        &format!("bytes={many}"),
        "bytes=0-,0-",
    ] {
        let answer = ask("GET", &[("Range", ignored)]);
        assert!(answer.whole(200) == file, "{ignored}");
    }
    let empty_elements = ask("GET", &[("Range", "bytes=, 0-1,,")]);
    assert!(empty_elements.whole(206) == file[..2], "an empty element of a list is none (RFC 9110, 5.6.1)");
    let twice = ask("GET", &[("Range", "bytes=0-1"), ("Range", "bytes=4-5")]);
    assert!(twice.whole(200) == file, "the field is no list: two of them mean nothing");
    let beyond = format!("bytes={}-", file.len());
    for none in [&*beyond, "bytes=-0", "bytes=18446744073709551616-", "bytes=999999999-,888888888-"] {
        let answer = ask("GET", &[("Range", none)]);
        let place = format!("bytes */{}", file.len());
        assert_eq!(answer.head.header("content-range"), Some(&*place), "{none}");
        answer.whole(416);
    }
    let last = ask("GET", &[("Range", "bytes=0-99999999999999999999999")]);
    assert!(last.whole(206) == file, "a last byte beyond the end means the end");
    for range in ["bytes=0-1", "bytes=0-1,4-5", &beyond] {
        let head = ask("HEAD", &[("Range", range)]);
        let length = file.len().to_string();
        assert_eq!((head.head.status, head.head.header("content-length")), (200, Some(&*length)), "{range}");
        assert!(head.head.header("content-range").is_none());
    }
    relay.stop();
}

#[test]
fn a_range_holds_only_for_the_very_state_that_if_range_names_r3_1() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(settings(&origin.url("/")));
    for (path, dated) in [(LARGE, true), (SMALL, true), ("server.ini", false)] {
        let target = format!("/activeupdate/{path}");
        let whole = raw::fetch(relay.v4(), &target, &[]);
        let etag = whole.head.header("etag").unwrap().to_owned();
        let date = whole.head.header("last-modified").map(str::to_owned);
        assert_eq!(date.is_some(), dated, "{path}");
        let file = whole.whole(200);
        let mut client = Client::connect(relay.v4());
        let mut status = |if_range: &str| {
            let headers = [("Range", "bytes=1-2"), ("If-Range", if_range)];
            let answer = client.exchange("GET", &target, &headers).unwrap();
            let status = answer.head.status;
            let expected = if status == 206 { &file[1..3] } else { &file[..] };
            assert!(answer.whole(status) == expected);
            status
        };
        assert_eq!(status(&etag), 206);
        for other in
            [&*format!("W/{etag}"), "\"other\"", "*", "", etag.trim_matches('"'), &format!("{etag}, {etag}")]
        {
            assert_eq!(status(other), 200, "{path}: {other}");
        }
        if let Some(date) = date {
            let moment = httpdate::parse_http_date(&date).unwrap();
            let second = std::time::Duration::from_secs(1);
            assert_eq!(status(&date), 206);
            for other in [moment - second, moment + second, moment + 86_400 * second] {
                assert_eq!(status(&httpdate::fmt_http_date(other)), 200, "{path}: another date");
            }
        } else {
            assert_eq!(status("Thu, 01 Jan 1970 00:00:00 GMT"), 200, "{path} has no date");
            assert_eq!(status("Fri, 01 Jan 2100 00:00:00 GMT"), 200, "{path} has no date");
        }
        let unsatisfiable =
            raw::fetch(relay.v4(), &target, &[("Range", "bytes=99999999-"), ("If-Range", "\"x\"")]);
        assert_eq!(unsatisfiable.head.status, 200, "a range that does not hold is none");
    }
    relay.stop();
}
