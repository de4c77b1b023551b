//! Bodies of the agents' API that mean harm: too large, too deep, too slow, and too many (R4.6, R5.5).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use forebay::http::agents::BODY_BYTES_MAX;
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::raw::answer::End;
use crate::served::WITHIN;

const ENROL: &str = "/api/v1/enrol";
const CHECK_IN: &str = "/api/v1/agent/check-in";

/// A deadline that a test can wait for.
const SOON: Duration = Duration::from_millis(400);

/// Posts these bytes to a call that anybody may make; gives the answer.
fn enrol(relay: &Running, body: &[u8]) -> Answer {
    let mut client = Client::connect(relay.v4());
    let head = format!("POST {ENROL} HTTP/1.1\r\nHost: relay\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(&[head.as_bytes(), body].concat()).unwrap();
    client.answer("POST").unwrap()
}

#[test]
fn a_body_that_is_too_deep_too_long_or_no_json_is_refused_and_never_shown_again_r4_6() {
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 9)]);
    let own = token("branch");
    let padded = |bytes: usize| {
        let body = json!({ "token": own, "more": "" }).to_string();
        let more = "a".repeat(bytes - body.len());
        body.replace("\"more\":\"\"", &format!("\"more\":\"{more}\""))
    };
    for (body, expected) in [
        ("[".repeat(60_000), 400),
        ("{\"token\":".repeat(6_000), 400),
        (format!("{{\"more\":{}1{}}}", "[".repeat(500), "]".repeat(500)), 400),
        ("1e999999999".into(), 400),
        ("9".repeat(60_000), 400),
        ("\"\\ud800\"".into(), 400),
        (String::new(), 400),
        ("null".into(), 400),
        ("{}{}".into(), 400),
        (format!("{{\"token\":\"{own}\",\"token\":\"{own}\"}}"), 400),
        // What is a secret and stands in the wrong place.
        (format!("\"{own}\""), 400),
        (format!("[\"{own}\"]"), 400),
        (format!("{{\"token\":[\"{own}\"]}}"), 400),
        (format!("{{\"token\":{{\"{own}\":1}}}}"), 400),
        (format!("{{\"token\":\"x\",\"agent\":\"{own}\"}}"), 400),
        (format!("{{\"token\":\"x\",\"agent\":{{\"{own}\":1}}}}"), 400),
        (format!("{{\"{own}\":1}}"), 400),
        (format!("{{\"{own}"), 400),
        (format!("{{\"token\":\"{own}\",\"certificate_request\":\"{own}\"}}"), 400),
        (format!("{{\"token\":\"{own}\\u0000\"}}"), 403),
        (format!("{{\"token\":\"{own} \"}}"), 403),
        (padded(BODY_BYTES_MAX + 1), 413),
        (padded(BODY_BYTES_MAX), 201),
    ] {
        let answer = enrol(&relay, body.as_bytes());
        let told = String::from_utf8_lossy(&answer.body);
        let shown = &body[..body.len().min(120)];
        assert_eq!(answer.head.status, expected, "{shown}: {told}");
        assert!(!told.contains(SECRET) && told.len() < 400, "{shown}: {told}");
    }
    let (_, missing) = post(relay.v4(), ENROL, None, &json!({}));
    assert!(missing["detail"].as_str().unwrap().contains("missing field `token`"), "{missing}");
    let says = json!({ "why": token("all") });
    let (status, told) = post(relay.v4(), CHECK_IN, Some(&token("all")), &says);
    assert!(status == 400 && !told.to_string().contains(SECRET), "{told}");
    let says = json!({ "result": token("all"), "detail": "\u{7}" });
    let (status, told) = post(relay.v4(), "/api/v1/agent/report", Some(&token("all")), &says);
    assert!(status == 400 && !told.to_string().contains(SECRET), "{told}");
    assert_eq!(enrol(&relay, &[0xff; 100]).head.status, 400);
}

