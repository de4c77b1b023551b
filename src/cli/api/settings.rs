//! `forebay settings`: what holds at the root, a domain or an agent, where it comes from, and how it is changed.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use crate::admin::model::settings::{ApplyTo, NodeSettings, RootSettingsChange, SettingsChange, Source};
use crate::cli::Failed;
use crate::cli::agree::Agreement;
use crate::cli::api::call::Api;
use crate::cli::api::place::Paths;
use crate::cli::api::values::{self, Assigned, allowed, default, described, setting, shown};
use crate::cli::api::{Asking, place};
use crate::cli::output::print;
use crate::cli::table::{Column, Table};
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::setting::{Setting, Values};

/// What is done.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "WHERE is root, domain:PATH such as domain:Branches/North, or agent:ID such as agent:pc-0421. The nearest holds: \
    an agent's own setting before its domain's, that before those of the domains above, that before the root's.\n\n\
    Example:\n  forebay settings set domain:Branches scope patterns\n  forebay settings show agent:pc-0421"
)]
pub enum Settings {
    /// List all settings, with what they may be and are by default.
    Names(Names),
    /// Show what holds somewhere, and what set it.
    Show(Show),
    /// Set a setting at the root, a domain or an agent.
    #[command(after_help = "Example:\n  forebay settings set root update_on_start false --apply-to all\n  \
        forebay settings set domain:Branches schedule '{ kind = \"daily\", at = \"02:30\", window_mins = 60 }'\n  \
        forebay settings set agent:pc-0421 scope all")]
    Set(Set),
    /// Take a setting away somewhere, so that what stands above holds again.
    #[command(after_help = "Example:\n  forebay settings clear agent:pc-0421 scope")]
    Clear(Clear),
}

/// Lists settings.
#[derive(Debug, Args)]
pub struct Names {}

/// Shows settings.
#[derive(Debug, Args)]
pub struct Show {
    /// Where: root, domain:PATH or agent:ID.
    #[arg(value_name = "WHERE", value_parser = Where::from_str)]
    at: Where,
    /// Only this one.
    #[arg(value_name = "NAME", value_parser = setting())]
    name: Option<Setting>,
    #[command(flatten)]
    asking: Asking,
}

/// Sets a setting.
#[derive(Debug, Args)]
pub struct Set {
    /// Where: root, domain:PATH or agent:ID.
    #[arg(value_name = "WHERE", value_parser = Where::from_str)]
    at: Where,
    /// The setting.
    #[arg(value_name = "NAME", value_parser = setting())]
    name: Setting,
    /// Its value.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    asking: Asking,
}

/// Clears settings.
#[derive(Debug, Args)]
pub struct Clear {
    /// Where: root, domain:PATH or agent:ID.
    #[arg(value_name = "WHERE", value_parser = Where::from_str)]
    at: Where,
    /// The settings.
    #[arg(value_name = "NAME", required = true, value_parser = setting())]
    names: Vec<Setting>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    asking: Asking,
}

/// Whom a change reaches, and whether somebody is asked.
#[derive(Debug, Args)]
pub struct How {
    /// Whom a change at the root reaches; it is needed there.
    #[arg(long, value_enum, value_name = "WHOM")]
    apply_to: Option<Whom>,
    #[command(flatten)]
    agreement: Agreement,
}

/// Whom a change at the root reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Whom {
    /// All agents: what domains and agents have of the setting is cleared.
    All,
    /// Domains that are made later: all that is there stays as it is.
    Future,
}

/// Where settings stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// At the root.
    Root,
    /// At a domain.
    Domain(DomainPath),
    /// At an agent.
    Agent(AgentId),
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "root" {
            return Ok(Self::Root);
        }
        match text.split_once(':') {
            Some(("domain", path)) => {
                Ok(Self::Domain(DomainPath::parse(path).map_err(|error| error.to_string())?))
            }
            Some(("agent", id)) => Ok(Self::Agent(AgentId::parse(id).map_err(|error| error.to_string())?)),
            _ => Err(
                "it is root, domain:PATH such as domain:Branches/North, or agent:ID such as agent:pc-0421"
                    .to_owned(),
            ),
        }
    }
}

impl Where {
    /// What the API has there.
    fn path(&self, api: &Api) -> Result<String, Failed> {
        Ok(match self {
            Self::Root => "root/settings".to_owned(),
            Self::Domain(path) => format!("domains/{}/settings", place::domain(api, path)?.id),
            Self::Agent(id) => format!("agents/{id}/settings"),
        })
    }
}

