//! A machine with an agent: its folder, the relay that it belongs to, and that relay's upstream.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::agent::folder::Place;
use forebay::agent::progress::Progress;
use forebay::agent::state::Last;
use forebay::agent::{Asked, Outcome, UpdateError, Updater};
use forebay::base::clock::{Clock, SystemClock};
use forebay::config::agent::{KnownBy, Program, Settings};
use forebay::config::settings as relay;
use forebay::disk::Disk;
use forebay::policy::check_in::Why;
use forebay::policy::scope::Scope;
use forebay::policy::sources::{Entry, Families, Range, Source};
use forebay::policy::tree::change::Action;
use forebay::policy::tree::id::DomainName;
use forebay::policy::tree::setting::Values;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::agents::{agent, change, domain, enrolment, set, token};
use crate::authority::Authority;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

/// The machine, with all that it depends on.
pub(super) struct Machine {
    pub(super) relay: Running,
    pub(super) site: Site,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
}

/// The machine's clock, so many days ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    clock: SystemClock,
    days: i64,
}

impl Ahead {
    pub(super) fn by_days(days: i64) -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::default(), days })
    }
}

impl Clock for Ahead {
    fn wall(&self) -> Timestamp {
        self.clock.wall() + SignedDuration::from_hours(24 * self.days)
    }

    fn monotonic(&self) -> std::time::Duration {
        self.clock.monotonic()
    }
}

/// What an update told, and how it ended.
pub(super) struct Told {
    pub(super) outcome: Result<Outcome, UpdateError>,
    pub(super) progress: Vec<Progress>,
}

/// The agent with these settings.
pub(super) fn open(settings: Settings) -> Updater {
    Updater::open(settings).unwrap()
}

/// The id of its agent.
pub(super) const ID: &str = "pc-1";

impl Machine {
    /// A relay with release 1 and a domain, and an agent that has enrolled there.
    pub(super) fn enrolled() -> Self {
        let machine = Self::new();
        machine.enrol();
        machine
    }

    /// The same before the agent has enrolled.
    pub(super) fn new() -> Self {
        let site = Site::with(1, &[]);
        let settings = settings(site.text());
        Self::on(site, settings)
    }

    /// The same with a relay of these settings.
    pub(super) fn on(site: Site, settings: relay::Settings) -> Self {
        let mut relay = Running::refreshed(settings);
        let name = DomainName::parse("branch").unwrap();
        let values = Values { scope: Some(Scope::All), ..Values::default() };
        change(
            &mut relay,
            vec![
                Action::AddDomain { domain: domain(1), name, parent: None, values },
                enrolment("branch", domain(1), 9),
            ],
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { relay, site, folder: tempfile::tempdir().unwrap(), runtime }
    }

    /// The same with a relay that speaks TLS, by a certificate of this authority for `localhost`, and believes the names that it vouches for.
    pub(super) fn secure(authority: &Authority) -> Self {
        let site = Site::with(1, &[]);
        let mut relay = settings(site.text());
        relay.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
        relay.tls.certificates = vec![authority.sign("relay", &["localhost"]).0];
        relay.tls.client_authorities = vec![authority.file()];
        Self::on(site, relay)
    }

    /// The settings of the agent at such a relay, known so.
    pub(super) fn known(&mut self, authority: &Authority, known_by: KnownBy) -> Settings {
        let tls = self.relay.handle().running().tls[0];
        let relay = Settings::for_relay(&format!("https://localhost:{}/", tls.port())).unwrap();
        let (folder, ca_file) = (Some(self.folder().to_owned()), Some(authority.file()));
        Settings { folder, ca_file, known_by, ..relay }
    }

    /// Has the agent enrol.
    pub(super) fn enrol(&self) {
        let updater = open(self.settings());
        let id = self.runtime.block_on(updater.enrol(&token("branch"), Some(&agent(ID)))).unwrap();
        assert_eq!(id, agent(ID));
    }

    /// Where the agent keeps what it has.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its settings.
    pub(super) fn settings(&self) -> Settings {
        let relay = Settings::for_relay(&format!("http://{}/", self.relay.v4())).unwrap();
        Settings { folder: Some(self.folder().to_owned()), ..relay }
    }

    /// The agent on a disk that may have faults.
    pub(super) fn updater_on(&self, settings: Settings, disk: Disk) -> Updater {
        let place = Place::new(self.folder().to_owned(), disk);
        Updater::open_on(settings, place, Arc::new(SystemClock::default())).unwrap()
    }

    /// Updates with the settings as they are.
    pub(super) fn update(&self, why: Why) -> Told {
        self.update_with(self.settings(), why)
    }

    /// Updates with other settings.
    pub(super) fn update_with(&self, settings: Settings, why: Why) -> Told {
        self.update_by(&open(settings), Asked::everything(why))
    }

    /// Updates an agent that is there.
    pub(super) fn update_by(&self, updater: &Updater, asked: Asked) -> Told {
        let mut progress = Vec::new();
        let outcome = self.runtime.block_on(updater.update(asked, &mut |told| progress.push(told)));
        Told { outcome, progress }
    }

    /// Runs something of the agent's to its end.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// What holds for the agent's domain from now on.
    pub(super) fn set(&mut self, values: Values) {
        set(&mut self.relay, domain(1), values);
    }

    /// Publishes a release upstream, and has the relay take it.
    pub(super) fn publish(&self, version: u32, from: &[u32]) {
        self.site.publish(version, from);
        self.relay.refresh();
    }

    /// The customised list sends this machine to a URL.
    pub(super) fn customise(&mut self, url: &str) {
        let range: Range = "127.0.0.1-127.0.0.1".parse().unwrap();
        let source = Source::new(url.parse().unwrap(), Families::Both).unwrap();
        change(&mut self.relay, vec![Action::SetCustomised { entries: vec![Entry { range, source }] }]);
    }

    /// A file of the current set.
    pub(super) fn current(&self, path: &str) -> PathBuf {
        self.folder().join("current/activeupdate").join(path)
    }

    /// Checks that the current set is a whole release, byte for byte.
    #[track_caller]
    pub(super) fn check_has(&self, version: u32) {
        for path in site::paths(version, &[]) {
            let bytes = fs::read(self.current(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(bytes == site::bytes(&path, version), "{path} has other bytes");
        }
    }

    /// A program of the settings that runs this script.
    pub(super) fn script(&self, name: &str, text: &str) -> Program {
        let path = self.folder().join(name);
        fs::write(&path, format!("#!/bin/sh\nset -eu\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Program { path: "/bin/sh".into(), arguments: vec![path.to_str().unwrap().to_owned()] }
    }
}

impl Told {
    /// How the update ended.
    #[track_caller]
    pub(super) fn ended(&self) -> &Last {
        match &self.outcome {
            Ok(Outcome::Ended(last)) => last,
            other => panic!("it did not end: {other:?}; {:#?}", self.progress),
        }
    }

    /// Why it was denied.
    #[track_caller]
    pub(super) fn denied(&self) -> &str {
        match &self.outcome {
            Ok(Outcome::Denied(reason)) => reason,
            other => panic!("it was not denied: {other:?}"),
        }
    }

    /// The files that were taken, as `COMPONENT PATH from BYTE`.
    pub(super) fn files(&self) -> Vec<String> {
        let file = |progress: &Progress| match progress {
            Progress::File { component, path, there, .. } => Some(format!("{component} {path} from {there}")),
            _ => None,
        };
        self.progress.iter().filter_map(file).collect()
    }
}
