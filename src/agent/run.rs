//! The agent that runs: it updates when it starts, when the relay tells it, by its interval, and when its user wants it (R9).
//!
//! Windows of daily and weekly schedules are the relay's: it tells each agent its moment. What the relay did not hear of, because it was
//! not reached, is tried again. Invariant: one update is under way at a time; what is asked for meanwhile comes after it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::agent::backoff::Backoff;
use crate::agent::control::{self, Command};
use crate::agent::events::{self, Heard, Notice, Reason};
use crate::agent::folder::FolderError;
use crate::agent::progress::{Progress, Tell};
use crate::agent::told::Told;
use crate::agent::{Asked, Outcome, Takes, UpdateError, Updater};
use crate::policy::check_in::Why;
use crate::policy::tree::schedule::{AgentSettingsTaken, Schedule};
use crate::schedule::plan;

/// Notices that wait for the update under way. More than one are one.
const HEARD_MAX: usize = 64;

/// Commands that wait.
const COMMANDS_MAX: usize = 8;

/// How long the wall clock is believed: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// An update that the relay has not heard of yet.
#[derive(Debug)]
struct Again {
    asked: Asked,
    at: Instant,
    backoff: Backoff,
}

impl Updater {
    /// Runs until it is told to stop; an update under way is broken off then, and goes on with the next start.
    pub async fn run(
        &self,
        tell: &mut Tell<'_>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), FolderError> {
        let (to, heard) = mpsc::channel(HEARD_MAX);
        let _following = AbortOnDropHandle::new(tokio::spawn(events::follow(self.ground.clone(), to)));
        let (to, commands) = mpsc::channel(COMMANDS_MAX);
        let listener = control::listen(self.ground.folder.place())?;
        let _serving = AbortOnDropHandle::new(tokio::spawn(control::serve(listener, self.clone(), to)));
        let mut stop = pin!(stop);
        let mut running = Running { updater: self, heard, commands, again: None, has_listened: false };
        tokio::select! {
            ended = running.live(tell) => ended,
            () = stop.as_mut() => Ok(()),
        }
    }
}

struct Running<'u> {
    updater: &'u Updater,
    heard: Receiver<Heard>,
    commands: Receiver<Command>,
    again: Option<Again>,
    /// Whether the relay could be heard before.
    has_listened: bool,
}

