//! How many files and connections the system lets this process have open: raised to what it may have (R11.4).
//!
//! Never raises the hard limit, which is the administrator's. Invariant: where the connections of the settings do not fit, the
//! log says so with the numbers, before the first of them comes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::base::limits::OPEN_BLOBS_MAX;

/// Files beside connections and open blobs: sockets that listen, fills, the index, the log, runtimes.
const OTHER_FILES: u64 = 256;

/// Raises the limit of open files to the hard one, and warns when the settings ask for more.
pub fn raise_limit(connections_max: usize, workers: usize) {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    let now = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            before
        }
    };
    info!(before = %shown(before.current), now = %shown(now.current), "the limit of open files");
    let needed = needed(connections_max, workers);
    if let Some(limit) = now.current.filter(|limit| *limit < needed) {
        warn!(
            limit,
            needed,
            connections_max,
            "the limit of open files is too small for limits.connections_max: raise LimitNOFILE of the service, or 'ulimit -Hn'"
        );
    }
}

/// Each connection is a file, and each worker keeps the blobs open that it sends.
fn needed(connections_max: usize, workers: usize) -> u64 {
    (connections_max + workers * OPEN_BLOBS_MAX) as u64 + OTHER_FILES
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or("unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_every_shelf_and_the_rest_are_counted() {
        assert_eq!(needed(20_000, 4), 20_000 + 4 * OPEN_BLOBS_MAX as u64 + OTHER_FILES);
        assert_eq!(shown(None), "unlimited");
        assert_eq!(shown(Some(7)), "7");
    }
}
