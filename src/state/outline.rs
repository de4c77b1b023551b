//! The agent tree as people keep it in a file: given as an outline, compared with one, made to be what one says.
//!
//! Never reads or writes that file. Invariant: what is made is what was told, or nothing.

use std::io;

use thiserror::Error;

use crate::policy::outline::Outline;
use crate::policy::outline::plan::plan;
use crate::policy::outline::read::Read;
use crate::policy::outline::told::told;
use crate::policy::outline::write::Missing;
use crate::policy::tree::change::Action;
use crate::policy::tree::refused::Refused;
use crate::state::record::{Author, Serial};
use crate::state::{ChangeError, Pending, State};

/// What an outline would change.
#[derive(Debug)]
pub struct Comparison {
    /// The last change of the tree that it was compared with.
    pub last: Serial,
    /// What would change, in words; nothing where the tree is what the outline says.
    pub told: Vec<String>,
    actions: Vec<Action>,
}

/// Why a tree was not made what an outline says.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The bytes of its settings files could not be kept.
    #[error("settings files could not be written: {0}")]
    Contents(#[from] io::Error),
    /// The change was not made.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl State {
    /// The tree's outline as text, and the last change that is in it. Blocks on the disk.
    pub fn outline(&self) -> Result<(Serial, String), Missing> {
        let (last, current) = self.current_after();
        let text = Outline::of(current.tree()).text(|content| match self.contents().read(content) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err("they are not in the data folder".to_owned()),
            Err(error) => Err(error.to_string()),
        })?;
        Ok((last, text))
    }

    /// What would have to change for the tree to be what is read. Takes a while, where much does.
    pub fn compare(&self, read: &Read) -> Result<Comparison, Refused> {
        let (last, current) = self.current_after();
        let actions = plan(current.tree(), &read.outline);
        let changed = current.tree().changed(&actions)?;
        Ok(Comparison { last, told: told(current.tree(), &changed), actions })
    }

    /// Changes what was compared, unless the tree has changed meanwhile. Blocks on the disk where settings files are new.
    pub fn apply(&self, author: Author, compared: Comparison, read: &Read) -> Result<Pending, ApplyError> {
        let current = self.current();
        for (hash, bytes) in &read.contents {
            if current.tree().files().all(|(.., file)| file.content.hash != *hash) {
                self.contents().put(bytes)?;
            }
        }
        Ok(self.change_after(compared.last, author, compared.actions)?)
    }
}
