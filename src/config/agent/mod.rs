//! The settings file of an agent, `agent.toml`, checked whole: what is local to its machine. What administrators decide for it the
//! relay tells, and stands in no file.
//!
//! Never reads a file. Invariant: outside this module a [`Settings`] is valid.

pub mod rows;

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::base::tree::TreeName;
use crate::config::agent::rows::TABLE;
use crate::config::error::{ConfigError, ConfigErrors, shown};
use crate::config::reader::{Document, Section};
use crate::config::table::row_of;
use crate::config::value::{file_path, upstream_url};
use crate::manifest::catalogue::Pattern;
use crate::policy::tree::value::Switch;

/// What an agent runs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the relay is, with `/` at its end.
    pub relay: Url,
    /// Authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What the relay knows the agent by. Default: the token of its enrolment.
    pub known_by: KnownBy,
    /// What the agent has and remembers. Default: the folder of the settings file.
    pub folder: Option<PathBuf>,
    /// Whether it declares itself roaming. Default: it does not.
    pub roaming: Switch,
    /// The trees that it takes components of. Default: all that it is told of.
    pub trees: Option<Vec<TreeName>>,
    /// The components that it takes. Default: all in its scope.
    pub components: Option<Vec<Pattern>>,
    /// The user's own proxy.
    pub proxy: Option<Url>,
    /// The file with what that proxy is told.
    pub proxy_credentials: Option<PathBuf>,
    /// How it is told to update. Default: whichever way works.
    pub events: Events,
    /// How long a connection may take, TLS included. Default: 10 s.
    pub connect: Duration,
    /// How long a server may send nothing. Default: 120 s.
    pub silence: Duration,
    /// What checks a file by its signature.
    pub verify: Option<Program>,
    /// What applies an increment. Default: none, so that full packages are taken.
    pub merge: Option<Program>,
    /// What has a scan begin after an update.
    pub scan: Option<Program>,
    /// How long a program may take. Default: 10 min.
    pub command: Duration,
    /// What is run for new components.
    pub commands: Vec<AfterUpdate>,
}

/// What the relay knows an agent by, where it is not its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// The token of its enrolment.
    Token,
    /// A certificate that somebody else keeps renewed.
    Files {
        /// The certificate, and those that lead to its authority.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// A certificate that the relay makes for a key of the agent's own, and makes anew in time.
    OwnCertificate,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What it is told first.
    pub arguments: Vec<String>,
}

/// A command for new components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterUpdate {
    /// Of which components.
    pub components: Vec<Pattern>,
    /// The command.
    pub run: Program,
}

/// How an agent hears that it is to update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// By a stream; by long polls once streams turn out to be cut.
    Auto,
    /// By a stream.
    Stream,
    /// By long polls.
    Poll,
    /// Not at all: it updates by interval alone.
    Off,
}

/// Reads the text of a settings file.
///
/// # Errors
/// All that is wrong with it, in the order of its lines.
pub fn parse(text: &str) -> Result<Settings, ConfigErrors> {
    let document = Document::new(text, TABLE);
    let settings = document.root().map(settings);
    document.close(settings)
}

impl Settings {
    /// Every default, for a relay at this URL.
    ///
    /// # Errors
    /// As for `relay` in a file, but without a line.
    pub fn for_relay(relay: &str) -> Result<Self, ConfigErrors> {
        upstream_url(relay).map(Self::with_relay).map_err(|reason| {
            ConfigErrors::from(ConfigError::Refused {
                line: None,
                key: "relay".into(),
                value: Some(shown(&format!("{relay:?}"))),
                reason,
                allowed: row_of(TABLE, "relay").allowed.to_string(),
            })
        })
    }

    fn with_relay(relay: Url) -> Self {
        Self {
            relay,
            ca_file: None,
            known_by: KnownBy::Token,
            folder: None,
            roaming: Switch::Off,
            trees: None,
            components: None,
            proxy: None,
            proxy_credentials: None,
            events: Events::Auto,
            connect: Duration::from_secs(10),
            silence: Duration::from_mins(2),
            verify: None,
            merge: None,
            scan: None,
            command: Duration::from_mins(10),
            commands: Vec::new(),
        }
    }

    /// Whether a component is wanted on this machine.
    pub fn wants(&self, component: &str) -> bool {
        self.components.as_ref().is_none_or(|all| matches(all, component))
    }
}

impl AfterUpdate {
    /// Whether the command is for this component.
    pub fn is_for(&self, component: &str) -> bool {
        matches(&self.components, component)
    }
}

