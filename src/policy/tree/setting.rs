//! The settings of the agent tree: one table of names, types and defaults, and what follows from it (R5.2, R6 to R9).
//!
//! [`Values`] is what stands at one node, [`Resolved`] what holds somewhere once all nodes above are counted. Invariant: a
//! setting has the same name in the table, in files and in what administrators are told.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::scope::Scope;
use crate::policy::tree::compiled::Effective;
use crate::policy::tree::schedule::Schedule;
use crate::policy::tree::value::{Enforce, Rate, Roaming, Switch, ZoneName};

macro_rules! settings {
    ($( $(#[$doc:meta])+ $variant:ident $field:ident: $kind:ty = $default:expr; )+) => {
        /// A setting of the agent tree.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Setting {
            $( $(#[$doc])+ $variant, )+
        }

        impl Setting {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($field)),+].len()] = [$(Self::$variant),+];

            /// Its name in files and in what administrators are told.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($field), )+ }
            }
        }

        /// What is set at one node; `None` where nothing is, and what stands above holds.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Values {
            $(
                $(#[$doc])+
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$kind>,
            )+
        }

        impl Values {
            /// Whether a value is there.
            pub fn holds(&self, setting: Setting) -> bool {
                match setting { $( Setting::$variant => self.$field.is_some(), )+ }
            }

            /// Takes over what another node has of a setting, or that it has nothing.
            pub fn copy(&mut self, setting: Setting, from: &Self) {
                match setting { $( Setting::$variant => self.$field.clone_from(&from.$field), )+ }
            }

            /// Takes a value away.
            pub fn clear(&mut self, setting: Setting) {
                match setting { $( Setting::$variant => self.$field = None, )+ }
            }
        }

        /// A value for each setting.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Resolved {
            $( $(#[$doc])+ pub $field: $kind, )+
        }

        /// What holds where nothing is set.
        impl Default for Resolved {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl Resolved {
            /// The same with what is set at a node below.
            #[must_use]
            pub fn overlaid(&self, values: &Values) -> Self {
                Self { $( $field: values.$field.as_ref().unwrap_or(&self.$field).clone(), )+ }
            }

            /// The same as values, each of which is there.
            pub fn values(&self) -> Values {
                Values { $( $field: Some(self.$field.clone()), )+ }
            }
        }

        impl<'a> Effective<'a> {
            $(
                $(#[$doc])+
                pub fn $field(&self) -> &'a $kind {
                    self.own.and_then(|own| own.$field.as_ref()).unwrap_or(&self.inherited.$field)
                }
            )+
        }
    };
}

settings! {
    /// What the agent may update (R6). Default: all, as where there is no agent tree; who is not in the tree at all is refused.
    Scope scope: Scope = Scope::All;
    /// Whether the agent's schedule runs. Default: on, since an agent without updates protects nobody.
    ScheduledUpdates scheduled_updates: Switch = Switch::On;
    /// When it runs (R9.2). Default: each hour, which finds what an upstream publishes several times a day.
    Schedule schedule: Schedule = Schedule::default();
    /// The time zone of daily and weekly schedules. Default: UTC, the same everywhere.
    TimeZone time_zone: ZoneName = ZoneName::utc();
    /// Whether agents may update from the `ActiveUpdate` server where customised sources and the relay fail (R7.1). Default:
    /// off, so that no agent leaves the relay unless somebody says so.
    FallbackToActiveupdate fallback_to_activeupdate: Switch = Switch::Off;
    /// Whether the relay is a source of components (R7.1). Default: on.
    RelayServesComponents relay_serves_components: Switch = Switch::On;
    /// Whether the relay is a source of agent settings (R7.1). Default: on.
    RelayServesSettings relay_serves_settings: Switch = Switch::On;
    /// Whether the relay is a source of programs and hot fixes (R7.1). Default: on.
    RelayServesPrograms relay_serves_programs: Switch = Switch::On;
    /// The privilege *Update Now* (R8.1). Default: off, like each privilege.
    UpdateNow update_now: Switch = Switch::Off;
    /// The privilege *Proxy settings* (R8.2): it counts during Update Now alone.
    ProxySettings proxy_settings: Switch = Switch::Off;
    /// The privilege *Enable/disable schedule* (R8.3): it exists only where scheduled updates are on.
    ToggleSchedule toggle_schedule: Switch = Switch::Off;
    /// Whether the agent gets packages only after it has checked in (R8). Default: report, since agents that do not check in
    /// would get none.
    Enforce enforce: Enforce = Enforce::Report;
    /// Requests that the agent may send in a second (R10.1). Default: as many as come.
    RequestsPerSec requests_per_sec: Rate = Rate::Unlimited;
    /// Bytes that the agent may be sent in a second (R10.1). Default: as many as the line carries.
    BytesPerSec bytes_per_sec: Rate = Rate::Unlimited;
    /// Requests that all of a domain may send in a second together (R10.1); of no effect at an agent. Default: as many as come.
    DomainRequestsPerSec domain_requests_per_sec: Rate = Rate::Unlimited;
    /// Bytes that all of a domain may be sent in a second together, in equal shares (R10.1); at an agent it has no effect.
    /// Default: as many as the line carries.
    DomainBytesPerSec domain_bytes_per_sec: Rate = Rate::Unlimited;
    /// Bytes of programs and hot fixes that all of a domain may be sent in a second together (R10.1), within `domain_bytes_per_sec`;
    /// at an agent it has no effect. Default: as many as the line carries.
    DomainProgramBytesPerSec domain_program_bytes_per_sec: Rate = Rate::Unlimited;
    /// Whether the agent is told of each new generation at once (R9.1a). Default: on.
    UpdateOnGeneration update_on_generation: Switch = Switch::On;
    /// Whether the agent updates when it starts and connects, unless it is roaming (R9.1b). Default: on.
    UpdateOnStart update_on_start: Switch = Switch::On;
    /// Whether the agent scans after an update, unless it is roaming (R9.1c). Default: off, since a scan costs its user time.
    ScanAfterUpdate scan_after_update: Switch = Switch::Off;
    /// Who says that the agent is roaming (R9.1). Default: the agent.
    Roaming roaming: Roaming = Roaming::AsDeclared;
}

impl Values {
    /// The settings of which a value is there.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        Setting::ALL.into_iter().filter(|setting| self.holds(*setting))
    }

    /// Whether no value is there.
    pub fn is_empty(&self) -> bool {
        self.settings().next().is_none()
    }
}

