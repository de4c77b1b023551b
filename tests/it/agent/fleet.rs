//! Fifty agents with nothing but IPv6, an upstream with nothing but IPv4, and a release (issue 8; R1.4, R2.1, R4.2, R6.2, R9.1a).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use forebay::fixture::{Retired, publish_next};
use rustix::process::Signal;

use crate::network::Network;
use crate::process::{Process, forebay, run, tool};
use crate::served::{Place, WITHIN};

/// The domains, their scopes, how many agents join each, and which folders of the tree those see.
const DOMAINS: [(&str, &str, usize, &[&str]); 3] = [
    ("tills", "patterns", 20, &["pattern"]),
    ("desktops", "patterns-engines-drivers", 25, &["engine", "pattern"]),
    ("servers", "all", 5, &["engine", "pattern", "product"]),
];

/// For all to have a release.
const RELEASE: Duration = Duration::from_mins(1);

/// How often one of them is killed meanwhile.
const KILLS: usize = 20;

/// What the network, its relay and its upstream are.
struct Ground {
    network: Network,
    place: Place,
    upstream: Process,
}

/// An agent of the fleet.
struct Member {
    folder: PathBuf,
    sees: &'static [&'static str],
    process: Process,
}

impl Ground {
    fn new(network: Network) -> Self {
        let place = Place::new();
        run(forebay(["fixture"]).arg(place.path("up/activeupdate")), WITHIN).succeeded();
        let mut command = network.command("fb-up", "python3");
        command.args(["-u", "-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "192.0.2.2", "8000"]);
        let upstream = Process::start(command.arg("--directory").arg(place.path("up")));
        upstream.wait_line(WITHIN, |line| line.starts_with("Serving HTTP"));
        let settings = format!(
            "data = {:?}\nlisten = \"[fd10::1]:8080\"\nadmin.listen = \"127.0.0.1:8081\"\nsocks.listen = \"[fd10::1]:1080\"\n\
             [agents]\nclear_text_enrolment = \"allow\"\n\
             [[tree]]\nupstream = \"http://192.0.2.2:8000/activeupdate/\"\nrefresh_secs = 1\njitter_percent = 0\nprefetch = \"none\"\n",
            place.data()
        );
        fs::write(place.config(), settings).unwrap();
        Self { network, place, upstream }
    }

    /// A command of the relay's administrator; gives what it prints.
    fn typed(&self, arguments: &[&str]) -> String {
        let mut command = self.program("fb-relay", arguments);
        command.arg("--config").arg(self.place.config());
        command.env("FOREBAY_TOKEN", fs::read_to_string(self.place.token_file()).unwrap());
        run(&mut command, WITHIN).succeeded().stdout
    }

    /// This program in one of the namespaces.
    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let own = forebay(arguments);
        let mut command = self.network.command(name, own.get_program().to_str().unwrap());
        command.args(own.get_args());
        command
    }

    /// An agent that runs.
    fn agent(&self, folder: &Path) -> Process {
        Process::start(self.program("fb-agent", &["agent", "run", "--dir"]).arg(folder))
    }

    /// How often each package was fetched whole from the upstream, by its path.
    fn fetched(&self) -> BTreeMap<String, usize> {
        let mut fetched = BTreeMap::new();
        for line in self.upstream.output().lines() {
            let path = line.split("\"GET /activeupdate/").nth(1).and_then(|rest| rest.split(' ').next());
            let Some(path) = path.filter(|path| path.contains('/') && line.contains("\" 20")) else {
                continue;
            };
            assert!(line.contains("\" 200 "), "a part was asked for: {line}");
            *fetched.entry(path.to_owned()).or_default() += 1;
        }
        fetched
    }
}

/// The files of a folder, with their bytes, by path.
pub(super) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn fifty_agents_have_a_release_within_a_minute_each_its_scope_and_each_byte_is_fetched_once_r9_1a() {
    for name in ["python3", "ip"] {
        if tool(name).is_none() {
            return;
        }
    }
    let Some(network) = Network::up(false) else { return };
    let ground = Ground::new(network);
    let relay = ground.network.serve_ready("fb-relay", &ground.place);
    let mut fleet = Vec::new();
    for (domain, scope, count, sees) in DOMAINS {
        ground.typed(&["domains", "create", domain, "--set", &format!("scope={scope}")]);
        let said = ground.typed(&["enrol", "create", domain, "--agents", &count.to_string(), "--hours", "1"]);
        let token = said.lines().find(|line| forebay::policy::secret::Token::parse(line).is_some()).unwrap();
        for number in 0..count {
            let id = format!("{domain}-{number:02}");
            let folder = ground.place.path(&id);
            let enrol = [
                "agent",
                "enrol",
                "--relay",
                "http://[fd10::1]:8080/",
                "--token",
                token,
                "--id",
                &id,
                "--dir",
            ];
            run(ground.program("fb-agent", &enrol).arg(&folder), WITHIN).succeeded();
            let process = ground.agent(&folder);
            fleet.push(Member { folder, sees, process });
        }
    }
    for member in &fleet {
        member.process.wait_line(WITHIN, |line| line.contains("\"event\":\"ended\""));
        member.process.wait_line(WITHIN, |line| line.contains("\"event\":\"listening\""));
    }
    let first = ground.fetched();
    assert!(first.values().all(|count| *count == 1), "{first:?}");

    let begun = Instant::now();
    let tree = ground.place.path("up/activeupdate");
    let before: BTreeSet<_> = files(&tree).into_keys().collect();
    publish_next(&tree, Retired::Keep, &mut |_| {}).unwrap();
    let published = files(&tree);
    // One of them is killed again and again meanwhile.
    let killed = fleet.pop().unwrap();
    killed.process.wait_line(WITHIN, |line| line.contains("\"why\":\"notice\""));
    killed.process.signal(Signal::KILL);
    killed.process.wait_exit(WITHIN);
    for _ in 1..KILLS {
        let process = ground.agent(&killed.folder);
        process.wait_line(WITHIN, |line| line.contains("\"event\":"));
        process.signal(Signal::KILL);
        process.wait_exit(WITHIN);
    }
    let process = ground.agent(&killed.folder);
    process.wait_line(WITHIN, |line| line.contains("\"event\":\"ended\""));
    for member in &fleet {
        let mut ended = 0;
        member.process.wait_line(WITHIN, |line| {
            ended +=
                usize::from(line.contains("\"event\":\"ended\"") && line.contains("\"result\":\"updated\""));
            ended == 2
        });
    }
    let took = begun.elapsed();
    println!("50 agents had the release after {took:?}");
    assert!(took < RELEASE, "{took:?}");

    fleet.push(Member { process, ..killed });
    for Member { folder, sees, .. } in &fleet {
        let has = files(&folder.join("current/activeupdate"));
        let folders: BTreeSet<_> =
            has.keys().filter_map(|path| path.split_once('/')).map(|(top, _)| top).collect();
        assert_eq!(folders, sees.iter().copied().collect(), "{}", folder.display());
        for (path, bytes) in has.iter().filter(|(path, _)| path.contains('/')) {
            assert!(published[path] == *bytes, "{}: {path}", folder.display());
        }
        assert!(has.keys().any(|path| !before.contains(path)), "{} has nothing new", folder.display());
    }
    // Signatures belong to their generation (R1.7): of this one each was fetched once, whatever came with the one before.
    let (mut unique, mut sent) = (0, 0);
    for (path, count) in ground.fetched() {
        let count = count - first.get(&path).copied().unwrap_or(0);
        unique += if count > 0 { published[&path].len() } else { 0 };
        sent += published[&path].len() * count;
    }
    assert!(unique > 0);
    assert_eq!(sent, unique, "bytes at the origin's socket, and unique ones");
    relay.stop();
}
