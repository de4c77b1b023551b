//! Users of the proxy: who names one with its secret gets through, and nobody else; the mirror is everybody's as before.

use std::process::Command;

use forebay::base::tally::RefusedBy;
use forebay::config::elsewhere::User;
use forebay::policy::secret::SecretHash;

use super::{By, Far, ask, is_closed, leading_to, socks_ask, socks_reply};
use crate::process::{forebay, run, tool};
use crate::raw::Client;
use crate::relay::Running;
use crate::served::{Place, WITHIN};

fn with_users(far: &Far) -> forebay::config::settings::Settings {
    let mut settings = leading_to(far.port());
    let user =
        |name: &str, secret: &str| User { name: name.into(), secret_hash: SecretHash::of(secret.as_bytes()) };
    settings.proxy.users = vec![user("site-a", "open sesame"), user("site-b", "other")];
    settings
}

/// `site-a:open sesame` and others, as Basic has them.
const RIGHT: &str = "Basic c2l0ZS1hOm9wZW4gc2VzYW1l";
const SECRET_OF_ANOTHER: &str = "Basic c2l0ZS1iOm9wZW4gc2VzYW1l";
const NOBODY: &str = "Basic bm9ib2R5Om9wZW4gc2VzYW1l";
const NO_SECRET: &str = "Basic c2l0ZS1hOg==";

#[test]
fn connect_and_other_servers_urls_need_credentials_and_the_mirror_does_not_r4_6() {
    let far = Far::start();
    let mut relay = Running::refreshed(with_users(&far));
    let tally = relay.handle().tally().unwrap();
    let to = far.address().to_string();
    let mut refused = 0;
    let mut client = Client::connect(relay.v4());
    for fields in [
        String::new(),
        format!("Proxy-Authorization: {SECRET_OF_ANOTHER}\r\n"),
        format!("Proxy-Authorization: {NOBODY}\r\n"),
        format!("Proxy-Authorization: {NO_SECRET}\r\n"),
        format!("Authorization: {RIGHT}\r\n"),
        format!("Proxy-Authorization: {}\r\n", RIGHT.replace("Basic", "Bearer")),
        "Proxy-Authorization: Basic\r\n".to_owned(),
        "Proxy-Authorization: Basic !!!\r\n".to_owned(),
        format!("Proxy-Authorization: {RIGHT}\r\nProxy-Authorization: {RIGHT}\r\n"),
    ] {
        for line in [format!("CONNECT {to}"), format!("GET http://{to}/")] {
            // The client may go on on the same connection.
            client.send(format!("{line} HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n").as_bytes()).unwrap();
            let answer = client.answer("GET").unwrap();
            assert_eq!(
                answer.head.header("proxy-authenticate"),
                Some("Basic realm=\"forebay\""),
                "{line} {fields}"
            );
            answer.whole(407);
            refused += 1;
        }
    }
    assert_eq!(tally.requests_refused(RefusedBy::Credentials), refused);
    client.exchange("GET", "/activeupdate/server.ini", &[]).unwrap().whole(200);
    let own = format!("http://{}/activeupdate/server.ini", relay.v4());
    client.exchange("GET", &own, &[]).unwrap().whole(200);
    client
        .send(
            format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nproxy-authorization: {RIGHT}\r\n\r\n").as_bytes(),
        )
        .unwrap();
    assert_eq!(client.read_head("CONNECT").unwrap().status, 200);
    drop((client, far.accept()));
    // Right credentials open what the policy opens, and nothing else.
    let mut client = Client::connect(relay.v4());
    let head = format!("CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {RIGHT}\r\n\r\n");
    client.send(head.as_bytes()).unwrap();
    client.answer("CONNECT").unwrap().whole(403);
    relay.stop();
}

pub(crate) fn credentials(name: &[u8], secret: &[u8]) -> Vec<u8> {
    let count = |bytes: &[u8]| [u8::try_from(bytes.len()).unwrap()];
    [&[1], &count(name)[..], name, &count(secret), secret].concat()
}