impl Setting {
    /// Whether it says what a whole domain may have, so that it has no effect at an agent.
    pub fn is_of_domains(self) -> bool {
        matches!(self, Self::DomainRequestsPerSec | Self::DomainBytesPerSec | Self::DomainProgramBytesPerSec)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of settings; in files a list of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingSet(u32);

const _: () = assert!(Setting::ALL.len() <= 32, "a set has a bit for each setting");

impl SettingSet {
    /// Whether a setting belongs.
    pub fn holds(self, setting: Setting) -> bool {
        self.0 & bit(setting) != 0
    }

    /// Adds a setting.
    pub fn insert(&mut self, setting: Setting) {
        self.0 |= bit(setting);
    }

    /// Takes a setting away.
    pub fn remove(&mut self, setting: Setting) {
        self.0 &= !bit(setting);
    }

    /// Whether none belongs.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Those that belong.
    pub fn settings(self) -> impl Iterator<Item = Setting> {
        Setting::ALL.into_iter().filter(move |setting| self.holds(*setting))
    }
}

fn bit(setting: Setting) -> u32 {
    1 << setting as u32
}

impl FromIterator<Setting> for SettingSet {
    fn from_iter<I: IntoIterator<Item = Setting>>(settings: I) -> Self {
        let mut set = Self::default();
        settings.into_iter().for_each(|setting| set.insert(setting));
        set
    }
}

impl Serialize for SettingSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.settings())
    }
}

impl<'de> Deserialize<'de> for SettingSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Setting>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_one_name_everywhere_r5_2() {
        let all = serde_json::to_value(Resolved::default().values()).unwrap();
        assert_eq!(all.as_object().unwrap().len(), Setting::ALL.len());
        for setting in Setting::ALL {
            let name = setting.name();
            assert_eq!(serde_json::to_value(setting).unwrap(), name);
            let one: Values = serde_json::from_value(serde_json::json!({ name: all[name] })).unwrap();
            assert_eq!(one.settings().collect::<Vec<_>>(), [setting]);
        }
        assert!(serde_json::from_str::<Values>(r#"{"skope":"all"}"#).is_err());
    }

    #[test]
    fn a_set_holds_what_was_put_in_it() {
        let mut set: SettingSet = [Setting::Scope, Setting::Roaming].into_iter().collect();
        set.remove(Setting::Scope);
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["roaming"]"#);
        assert_eq!(serde_json::from_str::<SettingSet>(r#"["roaming"]"#).unwrap(), set);
    }
}
