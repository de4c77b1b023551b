//! The raw client against servers that say just this: each ending is told from the others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use super::answer::{Answer, End, Head, Part};
use super::{Client, PATIENCE};

/// A server for one connection that reads a little and says just this.
fn says(bytes: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(bytes).unwrap();
    });
    (address, server)
}

fn answer_to(bytes: &'static [u8]) -> Result<Answer, End> {
    let (address, server) = says(bytes);
    let answer = Client::connect(address).exchange("GET", "/", &[]);
    server.join().unwrap();
    answer
}

fn ended(bytes: &'static [u8]) -> (String, End) {
    match answer_to(bytes) {
        Ok(answer) => (String::from_utf8(answer.body).unwrap(), answer.end),
        Err(end) => ("no head".into(), end),
    }
}

#[test]
fn each_framing_ends_where_it_says() {
    assert_eq!(ended(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"), ("ab".into(), End::Complete));
    assert_eq!(ended(b"HTTP/1.1 200 OK\r\n\r\nabc"), ("abc".into(), End::Closed));
    assert_eq!(ended(b"HTTP/1.1 204 None\r\n\r\n"), (String::new(), End::Complete));
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n";
    assert_eq!(ended(chunked), ("abc".into(), End::Complete));
}

#[test]
fn an_early_end_is_told_from_a_whole_body() {
    assert_eq!(ended(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), ("abc".into(), End::Short));
    for body in [&b"2\r\nab\r\n"[..], b"2\r\nab\r\n0\r\n", b"3\r\nab"] {
        let whole = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat();
        assert_eq!(ended(whole.leak()), ("ab".into(), End::Short));
    }
    assert_eq!(ended(b"HTTP/1.1 200 OK\r\nCont"), ("no head".into(), End::Short));
    assert_eq!(ended(b""), ("no head".into(), End::Closed));
}

#[test]
fn what_is_not_http_is_called_malformed() {
    for bytes in [
        &b"SSH-2.0 hello\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    ] {
        let (_, end) = ended(bytes);
        assert!(matches!(end, End::Malformed(_)), "{end:?}");
    }
}

#[test]
fn silence_is_told_from_an_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = Client::connect(listener.local_addr().unwrap());
    client.set_patience(Duration::from_millis(20));
    assert_eq!(client.exchange("GET", "/", &[]).unwrap_err(), End::TimedOut);
}

#[test]
fn a_body_can_be_read_in_pieces() {
    let (address, server) = says(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde");
    let mut client = Client::connect(address);
    client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let head = client.read_head("GET").unwrap();
    assert_eq!((head.version.as_str(), head.status), ("HTTP/1.0", 200));
    assert_eq!(client.read(2), (b"ab".to_vec(), None));
    assert_eq!(client.read(9), (b"cde".to_vec(), Some(End::Complete)));
    assert_eq!(client.read_to_close(), (Vec::new(), End::Closed));
    server.join().unwrap();
}

#[test]
fn parts_are_read_strictly() {
    let parts = |body: &str| {
        let media = "multipart/byteranges; boundary=xx".to_owned();
        let headers = vec![("content-type".to_owned(), media)];
        let head = Head { version: "HTTP/1.1".into(), status: 206, headers };
        Answer { head, body: body.into(), end: End::Complete }.parts()
    };
    let one = "--xx\r\nContent-Type: a/b\r\nContent-Range: bytes 0-1/9\r\n\r\nab";
    let two = "\r\n--xx\r\nContent-Range: bytes 4-4/9\r\n\r\ne";
    let expected = [
        Part { content_type: Some("a/b".into()), start: 0, whole: 9, bytes: b"ab".into() },
        Part { content_type: None, start: 4, whole: 9, bytes: b"e".into() },
    ];
    assert_eq!(parts(&format!("{one}{two}\r\n--xx--\r\n")).unwrap(), expected);
    for broken in [
        format!("{one}{two}"),
        format!("{one}{two}\r\n--xx--\r\nmore"),
        format!("x{one}\r\n--xx--\r\n"),
        format!("{one}c\r\n--xx--\r\n"),
        "--xx\r\nContent-Range: bytes 2-1/9\r\n\r\n\r\n--xx--\r\n".into(),
        "--xx\r\nContent-Range: bytes 0-9/9\r\n\r\nabcdefghij\r\n--xx--\r\n".into(),
    ] {
        assert!(parts(&broken).is_err(), "{broken}");
    }
}
