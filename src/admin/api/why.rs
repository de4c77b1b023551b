//! `GET /api/v1/agents/{agent}/why`: what an agent would be answered for a path, and why (R11.2).
//!
//! Decides nothing: [`decision`] and the policy do, as for a request of the agent itself. Never fetches, pins or counts. Invariant: the
//! step that a request does not get past is the last one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::{Json, extract};
use url::Url;

use crate::admin::State;
use crate::admin::api::blocking;
use crate::admin::api::watch::refusal;
use crate::admin::document::{Missing, OfAgent, Unprocessable};
use crate::admin::model::watch::Refusal;
use crate::admin::model::why::{About, Step, Verdict, Why, WhyAsked};
use crate::admin::problem::Problem;
use crate::base::destination::Destination;
use crate::base::path::{PathError, TreePath};
use crate::config::elsewhere::MountSettings;
use crate::http::route::Toward;
use crate::policy::caller::{Caller, Who};
use crate::policy::decide::{Permission, Refusal as Refused};
use crate::policy::reach::Way;
use crate::policy::sources::Kind;
use crate::policy::tree::compiled::Compiled;
use crate::policy::tree::explain::SetBy;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::setting::Setting;
use crate::policy::tree::value::Rate;
use crate::policy::tree::{Agent, Node};
use crate::relay::agents::check_in::Heard;
use crate::relay::decision::{self, Decision, Named, Supply};
use crate::relay::entry::Entry;
use crate::relay::generation::Listed;
use crate::relay::live::{Live, Standing};
use crate::relay::refusals;
use crate::relay::snapshot::Snapshot;
use crate::relay::tree::Tree;

/// Refusals that are told.
const REFUSALS_MAX: usize = 5;

/// What an agent would be answered for a path now, and why. Nothing is fetched or changed for it.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/why", tag = "agents", operation_id = "explain_answer", params(OfAgent, WhyAsked),
    responses((status = 200, description = "What it would be answered, and why.", body = Why), Missing, Unprocessable))]
pub async fn show(
    extract::State(state): extract::State<State>,
    Path(agent): Path<AgentId>,
    Query(asked): Query<WhyAsked>,
) -> Result<Json<Why>, Problem> {
    let live = state.live.load_full();
    blocking(move || {
        let tree = live.agents.state().current();
        let known = tree.tree().agent(&agent);
        let known = known.ok_or_else(|| Problem::missing(format!("there is no agent '{agent}'")))?;
        let Meant { path, toward, place } = Meant::of(&live, &asked.path)?;
        let asking = Asking {
            live: &live,
            tree: &tree,
            id: agent,
            agent: known,
            toward,
            heard: live.agents.seen().heard(&agent),
            now: state.resources.clock.monotonic(),
        };
        let mut steps = Vec::new();
        let verdict = asking.decide(&place, &mut steps);
        let refusals = asking.refusals(&state, &path);
        Ok(Json(Why { agent, path, verdict, steps, refusals }))
    })
    .await?
}

/// What a text means here.
struct Meant<'l> {
    /// In one form: a path of the relay, a URL, or HOST:PORT.
    path: String,
    /// Whom a request is for that names it so.
    toward: Toward,
    /// What is there; where nothing is, why.
    place: Result<Place<'l>, String>,
}

