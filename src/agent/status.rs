//! What an agent has and does, for its machine's people and programs, read from its folder whether it runs or not.

use jiff::Timestamp;
use serde::Serialize;
use url::Url;

use crate::agent::OpenError;
use crate::agent::folder::Place;
use crate::agent::identity::certificate;
use crate::agent::installed::Has;
use crate::agent::relay::Secret;
use crate::agent::state::{Last, UnderWay};
use crate::agent::told::May;
use crate::config::agent::Settings;
use crate::policy::scope::Scope;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::schedule::Schedule;

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether an agent works on the folder now.
    pub running: bool,
    /// Its relay.
    pub relay: Url,
    /// Its id; `None` where it is not enrolled.
    pub agent: Option<AgentId>,
    /// The last second of the certificate that it is known by; `None` where it has none.
    pub certificate_until: Option<Timestamp>,
    /// What the relay told last; `None` where it never did.
    pub told: Option<Holds>,
    /// The number of the set that is whole; 0 before there is one.
    pub number: u64,
    /// What is in it.
    pub components: Vec<Has>,
    /// The update under way.
    pub under_way: Option<UnderWay>,
    /// The last one that ended.
    pub last: Option<Last>,
    /// When the interval's next one is due.
    pub next: Option<Timestamp>,
}

/// What holds for the agent.
#[derive(Clone, Debug, Serialize)]
pub struct Holds {
    /// The path of its domain.
    pub domain: Option<String>,
    /// What it may update.
    pub scope: Scope,
    /// When it updates by itself or is told to.
    pub schedule: Schedule,
    /// Whether the schedule runs, its user's switch counted.
    pub schedule_runs: bool,
    /// What its user may do.
    pub may: May,
}

impl Status {
    /// Reads it.
    pub fn read(settings: &Settings, place: &Place, now: Timestamp) -> Result<Self, OpenError> {
        let state = place.state()?;
        let installed = place.installed()?;
        let running = place.is_busy();
        let agent = place.token()?.as_deref().map(Secret::parse).transpose()?.map(|secret| secret.agent());
        let agent = agent.or(state.told.as_ref().and_then(|told| told.agent));
        let certificate = certificate(settings, place)?;
        let id = agent.or(state.nameless);
        let next = id.and_then(|id| state.next(&id, now)).filter(|_| running);
        let told = state.told.map(|told| Holds {
            schedule_runs: told.runs_schedule(state.schedule_enabled),
            domain: told.domain,
            scope: told.settings.scope,
            schedule: told.settings.schedule,
            may: told.may,
        });
        Ok(Self {
            running,
            relay: settings.relay.clone(),
            agent,
            certificate_until: certificate.map(|certificate| certificate.until()),
            told,
            number: installed.number,
            components: installed.components,
            // Of an agent that was killed it is no longer.
            under_way: state.under_way.filter(|_| running),
            last: state.last,
            next,
        })
    }
}
