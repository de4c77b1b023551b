//! Where secrets never appear: logs, answers, metrics, and what other servers are asked (R5.5).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay::config::settings::Settings;
use forebay::policy::administrator::Role;

use super::line::{HERE, basic, connect, socks};
use super::*;
use crate::cache::server::{Server, answer};
use crate::process::{forebay, run, tool};
use crate::raw::fetch;
use crate::served::{self, Place, Served, WITHIN};

/// What a token's secret begins with: no line and no answer holds even that.
fn begins(token: &str) -> &str {
    &token.split_once('~').unwrap().1[..20]
}

/// Each byte as an escape.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

/// All that would show a token, in every writing that is used here.
fn writings(token: &str) -> [String; 5] {
    let begins = begins(token);
    let coded = basic(token)["Basic ".len()..].to_owned();
    // What base64 makes of the middle, wherever it begins.
    let middle = coded[coded.len() / 2..coded.len() / 2 + 20].to_owned();
    let hash = SecretHash::of(token.split_once('~').unwrap().1.as_bytes());
    [begins.to_owned(), escaped(begins), escaped(begins).to_lowercase(), middle, hash.to_string()]
}

fn shows_nothing(what: &str, text: &str, tokens: &[String]) {
    for token in tokens {
        for writing in writings(token) {
            let line = text.lines().find(|line| line.contains(&writing));
            assert!(line.is_none(), "{what} shows {token} as {writing}: {line:?}");
        }
    }
}

/// A mount of a server.
fn mounted(server: &Server, settings: &mut Settings) {
    let text = format!(
        "[[tree]]\nupstream = \"/srv\"\n[[mount]]\npath = \"/m/\"\nupstream = \"{}\"\nscope = \"patterns\"\n",
        server.url("/base/")
    );
    settings.mounts = forebay::config::parse(&text).unwrap().mounts;
}

/// A relay as a process that logs all it can, and what it answered.
struct Told {
    relay: Served,
    server: String,
    answers: String,
    /// Tokens that it was shown, and that it gave out.
    tokens: Vec<String>,
}

impl Told {
    fn keep(&mut self, answer: &Answer) {
        let body = String::from_utf8_lossy(&answer.body);
        let _ = write!(self.answers, "{:?}\n{body}\n", answer.head);
    }

    /// Shows a token by each way, and where none belongs.
    fn show(&mut self, token: &str) {
        let (at, bearer, basic) = (self.relay.agents[0], bearer(token), basic(token));
        let small = escaped(token).to_lowercase();
        let server = self.server.clone();
        for (target, name, value) in [
            (PATTERN.to_owned(), "Authorization", &*bearer),
            (PATTERN.to_owned(), "Authorization", &basic),
            (PATTERN.to_owned(), "Authorization", token),
            (PATTERN.to_owned(), "Proxy-Authorization", &basic),
            (format!("/t/{token}{PATTERN}"), "X", token),
            (format!("/t/{}{PATTERN}", escaped(token)), "X", token),
            (format!("/%74/{small}{PATTERN}"), "X", token),
            (format!("/t/{token}/none"), "X", token),
            (format!("/t/{token}"), "X", token),
            (format!("/t/{token}%zz/"), "X", token),
            (format!("/t/x/t/{token}{PATTERN}"), "X", token),
            (format!("//t/{token}{PATTERN}"), "X", token),
            (format!("/none/{small}"), "X", token),
            (format!("/t/{token}/m/x"), "X", token),
            (format!("/t/{token}/m/gone?{token}"), "X", token),
            (format!("http://{at}/t/{token}{PATTERN}"), "X", token),
            (format!("http://{server}/t/{token}/there"), "Proxy-Authorization", &basic),
            (format!("http://{server}/there"), "Proxy-Authorization", &bearer),
            (format!("http://192.0.2.1/t/{small}/there"), "Proxy-Authorization", &basic),
        ] {
            self.keep(&fetch(at, &target, &[(name, value)]));
        }
        connect(&mut Client::connect(at), &server, token);
        let mut client = Client::connect(at);
        let to = format!("x:{token}@192.0.2.1:443");
        client.ask("CONNECT", &to, &[("Proxy-Authorization", &basic)]).unwrap();
        self.keep(&client.answer("GET").unwrap());
        socks(&mut Client::connect(self.relay.socks[0]), &server, token);
        for bytes in [
            format!("GET {PATTERN} HTTP/1.1\r\nAuthorization : Bearer {token}\r\n\r\n"),
            format!("Bearer {token}\r\n\r\n"),
            format!("PROXY TCP4 {token}\r\n"),
        ] {
            let mut client = Client::connect(at);
            client.send(bytes.as_bytes()).unwrap();
            client.shut_write();
            self.answers += &String::from_utf8_lossy(&client.read_to_close().0);
        }
    }

