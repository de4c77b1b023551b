//! `POST /api/v1/agent/check-in`: what holds for an agent, where it may update from, and whether it may now (R5.2, R7, R8). The same
//! without the last: `GET /api/v1/agent/settings`.
//!
//! Whether it may is the policy's to say. Invariant: all that one answer says is of one moment of the agent tree.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tracing::info;
use url::Url;

use crate::base::tally::{Outcome, RefusedBy};
use crate::config::settings::Upstream;
use crate::http::agents::answer::json;
use crate::http::agents::{Calling, Served, files};
use crate::http::respond::Failure;
use crate::net::listen::Transport;
use crate::policy::caller::{Caller, Who};
use crate::policy::check_in::{CheckIn, Denied, Why};
use crate::policy::decide::Refusal;
use crate::policy::sources::{self, Addresses, Customised, Families, Kind, Offer, Reason, Source, sources};
use crate::policy::tree::compiled::{Compiled, Effective};
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::setting::Values;
use crate::policy::tree::value::Switch;
use crate::relay::agents::check_in::{Has, Since, VERSIONS_MAX, Versions};
use crate::relay::refresh::MANIFEST;
use crate::relay::tree::Tree;

/// What an agent says that checks in.
#[derive(Deserialize)]
struct ChecksIn {
    /// Why it wants to update.
    why: Why,
    /// Whether it is roaming.
    #[serde(default = "off")]
    roaming: Switch,
    /// How its user has switched scheduled updates.
    #[serde(default = "on")]
    schedule_enabled: Switch,
    /// What it has.
    #[serde(default)]
    versions: Versions,
    /// Since when, of as many of them as it knows.
    #[serde(default)]
    since: Since,
    /// The addresses that it has besides the one that it calls from.
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

/// What it is told.
#[derive(Serialize)]
struct Told<'t> {
    agent: Option<&'t AgentId>,
    domain: Option<String>,
    /// For how long it may take packages; `None` where it may not, or where that is not asked of it.
    permission_secs: Option<u64>,
    denied: Option<String>,
    settings: Values,
    may: May,
    schedule_runs: bool,
    scan_after_update: bool,
    trees: Vec<ToldTree>,
    agent_settings: AgentSettings,
}

/// What its user may do.
#[derive(Serialize)]
struct May {
    update_now: bool,
    own_proxy: bool,
    toggle_schedule: bool,
}

#[derive(Serialize)]
struct ToldTree {
    name: String,
    /// Of this relay, relative to its own address.
    manifest: String,
    generation: Option<u64>,
    components: Vec<ToldSource>,
    programs: Vec<ToldSource>,
}

#[derive(Serialize)]
struct AgentSettings {
    sources: Vec<ToldSource>,
    files: Vec<files::Told>,
}

/// A source and why it is told.
#[derive(Serialize)]
struct ToldSource {
    url: Url,
    reason: &'static str,
    /// The entry of the customised list.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    /// The proxy by which it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    through: Option<Url>,
}

/// Addresses that an agent may name: those of a machine with several networks.
const ADDRESSES_MAX: usize = 16;

/// Bytes of a component's name and of its version.
const VERSION_BYTES_MAX: usize = 128;

fn off() -> Switch {
    Switch::Off
}

fn on() -> Switch {
    Switch::On
}

/// What an agent has, where it is within the bounds.
pub(super) fn checked(versions: Versions, since: Since) -> Result<Has, Failure> {
    let short = |text: &str| text.len() <= VERSION_BYTES_MAX;
    if versions.len() <= VERSIONS_MAX && versions.iter().all(|(name, version)| short(name) && short(version))
    {
        if since.keys().any(|name| !versions.contains_key(name)) {
            return Err(Failure::Body("since: names a component that versions does not".into()));
        }
        return Ok(Has { versions, since });
    }
    Err(Failure::Body(format!(
        "versions: at most {VERSIONS_MAX}, names and versions of {VERSION_BYTES_MAX} bytes"
    )))
}

