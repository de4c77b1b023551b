//! All commands, and the groups that `--help` shows them in.
//!
//! Invariant: each command belongs to one group.

use std::fmt::Write as _;

use clap::builder::Styles;
use clap::{Command as Typed, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cli::api::agents::Agents;
use crate::cli::api::audit::Audit;
use crate::cli::api::domains::Domains;
use crate::cli::api::enrol::Enrol;
use crate::cli::api::files::Files;
use crate::cli::api::me::Me;
use crate::cli::api::ranges::Ranges;
use crate::cli::api::reports::Reports;
use crate::cli::api::settings::Settings;
use crate::cli::api::sources::Sources;
use crate::cli::api::update::Update;
use crate::cli::api::watch::{Components, Fills, Generations, Refusals, Traffic};
use crate::cli::api::why::Why;
use crate::cli::completions::Completions;
use crate::cli::man::Man;
use crate::cli::{
    Failed, admin_token, agent, certs, check, fixture, load, refresh, scrub, secret, serve, service, status,
    tree,
};

/// An update relay for fleets of security agents.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about, arg_required_else_help = true)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the relay.
    Serve(serve::Serve),
    /// Have the running relay ask its upstreams now, and wait for what comes of it.
    Refresh(refresh::Refresh),
    /// Check every stored file against its hash.
    Scrub(scrub::Scrub),
    /// Show what the running relay is doing.
    Status(status::Status),
    /// Keep the agent tree in a file: write it, compare it, have it made so.
    #[command(subcommand)]
    Tree(tree::Tree),
    /// Make, move, rename and remove domains of the agent tree.
    #[command(subcommand)]
    Domains(Domains),
    /// List, move, revoke and remove agents.
    #[command(subcommand)]
    Agents(Agents),
    /// Say what holds for agents: scopes, schedules, privileges, limits.
    #[command(subcommand)]
    Settings(Settings),
    /// Let agents join a domain by themselves.
    #[command(subcommand)]
    Enrol(Enrol),
    /// Say which domain addresses belong to.
    #[command(subcommand)]
    Ranges(Ranges),
    /// Say where agents update from before they ask the relay.
    #[command(subcommand)]
    Sources(Sources),
    /// Hand settings files to agents.
    #[command(subcommand)]
    Files(Files),
    /// Have agents update, and see how far they are.
    #[command(subcommand)]
    Update(Update),
    /// Say why an agent gets a file or does not.
    Why(Why),
    /// List the last requests that were refused.
    Refusals(Refusals),
    /// List the last updates that agents reported.
    Reports(Reports),
    /// List who changed what of the agent tree, and follow it.
    Audit(Audit),
    /// List the kept generations of the trees.
    Generations(Generations),
    /// List the components of the trees, with versions.
    Components(Components),
    /// List what is being fetched.
    Fills(Fills),
    /// Show what passed, minute by minute.
    Traffic(Traffic),
    /// Show who you are to the relay.
    Me(Me),
    /// Print what a shell needs to complete commands.
    Completions(Completions),
    /// Write the manual pages.
    Man(Man),
    /// Check something without running the relay.
    #[command(subcommand)]
    Check(check::Check),
    /// Make an authority and a server certificate, to try TLS with.
    Certs(certs::Certs),
    /// Make a secret for a user of the proxy.
    Secret(secret::Secret),
    /// Say who may administer the relay: make a token, list all, revoke one.
    #[command(subcommand)]
    AdminToken(admin_token::AdminToken),
    /// Print units for systemd, which run the relay as a service.
    #[command(subcommand)]
    Service(service::unit::Service),
    /// Write a tree in ActiveUpdate's grammar for tests, or the next release into one.
    Fixture(fixture::Fixture),
    /// Run an agent on this machine, or have the one that runs do something.
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Play a fleet of agents against any server with a tree, and judge its answers.
    ///
    /// Each agent takes server.ini, reads from it what it wants, and takes that file by file, with signatures. Every answer is checked
    /// to its last byte. Latencies count from the moment at which a request was due, not from its sending. Agents come by themselves, or
    /// when the relay tells them: '--arrival told'. Exit codes: 0 passed, 4 not passed, 1 could not be played, 2 the command line is wrong.
    Load(Box<load::Load>),
}

