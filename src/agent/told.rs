//! What a relay tells an agent, as the agent reads it: fields that it does not know are passed over, so that it can speak to newer
//! relays, and those that older relays leave out have defaults.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::base::blob::BlobId;
use crate::base::tree::TreeName;
use crate::policy::scope::Scope;
use crate::policy::tree::file::FileName;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::schedule::Schedule;
use crate::policy::tree::value::{Switch, ZoneName};

/// What holds for the agent, and where it may update from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its id; `None` where the relay knows it by its address alone.
    #[serde(default)]
    pub agent: Option<AgentId>,
    /// The path of its domain.
    #[serde(default)]
    pub domain: Option<String>,
    /// Why it may not update now, where it may not.
    #[serde(default, skip_serializing)]
    pub denied: Option<String>,
    /// Its effective settings.
    pub settings: Held,
    /// What its user may do.
    #[serde(default)]
    pub may: May,
    /// Whether it scans after an update.
    #[serde(default)]
    pub scan_after_update: bool,
    /// The trees that it may take components of.
    #[serde(default)]
    pub trees: Vec<ToldTree>,
    /// The settings files.
    #[serde(default)]
    pub agent_settings: ToldFiles,
}

/// The effective settings that an agent follows by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What it may update.
    pub scope: Scope,
    /// Whether its schedule runs.
    #[serde(default = "on")]
    pub scheduled_updates: Switch,
    /// When.
    #[serde(default)]
    pub schedule: Schedule,
    /// By which clock.
    #[serde(default)]
    pub time_zone: Option<ZoneName>,
}

/// The privileges (R8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct May {
    /// Update Now.
    #[serde(default)]
    pub update_now: bool,
    /// The user's own proxy, during Update Now.
    #[serde(default)]
    pub own_proxy: bool,
    /// Switch the schedule off and on.
    #[serde(default)]
    pub toggle_schedule: bool,
}

/// A tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldTree {
    /// What it is called.
    pub name: TreeName,
    /// Where to take patterns, engines and drivers from, in order.
    #[serde(default)]
    pub components: Vec<ToldSource>,
    /// The same for hot fixes and programs.
    #[serde(default)]
    pub programs: Vec<ToldSource>,
}

/// Settings files, and where to take them from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldFiles {
    /// In order.
    #[serde(default)]
    pub sources: Vec<ToldSource>,
    /// Those that hold for the agent.
    #[serde(default)]
    pub files: Vec<ToldFile>,
}

/// A place to update from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldSource {
    /// Where, with `/` at its end for a tree.
    pub url: Url,
    /// Why it is told.
    pub reason: Reason,
    /// The proxy by which it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Url>,
}

/// Why a source is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The customised list names it.
    Customised,
    /// It is the relay.
    Relay,
    /// It is the relay's upstream.
    Upstream,
    /// What newer relays may say.
    #[serde(other)]
    Other,
}

/// A settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldFile {
    /// Its name.
    pub name: FileName,
    /// Counted from 1.
    pub version: u32,
    /// How many bytes it has.
    pub bytes: u64,
    /// Their hash.
    pub hash: BlobId,
}

impl Told {
    /// Whether scheduled updates run, where the user has switched them so: without the privilege the switch is void (R8.3).
    pub fn runs_schedule(&self, switched: Switch) -> bool {
        self.settings.scheduled_updates.is_on() && (switched.is_on() || !self.may.toggle_schedule)
    }
}

fn on() -> Switch {
    Switch::On
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_newer_relays_add_is_passed_over_and_what_older_ones_lack_has_defaults() {
        let told: Told = serde_json::from_value(serde_json::json!({
            "agent": "pc-1", "tomorrow": 1,
            "settings": { "scope": "patterns", "colour": "blue" },
            "trees": [{ "name": "activeupdate", "manifest": "/a/server.ini", "components": [
                { "url": "http://r/a/", "reason": "relay" },
                { "url": "http://x/a/", "reason": "moon", "through": "http://r/" }
            ]}]
        }))
        .unwrap();
        assert_eq!(told.settings.schedule, Schedule::default());
        assert!(told.runs_schedule(Switch::Off), "without the privilege the switch is void");
        let reasons: Vec<_> = told.trees[0].components.iter().map(|source| source.reason).collect();
        assert_eq!(reasons, [Reason::Relay, Reason::Other]);
        let kept: Told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(kept, told);
    }

    #[test]
    fn a_users_switch_counts_with_the_privilege_alone_r8_3() {
        let told = |enabled: bool, privilege: bool| -> Told {
            serde_json::from_value(serde_json::json!({
                "settings": { "scope": "all", "scheduled_updates": enabled },
                "may": { "toggle_schedule": privilege }
            }))
            .unwrap()
        };
        assert!(told(true, true).runs_schedule(Switch::On) && !told(true, true).runs_schedule(Switch::Off));
        assert!(told(true, false).runs_schedule(Switch::Off));
        assert!(!told(false, false).runs_schedule(Switch::On));
    }
}