fn matches(patterns: &[Pattern], component: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(component.as_bytes()))
}

fn settings(mut root: Section<'_>) -> Settings {
    let relay = root.text("relay", upstream_url);
    root.require("relay");
    // What follows is checked all the same; the errors count, not what is made here.
    let default = Settings::with_relay(relay.unwrap_or_else(nowhere));
    let settings = Settings {
        ca_file: root.text("ca_file", file_path),
        known_by: known_by(&mut root, &default.relay),
        folder: root.text("folder", file_path),
        roaming: root.word("roaming", ROAMING).unwrap_or(default.roaming),
        trees: root
            .texts("trees", TREES_MAX, |text| TreeName::parse(text).map_err(|error| error.to_string())),
        components: root.texts("components", COMPONENTS_MAX, component),
        proxy: root.text("proxy", upstream_url),
        proxy_credentials: root.text("proxy_credentials", file_path),
        events: root.word("events", EVENTS).unwrap_or(default.events),
        connect: root.seconds("connect_secs").unwrap_or(default.connect),
        silence: root.seconds("silence_secs").unwrap_or(default.silence),
        verify: program(&mut root, "verify"),
        merge: program(&mut root, "merge"),
        scan: program(&mut root, "scan"),
        command: root.seconds("command_secs").unwrap_or(default.command),
        commands: Vec::new(),
        ..default
    };
    if settings.proxy_credentials.is_some() && !root.has("proxy") {
        root.refuse("proxy_credentials", "there is no proxy to tell them".into());
    }
    let commands = root.sections("command", COMMANDS_MAX).into_iter().flatten().filter_map(after_update);
    Settings { commands: commands.collect(), ..settings }
}

fn known_by(root: &mut Section<'_>, relay: &Url) -> KnownBy {
    let (certificate, key) = (root.text("certificate", file_path), root.text("key", file_path));
    let own = root.word("own_certificate", OWN_CERTIFICATE).unwrap_or(Switch::Off);
    let given = if root.has("certificate") { "certificate" } else { "own_certificate" };
    if root.has("certificate") != root.has("key") {
        let (there, other) = if root.has("key") { ("key", "certificate") } else { ("certificate", "key") };
        root.refuse(there, format!("there is no {other} to it"));
    }
    if own.is_on() && root.has("certificate") {
        root.refuse("own_certificate", "a certificate is given already".into());
    }
    let known_by = match (certificate.zip(key), own) {
        (Some((certificate, key)), _) => KnownBy::Files { certificate, key },
        (None, Switch::On) => KnownBy::OwnCertificate,
        (None, Switch::Off) => KnownBy::Token,
    };
    if known_by != KnownBy::Token && relay.scheme() != "https" {
        root.refuse(given, "certificates are shown over TLS alone, and the relay's URL is not https".into());
    }
    known_by
}

fn after_update(mut section: Section<'_>) -> Option<AfterUpdate> {
    let components = section.texts("components", COMPONENTS_MAX, component);
    section.require("components");
    let run = program(&mut section, "run");
    section.require("run");
    Some(AfterUpdate { components: components?, run: run? })
}

fn program(section: &mut Section<'_>, key: &'static str) -> Option<Program> {
    let words = section.texts(key, WORDS_MAX, |text| {
        if text.contains('\0') { Err("it has a NUL in it".to_owned()) } else { Ok(text.to_owned()) }
    })?;
    let mut words = words.into_iter();
    let path = PathBuf::from(words.next()?);
    if !path.is_absolute() {
        section.refuse(key, "the program's path does not begin with '/'".into());
        return None;
    }
    Some(Program { path, arguments: words.collect() })
}

fn component(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).map_err(|error| error.to_string())
}

fn nowhere() -> Url {
    Url::parse("http://relay.invalid/").expect("this is a URL")
}

const OWN_CERTIFICATE: &[(&str, Switch)] = &[("yes", Switch::On), ("no", Switch::Off)];

const ROAMING: &[(&str, Switch)] = &[("yes", Switch::On), ("no", Switch::Off)];

const EVENTS: &[(&str, Events)] =
    &[("auto", Events::Auto), ("stream", Events::Stream), ("poll", Events::Poll), ("off", Events::Off)];

/// Trees that a relay may have.
const TREES_MAX: usize = 64;

/// Patterns of components: products have some forty components.
const COMPONENTS_MAX: usize = 256;

/// A program and its arguments.
const WORDS_MAX: usize = 64;

const COMMANDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in which every key stands.
    const WHOLE: &str = r#"
