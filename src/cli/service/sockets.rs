//! Socket activation: the sockets that a service manager passes, as `sd_listen_fds(3)` describes them (R11.4).
//!
//! Never guesses what a socket is for. Invariant: it is asked before the process opens anything, so that the numbers of the
//! environment cannot mean files of ours.

use crate::cli::Failed;
use crate::net::inherited::{Given, Inherited};

/// The first descriptor that is passed, by `sd_listen_fds(3)`.
const FIRST: u32 = 3;

/// As many as the settings may list for agents, for SOCKS, and for administrators.
const SOCKETS_MAX: u32 = 192;

/// The sockets passed to this process, if any: those called `admin` for administrators, those called `socks` for agents that
/// speak SOCKS5, those called `agents` or left without a name for agents.
pub fn inherited() -> Result<Inherited, Failed> {
    refuse_missing()?;
    let mut inherited = Inherited::default();
    for (name, descriptor) in sd_listen_fds::get()? {
        let name = name.unwrap_or_default();
        let kind = match name.as_str() {
            "admin" => &mut inherited.admin,
            "socks" => &mut inherited.socks,
            _ if is_of_agents(&name) => &mut inherited.agents,
            _ => {
                return Err(Failed::new(format!(
                    "a socket was passed as '{name}'; allowed: 'agents', 'socks' or 'admin' (FileDescriptorName= in the socket unit)"
                )));
            }
        };
        kind.push(Given::new(descriptor.into_std())?);
    }
    Ok(inherited)
}

/// Descriptors that are not open must not be taken for owned ones: closing such a one aborts the process.
fn refuse_missing() -> Result<(), Failed> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(());
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    if count > SOCKETS_MAX {
        return Err(Failed::new(format!("LISTEN_FDS={count}; allowed: up to {SOCKETS_MAX}")));
    }
    match (FIRST..FIRST + count)
        .find(|number| !std::path::Path::new(&format!("/proc/self/fd/{number}")).is_symlink())
    {
        Some(number) => {
            Err(Failed::new(format!("LISTEN_FDS={count}, but file descriptor {number} is not open")))
        }
        None => Ok(()),
    }
}

/// A socket without a name of its own is called `unknown`, or by systemd as its unit.
fn is_of_agents(name: &str) -> bool {
    matches!(name, "agents" | "" | "unknown") || name.ends_with(".socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_name_is_of_agents() {
        assert!(["agents", "", "unknown", "forebay.socket"].into_iter().all(is_of_agents));
        assert!(!["admin", "socks", "agent", "stored", "connection"].into_iter().any(is_of_agents));
    }
}
