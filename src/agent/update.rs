//! One update, from the check-in to the report.
//!
//! 1. The agent looks at the certificate that it is known by, where it has one, says why it wants to update, and is told what holds, or
//!    that it may not (R8).
//! 2. For each tree, the manifest of the first source that gives one; what is in scope, wanted here, and not there yet is to be taken.
//! 3. Each file comes into `staging/`, resumed where it broke off; its size is the manifest's, its signature is fetched beside it and
//!    checked where the settings name a program for that. An increment is applied to what is there; where that fails, the full
//!    package is taken.
//! 4. Once all are there, the new set is built and `current` leads to it (`install`). Until then the old one
//!    stays, and what is staged is there for the next attempt.
//! 5. The commands of new components are run, also those that a crash kept from it; older sets go; a scan begins where the relay says so.
//! 6. Settings files are taken, and the relay is told how it went; what it cannot be told now it is told after the next check-in.
//!
//! Never updates twice at once. Invariant: killed at any moment, the next update ends as this one would have.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::warn;
use url::Url;

use crate::agent::folder::FolderError;
use crate::agent::ground::Ground;
use crate::agent::progress::{Progress, Tell};
use crate::agent::relay::{ChecksIn, Report, Went, addresses};
use crate::agent::sources::Asking;
use crate::agent::state::{Last, UnderWay};
use crate::agent::told::Told;
use crate::agent::{Asked, Outcome, Takes, UpdateError, files};
use crate::policy::check_in::Why;

/// Characters of what a report says in words, as the relay takes them.
const DETAIL_CHARS_MAX: usize = 256;

/// An update under way.
pub(super) struct Update<'u> {
    pub(super) ground: &'u Arc<Ground>,
    pub(super) asked: Asked,
    pub(super) told: Told,
    pub(super) own_proxy: bool,
    /// Bytes that came, by the source that they came from.
    pub(super) came: HashMap<Url, u64>,
    pub(super) failures: Vec<String>,
    pub(super) changed: bool,
}

impl Ground {
    /// Updates.
    pub(super) async fn update(
        self: &Arc<Self>,
        asked: Asked,
        tell: &mut Tell<'_>,
    ) -> Result<Outcome, UpdateError> {
        let _turn = self.turn.lock().await;
        let began = self.clock.monotonic();
        let since = self.clock.wall();
        self.remember(|state| state.under_way = Some(UnderWay { since, why: asked.why }))?;
        let checked_in = self.check_in(asked, tell).await;
        let (result, detail, source, bytes) = match &checked_in {
            Err(error) => (Went::Failed, error.to_string(), None, 0),
            Ok(told) if told.denied.is_some() => {
                let reason = told.denied.clone().unwrap_or_default();
                tell(Progress::Denied { reason: reason.clone() });
                self.remember(|state| {
                    state.under_way = None;
                    state.last_notice = state.last_notice.max(asked.notice);
                })?;
                return Ok(Outcome::Denied(reason));
            }
            Ok(told) => self.updated(asked, told.clone(), tell).await?,
        };
        let secs = self.clock.monotonic().saturating_sub(began).as_secs();
        if checked_in.is_ok() {
            let installed = self.installed()?;
            let (versions, since) = (installed.versions(), installed.since());
            let (notice, detail, source) = (asked.notice, detail.clone(), source.clone());
            self.report(Report { result, detail, versions, since, notice, source, bytes, secs }).await?;
        }
        let ended = Progress::Ended { result, detail: detail.clone(), bytes, secs };
        let last = Last { at: self.clock.wall(), why: asked.why, result, detail, source, bytes, secs };
        self.remember(|state| {
            state.under_way = None;
            state.last = Some(last.clone());
            if checked_in.is_ok() {
                state.last_notice = state.last_notice.max(asked.notice);
            }
        })?;
        tell(ended);
        checked_in?;
        Ok(Outcome::Ended(last))
    }

