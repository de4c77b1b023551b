//! Programs of the settings that an agent runs: to verify, to merge, to apply a component, to scan.
//!
//! What they are told stands in their arguments and in variables that begin with `FOREBAY_`; what they print goes to the agent's
//! standard error. Invariant: a program that the agent does not wait for any longer is ended, with what it started.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use thiserror::Error;
use tokio::time::timeout;

use crate::config::agent::Program;

/// Why a program did not do its work.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    #[error("{program} does not start: {source}")]
    Start { program: String, source: io::Error },
    #[error("{program} ended with {status}")]
    Ended { program: String, status: ExitStatus },
    #[error("{program} did not end within {} s", .within.as_secs())]
    Late { program: String, within: Duration },
    #[error("{0} cannot be waited for")]
    Lost(String),
}

/// What a program is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) arguments: Vec<OsString>,
    /// Names without `FOREBAY_`.
    pub(super) variables: Vec<(&'static str, OsString)>,
}

/// A program that runs. Dropping it ends the program.
struct Running {
    child: Child,
    group: Pid,
    ended: bool,
}

/// Runs a program to its end, for as long as it may take; good is who ends with 0.
pub(super) async fn run(program: &Program, told: Told, within: Duration) -> Result<(), CommandError> {
    let name = program.path.display().to_string();
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).args(told.arguments);
    command.envs(told.variables.into_iter().map(|(name, value)| (format!("FOREBAY_{name}"), value)));
    // Standard output is the agent's own: lines of JSON.
    command.stdin(Stdio::null()).stdout(io::stderr()).process_group(0);
    let child = command.spawn().map_err(|source| CommandError::Start { program: name.clone(), source })?;
    let group = Pid::from_child(&child);
    let mut running = Running { child, group, ended: false };
    // The process is left to be collected, so that its id stays its own.
    let ended = tokio::task::spawn_blocking(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(group), options) {}
    });
    match timeout(within, ended).await {
        Err(_) => return Err(CommandError::Late { program: name, within }),
        Ok(Err(_)) => return Err(CommandError::Lost(name)),
        Ok(Ok(())) => {}
    }
    running.ended = true;
    match running.child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CommandError::Ended { program: name, status }),
        Err(_) => Err(CommandError::Lost(name)),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // It was not collected: the id is still its own.
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_mins(1);

    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), arguments: ["-c", script, "sh"].map(str::to_owned).to_vec() }
    }

    #[tokio::test]
    async fn a_program_hears_its_arguments_and_variables_and_answers_by_its_status() {
        let told = || Told { arguments: vec!["x".into()], variables: vec![("COMPONENT", "P.4".into())] };
        let good = shell("test \"$1 $FOREBAY_COMPONENT\" = 'x P.4'");
        run(&good, told(), WITHIN).await.unwrap();
        let bad = run(&shell("exit 3"), told(), WITHIN).await.unwrap_err();
        assert_eq!(bad.to_string(), "/bin/sh ended with exit status: 3");
        let nowhere = Program { path: "/nowhere".into(), arguments: Vec::new() };
        assert!(run(&nowhere, told(), WITHIN).await.unwrap_err().to_string().contains("does not start"));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        // The pipe's reader ends when nobody has it open for writing any longer.
        let script = format!("(exec sleep 600) > '{}'; true", pipe.display());
        let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap());
        let late = run(&shell(&script), Told::default(), Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(late, CommandError::Late { .. }), "{late}");
        assert!(reader.join().unwrap().is_empty());
    }
}
