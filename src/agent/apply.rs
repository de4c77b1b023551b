//! What follows a new set: the commands of its new components, and a scan.
//!
//! Invariant: a command that did not succeed, or that a crash kept from running, is run with the next update.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::agent::UpdateError;
use crate::agent::command::{self, Told as ToldProgram};
use crate::agent::installed::{Has, Installed};
use crate::agent::progress::{Progress, Tell};
use crate::agent::update::Update;

impl Update<'_> {
    /// Runs the commands of components that came since theirs succeeded last.
    pub(super) async fn apply(
        &mut self,
        installed: &Installed,
        tell: &mut Tell<'_>,
    ) -> Result<(), UpdateError> {
        let ground = self.ground.clone();
        let root = ground.folder.place().version(installed.number);
        for has in &installed.components {
            let key = has.key();
            let commands = ground.settings.commands.iter().filter(|after| after.is_for(&has.component));
            let commands: Vec<_> = commands.collect();
            if commands.is_empty() || ground.state().applied.get(&key) == Some(&has.came_in) {
                continue;
            }
            let mut failed = None;
            for after in commands {
                let told =
                    ToldProgram { arguments: Vec::new(), variables: about(has, root.join(has.place())) };
                failed = command::run(&after.run, told, ground.settings.command).await.err();
                let said = failed.as_ref().map(ToString::to_string);
                tell(Progress::Command { what: has.component.to_string(), failed: said });
                if failed.is_some() {
                    break;
                }
            }
            match failed {
                Some(reason) => self.failures.push(format!("{}: {reason}", has.component)),
                None => ground.remember(|state| {
                    state.applied.insert(key, has.came_in);
                })?,
            }
        }
        Ok(())
    }

    /// Has a scan begin after a new set, where the relay says so.
    pub(super) async fn scan(
        &mut self,
        installed: &Installed,
        tell: &mut Tell<'_>,
    ) -> Result<(), UpdateError> {
        let ground = self.ground;
        if ground.state().scanned >= installed.number {
            return Ok(());
        }
        if let Some(program) = ground.settings.scan.as_ref().filter(|_| self.told.scan_after_update) {
            let ran = command::run(program, ToldProgram::default(), ground.settings.command).await;
            let failed = ran.err().map(|error| error.to_string());
            tell(Progress::Command { what: SCAN.to_owned(), failed: failed.clone() });
            self.failures.extend(failed.map(|reason| format!("{SCAN}: {reason}")));
        }
        Ok(ground.remember(|state| state.scanned = installed.number)?)
    }
}

/// What a component's command is told of it.
fn about(has: &Has, file: PathBuf) -> Vec<(&'static str, OsString)> {
    vec![
        ("TREE", has.tree.as_str().into()),
        ("COMPONENT", (&*has.component).into()),
        ("VERSION", (&*has.version).into()),
        ("FILE", file.into()),
    ]
}

/// What a scan is called.
const SCAN: &str = "scan";