#[test]
fn socks_needs_them_too_where_there_are_users_and_believes_nobody_where_there_are_none_r4_2() {
    let far = Far::start();
    let mut relay = Running::start(with_users(&far));
    let tally = relay.handle().tally().unwrap();
    let door = relay.socks()[0];
    let to = socks_ask(1, &far.address().to_string());
    // Who offers no credentials is not let in, whatever follows.
    let mut client = Client::connect(door);
    client.send(&[&[5, 1, 0][..], &to].concat()).unwrap();
    assert_eq!(client.take(2), [5, 255]);
    is_closed(&mut client);
    for (name, secret) in [
        (&b"site-a"[..], &b"other"[..]),
        (b"nobody", b"open sesame"),
        (b"site-a", b""),
        (b"", b""),
        (b"\xff", b"open sesame"),
        (&[b'n'; 255], &[b's'; 255]),
    ] {
        let mut client = Client::connect(door);
        client.send(&[&[5, 2, 0, 2][..], &credentials(name, secret), &to].concat()).unwrap();
        assert_eq!(client.take(4), [5, 2, 1, 1], "{}", name.escape_ascii());
        is_closed(&mut client);
    }
    assert_eq!(tally.requests_refused(RefusedBy::Credentials), 7);
    let mut client = Client::connect(door);
    client.send(&[&[5, 1, 2][..], &credentials(b"site-a", b"open sesame"), &to].concat()).unwrap();
    assert_eq!(client.take(4), [5, 2, 1, 0]);
    assert_eq!(socks_reply(&mut client), 0);
    drop((client, far.accept()));
    relay.stop();

    let relay = Running::start(leading_to(far.port()));
    let mut client = Client::connect(relay.socks()[0]);
    client.send(&[&[5, 1, 2][..], &credentials(b"root", b"guess"), &to].concat()).unwrap();
    assert_eq!(client.take(4), [5, 2, 1, 0]);
    assert_eq!(socks_reply(&mut client), 0);
    drop((client, far.accept()));
    // A name opens nothing.
    let mut client = Client::connect(relay.socks()[0]);
    let other = socks_ask(1, "10.0.0.1:80");
    client.send(&[&[5, 1, 2][..], &credentials(b"root", b"guess"), &other].concat()).unwrap();
    assert_eq!(client.take(4), [5, 2, 1, 0]);
    assert_eq!(socks_reply(&mut client), 2);
    assert_eq!(ask(&mut Client::connect(relay.socks()[0]), By::Socks, &far.address().to_string()), 0);
    drop(far);
    relay.stop();
}

#[test]
fn a_secret_is_what_its_lines_of_the_settings_know_and_is_in_no_log_r4_6() {
    let Some(curl) = tool("curl") else { return };
    let secret = |name: &str| {
        let printed = run(&mut forebay(["secret", name]), WITHIN).succeeded().stdout;
        let lines =
            printed[printed.find("[[proxy.user]]").unwrap()..printed.find("try: ").unwrap()].to_owned();
        let secret = printed.lines().find(|line| line.len() == 64).unwrap().to_owned();
        assert!(
            !lines.contains(&secret) && printed.contains(&format!("--proxy-user '{name}:{secret}'")),
            "{printed}"
        );
        (secret, lines)
    };
    let (first, lines) = secret("site-a");
    let (second, more) = secret("site-b");
    assert_ne!(first, second);
    assert_eq!(run(&mut forebay(["secret", "a b"]), WITHIN).status.code(), Some(2));
    let up = Place::new();
    up.configure("", crate::served::FIXTURE, "");
    let up = up.serve_ready();
    let port = up.agents[0].port();
    let allow =
        format!("[[proxy.allow]]\nname = \"up\"\nto = \"127.0.0.1\"\nports = {port}\ntunnels = \"any\"\n");
    let place = Place::new();
    place.configure("log.level = \"trace\"", crate::served::FIXTURE, &(allow + &lines + &more));
    let relay = place.serve_ready();
    let get = |proxy: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--noproxy", ""]).args(proxy);
        run(command.arg(format!("http://{}/activeupdate/server.ini", up.agents[0])), WITHIN)
    };
    let (http, socks) = (format!("http://{}", relay.agents[0]), relay.socks[0].to_string());
    for (name, secret, works) in
        [("site-a", &first, true), ("site-b", &second, true), ("site-a", &second, false)]
    {
        let user = format!("{name}:{secret}");
        for proxy in [
            &["-x", &http, "--proxy-user", &user][..],
            &["-p", "-x", &http, "--proxy-user", &user],
            &["--socks5", &socks, "--proxy-user", &user],
        ] {
            let ended = get(proxy);
            assert_eq!(ended.status.success(), works, "{ended:?}");
        }
    }
    assert!(!get(&["-p", "-x", &http]).status.success() && !get(&["--socks5", &socks]).status.success());
    let output = relay.output();
    assert!(!output.contains(&first) && !output.contains(&second), "{output}");
    relay.stop();
    up.stop();
}