    /// Calls the API, with what opens it, and with secrets where none belong.
    fn call(&mut self, right: &str, wrong: &str) {
        let at = self.relay.agents[0];
        for body in [
            json!({ "token": token("branch") }),
            json!({ "token": wrong }),
            json!({ "token": "x", "agent": wrong }),
            json!(wrong),
            json!({ "token": { wrong: 1 } }),
            json!({ "token": token("branch"), "certificate_request": wrong }),
        ] {
            let (status, says) = post(at, "/api/v1/enrol", None, &body);
            match says["token"].as_str() {
                Some(own) => self.tokens.push(own.to_owned()),
                None => drop(writeln!(self.answers, "{status} {says}")),
            }
        }
        let (status, says) = post(at, "/api/v1/agent/key", self.tokens.last().map(|own| &**own), &json!({}));
        assert_eq!(status, 200, "{says}");
        let own = says["token"].as_str().unwrap().to_owned();
        for (call, body) in [
            ("check-in", json!({ "why": "start" })),
            ("check-in", json!({ "why": right })),
            ("report", json!({ "result": "failed", "detail": "it failed" })),
            ("report", json!({ "result": right })),
        ] {
            let (status, says) = post(at, &format!("/api/v1/agent/{call}"), Some(&own), &body);
            let _ = writeln!(self.answers, "{status} {says}");
        }
        self.tokens.push(own);
    }

    /// Has curl show them over TLS and HTTP/2.
    fn curl(&self, curl: &Path, right: &str, wrong: &str) {
        let (at, output) = (self.relay.agents[0], self.relay.output());
        let secure =
            output.lines().find_map(|line| line.split_once("https://")?.1.split('/').next()).unwrap();
        let user = format!("x:{right}");
        for arguments in [
            &["--oauth2-bearer", right, &format!("https://{secure}{PATTERN}")][..],
            &["--http2-prior-knowledge", "--user", &user, &format!("http://{at}{PATTERN}")],
            &["--http2-prior-knowledge", &format!("http://{at}/t/{wrong}{PATTERN}")],
        ] {
            let mut curl = Command::new(curl);
            curl.args(["-sS", "-k", "--noproxy", "*", "-o", "/dev/null"]).args(arguments);
            run(&mut curl, WITHIN).succeeded();
        }
    }
}

/// All files in a folder and those within it.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        let within = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (more, found): (Vec<_>, Vec<_>) = within.partition(|path| path.is_dir());
        folders.extend(more);
        files.extend(found);
    }
    files
}

#[test]
fn no_log_answer_metric_or_file_holds_a_secret_r5_5_r11_2() {
    let Some(curl) = tool("curl") else { return };
    let server = Server::start(|_, _| answer(200, "Cache-Control: no-store\n", "there"));
    let place = Place::new();
    let mut relay = fleet(local());
    change(&mut relay, vec![enrolment("branch", domain(1), 9)]);
    let administers = relay.bearer(Role::Administrator);
    fs::write(place.token_file(), administers.strip_prefix("Bearer ").unwrap()).unwrap();
    fs::rename(relay.stop().1.path(), place.data()).unwrap();
    let certs = place.path("certs");
    run(forebay(["certs", "--name", HERE]).arg(&certs), WITHIN).succeeded();
    let (chain, key, port) = (certs.join("relay.pem"), certs.join("relay.key"), server.port());
    place.configure(
        &format!(
            "log.level = \"trace\"\ntls.listen = \"127.0.0.1:0\"\n\
             [[tls.certificate]]\nchain = {chain:?}\nkey = {key:?}\n"
        ),
        served::FIXTURE,
        &format!(
            "[[mount]]\npath = \"/m/\"\nupstream = \"{}\"\nscope = \"patterns\"\n\
             [[proxy.allow]]\nname = \"here\"\nto = \"127.0.0.1\"\nports = {port}\ntunnels = \"any\"\n",
            server.url("/base/")
        ),
    );
    let (right, wrong) = (token("all"), token("nobody"));
    let server = format!("127.0.0.1:{port}");
    let mut told =
        Told { relay: place.serve(&[]), server, answers: String::new(), tokens: vec![right.clone()] };
    told.show(&right);
    told.show(&wrong);
    told.call(&right, &wrong);
    told.curl(&curl, &right, &wrong);
    for page in ["/metrics", "/status", "/health"] {
        told.keep(&fetch(told.relay.admin, page, &[]));
    }
    told.answers += &place.command(&["status"]).succeeded().stdout;
    told.answers += &told.relay.ask("/api/v1/refusals?limit=1000");
    let Told { relay, answers, tokens, .. } = told;
    let ended = relay.stop();
    let log = ended.stdout + &ended.stderr;
    assert!(log.contains("/t/./") && log.contains("DEBUG"), "{log}");
    shows_nothing("the log", &log, &tokens);
    shows_nothing("an answer", &answers, &tokens);
    // The data folder holds their hashes.
    for file in files(place.data()) {
        let bytes = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        for token in &tokens {
            assert!(!bytes.contains(begins(token)), "{}", file.display());
        }
    }
}

