//! Real processes: the binary under test and the stock tools that talk to it.
//!
//! Never leaves one behind: dropping a [`Process`] kills it by its own id. Invariant: an id is signalled only while its
//! process has not been collected, so that it cannot have become another's.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A running process whose output is kept, line by line.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watched: Arc<Watched>,
    threads: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command, with nothing on its standard input.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let watched = Arc::new(Watched::default());
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let threads = vec![
            follow(watched.clone(), Stream::Out, out),
            follow(watched.clone(), Stream::Err, err),
            watch_end(watched.clone(), Pid::from_child(&child)),
        ];
        Self { child, watched, threads }
    }

    /// Waits for a line on either stream, also one that came before; panics with all output when the process ends or
    /// `within` passes without it.
    pub(crate) fn wait_line(&self, within: Duration, mut is_it: impl FnMut(&str) -> bool) -> String {
        let state = self.watched.state.lock().unwrap();
        let mut next = 0;
        let mut found = None;
        let (state, waited) = self
            .watched
            .changed
            .wait_timeout_while(state, within, |state| {
                found =
                    state.lines[next..].iter().find(|line| is_it(&line.text)).map(|line| line.text.clone());
                next = state.lines.len();
                found.is_none() && !state.is_over()
            })
            .unwrap();
        let why =
            if waited.timed_out() { "did not print the line in time" } else { "ended without the line" };
        let all = state.text(None);
        drop(state);
        found.unwrap_or_else(|| panic!("the process {why}; it printed:\n{all}"))
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // An ended process stays uncollected until `self` is done with, so the id is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for the end; panics with all output when it has not come `within`.
    pub(crate) fn wait_exit(mut self, within: Duration) -> Ended {
        let state = self.watched.state.lock().unwrap();
        let (state, waited) =
            self.watched.changed.wait_timeout_while(state, within, |state| !state.is_over()).unwrap();
        let (stdout, stderr) = (state.text(Some(Stream::Out)), state.text(Some(Stream::Err)));
        drop(state);
        assert!(!waited.timed_out(), "still running after {within:?}; stdout:\n{stdout}\nstderr:\n{stderr}");
        Ended { status: self.child.wait().unwrap(), stdout, stderr }
    }

    /// All that it printed so far.
    pub(crate) fn output(&self) -> String {
        self.watched.state.lock().unwrap().text(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Child::kill knows whether the process was collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A child of the process may hold its pipes open: only threads that are done are joined.
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Panics with the output unless the process said that it succeeded.
    pub(crate) fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}; stdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, within: Duration) -> Ended {
    Process::start(command).wait_exit(within)
}

/// The binary under test: the one that was built with the tests, or the one that `FOREBAY_BINARY` names.
pub(crate) fn forebay<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let named = env::var_os("FOREBAY_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_forebay").into());
    let mut command = Command::new(named);
    command.args(arguments);
    command
}

/// A tool on PATH. Where it is missing the test is skipped, or fails under CI.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    find(name, &env::var_os("PATH").unwrap_or_default()).or_else(|| missing(name))
}

/// nginx, which Debian has where only root's path leads.
pub(crate) fn nginx() -> Option<PathBuf> {
    let beside = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].map(PathBuf::from);
    beside.into_iter().find(|path| path.is_file()).or_else(|| tool("nginx"))
}

/// Says that a test is skipped for want of something; under `CI=true` panics naming it.
pub(crate) fn missing<T>(what: &str) -> Option<T> {
    assert!(!env::var("CI").is_ok_and(|ci| ci == "true"), "needs {what}, which this machine lacks");
    println!("skipped: needs {what}");
    None
}

fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[derive(Debug, Default)]
struct Watched {
    /// Guards what was printed and what has ended.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    streams_ended: usize,
    exited: bool,
}

impl State {
    /// Over when the process has ended and both its streams were read to their ends.
    fn is_over(&self) -> bool {
        self.exited && self.streams_ended == 2
    }

    fn text(&self, only: Option<Stream>) -> String {
        let lines = self.lines.iter().filter(|line| only.is_none_or(|only| only == line.stream));
        lines.flat_map(|line| [line.text.as_str(), "\n"]).collect()
    }
}

#[derive(Debug)]
struct Line {
    stream: Stream,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

fn follow(watched: Arc<Watched>, stream: Stream, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            watched.state.lock().unwrap().lines.push(Line { stream, text });
            watched.changed.notify_all();
        }
        watched.state.lock().unwrap().streams_ended += 1;
        watched.changed.notify_all();
    })
}

/// Waits for the end without collecting the process, so that its id stays its own until its owner is done.
fn watch_end(watched: Arc<Watched>, id: Pid) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        watched.state.lock().unwrap().exited = true;
        watched.changed.notify_all();
    })
}

mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script]))
    }

    fn complaint(test: impl FnOnce()) -> String {
        *catch_unwind(AssertUnwindSafe(test)).unwrap_err().downcast::<String>().unwrap()
    }

    #[test]
    fn the_binary_starts_and_ends() {
        let ended = run(&mut forebay(["--version"]), WITHIN);
        assert!(ended.status.code().is_some(), "{ended:?}");
    }

    #[test]
    fn lines_of_both_streams_are_found_and_kept_apart() {
        let process = shell("echo ready on port 7; echo oops >&2; read -r _");
        assert_eq!(process.wait_line(WITHIN, |line| line.contains("oops")), "oops");
        assert_eq!(process.wait_line(WITHIN, |line| line.starts_with("ready")), "ready on port 7");
        assert!(process.output().contains("oops"));
        let ended = process.wait_exit(WITHIN);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("ready on port 7\n", "oops\n"));
        assert_eq!(ended.status.code(), Some(1));
    }

    #[test]
    fn a_line_that_never_comes_fails_with_the_output() {
        let ended = complaint(|| drop(shell("echo other").wait_line(WITHIN, |line| line == "wanted")));
        assert!(ended.contains("ended without the line") && ended.contains("other"), "{ended}");
        let soon = Duration::from_millis(20);
        let running = complaint(|| drop(shell("exec sleep 60").wait_line(soon, |_| true)));
        assert!(running.contains("in time"), "{running}");
    }

    #[test]
    fn a_signal_ends_it_and_dropping_kills_it() {
        let process = shell("echo up; exec sleep 60");
        process.wait_line(WITHIN, |line| line == "up");
        process.signal(Signal::TERM);
        assert_eq!(process.wait_exit(WITHIN).status.signal(), Some(Signal::TERM.as_raw()));

        let process = shell("echo up; exec sleep 60");
        let id = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        process.wait_line(WITHIN, |line| line == "up");
        drop(process);
        assert!(rustix::process::test_kill_process(id).is_err());
    }

    #[test]
    fn a_process_that_stays_fails_the_wait() {
        let text =
            complaint(|| drop(shell("echo here; exec sleep 60").wait_exit(Duration::from_millis(200))));
        assert!(text.contains("still running"), "{text}");
    }

    #[test]
    fn a_tool_is_found_on_path_or_not_at_all() {
        assert!(tool("sh").is_some());
        assert_eq!(find("sh", OsStr::new("/nonexistent:")), None);
        if env::var("CI").is_ok_and(|ci| ci == "true") {
            assert!(complaint(|| drop(tool("no-such-tool"))).contains("no-such-tool"));
        } else {
            assert_eq!(tool("no-such-tool"), None);
        }
        let failed = complaint(|| drop(run(Command::new("sh").args(["-c", "exit 3"]), WITHIN).succeeded()));
        assert!(failed.contains('3'), "{failed}");
    }
}