enum Place<'l> {
    Manifest(&'l Tree),
    File(&'l Tree, TreePath),
    Mount(&'l MountSettings),
    Elsewhere(Destination, Way),
}

impl<'l> Meant<'l> {
    fn of(live: &'l Live, text: &str) -> Result<Self, Problem> {
        let wrong = |what: &dyn std::fmt::Display| Problem::unprocessable(format!("path: {what}"));
        // The log shows a path that began with a token so.
        let text = text.strip_prefix("/t/.").unwrap_or(text);
        if text.starts_with('/') {
            return Self::here(live, text.to_owned()).map_err(|error| wrong(&error));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text).map_err(|error| wrong(&error))?;
            let host = Destination::of(&url).ok_or_else(|| wrong(&"the URL has no host"))?;
            let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy();
            if live.own.contains(&host) {
                return Self::here(live, path.into_owned()).map_err(|error| wrong(&error));
            }
            let meant = match live.here(url.scheme(), &host, &path) {
                Some(path) => Self::here(live, path).map_err(|error| wrong(&error))?,
                None => Self::elsewhere(text.to_owned(), host, Way::Request),
            };
            return Ok(Self { toward: Toward::Other, ..meant });
        }
        if let Ok(to) = Destination::parse(text) {
            return Ok(Self::elsewhere(to.to_string(), to, Way::Tunnel));
        }
        match &live.trees[..] {
            [(base, _)] => Self::here(live, format!("{base}{text}")).map_err(|error| wrong(&error)),
            _ => Err(wrong(&format_args!("it does not begin with a tree's: {}", bases(live)))),
        }
    }

    fn here(live: &'l Live, path: String) -> Result<Self, PathError> {
        let place = match live.find(&path) {
            Some((Standing::Tree(tree), rest)) => match Named::parse(rest)? {
                Named::Manifest => Ok(Place::Manifest(tree)),
                Named::File(path) => Ok(Place::File(tree, path)),
                Named::Nothing => Err("no tree has a file of this name".to_owned()),
            },
            Some((Standing::Mount(mount), _)) => Ok(Place::Mount(mount)),
            None => Err(format!("nothing of the relay's begins so: its trees are at {}", bases(live))),
        };
        Ok(Self { path, toward: Toward::Relay, place })
    }

    fn elsewhere(path: String, to: Destination, way: Way) -> Self {
        Self { path, toward: Toward::Other, place: Ok(Place::Elsewhere(to, way)) }
    }
}

fn bases(live: &Live) -> String {
    let bases: Vec<_> = live.trees.iter().map(|(base, _)| &**base).collect();
    bases.join(", ")
}

/// An agent that would ask now.
struct Asking<'l> {
    live: &'l Live,
    tree: &'l Compiled,
    id: AgentId,
    agent: &'l Agent,
    toward: Toward,
    heard: Option<Heard>,
    now: Duration,
}

/// Notes what is so and lets a request pass.
fn pass(steps: &mut Vec<Step>, about: About, says: impl Into<String>) {
    steps.push(Step { about, says: says.into(), passes: true });
}

/// Notes what is so and ends a request.
fn stop(steps: &mut Vec<Step>, about: About, says: impl Into<String>, verdict: Verdict) -> Verdict {
    steps.push(Step { about, says: says.into(), passes: false });
    verdict
}

