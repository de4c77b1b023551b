//! All settings of an agent: each key with its default, what may stand there, and why.

use crate::config::table::{Allowed, Preset, Row};

/// Every setting of `agent.toml`.
pub const TABLE: &[Row] = &[
    Row {
        key: "relay",
        default: Preset::Required,
        allowed: Allowed::Text(
            "an http or https URL without credentials, such as \"https://relay.example:8443/\"",
        ),
        reason: "where the agent checks in; where it updates from, the relay tells it",
    },
    Row {
        key: "ca_file",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(FILE),
        reason: "authorities to trust besides the system's, for a relay with a certificate of its own",
    },
    Row {
        key: "certificate",
        default: Preset::Otherwise("none: the agent shows its token"),
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "the relay knows the agent by it in place of a token, over https alone; both files are read again when they change",
    },
    Row {
        key: "key",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("the path of a PEM file"),
        reason: "the certificate's private key",
    },
    Row {
        key: "own_certificate",
        default: Preset::Toml("\"no\""),
        allowed: Allowed::Words(&["yes", "no"]),
        reason: "the relay makes a certificate for a key that never leaves the machine, and anew when a third of its time is left; the token goes \
                 out to ask for it alone",
    },
    Row {
        key: "folder",
        default: Preset::Otherwise("the folder that the settings file is in"),
        allowed: Allowed::Text("the path of a folder"),
        reason: "what the agent has, and what it remembers, stay together",
    },
    Row {
        key: "roaming",
        default: Preset::Toml("\"no\""),
        allowed: Allowed::Words(&["yes", "no"]),
        reason: "roaming agents neither update when they start nor scan after an update; an administrator may know better",
    },
    Row {
        key: "trees",
        default: Preset::Otherwise("all that the relay tells"),
        allowed: Allowed::Text("the name of a tree of the relay, or a list of 1 to 64"),
        reason: "a machine has not all products",
    },
    Row {
        key: "components",
        default: Preset::Otherwise("all in the agent's scope"),
        allowed: Allowed::Text(
            "the name of a component, in which '*' stands for anything, or a list of 1 to 256",
        ),
        reason: "a machine has not all components",
    },
    Row {
        key: "proxy",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text("an http or https URL without credentials"),
        reason: "the user's own, which counts during Update Now, and where the administrator allows it",
    },
    Row {
        key: "proxy_credentials",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(FILE),
        reason: "a file whose first line is user:password, so that no secret stands in settings",
    },
    Row {
        key: "events",
        default: Preset::Toml("\"auto\""),
        allowed: Allowed::Words(&["auto", "stream", "poll", "off"]),
        reason: "how the relay tells the agent to update: by a stream, or by long polls where streams are cut; auto finds out",
    },
    Row {
        key: "connect_secs",
        default: Preset::Toml("10"),
        allowed: Allowed::Number(1, 300),
        reason: "a source that does not answer is left for the next one soon",
    },
    Row {
        key: "silence_secs",
        default: Preset::Toml("120"),
        allowed: Allowed::Number(1, 3600),
        reason: "a relay may have to fetch first, which takes a while over a thin line; what it then sends comes steadily",
    },
    Row {
        key: "verify",
        default: Preset::Otherwise("none: sizes alone are checked"),
        allowed: Allowed::Text(PROGRAM),
        reason: "checks a file by its signature: it is run with both paths, and refuses by its exit status",
    },
    Row {
        key: "merge",
        default: Preset::Otherwise("none: full packages are taken"),
        allowed: Allowed::Text(PROGRAM),
        reason: "applies an increment: it is run with the paths of the file that is there, the increment, and the file to write",
    },
    Row {
        key: "scan",
        default: Preset::Otherwise("none"),
        allowed: Allowed::Text(PROGRAM),
        reason: "has a scan begin after an update, where the relay says so; it is to return soon",
    },
    Row {
        key: "command_secs",
        default: Preset::Toml("600"),
        allowed: Allowed::Number(1, 86_400),
        reason: "a program that hangs is ended, and counts as failed",
    },
    Row {
        key: "command.components",
        default: Preset::Required,
        allowed: Allowed::Text(
            "the name of a component, in which '*' stands for anything, or a list of 1 to 256",
        ),
        reason: "for which components the command is run once they are new",
    },
    Row {
        key: "command.run",
        default: Preset::Required,
        allowed: Allowed::Text(PROGRAM),
        reason: "has a product take a new component; it may be run again after a crash, so it has to bear that",
    },
];

const FILE: &str = "the path of a file";

const PROGRAM: &str = "the path of a program, beginning with '/', or a list of it and its arguments, 1 to 64";