impl Running<'_> {
    async fn live(&mut self, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        self.update(Asked::everything(Why::Start), tell).await?;
        loop {
            let next = self.next()?;
            let now = self.now();
            let again = self.again.as_ref().map(|again| again.at);
            tokio::select! {
                Some(heard) = self.heard.recv() => self.hear(heard, tell).await?,
                Some(command) = self.commands.recv() => self.obey(command, tell).await?,
                () = until(again) => self.try_again(tell).await?,
                () = wait(next, now) => if next.is_some_and(|next| next <= self.now()) {
                    self.by_interval(tell).await?;
                },
            }
        }
    }

    /// When the interval's next update is due.
    fn next(&self) -> Result<Option<Timestamp>, FolderError> {
        let ground = &self.updater.ground;
        Ok(ground.state().next(&ground.id()?, self.now()))
    }

    async fn by_interval(&mut self, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        let now = self.now();
        let state = self.updater.ground.state();
        let takes = match state.told {
            Some(told) if !settings_due(&told, state.last_settings, now) => Takes::Components,
            _ => Takes::Everything,
        };
        self.updater.ground.remember(|state| state.last_interval = Some(now))?;
        self.update(Asked { why: Why::Schedule, notice: None, takes }, tell).await
    }

    async fn hear(&mut self, first: Heard, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        let (mut notices, mut settings) = (Vec::new(), false);
        let mut next = Some(first);
        while let Some(heard) = next {
            match heard {
                Heard::Update(notice) => notices.push(notice),
                Heard::Settings => settings = true,
                Heard::Relay => {
                    tell(Progress::Listening);
                    // What changed while it could not be heard was told to nobody.
                    settings |= std::mem::replace(&mut self.has_listened, true);
                }
            }
            next = self.heard.try_recv().ok();
        }
        if settings {
            self.take_settings(tell).await?;
        }
        match asked(&notices) {
            Some(asked) => self.update(asked, tell).await,
            None => Ok(()),
        }
    }

    /// What holds has changed: the agent follows it from now on, and takes settings files where its schedule takes them each time.
    async fn take_settings(&mut self, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        match self.updater.refresh_told().await {
            Ok(Some(told)) => {
                tell(Progress::Told);
                let last = self.updater.ground.state().last_settings;
                if settings_due(&told, last, self.now())
                    && let Err(reason) = self.updater.ground.take_files(&told, tell).await?
                {
                    warn!(%reason, "settings files were not taken");
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(UpdateError::Folder(error)) => Err(error),
            Err(UpdateError::Relay(error)) => {
                warn!(%error, "what holds has changed, and the relay does not say how");
                Ok(())
            }
        }
    }

    async fn obey(&mut self, command: Command, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        let Command::UpdateNow { watch, done } = command;
        let mut both = |progress: Progress| {
            // Who watches slowly misses something.
            let _ = watch.try_send(progress.clone());
            tell(progress);
        };
        let ended = self.updater.update(Asked::everything(Why::UpdateNow), &mut both).await;
        let (said, failed) = match ended {
            Err(UpdateError::Folder(error)) => (Err(error.to_string()), Some(error)),
            Err(error) => (Err(error.to_string()), None),
            Ok(outcome) => (Ok(outcome), None),
        };
        // Who asked may have left.
        let _ = done.send(said);
        failed.map_or(Ok(()), Err)
    }

    async fn try_again(&mut self, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        match self.again.take() {
            Some(Again { asked, backoff, .. }) => self.update_by(asked, backoff, tell).await,
            None => Ok(()),
        }
    }

    async fn update(&mut self, asked: Asked, tell: &mut Tell<'_>) -> Result<(), FolderError> {
        self.again = None;
        self.update_by(asked, Backoff::default(), tell).await
    }

    async fn update_by(
        &mut self,
        asked: Asked,
        mut backoff: Backoff,
        tell: &mut Tell<'_>,
    ) -> Result<(), FolderError> {
        match self.updater.update(asked, tell).await {
            Ok(Outcome::Denied(reason)) => info!(why = ?asked.why, %reason, "the agent may not update now"),
            Ok(Outcome::Ended(_)) => {}
            Err(UpdateError::Folder(error)) => return Err(error),
            Err(UpdateError::Relay(error)) => {
                let wait = backoff.wait();
                warn!(%error, wait_secs = wait.as_secs(), "the relay is asked again");
                self.again = Some(Again { asked, at: Instant::now() + wait, backoff });
            }
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.updater.ground.clock.wall()
    }
}

/// Several notices as one update.
fn asked(notices: &[Notice]) -> Option<Asked> {
    let components = notices.iter().any(|notice| notice.components);
    let settings = notices.iter().any(|notice| notice.agent_settings);
    let takes = match (components, settings) {
        (true, true) => Takes::Everything,
        (true, false) => Takes::Components,
        (false, true) => Takes::AgentSettings,
        (false, false) => return None,
    };
    let why = match notices.iter().map(|notice| notice.reason).max()? {
        Reason::Schedule => Why::Schedule,
        Reason::Generation | Reason::Administrator => Why::Notice,
    };
    Some(Asked { why, notice: notices.iter().map(|notice| notice.number).max(), takes })
}

/// Whether settings files are to be taken now.
fn settings_due(told: &Told, last: Option<Timestamp>, now: Timestamp) -> bool {
    let taken = match told.settings.schedule {
        Schedule::Interval { agent_settings, .. } => agent_settings,
        Schedule::Daily { .. } | Schedule::Weekly { .. } => AgentSettingsTaken::EachTime,
    };
    let zone = told.settings.time_zone.as_ref().and_then(plan::zone::named).unwrap_or(TimeZone::UTC);
    plan::settings_due(taken, last, &zone, now)
}

/// Waits until a moment; for ever where there is none.
fn until(at: Option<Instant>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match at {
        Some(at) => Box::pin(sleep_until(at)),
        None => Box::pin(std::future::pending()),
    }
}

/// Waits for a moment of the wall clock, or for the next look at it.
async fn wait(next: Option<Timestamp>, now: Timestamp) {
    let Some(next) = next else { return std::future::pending().await };
    let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    sleep(left.min(LOOK_EVERY)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_notices_are_one_update_of_all_that_they_ask_for_r9() {
        let notice = |number, reason, components, agent_settings| Notice {
            number,
            reason,
            components,
            agent_settings,
        };
        let asked = |notices: &[Notice]| asked(notices).map(|asked| (asked.why, asked.notice, asked.takes));
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[notice(1, Reason::Schedule, false, false)]), None);
        let scheduled = notice(7, Reason::Schedule, true, false);
        assert_eq!(asked(&[scheduled]), Some((Why::Schedule, Some(7), Takes::Components)));
        let settings = notice(9, Reason::Administrator, false, true);
        assert_eq!(asked(&[settings]), Some((Why::Notice, Some(9), Takes::AgentSettings)));
        assert_eq!(asked(&[settings, scheduled]), Some((Why::Notice, Some(9), Takes::Everything)));
    }
}
