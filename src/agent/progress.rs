//! What happens while an agent updates, as whoever watches it is told: a bar, or a line of JSON each.

use jiff::Timestamp;
use serde::Serialize;
use url::Url;

use crate::agent::relay::Went;
use crate::base::path::TreePath;
use crate::base::tree::TreeName;
use crate::policy::check_in::Why;
use crate::policy::tree::file::FileName;

/// Who watches.
pub type Tell<'t> = dyn FnMut(Progress) + Send + 't;

/// Something that happened. Names of fields are those of the JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// The agent says to the relay why it wants to update.
    CheckIn {
        /// Why.
        why: Why,
    },
    /// The relay has made a certificate for it.
    Certificate {
        /// Its last second.
        until: Timestamp,
    },
    /// It may not.
    Denied {
        /// Why not.
        reason: String,
    },
    /// A manifest was taken, or is the one that is there.
    Manifest {
        /// Of which tree.
        tree: TreeName,
        /// From where.
        url: Url,
        /// Whether it is another one than before.
        new: bool,
    },
    /// What is to be taken.
    Wanted {
        /// How many files.
        files: usize,
        /// Their bytes, without what is there already.
        bytes: u64,
    },
    /// A file is begun, or gone on with.
    File {
        /// The component.
        component: String,
        /// The version that it is to have.
        version: String,
        /// The file.
        path: TreePath,
        /// Its bytes.
        size: u64,
        /// How many of them came before.
        there: u64,
        /// Whether it is an increment.
        increment: bool,
    },
    /// Bytes came.
    Bytes {
        /// The file.
        path: String,
        /// How many of it are there.
        done: u64,
        /// How many it has.
        size: u64,
    },
    /// A source did not give a file; the next one is asked.
    SourceFailed {
        /// What it was asked for.
        url: Url,
        /// What was wrong.
        reason: String,
    },
    /// An increment could not be applied; the full package is taken.
    NotMerged {
        /// The component.
        component: String,
        /// What was wrong.
        reason: String,
    },
    /// A whole set is there.
    Installed {
        /// Its number.
        number: u64,
    },
    /// A command was run.
    Command {
        /// What for: a component, or `scan`.
        what: String,
        /// What was wrong, where it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    /// A settings file is there in another version, or is gone.
    SettingsFile {
        /// Its name.
        name: FileName,
        /// Its version; `None` where it is gone.
        version: Option<u32>,
    },
    /// The relay can tell the agent to update from now on.
    Listening,
    /// What holds for the agent has changed, and it follows that.
    Told,
    /// The update has ended.
    Ended {
        /// How it went.
        result: Went,
        /// In words, where there is something to say.
        #[serde(skip_serializing_if = "String::is_empty")]
        detail: String,
        /// Bytes that came.
        bytes: u64,
        /// How long it took.
        secs: u64,
    },
}
