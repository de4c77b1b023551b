//! Against nginx: the fleet's figures are nginx's own, and the same plan takes the same from it as from a relay.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use super::ground::play;
use crate::process::{Process, nginx};
use crate::relay::{Running, settings};
use crate::served::{FIXTURE, WITHIN};

/// nginx with the fixture's tree, on an address that no other test has.
struct Nginx {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

/// The second number of the next one's address.
static STARTED: AtomicU8 = AtomicU8::new(90);

impl Nginx {
    fn start() -> Option<Self> {
        let program = nginx()?;
        let folder = tempfile::tempdir().unwrap();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = IpAddr::from(Ipv4Addr::new(127, STARTED.fetch_add(1, Ordering::Relaxed), high, low));
        // Nobody else is on this address, so that its port is still free when nginx comes.
        let address = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap();
        let place = folder.path().display();
        std::os::unix::fs::symlink(FIXTURE, folder.path().join("activeupdate")).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {place}/{name};"))
            .join(" ");
        // As root its workers would be another user, who may not look into the folder.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes 1; pid {place}/pid; error_log stderr notice;\n\
             events {{ worker_connections 512; }}\n\
             http {{ {temporary} log_format sent '$status $body_bytes_sent $uri'; access_log {place}/log sent;\n\
             server {{ listen {address}; root {place}; }} }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        let process = Process::start(command.args(["-e", "stderr"]));
        process.wait_line(WITHIN, |line| line.contains("start worker process "));
        Some(Self { process, address, folder })
    }

    fn url(&self) -> String {
        format!("http://{}/activeupdate/", self.address)
    }

    /// Stops it in order; gives its log, a status and a count of bytes in each line.
    fn stop(self) -> Vec<(u16, u64, String)> {
        self.process.signal(Signal::QUIT);
        self.process.wait_exit(WITHIN).succeeded();
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            (word().parse().unwrap(), word().parse().unwrap(), word().to_owned())
        };
        log.lines().map(line).collect()
    }
}

#[test]
fn nginx_counts_what_the_fleet_counts_and_gives_what_a_relay_gives_r12_1() {
    let Some(nginx) = Nginx::start() else { return };
    let relay = Running::refreshed(settings(FIXTURE));
    let fleet =
        format!("--agents 60 --connections 10 --seed 5 --mix full=1,increment=2,current=2 --tree {FIXTURE}");
    let from_nginx = play(&nginx.url(), &fleet).passed();
    let from_relay = play(&format!("http://{}/activeupdate/", relay.v4()), &fleet).passed();
    assert_eq!(from_nginx.kinds("whole"), from_relay.kinds("whole"));
    assert_eq!(from_nginx.kinds("bytes")[1..], from_relay.kinds("bytes")[1..]);
    let log = nginx.stop();
    assert!(log.iter().all(|(status, ..)| *status == 200), "{log:?}");
    assert_eq!(log.len() as u64, from_nginx.at("/requests/total"));
    assert_eq!(log.iter().map(|(_, bytes, _)| bytes).sum::<u64>(), from_nginx.at("/bytes/total"));
    relay.stop();
}

#[test]
fn nginx_that_lacks_a_file_is_found_out() {
    let Some(nginx) = Nginx::start() else { return };
    let there = nginx.folder.path().join("activeupdate");
    fs::remove_file(&there).unwrap();
    fs::create_dir(&there).unwrap();
    fs::copy(format!("{FIXTURE}/server.ini"), there.join("server.ini")).unwrap();
    let said = play(&nginx.url(), "--agents 2 --mix full --scopes patterns").failed_by("status");
    assert_eq!(
        (said.at("/errors/by_status/404"), said.kinds("whole")),
        (said.at("/errors/total"), [2, 0, 0, 0])
    );
    nginx.stop();
}
