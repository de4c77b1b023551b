//! Sockets that a service manager passes are accepted on in place of the settings' addresses (R11.4).

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::{Process, forebay, run, tool};
use crate::raw;
use crate::served::{FIXTURE, Place, Served, WITHIN};

const MANIFEST: &str = "/activeupdate/server.ini";

/// Binds sockets as a manager does, each to be written as `family:kind`, makes them the descriptors from 3 on, and becomes the
/// command that stands after it.
const PASS: &str = "
import fcntl, os, socket, sys
kinds, names, command = sys.argv[1].split(), sys.argv[2], sys.argv[3:]
high = []
for kind in kinds:
    if kind == 'udp':
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(('127.0.0.1', 0))
    elif kind == 'v6':
        made = socket.create_server(('::1', 0), family=socket.AF_INET6)
    else:
        made = socket.create_server(('127.0.0.1', 0))
    print('passed', made.getsockname()[1], flush=True)
    high.append(fcntl.fcntl(made, fcntl.F_DUPFD, 100))
for at, one in enumerate(high):
    os.dup2(one, 3 + at, inheritable=True)
    os.close(one)
environment = dict(os.environ, LISTEN_FDS=str(len(kinds)), LISTEN_FDNAMES=names)
environment.setdefault('LISTEN_PID', str(os.getpid()))
if not names:
    del environment['LISTEN_FDNAMES']
os.execve(command[0], command, environment)
";

fn passing(python: &Path, place: &Place, kinds: &str, names: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", PASS, kinds, names, env!("CARGO_BIN_EXE_forebay"), "serve", "--config"]);
    command.arg(place.config());
    command
}

/// The ports of the sockets that were passed.
fn passed(relay: &Served) -> Vec<u16> {
    let output = relay.output();
    output.lines().filter_map(|line| line.strip_prefix("passed ")?.parse().ok()).collect()
}

fn ports(addresses: &[SocketAddr]) -> Vec<u16> {
    addresses.iter().map(SocketAddr::port).collect()
}

#[test]
fn named_sockets_are_served_by_all_workers_in_place_of_the_settings_addresses_r11_4() {
    let Some(python) = tool("python3") else { return };
    let place = Place::new();
    // Nobody has these addresses: a bind would fail.
    let top = "listen = \"203.0.113.9:80\"\nadmin.listen = \"203.0.113.9:81\"\nadmin.clear_text = \"allow\"\nworkers = 4";
    place.configure(top, FIXTURE, "");
    let mut command = passing(&python, &place, "v4 v4 v6 v4", "agents:admin:agents:socks");
    let relay = Served::wait(Process::start(&mut command)).administered(&place);
    relay.wait_line("a new generation is published");
    let passed = passed(&relay);
    assert_eq!(ports(&relay.agents), [passed[0], passed[2]]);
    assert_eq!(relay.admin.port(), passed[1]);
    assert_eq!(ports(&relay.socks), [passed[3]]);
    let mut socks = raw::Client::connect(relay.socks[0]);
    socks.send(&[5, 1, 0]).unwrap();
    assert_eq!(socks.take(2), [5, 0]);
    assert!(relay.agents[0].is_ipv4() && relay.agents[1].is_ipv6());
    for _ in 0..20 {
        for address in &relay.agents {
            raw::fetch(*address, MANIFEST, &[]).whole(200);
        }
    }
    relay.ask("/healthz");
    let status = place.command(&["status"]).succeeded().stdout;
    assert!(status.contains("generation 1"), "{status}");
    relay.stop();
}

#[test]
fn sockets_without_names_are_for_agents_and_the_rest_is_bound_r11_4() {
    let Some(python) = tool("python3") else { return };
    for names in ["", "forebay.socket"] {
        let place = Place::new();
        place.configure("", FIXTURE, "");
        let relay = Served::wait(Process::start(&mut passing(&python, &place, "v4", names)));
        relay.wait_line("a new generation is published");
        assert_eq!(ports(&relay.agents), passed(&relay));
        raw::fetch(relay.agents[0], MANIFEST, &[]).whole(200);
        assert_ne!(relay.admin.port(), relay.agents[0].port());
        relay.ask("/healthz");
        relay.stop();
    }
}

#[test]
fn sockets_of_another_process_are_left_alone_r11_4() {
    let Some(python) = tool("python3") else { return };
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let mut command = passing(&python, &place, "v4", "agents");
    let relay = Served::wait(Process::start(command.env("LISTEN_PID", "1")));
    assert_eq!(relay.agents.len(), 2, "the settings' addresses");
    assert!(!ports(&relay.agents).contains(&passed(&relay)[0]));
    relay.stop();
}

#[test]
fn sockets_that_cannot_be_used_end_the_start_with_the_reason_r11_4() {
    let Some(python) = tool("python3") else { return };
    let place = Place::new();
    place.configure("", FIXTURE, "");
    for (kinds, names, words) in [
        ("v4", "stored", "a socket was passed as 'stored'; allowed: 'agents', 'socks' or 'admin'"),
        ("v4 udp", "agents:admin", "it is no stream socket"),
    ] {
        let ended = run(&mut passing(&python, &place, kinds, names), WITHIN);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stderr.contains("forebay: ") && ended.stderr.contains(words), "{ended:?}");
    }
    // A number that is none, and descriptors that are not there.
    let shell = |variables: &str| {
        let script = format!("{variables} LISTEN_PID=$$ exec \"$0\" serve --config \"$1\" 3<&-");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(forebay([""]).get_program()).arg(place.config());
        run(&mut command, WITHIN)
    };
    for (variables, words) in [
        ("LISTEN_FDS=many", "malformed socket activation"),
        ("LISTEN_FDS=1", "LISTEN_FDS=1, but file descriptor 3 is not open"),
        ("LISTEN_FDS=4000000000", "allowed: up to 192"),
    ] {
        let ended = shell(variables);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    assert!(!place.data().exists(), "nothing was begun");
}
