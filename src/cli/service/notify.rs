//! Notices to a service manager: datagrams as `sd_notify(3)` describes them, to the socket that `NOTIFY_SOCKET` names.
//!
//! Written here and not taken from the `sd-notify` crate: that one takes an abstract socket's name for a path. Never waits
//! long for the manager. Invariant: a text of ours is one line, so that it cannot become another notice.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::cli::output::plain;

/// A manager that does not take a notice for so long is stuck itself.
const SEND: Duration = Duration::from_secs(1);

/// Tells the service manager, where there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment of this process says.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let Some(name) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let manager = connect(&name)
            .inspect_err(
                |error| warn!(NOTIFY_SOCKET = %name.display(), %error, "the service manager gets no notices"),
            )
            .ok();
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Self { manager, watchdog }
    }

    /// How often the manager wants to hear that all is well, at least; `None` when it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.manager.is_some())
    }

    /// Started, or done with a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", plain(status)));
    }

    /// A line for people, as `systemctl status` shows it.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", plain(status)));
    }

    /// A reload begins; the time tells the manager which of its requests it is for.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reading the settings again"));
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping: transfers under way may end");
    }

    /// All is well.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, notice: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(notice.as_bytes(), manager) {
            warn!(%error, notice = notice.lines().next(), "the service manager did not take a notice");
        }
    }
}

/// A socket for the manager's name: a path, or after '@' a name of the abstract namespace.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is neither a path nor begins with '@'",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND))?;
    Ok((socket, address))
}