#[test]
fn a_body_without_an_end_ends_at_its_bound_r4_6() {
    let relay = fleet(local());
    let mut client = Client::connect(relay.v4());
    let head = format!("POST {ENROL} HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(head.as_bytes()).unwrap();
    let mut sends = client.twin();
    let sending = std::thread::spawn(move || {
        let chunk = [b"1000\r\n", &[b' '; 0x1000][..], b"\r\n"].concat();
        while sends.send(&chunk).is_ok() {}
    });
    assert_eq!(client.read_head("POST").unwrap().status, 413);
    // What is on its way is not taken for the next request.
    assert!(matches!(client.read_to_close().1, End::Closed | End::Reset));
    sending.join().unwrap();
    for framing in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 3",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
    ] {
        let mut client = Client::connect(relay.v4());
        let head = format!("POST {ENROL} HTTP/1.1\r\nHost: relay\r\n{framing}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
        client.send(head.as_bytes()).unwrap();
        assert_eq!(client.answer("POST").unwrap().head.status, 400, "{framing}");
    }
}

/// A body of which a piece comes, and then nothing.
struct Silent(Option<Bytes>);

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
    }
}

#[test]
fn a_body_that_never_comes_gives_its_place_up_in_time_r4_6() {
    let mut settings = local();
    settings.limits.head_timeout = SOON;
    let relay = fleet(settings);
    let own = bearer(&token("all"));
    for (target, piece) in [
        (ENROL, &b""[..]),
        (ENROL, b"{\"token\":"),
        (CHECK_IN, b"{"),
        ("/api/v1/agent/report", b""),
        ("/api/v1/agent/key", b""),
    ] {
        for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let mut client = Client::connect(relay.v4());
            let head =
                format!("POST {target} HTTP/1.1\r\nHost: relay\r\nAuthorization: {own}\r\n{framing}\r\n\r\n");
            let piece = if framing.ends_with("100") || piece.is_empty() {
                piece.to_vec()
            } else {
                [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            };
            client.send(&[head.as_bytes(), &piece].concat()).unwrap();
            let answer = client.answer("POST").unwrap();
            assert_eq!(
                (answer.head.status, answer.head.header("connection")),
                (408, Some("close")),
                "{target}"
            );
            assert_eq!(client.read_to_close(), (Vec::new(), End::Closed), "{target} {framing}");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = async {
        let stream = tokio::net::TcpStream::connect(relay.v4()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request =
            Request::post(format!("http://relay.test{ENROL}")).body(Silent(Some("{".into()))).unwrap();
        sender.send_request(request).await.unwrap().status()
    };
    let status = runtime.block_on(async { tokio::time::timeout(WITHIN, asked).await.unwrap() });
    assert_eq!(status, 408);
}

#[test]
fn wrong_tokens_and_check_ins_by_the_thousand_leave_nothing_behind_r4_6() {
    let mut relay = fleet(local());
    let samples = |relay: &Running| {
        let page = crate::raw::fetch(relay.admin(), "/metrics", &[]).whole(200);
        String::from_utf8(page).unwrap().lines().count()
    };
    let before = samples(&relay);
    let mut client = Client::connect(relay.v4());
    for number in 0..10_000u32 {
        let shown = format!("Bearer pc-{number}~{number:064x}");
        assert_eq!(client.exchange("GET", PATTERN, &[("authorization", &shown)]).unwrap().head.status, 401);
    }
    let versions: serde_json::Map<_, _> =
        (0..256).map(|number| (format!("{number:0>100}"), json!("v".repeat(100)))).collect();
    for _ in 0..100 {
        let says = json!({ "why": "start", "versions": versions });
        assert_eq!(post_on(&mut client, CHECK_IN, Some(&token("all")), &says).head.status, 200);
    }
    let agents = relay.handle().agents().unwrap();
    assert_eq!(agents.seen().len(), 1);
    assert_eq!(agents.tree().tree().agent_count(), 3);
    assert_eq!(samples(&relay), before, "no sample for each of them");
}