impl Calling<'_> {
    pub(super) async fn check_in(&self, body: Incoming) -> Served {
        let Some(caller) = self.caller else { return Err(Refusal::Unnamed.into()) };
        let says: ChecksIn = self.read(body).await?;
        let has = checked(says.versions, says.since)?;
        if says.addresses.len() > ADDRESSES_MAX {
            return Err(Failure::Body(format!("addresses: at most {ADDRESSES_MAX}")));
        }
        let tree = self.live.agents.tree();
        let tree: &Compiled = &tree;
        let streams = &self.agent.worker.streams;
        let told = caller.agent().is_some_and(|agent| streams.told(agent).is_some());
        let check_in =
            CheckIn { why: says.why, roaming: says.roaming, schedule: says.schedule_enabled, told };
        let effective = effective(tree, caller).ok_or(Refusal::Secret)?;
        let admitted = match caller.agent() {
            Some(id) => {
                let lasts = self.live.permission;
                let now = self.moment();
                let admitted = self.live.agents.check_in(id, &effective, check_in, has, now, lasts);
                streams.checked_in(*id);
                admitted
            }
            // What cannot be told from its neighbours is told what holds, and remembered by nobody.
            None => effective.admits(check_in),
        };
        let addresses = addresses(self.from(), &says.addresses);
        let told = Told {
            permission_secs: caller
                .agent()
                .filter(|_| admitted.is_ok())
                .map(|_| self.live.permission.as_secs()),
            denied: admitted.err().map(|denied| denied.to_string()),
            ..self.told(caller, tree, effective, says.roaming, says.schedule_enabled, addresses)
        };
        match admitted {
            Ok(()) => Ok(json(StatusCode::OK, &told)),
            Err(denied) => {
                self.refused(caller, check_in, denied);
                let (response, _) = json(StatusCode::FORBIDDEN, &told);
                Ok((response, Outcome::Refused))
            }
        }
    }

    /// What holds, for who only wants to know.
    pub(super) fn settings(&self) -> Served {
        let Some(caller) = self.caller else { return Err(Refusal::Unnamed.into()) };
        let tree = self.live.agents.tree();
        let tree: &Compiled = &tree;
        let effective = effective(tree, caller).ok_or(Refusal::Secret)?;
        let said = caller
            .agent()
            .and_then(|agent| self.live.agents.seen().look(agent, |heard| (heard.roaming, heard.schedule)));
        let (roaming, schedule) = said.unwrap_or((Switch::Off, Switch::On));
        let addresses = addresses(self.from(), &[]);
        Ok(json(StatusCode::OK, &self.told(caller, tree, effective, roaming, schedule, addresses)))
    }

    /// What holds for whoever calls and says this of itself.
    fn told<'t>(
        &self,
        caller: &'t Caller,
        tree: &'t Compiled,
        effective: Effective<'t>,
        roaming: Switch,
        schedule: Switch,
        addresses: Addresses,
    ) -> Told<'t> {
        let mut settings = effective.values();
        settings.scope = Some(caller.scope());
        let domain = domain(tree, caller);
        Told {
            agent: caller.agent(),
            domain: domain.map(|domain| tree.tree().path(domain)),
            permission_secs: None,
            denied: None,
            settings,
            may: May {
                update_now: effective.update_now().is_on(),
                own_proxy: effective.may_use_own_proxy(),
                toggle_schedule: effective.may_toggle_schedule(),
            },
            schedule_runs: effective.runs_schedule(schedule),
            scan_after_update: effective.scans_after_update(roaming),
            trees: self.trees(tree.tree().customised(), effective, addresses),
            agent_settings: AgentSettings {
                sources: self.settings_sources(tree.tree().customised(), effective, addresses),
                files: if caller.is_served(Kind::AgentSettings) {
                    files::told(tree.tree(), domain)
                } else {
                    Vec::new()
                },
            },
        }
    }

    fn refused(&self, caller: &Caller, says: CheckIn, denied: Denied) {
        self.agent.worker.tally.refused_by(RefusedBy::Permission);
        let id = caller.agent().map(AgentId::as_str);
        info!(agent = %self.agent.address, id, why = ?says.why, reason = %denied, "an agent may not update now");
    }

    fn trees(&self, customised: &Customised, effective: Effective<'_>, agent: Addresses) -> Vec<ToldTree> {
        let told = |(base, tree): &(Box<str>, Arc<Tree>)| {
            let offer = self.offer(base, tree);
            let of = |kind| told(&sources(customised, &offer, effective, agent, kind));
            ToldTree {
                name: tree.name.to_string(),
                manifest: format!("{base}{MANIFEST}"),
                generation: tree.snapshot().map(|snapshot| snapshot.current().generation.number().0),
                components: of(Kind::Components),
                programs: of(Kind::Programs),
            }
        };
        self.live.trees.iter().map(told).collect()
    }

    fn settings_sources(
        &self,
        customised: &Customised,
        effective: Effective<'_>,
        agent: Addresses,
    ) -> Vec<ToldSource> {
        let api = self.own().and_then(|own| source(own.join("/api/v1/agent/files").ok()?));
        let offer = Offer { relay: api.into_iter().collect(), ..Offer::default() };
        told(&sources(customised, &offer, effective, agent, Kind::AgentSettings))
    }

    /// What there is besides the customised list: the relay as the agent has reached it, or as the settings say, and the upstream.
    fn offer(&self, base: &str, tree: &Tree) -> Offer {
        let settings = tree.settings();
        let public = settings.public_base.as_ref().and_then(|base| Url::parse(base.as_str()).ok());
        let own = public.or_else(|| self.own());
        let upstream = match &settings.upstream {
            Upstream::Urls(urls) => urls.iter().cloned().filter_map(source).collect(),
            Upstream::Directory(_) => Vec::new(),
        };
        let relay = own.as_ref().and_then(|own| source(own.join(base).ok()?));
        let proxy = self.own().and_then(source);
        Offer { relay: relay.into_iter().collect(), upstream, proxy: proxy.into_iter().collect() }
    }

    /// The relay's own address, as the agent has reached it.
    fn own(&self) -> Option<Url> {
        let scheme = if self.agent.transport == Transport::Tls { "https" } else { "http" };
        // A URL has no place for the zone of a link-local address.
        let address = SocketAddr::new(self.agent.local.ip(), self.agent.local.port());
        Url::parse(&format!("{scheme}://{address}/")).ok()
    }
}