#[test]
fn no_other_server_sees_a_token_by_a_mount_or_by_the_proxy_r5_5() {
    let [server, other] =
        [(); 2].map(|()| Server::start(|_, _| answer(200, "Cache-Control: no-store\n", "there")));
    let mut settings = local();
    mounted(&server, &mut settings);
    settings.proxy.allow =
        vec![crate::tunnel::rule(&["127.0.0.1/32"], &[other.port()], forebay::policy::reach::Tunnels::Any)];
    let relay = fleet(settings);
    let own = token("patterns");
    let (bearer, basic) = (bearer(&own), basic(&own));
    let login = "Basic bG9naW46eA==";
    let at = relay.v4();
    let elsewhere = other.url("/elsewhere");
    for (target, headers, expected) in [
        ("/m/a".to_owned(), vec![("Authorization", &*bearer)], 200),
        ("/m/a".into(), vec![("Authorization", &*basic)], 200),
        ("/m/a".into(), vec![("Authorization", &*basic), ("Proxy-Authorization", &basic)], 200),
        (format!("/t/{own}/m/a"), vec![], 200),
        (format!("/%74/{}/m/a", escaped(&own)), vec![], 200),
        (format!("http://{at}/t/{own}/m/a"), vec![], 200),
        // Shown twice, it is nobody's to the relay, and nothing for the server.
        (format!("/t/{own}/m/a"), vec![("Authorization", &*bearer), ("Authorization", &bearer)], 200),
        (format!("/t/{own}/m/a"), vec![("Authorization", login), ("Authorization", &bearer)], 200),
        (elsewhere.clone(), vec![("Proxy-Authorization", &*basic)], 200),
        (elsewhere.clone(), vec![("Proxy-Authorization", &*bearer)], 200),
        (elsewhere.clone(), vec![("Proxy-Authorization", &*basic), ("Authorization", &bearer)], 200),
        (elsewhere.clone(), vec![("Proxy-Authorization", &*basic), ("Authorization", &basic)], 200),
        (
            elsewhere.clone(),
            vec![("Proxy-Authorization", &*basic), ("Connection", "Proxy-Authorization, X")],
            200,
        ),
        ("/m/a".into(), vec![("Authorization", &*bearer), ("Authorization", login)], 401),
    ] {
        let answer = fetch(at, &target, &headers);
        let told = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.head.status, expected, "{target} {headers:?}: {told}");
    }
    for asked in server.asked().into_iter().chain(other.asked()) {
        shows_nothing("a request", &format!("{asked:?}").replace(", ", "\n"), std::slice::from_ref(&own));
    }
    assert_eq!((server.asked().len(), other.asked().len()), (8, 5));
    // What is for the other server goes there: its own users' names, and tokens of another relay's agents.
    let others = super::bearer(&token("nobody"));
    for (target, headers, goes) in [
        (format!("/t/{own}/m/b"), vec![("Authorization", login)], login),
        (elsewhere.clone(), vec![("Proxy-Authorization", &*basic), ("Authorization", login)], login),
        (elsewhere.clone(), vec![("Proxy-Authorization", &*basic), ("Authorization", &others)], &*others),
    ] {
        assert_eq!(fetch(at, &target, &headers).head.status, 200, "{target}");
        let asked = if target == elsewhere { other.asked() } else { server.asked() };
        assert_eq!(asked.last().unwrap().header("authorization").as_deref(), Some(goes));
    }
}