relay = "https://relay.example:8443"
ca_file = "/etc/ca.pem"
certificate = "/etc/agent.pem"
key = "/etc/agent.key"
folder = "/var/lib/agent"
roaming = "yes"
trees = ["activeupdate", "other"]
components = "P.*"
proxy = "http://proxy.example:3128"
proxy_credentials = "/etc/proxy"
events = "poll"
connect_secs = 3
silence_secs = 30
verify = "/bin/verify"
merge = ["/bin/merge", "-q"]
scan = "/bin/scan"
command_secs = 60

[[command]]
components = ["P.4", "E.*"]
run = ["/bin/reload", "now"]
"#;

    #[test]
    fn every_key_of_the_table_is_read_and_no_other() {
        let settings = parse(WHOLE).unwrap();
        assert_eq!(settings.relay.as_str(), "https://relay.example:8443/");
        assert_eq!((settings.roaming, settings.events), (Switch::On, Events::Poll));
        assert_eq!((settings.connect, settings.silence), (Duration::from_secs(3), Duration::from_secs(30)));
        let (certificate, key) = ("/etc/agent.pem".into(), "/etc/agent.key".into());
        assert_eq!(settings.known_by, KnownBy::Files { certificate, key });
        // The one key that goes with none of the others.
        let own = parse("relay = 'https://relay'\nown_certificate = 'yes'").unwrap();
        assert_eq!(own.known_by, KnownBy::OwnCertificate);
        assert!(settings.wants("P.4") && !settings.wants("E.4"));
        let merge = settings.merge.unwrap();
        assert_eq!((merge.path.to_str(), merge.arguments), (Some("/bin/merge"), vec!["-q".to_owned()]));
        assert!(settings.commands[0].is_for("E.22") && !settings.commands[0].is_for("P.5"));
        for row in TABLE.iter().filter(|row| row.key != "own_certificate") {
            let key = row.key.rsplit('.').next().unwrap();
            assert!(WHOLE.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let settings = parse("relay = 'http://relay'").unwrap();
        assert_eq!(settings, Settings::for_relay("http://relay").unwrap());
        let toml = |key: &str| row_of(TABLE, key).default.to_string();
        assert_eq!(toml("connect_secs"), format!("`{}`", settings.connect.as_secs()));
        assert_eq!(toml("silence_secs"), format!("`{}`", settings.silence.as_secs()));
        assert_eq!(toml("command_secs"), format!("`{}`", settings.command.as_secs()));
        assert_eq!((toml("roaming"), settings.roaming), ("`\"no\"`".into(), Switch::Off));
        assert_eq!((toml("own_certificate"), settings.known_by), ("`\"no\"`".into(), KnownBy::Token));
        assert_eq!((toml("events"), settings.events), ("`\"auto\"`".into(), Events::Auto));
    }

    #[test]
    fn each_error_names_key_value_and_what_is_allowed() {
        let said = |line: &str| parse(&format!("relay = 'http://r'\n{line}")).unwrap_err().to_string();
        for (line, words) in [
            ("roaming = true", &["roaming = true", "\"yes\" or \"no\""][..]),
            ("events = 'often'", &["events = 'often'", "\"stream\""]),
            ("merge = 'merge'", &["merge = 'merge'", "begin with '/'"]),
            ("silence_secs = 0", &["silence_secs = 0", "1 to 3600"]),
            ("trees = ['A']", &["trees[0] = 'A'", "a-z"]),
            ("proxy = 'http://u:secret@p/'", &["proxy = ", "***@p", "credentials"]),
            ("certificate = '/c'", &["certificate = '/c'", "no key"]),
            ("key = '/k'", &["key = '/k'", "no certificate"]),
            ("certificate = '/c'\nkey = '/k'", &["certificate = '/c'", "not https"]),
            ("own_certificate = 'yes'", &["own_certificate = 'yes'", "not https"]),
            ("own_certificate = 'yes'\ncertificate = '/c'\nkey = '/k'", &["given already"]),
            ("proxy_credentials = '/x'", &["proxy_credentials = '/x'", "no proxy"]),
            ("rely = 1", &["rely: unknown key", "is 'relay' meant?"]),
            ("[[command]]\nrun = '/bin/true'", &["command[0].components: missing"]),
        ] {
            let said = said(line);
            assert!(words.iter().all(|word| said.contains(word)), "{line}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
        assert!(parse("").unwrap_err().to_string().contains("relay: missing"));
        let said = Settings::for_relay("ftp://relay").unwrap_err().to_string();
        assert!(said.contains("the scheme is 'ftp'") && said.contains("https URL"), "{said}");
    }
}