fn source(url: Url) -> Option<Source> {
    Source::new(url, Families::Both).ok()
}

fn told(sources: &[sources::Told<'_>]) -> Vec<ToldSource> {
    let told = |source: &sources::Told<'_>| {
        let (reason, range, through) = match source.reason {
            Reason::Customised(range) => ("customised", Some(range.to_string()), None),
            Reason::Relay => ("relay", None, None),
            Reason::Upstream => ("upstream", None, None),
            Reason::UpstreamThrough(proxy) => ("upstream", None, Some(proxy.clone())),
        };
        ToldSource { url: source.url.clone(), reason, range, through }
    };
    sources.iter().map(told).collect()
}

fn effective<'t>(tree: &'t Compiled, caller: &Caller) -> Option<Effective<'t>> {
    match caller.who() {
        Who::Agent(id) => tree.agent(&id),
        Who::Domain(domain) => tree.domain(domain),
        Who::Address => Some(tree.root()),
    }
}

fn domain(tree: &Compiled, caller: &Caller) -> Option<DomainId> {
    match caller.who() {
        Who::Agent(id) => tree.tree().agent(&id).map(|agent| agent.domain),
        Who::Domain(domain) => Some(domain),
        Who::Address => None,
    }
}

/// The addresses that an agent has: it is believed of the family that it does not call with.
fn addresses(from: IpAddr, more: &[IpAddr]) -> Addresses {
    let mut all = Addresses::from(from);
    for address in more {
        match Addresses::from(*address) {
            Addresses { v4: Some(v4), .. } => drop(all.v4.get_or_insert(v4)),
            Addresses { v6: Some(v6), .. } => drop(all.v6.get_or_insert(v6)),
            Addresses { v4: None, v6: None } => {}
        }
    }
    all
}