const NAMES: [Column; 4] =
    [Column::Words("name"), Column::Words("default"), Column::Words("allowed"), Column::Words("what it is")];

const SHOWN: [Column; 3] = [Column::Words("name"), Column::Words("value"), Column::Words("set by")];

impl Settings {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Names(Names {}) => {
                let mut table = Table::new(&NAMES, "");
                for setting in Setting::ALL {
                    table.row(&[setting.to_string(), default(setting), allowed(setting), described(setting)]);
                }
                table.print();
                Ok(())
            }
            Self::Show(command) => command.run(),
            Self::Set(command) => command.run(),
            Self::Clear(command) => command.run(),
        }
    }
}

impl Show {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let mut settings: NodeSettings = api.get(&self.at.path(&api)?)?;
        settings.effective.retain(|setting| self.name.is_none_or(|name| name == setting.name));
        self.asking.print(&settings, |settings| {
            let paths = Paths::all(&api)?;
            let mut table = Table::new(&SHOWN, "");
            for setting in &settings.effective {
                let domain = || setting.domain.map(|domain| paths.of(domain)).unwrap_or_default();
                let by = match setting.set_by {
                    Source::Default => "-".to_owned(),
                    Source::Root => "root".to_owned(),
                    Source::Domain => format!("domain:{}", domain()),
                    Source::Future => format!("domain:{}, which started with it", domain()),
                    Source::Agent => "the agent itself".to_owned(),
                };
                table.row(&[setting.name.to_string(), shown(&setting.value), by]);
            }
            table.print();
            if let Some(future) = settings.future.as_ref().filter(|future| !future.is_empty()) {
                let future = serde_json::to_value(future)?;
                let set = future.as_object().into_iter().flatten();
                let set: Vec<_> = set.map(|(name, value)| format!("{name} {}", shown(value))).collect();
                print(&format!("\nDomains that are made from now on start with: {}", set.join(", ")));
            }
            Ok(())
        })
    }
}

impl Set {
    fn run(self) -> Result<(), Failed> {
        let value = values::read(self.name, &self.value).map_err(|wrong| Failed::with_code(WRONG, wrong))?;
        let set = values::values(&[Assigned { setting: self.name, value }]);
        change(&self.asking, &self.at, &self.how, &set, &[])
    }
}

impl Clear {
    fn run(self) -> Result<(), Failed> {
        change(&self.asking, &self.at, &self.how, &Values::default(), &self.names)
    }
}

/// The exit code of a command line that is wrong.
const WRONG: u8 = 2;

fn change(asking: &Asking, at: &Where, how: &How, set: &Values, clear: &[Setting]) -> Result<(), Failed> {
    let wrong = |what: &str| Failed::with_code(WRONG, what);
    let apply_to = match (at, how.apply_to) {
        (Where::Root, Some(Whom::All)) => Some(ApplyTo::All),
        (Where::Root, Some(Whom::Future)) => Some(ApplyTo::Future),
        (Where::Root, None) => {
            return Err(wrong(
                "say whom a change at the root reaches: --apply-to all is every agent, and clears what domains and agents have of it; \
                 --apply-to future is domains that are made from now on",
            ));
        }
        (_, Some(_)) => {
            return Err(wrong("--apply-to is for the root: what is set below it reaches what is within"));
        }
        (_, None) => None,
    };
    let api = asking.api()?;
    let path = at.path(&api)?;
    let (set, clear) = (|| set.clone(), || clear.to_vec());
    let made =
        match apply_to {
            Some(apply_to) => api.change(&Method::PATCH, &path, how.agreement, |confirm| {
                RootSettingsChange { apply_to, set: set(), clear: clear(), confirm }
            })?,
            None => api.change(&Method::PATCH, &path, how.agreement, |confirm| SettingsChange {
                set: set(),
                clear: clear(),
                confirm,
            })?,
        };
    asking.print_made(&made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_spelling() {
        assert_eq!("root".parse(), Ok(Where::Root));
        assert_eq!("domain:root".parse(), Ok(Where::Domain(DomainPath::parse("root").unwrap())));
        assert_eq!("domain:A/B: C".parse(), Ok(Where::Domain(DomainPath::parse("A/B: C").unwrap())));
        assert_eq!("agent:urn:uuid:7".parse(), Ok(Where::Agent(AgentId::parse("urn:uuid:7").unwrap())));
        for text in ["", "Root", "pc-1", "domain:", "domain:/A", "agent:", "agent:PC", "Branches/North"] {
            assert!(text.parse::<Where>().is_err(), "{text}");
        }
    }
}
