//! SIGKILL before and after each step on the data folder, in five lives: the next relay has all that the ended one said was
//! complete, asks the upstream for none of it, serves the release byte for byte, and leaves a folder without remains.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;

use forebay::config::settings::{Prefetch, Settings};
use forebay::relay::refresh::Last;
use forebay::store::unfinished::CHECKPOINT_BYTES;
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Life, Point, held, steps};
use super::ground::{Dice, Release, all, check_blobs, check_holds_only, complete, copy};
use crate::origin::Origin;
use crate::process::Ended;
use crate::raw;
use crate::relay::{Running, settings};
use crate::served::WITHIN;
use crate::site::Site;

/// Checkpoints in the large file; some bytes come after the last.
fn checkpoints() -> usize {
    if all() { 2 } else { 1 }
}

/// What lies before the last of them.
fn checked() -> usize {
    checkpoints() * usize::try_from(CHECKPOINT_BYTES).unwrap()
}

fn large() -> usize {
    checked() + (1 << 20)
}

/// A life that is ended at each of its points, each time from the same beginning.
struct Scene {
    name: &'static str,
    prefetch: bool,
    release: Release,
    site: Site,
    /// One for all its lives: what is staged is vouched for by its address.
    origin: Origin,
    /// What the data folder holds at the beginning; nothing where there is none yet.
    before: Option<TempDir>,
    /// What was said to be complete before.
    complete: HashSet<String>,
}

impl Scene {
    fn new(name: &'static str, prefetch: bool, release: Release) -> Self {
        let site = release.site();
        let origin = Origin::start(site.dir());
        Self { name, prefetch, release, site, origin, before: None, complete: HashSet::new() }
    }

    /// The same on what such a life leaves, that of a life to its end where there is no point.
    fn after(self, end: Option<Point>) -> Self {
        let killed = end.is_some();
        let (data, ended) = self.play(end);
        assert_eq!(ended.status.signal().is_some(), killed, "{ended:?}");
        Self { before: Some(data), complete: complete(&ended.stdout), ..self }
    }

    /// The same with another release at the upstream.
    fn to(self, release: Release) -> Self {
        release.publish(&self.site);
        let paths = release.paths();
        let complete = self.complete.into_iter().filter(|path| paths.contains(path)).collect();
        Self { release, complete, ..self }
    }

    fn play(&self, end: Option<Point>) -> (TempDir, Ended) {
        let data = TempDir::new().unwrap();
        if let Some(before) = &self.before {
            copy(before.path(), data.path());
        }
        let (folder, upstream) = (data.path().to_owned(), self.origin.url("/"));
        let life = Life { data: folder, upstream, prefetch: self.prefetch, release: self.release, end };
        let ended = life.start().wait_exit(WITHIN);
        (data, ended)
    }

    fn points(&self) -> Vec<(String, Point)> {
        let (data, ended) = self.play(None);
        assert!(ended.stdout.contains("\nENDED\n"), "{}: {ended:?}", self.name);
        check_holds_only(data.path(), self.release);
        steps(&ended.stdout)
    }

    fn settings(&self) -> Settings {
        let mut settings = settings(&self.origin.url("/"));
        settings.trees[0].prefetch = if self.prefetch { Prefetch::All } else { Prefetch::None };
        settings.trees[0].keep_generations = 1;
        settings
    }

    /// Ends the life there, and looks at what is left; false where the life came to its own end.
    fn is_ended_at(&self, point: &Point) -> bool {
        let (data, ended) = self.play(Some(point.clone()));
        let killed = ended.status.signal() == Some(Signal::KILL.as_raw());
        let at = format!("{}: {point:?}", self.name);
        assert!(killed || ended.stdout.contains("\nENDED\n"), "{at}: {ended:?}");
        check_blobs(data.path());
        self.check_next(data, &ended.stdout, &at);
        killed
    }

