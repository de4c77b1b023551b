//! What a service manager hears of the relay: ready, status, reload, stop, and that all is well (R11.4).

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::process::Signal;

use crate::process::{Process, forebay};
use crate::served::{FIXTURE, Place, Served, WITHIN};

/// A manager's end of the notices.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self::with(UnixDatagram::bind(path).unwrap())
    }

    fn with(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        Self(socket)
    }

    /// The next notice, line by line.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let len = self.0.recv(&mut bytes).expect("a notice in time");
        String::from_utf8(bytes[..len].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The next notice that has a line with this beginning; those before it are passed over.
    fn wait(&self, line: &str) -> Vec<String> {
        loop {
            let notice = self.next();
            if notice.iter().any(|found| found.starts_with(line)) {
                return notice;
            }
        }
    }
}

/// Starts the relay with more in its environment.
fn serve(place: &Place, environment: &[(&str, &str)]) -> Served {
    let mut command = forebay(["serve", "--config"]);
    command.arg(place.config()).envs(environment.iter().copied());
    Served::wait(Process::start(&mut command)).administered(place)
}

fn monotonic_usec() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
}

#[test]
fn ready_status_reload_and_stop_are_told_in_their_order_r11_4() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let path = place.path("notify");
    let manager = Manager::at(&path);
    let relay = serve(&place, &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let ready = manager.next();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=activeupdate: "), "{ready:?}");
    assert_eq!(ready.len(), 2);
    if !ready[1].ends_with("generation 1") {
        manager.wait("STATUS=activeupdate: generation 1");
    }

    for (tail, said) in [("", "are read again"), ("wrong = 1", "the settings are wrong")] {
        place.configure("", FIXTURE, tail);
        let before = monotonic_usec();
        relay.signal(Signal::HUP);
        let reloading = manager.wait("RELOADING=1");
        let usec = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!((before..=monotonic_usec()).contains(&usec.parse().unwrap()), "{reloading:?}");
        assert_eq!(manager.wait("READY=1")[1], "STATUS=activeupdate: generation 1");
        relay.wait_line(said);
    }

    relay.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    let said = relay.wait_exit().succeeded().stderr;
    assert!(!said.contains("service manager"), "{said}");
}

#[test]
fn the_watchdog_hears_at_half_its_time_until_the_end_r11_4() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    // A name of the abstract namespace: nothing of it is on the disk.
    let name = format!("forebay-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = Manager::with(manager);
    let address = format!("@{name}");
    let relay = serve(&place, &[("NOTIFY_SOCKET", &address), ("WATCHDOG_USEC", "400000")]);
    manager.wait("READY=1");
    manager.wait("WATCHDOG=1");
    let begun = monotonic_usec();
    for _ in 0..5 {
        assert_eq!(manager.wait("WATCHDOG=1"), ["WATCHDOG=1"]);
    }
    assert!(monotonic_usec() - begun >= 500_000, "not much oftener than every 0.2 s");
    relay.stop();
}

#[test]
fn another_processs_watchdog_is_not_fed() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let path = place.path("notify");
    let manager = Manager::at(&path);
    let environment =
        [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")];
    let relay = serve(&place, &environment);
    relay.wait_line("a new generation is published");
    relay.signal(Signal::TERM);
    loop {
        let notice = manager.next();
        assert_ne!(notice[0], "WATCHDOG=1");
        if notice[0] == "STOPPING=1" {
            break;
        }
    }
    relay.wait_exit().succeeded();
}

#[test]
fn a_manager_that_is_not_there_is_warned_about_and_the_relay_runs() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let nobody = place.path("nobody");
    let gone = "the service manager did not take a notice";
    for (name, words) in
        [(nobody.to_str().unwrap(), gone), ("vsock:2:1", "it is neither a path nor begins with '@'")]
    {
        let relay = serve(&place, &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "20000")]);
        assert!(relay.wait_line(words).contains("WARN"));
        relay.ask("/healthz");
        relay.stop();
    }
    assert!(!fs::exists(nobody).unwrap());
}