/// How commands are shown together: by what somebody wants to do.
const GROUPS: [(&str, &[&str]); 7] = [
    ("The relay", &["serve", "status", "refresh", "scrub", "traffic", "generations", "components", "fills"]),
    (
        "Agents, and what they may have",
        &["domains", "agents", "settings", "update", "enrol", "ranges", "sources", "files", "tree"],
    ),
    ("What happened, and why", &["why", "refusals", "reports", "audit"]),
    ("Who administers", &["admin-token", "me"]),
    ("Setting it up", &["check", "certs", "secret", "service", "completions", "man"]),
    ("An agent of its own", &["agent"]),
    ("Tests", &["fixture", "load"]),
];

const AFTER: &str = "\
'forebay COMMAND --help' says more of each, with examples. Commands ask the relay whose data folder
or settings file they are given (--data, --config), or one elsewhere by its URL (--url, or the
variable FOREBAY_URL), with your token from the variable FOREBAY_TOKEN or from --token-file; the
first start prints the first token.

Example, from nothing to an agent:
  forebay serve --config /etc/forebay.toml
  forebay domains create Branches --set scope=patterns
  forebay enrol create Branches --agents 50 --hours 72";

/// The command that was typed; ends the program where there is none.
pub fn typed() -> Command {
    let typed = Command::from_arg_matches(&command().get_matches());
    typed.unwrap_or_else(|error| error.exit())
}

/// All that can be typed, with its help.
pub fn command() -> Typed {
    let command = Command::command();
    let styles = Styles::styled();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut groups = String::new();
    for (name, commands) in GROUPS {
        // Writing into a string does not fail.
        let _ = writeln!(groups, "\n{header}{name}:{header:#}");
        for name in commands {
            let about = command.find_subcommand(name).and_then(Typed::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(groups, "  {literal}{name:<13}{literal:#} {about}");
        }
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{groups}\n{header}Options:{header:#}\n{{options}}\n\n{AFTER}\n"
    );
    command.help_template(template)
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self.verb {
            Verb::Serve(command) => command.run(),
            Verb::Refresh(command) => command.run(),
            Verb::Scrub(command) => command.run(),
            Verb::Status(command) => command.run(),
            Verb::Tree(command) => command.run(),
            Verb::Domains(command) => command.run(),
            Verb::Agents(command) => command.run(),
            Verb::Settings(command) => command.run(),
            Verb::Enrol(command) => command.run(),
            Verb::Ranges(command) => command.run(),
            Verb::Sources(command) => command.run(),
            Verb::Files(command) => command.run(),
            Verb::Update(command) => command.run(),
            Verb::Why(command) => command.run(),
            Verb::Refusals(command) => command.run(),
            Verb::Reports(command) => command.run(),
            Verb::Audit(command) => command.run(),
            Verb::Generations(command) => command.run(),
            Verb::Components(command) => command.run(),
            Verb::Fills(command) => command.run(),
            Verb::Traffic(command) => command.run(),
            Verb::Me(command) => command.run(),
            Verb::Completions(command) => command.run(),
            Verb::Man(command) => command.run(),
            Verb::Check(command) => command.run(),
            Verb::Certs(command) => command.run(),
            Verb::Secret(command) => command.run(),
            Verb::AdminToken(command) => command.run(),
            Verb::Service(command) => command.run(),
            Verb::Fixture(command) => command.run(),
            Verb::Agent(command) => command.run(),
            Verb::Load(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_command_belongs_to_one_group_and_the_command_line_is_consistent() {
        command().debug_assert();
        let grouped: Vec<_> = GROUPS.iter().flat_map(|(_, commands)| commands.iter().copied()).collect();
        let shown: BTreeSet<_> = grouped.iter().copied().collect();
        assert_eq!(shown.len(), grouped.len());
        let command = command();
        let all: BTreeSet<_> = command.get_subcommands().map(Typed::get_name).collect();
        assert_eq!(shown, all);
    }
}