    /// The next relay on the folder.
    fn check_next(&self, data: TempDir, log: &str, at: &str) {
        let complete: HashSet<_> = complete(log).union(&self.complete).cloned().collect();
        let published = log.contains("a new generation is published");
        let resumable = staged(data.path(), "part") && staged(data.path(), "journal");
        let last = self.origin.last_connection();
        let mut relay = Running::start_on(self.settings(), data);
        let refreshed = relay.wait_refreshes(1);
        assert!(matches!(refreshed, Last::New(_) | Last::Same), "{at}: {refreshed:?}");
        let get = |path: &str| raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[]).whole(200);
        assert_eq!(get("server.ini"), self.release.view().into_bytes(), "{at}");
        for path in self.release.paths() {
            assert!(get(&path) == *self.release.bytes(&path), "{at}: wrong bytes: {path}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(held(relay.handle()));
        let (_, data) = relay.stop();
        let seen = self.origin.seen();
        let requests = || seen.requests.iter().filter(|request| request.connection > last);
        let bytes = |path: &str| -> u64 {
            requests().filter(|request| request.path == path).map(|request| request.body_bytes).sum()
        };
        for path in &complete {
            assert_eq!(bytes(&format!("/{path}")), 0, "{at}: {path} was complete, and is lost");
        }
        if published {
            assert_eq!(bytes("/server.ini"), 0, "{at}: the manifest was published, and is lost");
            let more = requests().filter(|request| self.prefetch && request.body_bytes > 0).count();
            assert_eq!(more, 0, "{at}: the generation was published, and is lost");
        }
        if self.name == "resumed" && resumable {
            let bytes = bytes(&format!("/pattern/large{}.zip", self.release.version));
            assert!(bytes <= (large() - checked()) as u64, "{at}: {bytes} bytes were fetched again");
        }
        check_holds_only(data.path(), self.release);
    }
}

fn staged(data: &Path, extension: &str) -> bool {
    let folder = std::fs::read_dir(data.join("staging")).into_iter().flatten();
    folder.into_iter().any(|file| file.unwrap().path().extension().is_some_and(|its| its == extension))
}

/// A first release, the next one, one that was all but published, a large file on demand, and what was staged of it.
fn scenes() -> [fn() -> Scene; 5] {
    const SMALL: Release = Release { version: 5, large: 0 };
    [
        || Scene::new("fresh", true, SMALL),
        || Scene::new("next", true, SMALL).after(None).to(Release { version: 6, ..SMALL }),
        || {
            let published = "rename trees/activeupdate/N.next trees/activeupdate/N";
            let end = Point { step: published.to_owned(), after: false, nth: 1 };
            Scene::new("again", true, SMALL).after(Some(end))
        },
        || Scene::new("demand", false, Release { large: large(), ..SMALL }),
        || {
            // The voucher comes before the checkpoints.
            let nth = 1 + checkpoints();
            let end = Point { step: "sync staging/KEY.journal".to_owned(), after: true, nth };
            Scene::new("resumed", false, Release { large: large(), ..SMALL }).after(Some(end))
        },
    ]
}

/// One point of each kind of step, before and after, of each scene; or every one.
fn chosen(scene: &Scene) -> Vec<(String, Point)> {
    let mut points = scene.points();
    // How often a reader looks for what is in memory depends on how fast bytes come, and how often it opens a blob on whether a fill is
    // over when it comes, on demand. It leaves nothing on the disk.
    points.retain(|(name, point)| match name.as_str() {
        "read cached" => false,
        "open to read" | "read at" => scene.prefetch || point.nth == 1,
        _ => true,
    });
    if all() {
        return points;
    }
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    for (name, point) in points {
        kinds.entry((name.clone(), point.after)).or_default().push((name, point));
    }
    let mut dice = Dice(scene.name.len() as u64);
    kinds.into_values().map(|mut kind| kind.swap_remove(dice.below(kind.len()))).collect()
}

#[test]
fn sigkill_at_any_step_on_the_data_folder_loses_nothing_that_was_complete_r1_5() {
    let table = Mutex::new(BTreeMap::<_, [usize; 2]>::new());
    std::thread::scope(|scope| {
        for scene in scenes() {
            let table = &table;
            scope.spawn(move || {
                let scene = scene();
                for (name, point) in chosen(&scene) {
                    let hit = scene.is_ended_at(&point);
                    let mut table = table.lock().unwrap();
                    let counts = table.entry((scene.name, name, point.after)).or_default();
                    counts[0] += usize::from(hit);
                    counts[1] += 1;
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    for ((scene, name, after), [hit, of]) in &table {
        println!("{scene:8} {} {name:14} {hit:4} of {of:4}", if *after { "after " } else { "before" });
    }
    let [hit, of] = table.values().fold([0, 0], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]]);
    println!("{hit} of {of} points");
    for (kind, [hit, of]) in &table {
        // How many batches a fill writes depends on how fast its bytes come.
        let least = if kind.1 == "write" { 1.max(of * 3 / 4) } else { *of };
        assert!(*hit >= least, "{kind:?}: {hit} of {of}");
    }
}
