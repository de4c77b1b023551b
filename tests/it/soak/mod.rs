//! A relay as a process under a mixed load with faults, for `FOREBAY_SOAK_SECS` (R1, R2, R3, R11): every whole answer is of a
//! release, what is cut shows on the wire, and afterwards memory, files, threads and tasks are where they were.
//!
//! `FOREBAY_SOAK_SECS=3600 FOREBAY_BINARY=target/release/forebay cargo test --test it soak:: -- --nocapture` is the hour.
//! `FOREBAY_SOAK_SEED` chooses another course of events.

mod clients;
mod dice;
mod figures;
mod modern;
mod releases;
mod upstream;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::authority::Authority;
use crate::raw;
use crate::served::{Place, Served, WITHIN};
use crate::soak::clients::{Book, Client};
use crate::soak::dice::Dice;
use crate::soak::figures::Figures;
use crate::soak::releases::{BASE, Releases};
use crate::soak::upstream::Upstream;

const WORKERS: u64 = 2;

/// Clients at a time, each with one thing to do after the other, in a run of minutes or more.
const CLIENTS: u64 = 12;

/// The same in the ordinary run, which shares the machine with tests that have deadlines.
const CLIENTS_BESIDE_OTHERS: u64 = 3;

/// From here on a run is taken for one that has the machine for itself.
const LONG: Duration = Duration::from_mins(1);

/// Generations that the relay keeps.
const KEPT: usize = 2;

/// From one event of a kind to the next: a release, a turn of an origin, a reload, a blob that is lost.
const RELEASE_EVERY: Duration = Duration::from_secs(3);
const TURN_EVERY: Duration = Duration::from_millis(1300);
const RELOAD_EVERY: Duration = Duration::from_millis(4100);
const LOSS_EVERY: Duration = Duration::from_millis(900);
const TICK: Duration = Duration::from_millis(100);

#[test]
fn after_a_mixed_load_with_faults_memory_files_threads_and_tasks_are_where_they_were() {
    let length = Duration::from_secs(variable("FOREBAY_SOAK_SECS").unwrap_or(12));
    let clients = if length < LONG { CLIENTS_BESIDE_OTHERS } else { CLIENTS };
    let mut soak = Soak::start(variable("FOREBAY_SOAK_SEED").unwrap_or(1), clients);
    // The warm-up is the same load: tables and pools fill as they do later.
    soak.load((length / 4).clamp(Duration::from_secs(5), Duration::from_mins(2)));
    let before = soak.rest(None);
    soak.load(length);
    let after = soak.rest(Some(&before));
    println!("{}\nbefore: {before}\nafter:  {after}", soak.summary(length));
    let more = soak.more(&after, &before);
    assert!(more.is_empty(), "{more:#?}\nbefore: {before}\nafter:  {after}");
    soak.relay.stop();
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text}: not a number")))
}

struct Soak {
    place: Place,
    relay: Served,
    releases: Arc<Releases>,
    upstream: Upstream,
    authority: Arc<Authority>,
    certificate: String,
    book: Arc<Book>,
    dice: Dice,
    seed: u64,
    clients: u64,
    /// How often each thing was done to the relay.
    events: BTreeMap<&'static str, u64>,
}

impl Soak {
    fn start(seed: u64, clients: u64) -> Self {
        let releases = Arc::new(Releases::new());
        let upstream = Upstream::start(releases.dir());
        let authority = Arc::new(Authority::new());
        let (files, _) = authority.sign("relay", &["127.0.0.1"]);
        let certificate = format!("[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n", files.chain, files.key);
        let place = Place::new();
        configure(&place, &upstream, &certificate, "refresh_secs = 1", "");
        let relay = place.serve(&[]);
        let begun = Instant::now();
        while raw::fetch(relay.admin, "/readyz", &[]).head.status != 200 {
            assert!(begun.elapsed() < WITHIN, "no generation:\n{}", relay.output());
            std::thread::sleep(TICK);
        }
        let (book, dice) = (Arc::default(), Dice::new(seed, 0));
        Self {
            place,
            relay,
            releases,
            upstream,
            authority,
            certificate,
            book,
            dice,
            seed,
            clients,
            events: BTreeMap::new(),
        }
    }