    /// Takes settings files alone, without a word to the relay of it.
    pub(super) async fn take_files(
        &self,
        told: &Told,
        tell: &mut Tell<'_>,
    ) -> Result<Result<(), String>, FolderError> {
        let _turn = self.turn.lock().await;
        let asking = Asking { relay: &self.settings.relay, shows: self.shows(), own_proxy: None };
        let taken = files::take(&self.client, &self.folder, &told.agent_settings, asking, tell).await;
        if taken.is_ok() {
            self.remember(|state| state.last_settings = Some(self.clock.wall()))?;
        }
        Ok(taken.map(drop))
    }

    async fn check_in(&self, asked: Asked, tell: &mut Tell<'_>) -> Result<Told, UpdateError> {
        self.look_at_certificate(tell).await?;
        tell(Progress::CheckIn { why: asked.why });
        let installed = self.installed()?;
        let (versions, since) = (installed.versions(), installed.since());
        let says = ChecksIn {
            why: asked.why,
            roaming: self.settings.roaming,
            schedule_enabled: self.state().schedule_enabled,
            versions: &versions,
            since: &since,
            addresses: addresses(),
            notice: asked.notice,
        };
        let relay = self.relay();
        let told = relay.check_in(&says).await;
        if let Err(error) = &told {
            self.was_refused(&relay.shows, error)?;
        }
        let told = told?;
        self.remember(|state| state.told = Some(told.clone()))?;
        if let Some(unsent) = self.state().unsent
            && relay.report(&unsent).await.is_ok()
        {
            self.remember(|state| state.unsent = None)?;
        }
        Ok(told)
    }

    async fn updated(
        self: &Arc<Self>,
        asked: Asked,
        told: Told,
        tell: &mut Tell<'_>,
    ) -> Result<(Went, String, Option<Url>, u64), UpdateError> {
        let own_proxy = asked.why == Why::UpdateNow && told.may.own_proxy;
        let (came, failures) = (HashMap::new(), Vec::new());
        let mut update = Update { ground: self, asked, told, own_proxy, came, failures, changed: false };
        update.run(tell).await?;
        let result = match (update.failures.is_empty(), update.changed) {
            (false, _) => Went::Failed,
            (true, true) => Went::Updated,
            (true, false) => Went::UpToDate,
        };
        let plain = |char: char| if char.is_control() { ' ' } else { char };
        let detail = update.failures.join("; ").chars().map(plain).take(DETAIL_CHARS_MAX).collect();
        let source = update.came.iter().max_by_key(|(_, bytes)| **bytes).map(|(url, _)| url.clone());
        Ok((result, detail, source, update.came.values().sum()))
    }

    /// Tells the relay, now or after the next check-in.
    async fn report(&self, report: Report) -> Result<(), UpdateError> {
        match self.relay().report(&report).await {
            Ok(()) => {}
            // Who is known by its address alone has nobody to report as.
            Err(_) if !self.is_known() => {}
            Err(error) => {
                warn!(%error, "the relay was not told how the update went: it will be after the next check-in");
                self.remember(|state| state.unsent = Some(report))?;
            }
        }
        Ok(())
    }
}

impl Update<'_> {
    async fn run(&mut self, tell: &mut Tell<'_>) -> Result<(), UpdateError> {
        let mut installed = self.ground.installed()?;
        if self.asked.takes != Takes::AgentSettings {
            match self.components(&installed, tell).await {
                Ok(Some(now)) => {
                    tell(Progress::Installed { number: now.number });
                    (installed, self.changed) = (now, true);
                }
                Ok(None) => {}
                Err(reason) => self.failures.push(reason),
            }
            self.apply(&installed, tell).await?;
            self.scan(&installed, tell).await?;
        }
        if self.asked.takes != Takes::Components {
            let (ground, asking) = (self.ground, self.asking());
            let told = &self.told.agent_settings;
            match files::take(&ground.client, &ground.folder, told, asking, tell).await {
                Ok(changed) => {
                    self.changed |= changed > 0;
                    let now = ground.clock.wall();
                    ground.remember(|state| state.last_settings = Some(now))?;
                }
                Err(reason) => self.failures.push(reason),
            }
        }
        Ok(())
    }

    pub(super) fn asking(&self) -> Asking<'_> {
        let own_proxy = self.ground.own_proxy.as_ref().filter(|_| self.own_proxy);
        Asking { relay: &self.ground.settings.relay, shows: self.ground.shows(), own_proxy }
    }
}
