//! A relay as a process of its own, with a settings file and a data folder in a folder of its own.
//!
//! Never waits for time to pass: it waits for lines that the relay prints. Invariant: it ends with its value.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::fixture::Fixture;
use forebay::policy::secret::Token;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Ended, Process, forebay};
use crate::raw;

/// How long a line or an end may take: far beyond any right answer on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_mins(1);

/// The tree of the tests.
pub(crate) const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/activeupdate");

/// A folder for one relay: its settings file, its data and whatever its test puts beside them.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
}

/// A running relay.
#[derive(Debug)]
pub(crate) struct Served {
    process: Process,
    /// The addresses for agents.
    pub(crate) agents: Vec<SocketAddr>,
    /// The addresses for agents that speak SOCKS5.
    pub(crate) socks: Vec<SocketAddr>,
    /// The first address for administrators.
    pub(crate) admin: SocketAddr,
    /// The token of its administrator, where its place knows one.
    token: Option<String>,
}

impl Place {
    /// A new folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The settings file.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("forebay.toml")
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes the settings file: port 0 on both families' loopback, one tree from an upstream, refreshed only when asked to.
    /// `top` stands before the tree, `tail` within and after it.
    pub(crate) fn configure(&self, top: &str, upstream: &str, tail: &str) {
        let mut text = format!("data = {:?}\n", self.data());
        // No port of a test's is another's: the default ones are for one relay of the machine alone.
        let sets = |key: &str| top.lines().any(|line| line.starts_with(key));
        if !sets("listen = ") {
            text += "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\nadmin.listen = \"127.0.0.1:0\"\n";
        }
        if !sets("socks.listen = ") {
            text += "socks.listen = \"127.0.0.1:0\"\n";
        }
        let _ = write!(text, "{top}\n[[tree]]\nupstream = {upstream:?}\nrefresh_secs = 86400\n{tail}\n");
        fs::write(self.config(), text).unwrap();
    }

    /// Writes a tree with one large package, `pattern/big.zip`; gives the package's bytes.
    pub(crate) fn big_tree(&self, size: usize) -> Vec<u8> {
        let bytes: Vec<u8> = (0..size).map(|at| ((at / 251 + at) % 256).try_into().unwrap()).collect();
        fs::create_dir_all(self.path("tree/pattern")).unwrap();
        fs::write(self.path("tree/pattern/big.zip"), &bytes).unwrap();
        let manifest = format!("[Server]\n[PATTERN]\nP.4=pattern/big.zip,1000,{size}\n");
        fs::write(self.path("tree/server.ini"), manifest).unwrap();
        bytes
    }

    /// Runs the relay on the settings file, with these arguments too, until it says how it is reached.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Served {
        let config = self.config();
        let mut command = forebay(["serve", "--config", config.to_str().unwrap()]);
        Served::wait(Process::start(command.args(arguments))).administered(self)
    }

    /// The file that holds the administrator's token, once a relay was started here.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.path("token")
    }

    /// The same, until it has a generation to serve.
    pub(crate) fn serve_ready(&self) -> Served {
        let served = self.serve(&[]);
        served.wait_line("a new generation is published");
        served
    }

    /// Runs another command on this relay to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Ended {
        let mut command = forebay(arguments);
        command.arg("--config").arg(self.config());
        if let Ok(token) = fs::read_to_string(self.token_file()) {
            command.env("FOREBAY_TOKEN", token);
        }
        Process::start(&mut command).wait_exit(WITHIN)
    }
}

impl Served {
    /// A relay that is starting.
    pub(crate) fn wait(process: Process) -> Self {
        process.wait_line(WITHIN, |line| line.starts_with("try: "));
        let output = process.output();
        let addresses = |what: &str| -> Vec<SocketAddr> {
            let lines = output.lines().filter_map(|line| line.trim_start().strip_prefix(what));
            let hosts = lines.filter_map(|rest| rest.trim_start().split_once("://")?.1.split('/').next());
            hosts.map(|host| host.parse().unwrap()).collect()
        };
        let (agents, socks) = (addresses("agents "), addresses("agents, SOCKS5 "));
        let admin = addresses("administrators ")[0];
        Self { process, agents, socks, admin, token: None }
    }

    /// The same, with the token of its administrator: the one that it prints at its first start in this place.
    pub(crate) fn administered(mut self, place: &Place) -> Self {
        let token = fs::read_to_string(place.token_file()).unwrap_or_else(|_| {
            let output = self.process.output();
            let token = output.lines().find(|line| Token::parse(line).is_some()).unwrap();
            fs::write(place.token_file(), token).unwrap();
            token.to_owned()
        });
        self.token = Some(token);
        self
    }

    /// What its administrator shows.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_deref().unwrap())
    }

    /// Waits for a line that holds these words.
    pub(crate) fn wait_line(&self, words: &str) -> String {
        self.process.wait_line(WITHIN, |line| line.contains(words))
    }

    /// Waits for the `count`th line that holds these words.
    pub(crate) fn wait_lines(&self, count: usize, words: &str) -> String {
        let mut seen = 0;
        self.process.wait_line(WITHIN, |line| {
            seen += usize::from(line.contains(words));
            seen == count
        })
    }

    /// All that it printed so far.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(self) -> Ended {
        self.process.wait_exit(WITHIN)
    }

    /// Has it drain and end.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait_exit().succeeded()
    }

    /// What its admin listener answers to a GET.
    pub(crate) fn ask(&self, path: &str) -> String {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let shown = bearer.as_ref().map(|bearer| ("Authorization", bearer.as_str()));
        String::from_utf8(raw::fetch(self.admin, path, shown.as_slice()).whole(200)).unwrap()
    }

    /// One sample of its metrics.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        metric(&self.ask("/metrics"), sample)
    }
}

/// One sample of a metrics page.
pub(crate) fn metric(page: &str, sample: &str) -> u64 {
    let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample} in:\n{page}")).parse().unwrap()
}

/// Every file of a release with its bytes in a tree's folder, `server.ini` left out.
pub(crate) fn files(tree: &Path, release: u32) -> Vec<(String, Vec<u8>)> {
    let fixture = Fixture { release, ..Fixture::default() };
    let read = |path: String| (path.clone(), fs::read(tree.join(path)).unwrap());
    fixture.files().into_iter().map(|file| read(file.path.to_string())).collect()
}