    /// Lets clients and faults at the relay for so long.
    fn load(&mut self, length: Duration) {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (1..=self.clients).map(|number| self.client(number, &stop)).collect();
        let begun = Instant::now();
        let acts: [(_, _, fn(&mut Self)); 4] = [
            ("releases", RELEASE_EVERY, |soak| soak.releases.publish()),
            ("turns of an origin", TURN_EVERY, |soak| {
                let listed = format!("/pattern/big{}.zip", soak.releases.newest() + 1);
                soak.upstream.turn(&listed, &mut soak.dice);
            }),
            ("reloads", RELOAD_EVERY, Self::reload),
            ("blobs lost", LOSS_EVERY, Self::lose),
        ];
        let mut events = acts.map(|(name, every, act)| Event { name, every, due: every, act });
        while begun.elapsed() < length && clients.iter().all(|client| !client.is_finished()) {
            std::thread::sleep(TICK);
            for event in events.iter_mut().filter(|event| begun.elapsed() >= event.due) {
                event.due = begun.elapsed() + event.every;
                (event.act)(self);
                *self.events.entry(event.name).or_default() += 1;
            }
        }
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            assert!(
                client.join().is_ok(),
                "a client met what must not be; the relay said:\n{}",
                tail(&self.relay)
            );
        }
    }

    fn client(&self, number: u64, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let mut client = Client {
            agents: self.relay.agents[0],
            tls: self.tls(),
            admin: self.relay.admin,
            bearer: self.relay.bearer(),
            releases: self.releases.clone(),
            authority: self.authority.clone(),
            book: self.book.clone(),
            // Each phase makes other choices.
            dice: Dice::new(self.seed + self.book.requests(), number),
        };
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                client.act();
            }
        })
    }

    /// Other settings; every third time ones that are refused.
    fn reload(&mut self) {
        let dice = &mut self.dice;
        let tree = format!(
            "refresh_secs = {}\nprefetch = {:?}",
            dice.within(1..3),
            dice.one_of(&["all", "used", "used", "none"])
        );
        let rest = match dice.within(0..3) {
            0 => "[limits]\nranges_max = 0\n".to_owned(),
            _ => format!("[http2]\nstreams_max = {}\n", dice.within(10..100)),
        };
        configure(&self.place, &self.upstream, &self.certificate, &tree, &rest);
        self.relay.signal(Signal::HUP);
    }

    /// A blob is deleted, or cut, behind the relay's back.
    fn lose(&mut self) {
        let blobs = self.blobs();
        if blobs.is_empty() {
            return;
        }
        let blob = self.dice.one_of(&blobs).clone();
        // The relay may have removed it meanwhile.
        if self.dice.once_in(2) {
            let _ = fs::remove_file(blob);
        } else {
            let _ = fs::File::options().write(true).open(blob).and_then(|file| file.set_len(100));
        }
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.place.data().join("blobs")).into_iter().flatten().flatten();
        let mut files: Vec<_> =
            folders.flat_map(|folder| fs::read_dir(folder.path())).flatten().flatten().collect();
        files.sort_by_key(fs::DirEntry::file_name);
        files.into_iter().map(|file| file.path()).collect()
    }

    /// All is well again: the relay comes to the newest release, serves each of its files, and has nothing left to do. Gives
    /// what it holds then, or when it holds no more than before.
    fn rest(&mut self, before: Option<&Figures>) -> Figures {
        self.upstream.heal();
        configure(&self.place, &self.upstream, &self.certificate, "refresh_secs = 1", "");
        self.relay.signal(Signal::HUP);
        // A sweep follows on a new generation: workers let go of what was deleted.
        self.releases.publish();
        let agents = self.relay.agents[0];
        let newest = self.releases.newest_files();
        let (_, manifest) = newest.last().unwrap();
        self.wait("the newest release is shown", || {
            raw::fetch(agents, &format!("{BASE}server.ini"), &[]).body == *manifest
        });
        for (path, bytes) in &newest {
            let answer = raw::fetch(agents, &format!("{BASE}{path}"), &[]);
            assert!(answer.whole(200) == *bytes, "{path} is wrong when all is well");
        }
        // From here on it asks nobody, and nobody holds a connection of it.
        configure(&self.place, &self.upstream, &self.certificate, "refresh_secs = 86400", "");
        self.relay.signal(Signal::HUP);
        self.upstream.stop();
        self.wait("nothing is left to do", || {
            self.relay.metric("forebay_connections_now") == 0 && self.relay.metric("forebay_fills_now") == 0
        });
        let low_enough = |now: &Figures| before.is_some_and(|before| self.more(now, before).is_empty());
        let figures = Figures::at_rest(&self.relay, low_enough);
        self.upstream.heal();
        figures
    }

    fn more(&self, now: &Figures, before: &Figures) -> Vec<String> {
        now.more_than(before, WORKERS, self.blobs().len() as u64)
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(
                begun.elapsed() < WITHIN,
                "{what}: not within {WITHIN:?}; the relay said:\n{}",
                tail(&self.relay)
            );
            std::thread::sleep(TICK);
        }
    }

    /// Where agents connect with TLS, as the relay says.
    fn tls(&self) -> SocketAddr {
        let text = fs::read_to_string(self.place.data().join("running.json")).unwrap();
        let running: serde_json::Value = serde_json::from_str(&text).unwrap();
        running["tls"][0].as_str().unwrap().parse().unwrap()
    }

    fn summary(&self, length: Duration) -> String {
        let mut text = format!("soak of {} s, seed {}\n{}", length.as_secs(), self.seed, self.book);
        let listed = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(text, "events: {}", listed(&self.events));
        let _ = write!(text, "origins: {}", listed(&self.upstream.faults));
        text
    }
}

/// Something that is done to the relay again and again.
struct Event {
    name: &'static str,
    every: Duration,
    due: Duration,
    act: fn(&mut Soak),
}

/// Short deadlines, so that a run of seconds meets each.
fn configure(place: &Place, upstream: &Upstream, certificate: &str, tree: &str, rest: &str) {
    let mut limits = String::from("[limits]\nhead_timeout_secs = 3\nstall_timeout_secs = 3\n");
    if rest.starts_with("[limits]") {
        limits.clear();
    }
    let text = format!(
        "data = {:?}\nworkers = {WORKERS}\nlisten = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nsocks.listen = \"127.0.0.1:0\"\n\
         [log]\naccess = \"off\"\nlevel = \"error\"\n\
         [[tree]]\nupstream = {:?}\nkeep_generations = {KEPT}\njitter_percent = 0\n{tree}\n\
         [tls]\nlisten = \"127.0.0.1:0\"\n{certificate}\n\
         {limits}[fill]\nfirst_byte_secs = 1\nsilence_secs = 1\nattempts = 2\nwait_secs = 3\n{rest}",
        place.data(),
        upstream.urls(),
    );
    // By rename: a reload reads a whole file.
    let beside = place.path("forebay.toml.new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, place.config()).unwrap();
}

/// The last lines that a relay printed.
fn tail(relay: &Served) -> String {
    let output = relay.output();
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