impl Asking<'_> {
    /// What a request comes to; tells each step to it.
    fn decide(&self, place: &Result<Place<'_>, String>, steps: &mut Vec<Step>) -> Verdict {
        pass(steps, About::Agent, self.who());
        pass(steps, About::CheckIn, self.check_in());
        // What nothing stands for is not there for anybody: it is not asked who calls.
        let place = match place {
            Ok(place) => place,
            Err(says) => return stop(steps, About::Path, says, Verdict::Missing),
        };
        // What an agent may have does not depend on where it calls from.
        let address = self.heard.as_ref().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |heard| heard.from);
        let caller = match self.live.policy.again(self.tree, Who::Agent(self.id), address) {
            Ok(caller) if self.toward == Toward::Other => caller.toward_upstream(),
            Ok(caller) => caller,
            Err(refusal) => return self.refused(&refusal, steps),
        };
        pass(steps, About::Scope, format!("scope '{}', {}", caller.scope(), self.set_by(Setting::Scope)));
        if caller.is_limited() {
            pass(steps, About::Limits, self.limits());
        }
        match place {
            Place::Manifest(tree) => self.manifest(tree, &caller, steps),
            Place::File(tree, path) => self.file(tree, path, &caller, steps),
            Place::Mount(mount) => {
                pass(steps, About::Path, format!("a mount that stands for {}", mount.upstream));
                let Some(to) = Destination::of(&mount.upstream) else {
                    return stop(steps, About::Path, "the mount leads nowhere", Verdict::Missing);
                };
                self.forwarded(self.live.policy.reach_mount(&caller, to, mount.scope), steps)
            }
            Place::Elsewhere(to, way) => {
                let how = if *way == Way::Tunnel { "a tunnel to" } else { "something of another server," };
                pass(steps, About::Path, format!("{how} {to}"));
                self.forwarded(self.live.policy.reach(&caller, to, *way), steps)
            }
        }
    }

    fn manifest(&self, tree: &Tree, caller: &Caller, steps: &mut Vec<Step>) -> Verdict {
        pass(steps, About::Path, format!("the manifest of the tree '{}'", tree.name));
        if let Err(refusal) = decision::of_manifest(self.live, caller) {
            return self.refused(&refusal, steps);
        }
        pass(steps, About::Policy, format!("allowed: it names what the scope '{}' sees", caller.scope()));
        let Some(snapshot) = tree.snapshot() else { return not_ready(tree, steps) };
        let number = snapshot.current().generation.number();
        pass(steps, About::Generation, format!("the current generation is {number}"));
        Verdict::Served
    }

    fn file(&self, tree: &Tree, path: &TreePath, caller: &Caller, steps: &mut Vec<Step>) -> Verdict {
        let snapshot = tree.snapshot();
        let snapshot = snapshot.as_deref();
        let decided = decision::of_file(self.live, tree, snapshot, path, caller, self.now.as_secs());
        let Decision { listed, permission, said } = decided;
        let named = match listed {
            Some(listed) => described(listed),
            None => format!(
                "no kept generation of the tree '{}' names it: it counts as most restricted",
                tree.name
            ),
        };
        pass(steps, About::Path, named);
        if let Some((listed, snapshot)) = listed.zip(snapshot) {
            pass(steps, About::Generation, generation(snapshot, listed));
        }
        if let Err(refusal) = said {
            return self.refused(&refusal, steps);
        }
        pass(
            steps,
            About::Policy,
            match permission {
                Permission::Open => "allowed".to_owned(),
                Permission::Closed => format!(
                    "allowed without a permission, and counted: enforce is 'report', {}",
                    self.set_by(Setting::Enforce)
                ),
            },
        );
        if snapshot.is_none() {
            return not_ready(tree, steps);
        }
        let Some(listed) = listed else {
            return stop(steps, About::Store, "the relay has nothing of this name", Verdict::Missing);
        };
        self.supplied(tree, &listed.entry, steps)
    }

    fn supplied(&self, tree: &Tree, entry: &Entry, steps: &mut Vec<Step>) -> Verdict {
        let bytes = entry.size().map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let down = if tree.standing.is_upstream_down() { ", which could not be asked lately" } else { "" };
        match Supply::of(entry, self.now) {
            Supply::Held => {
                pass(steps, About::Store, format!("the store has it, {bytes} bytes"));
                Verdict::Served
            }
            Supply::UnderWay(done) => {
                pass(steps, About::Store, format!("it is being fetched: {done} of {bytes} bytes have come"));
                Verdict::Fetched
            }
            Supply::OnDemand => {
                let says =
                    format!("it is fetched from the upstream{down} when an agent asks for it, {bytes} bytes");
                pass(steps, About::Store, says);
                Verdict::Fetched
            }
            Supply::Failed(error) => stop(
                steps,
                About::Store,
                format!("it could not be fetched a moment ago: {error}"),
                Verdict::Failed,
            ),
            Supply::Absent => stop(steps, About::Store, "the upstream has no such file", Verdict::Missing),
        }
    }

    fn forwarded<T>(&self, reach: Result<T, Refused>, steps: &mut Vec<Step>) -> Verdict {
        if let Err(refusal) = reach {
            return self.refused(&refusal, steps);
        }
        pass(steps, About::Policy, "allowed; what the other server answers is not known here");
        Verdict::Forwarded
    }

    /// A refusal, with the setting that it follows from.
    fn refused(&self, refusal: &Refused, steps: &mut Vec<Step>) -> Verdict {
        let setting = match refusal {
            Refused::OutsideScope(_) | Refused::Tunnel(..) => Some(Setting::Scope),
            Refused::NotServed(Kind::Components) => Some(Setting::RelayServesComponents),
            Refused::NotServed(Kind::Programs) => Some(Setting::RelayServesPrograms),
            Refused::NotServed(Kind::AgentSettings) => Some(Setting::RelayServesSettings),
            Refused::NotPermitted => Some(Setting::Enforce),
            _ => None,
        };
        let says = match setting {
            Some(setting) => format!("refused: {refusal} ({setting} is {})", self.set_by(setting)),
            None => format!("refused: {refusal}"),
        };
        stop(steps, About::Policy, says, Verdict::Refused)
    }

    fn who(&self) -> String {
        let path = self.tree.tree().path(self.agent.domain);
        let keys = self.agent.keys.as_ref();
        let secret = keys.is_some_and(|keys| keys.secret.is_some());
        let certificate = keys.is_some_and(|keys| keys.certificate.is_some());
        let known = match (self.agent.is_revoked(), secret, certificate) {
            (true, ..) => "was revoked: nothing that it shows lets it in",
            (false, true, true) => "is known by its secret and its certificate",
            (false, true, false) => "is known by its secret",
            (false, false, true) => "is known by its certificate",
            (false, false, false) => {
                "has no key: until it enrols it counts as nobody, unless an authority of the settings vouches for its name"
            }
        };
        format!("'{}' belongs to the domain {path}; it {known}", self.id)
    }

    fn check_in(&self) -> String {
        let Some(heard) = &self.heard else {
            return "it has not checked in since the relay started".to_owned();
        };
        let denied =
            heard.denied.map(|denied| format!(" and was not to update: {denied}")).unwrap_or_default();
        let permitted = match heard.permitted_until_secs.saturating_sub(self.now.as_secs()) {
            0 => "no permission to take packages is open".to_owned(),
            secs => format!("its permission to take packages is open for {secs} s more"),
        };
        format!("it last checked in at {:.0} from {}{denied}; {permitted}", heard.at, heard.from)
    }

    /// What its requests and transfers have to wait for.
    fn limits(&self) -> String {
        let own = self.tree.agent(&self.id).map(|effective| effective.values()).unwrap_or_default();
        let domains =
            self.tree.domain(self.agent.domain).map(|effective| effective.values()).unwrap_or_default();
        let limits = [
            ("requests of its own", Setting::RequestsPerSec, own.requests_per_sec),
            ("bytes of its own", Setting::BytesPerSec, own.bytes_per_sec),
            ("requests of its domain", Setting::DomainRequestsPerSec, domains.domain_requests_per_sec),
            ("bytes of its domain", Setting::DomainBytesPerSec, domains.domain_bytes_per_sec),
            (
                "bytes of its domain's programs and hot fixes",
                Setting::DomainProgramBytesPerSec,
                domains.domain_program_bytes_per_sec,
            ),
        ];
        let told = limits.into_iter().filter_map(|(what, setting, rate)| match rate {
            Some(Rate::PerSec(rate)) => {
                Some(format!("{rate} {what} ({setting} is {})", self.set_by(setting)))
            }
            Some(Rate::Unlimited) | None => None,
        });
        format!("in a second, at most {}", told.collect::<Vec<_>>().join(", "))
    }

    /// What set a value that holds for the agent.
    fn set_by(&self, setting: Setting) -> String {
        let tree = self.tree.tree();
        // A domain's is the domain's, whatever stands at the agent.
        let node =
            if setting.is_of_domains() { Node::Domain(self.agent.domain) } else { Node::Agent(self.id) };
        match tree.set_by(&node, setting).unwrap_or(SetBy::Default) {
            SetBy::Default => "the default".to_owned(),
            SetBy::Root => "set at the root".to_owned(),
            SetBy::Domain(id) => format!("set at the domain {}", tree.path(id)),
            SetBy::Future(id) => format!("what the domain {} started with", tree.path(id)),
            SetBy::Agent => "set at the agent".to_owned(),
        }
    }

    /// The last refusals of the same request: as the agent, or as nobody from where it was last heard of.
    fn refusals(&self, state: &State, path: &str) -> Vec<Refusal> {
        let heard_from = self.heard.as_ref().map(|heard| heard.from);
        let is_like = |refusal: &refusals::Refusal| {
            let own = match &refusal.agent {
                Some(agent) => *agent == self.id,
                None => heard_from == Some(refusal.from.ip()),
            };
            own && refusal.is_of(path)
        };
        let last = state.resources.refusals.last(REFUSALS_MAX, is_like);
        last.into_iter().map(refusal).collect()
    }
}

fn not_ready(tree: &Tree, steps: &mut Vec<Step>) -> Verdict {
    let says = format!("the tree '{}' has no generation yet: the relay is fetching it", tree.name);
    stop(steps, About::Generation, says, Verdict::NotReady)
}

/// What a file is.
fn described(Listed { class, entry }: &Listed) -> String {
    let identity = entry.identity();
    let version = if identity.version.is_empty() { String::new() } else { format!(" {}", identity.version) };
    format!(
        "a {} of the component {}{version}, of the class {}, in the tree '{}'",
        identity.role.name(),
        identity.component,
        class.name(),
        identity.tree
    )
}

/// Which generation names a file.
fn generation(snapshot: &Snapshot, listed: &Listed) -> String {
    let mut generations = snapshot.published().iter().map(|published| &published.generation);
    let current = snapshot.current().generation.number();
    match generations.find(|generation| generation.names(&listed.entry)).map(|named| named.number()) {
        Some(number) if number != current => {
            format!(
                "generation {number} names it, which is kept for agents that began with it; the current one is {current}"
            )
        }
        _ => format!("the current generation, {current}, names it"),
    }
}
