//! Any bytes as what a SOCKS5 client says: each message is the same however it arrives, lies within the bytes, and is bounded.

use std::net::IpAddr;

use forebay::socks::message::{self, Ask, BYTES_MAX, Command, Credentials, Host, Message, NoMessage};

/// Checks the claim.
pub(super) fn check(data: &[u8]) {
    arrives(data, message::methods);
    if let Some(message) = arrives(data, message::credentials) {
        let spelled = spelled_credentials(message.says);
        assert_eq!(message::credentials(&spelled), Ok(Some(message)));
    }
    if let Some(message) = arrives(data, message::ask) {
        let spelled = spelled_ask(message.says);
        assert_eq!(message::ask(&spelled), Ok(Some(message)));
    }
}

/// Reads bytes one after the other; gives the message that they begin with.
fn arrives<'b, T: Copy + PartialEq + std::fmt::Debug>(
    data: &'b [u8],
    read: impl Fn(&'b [u8]) -> Result<Option<Message<T>>, NoMessage>,
) -> Option<Message<T>> {
    let mut answer = None;
    for end in 0..=data.len().min(BYTES_MAX + 1) {
        let now = read(&data[..end]);
        match answer {
            Some(before) => assert_eq!(now, before, "{end} bytes"),
            None if now != Ok(None) => answer = Some(now),
            None => {}
        }
        if let Ok(Some(message)) = now {
            assert!(message.len <= end, "{} of {end} bytes", message.len);
        }
    }
    assert!(answer.is_some() || data.len() < BYTES_MAX, "{} bytes and no answer", data.len());
    assert_eq!(read(data), answer.unwrap_or(Ok(None)));
    answer?.ok()?
}

/// What was read, written again.
fn spelled_credentials(Credentials { name, secret }: Credentials<'_>) -> Vec<u8> {
    let count = |bytes: &[u8]| [u8::try_from(bytes.len()).expect("a byte counted it")];
    [&[1], &count(name)[..], name, &count(secret), secret].concat()
}

fn spelled_ask(Ask { command, host, port }: Ask<'_>) -> Vec<u8> {
    let command = match command {
        Command::Connect => 1,
        Command::Other(number) => {
            assert_ne!(number, 1, "that is a connection");
            number
        }
    };
    let mut bytes = vec![5, command, 0];
    match host {
        Host::Address(IpAddr::V4(v4)) => {
            bytes.push(1);
            bytes.extend(v4.octets());
        }
        Host::Address(IpAddr::V6(v6)) => {
            bytes.push(4);
            bytes.extend(v6.octets());
        }
        Host::Name(name) => {
            assert!(!name.is_empty());
            bytes.extend([3, u8::try_from(name.len()).expect("a byte counted it")]);
            bytes.extend(name);
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes
}
