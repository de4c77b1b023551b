//! `[admin]`, but for where it listens: who may administer the relay, and how tokens get there.
//!
//! Invariant: without TLS, and unless a file says otherwise, administrators are listened to on loopback alone.

use std::collections::HashSet;

use crate::config::check::CLEAR_TEXTS;
use crate::config::listen::tls;
use crate::config::reader::Section;
use crate::config::settings::{ClearText, Listen, TlsSettings};
use crate::policy::administrator::Role;

/// `[admin]`, but for where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAccess {
    /// Whether tokens are taken in clear text on addresses that other machines reach. Default refuse: on the way anybody could
    /// read them.
    pub clear_text: ClearText,
    /// `[admin.tls]`: where administrators connect with TLS, and the authorities that vouch for the names in their certificates.
    /// Default nowhere: there is no certificate yet.
    pub tls: TlsSettings,
    /// `[[admin.tls.client]]`: who is known by a certificate. Default none: a token is needed.
    pub clients: Vec<AdminClient>,
}

/// `[[admin.tls.client]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminClient {
    /// A name in the certificate: a DNS name in lower case, or a URI; there is no default.
    pub name: Box<str>,
    /// What its owner may do; there is no default.
    pub role: Role,
}

impl Default for AdminAccess {
    fn default() -> Self {
        Self { clear_text: ClearText::Refuse, tls: TlsSettings::default(), clients: Vec::new() }
    }
}

/// Why an address of the admin listener is refused: from the settings, from the command line, or passed by a service manager.
pub const NOT_LOOPBACK: &str = "other machines reach it, and without TLS anybody on the way could read administrators' tokens: use \
    admin.tls.listen, or say admin.clear_text = \"allow\"";

/// Reads what `[admin]` has besides `listen`, which was read before.
pub(super) fn admin_access(
    section: &mut Section<'_>,
    listen: &Listen,
    taken: &mut Vec<std::net::SocketAddr>,
) -> AdminAccess {
    let clear_text = section.word("clear_text", CLEAR_TEXTS).unwrap_or(ClearText::Refuse);
    let reached = listen.addresses().iter().find(|address| !address.ip().is_loopback());
    if let Some(reached) = reached.filter(|_| clear_text == ClearText::Refuse) {
        section.refuse("listen", format!("{reached}: {NOT_LOOPBACK}"));
    }
    let mut own = section.section("tls");
    let tables = own.sections("client", CLIENTS_MAX);
    let mut seen = HashSet::new();
    let clients: Vec<_> = tables.into_iter().flatten().filter_map(|table| client(table, &mut seen)).collect();
    let tls = tls(&mut own, taken);
    if !clients.is_empty() {
        own.require("client_ca_files");
    }
    AdminAccess { clear_text, tls, clients }
}

fn client(mut section: Section<'_>, seen: &mut HashSet<Box<str>>) -> Option<AdminClient> {
    let name = section.text("name", |text| {
        let plain =
            (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || text.contains('*') {
            return Err("no name that a certificate could vouch for".into());
        }
        // DNS names are the same in any case; a URI has a scheme.
        let name: Box<str> = if text.contains(':') { text.into() } else { text.to_ascii_lowercase().into() };
        if seen.insert(name.clone()) { Ok(name) } else { Err("another client has this name".into()) }
    });
    let role = section.word("role", ROLES);
    section.require("name");
    section.require("role");
    Some(AdminClient { name: name?, role: role? })
}

const ROLES: &[(&str, Role)] =
    &[("viewer", Role::Viewer), ("operator", Role::Operator), ("administrator", Role::Administrator)];

/// Names of administrators' certificates: people and programs that administer one relay are a few dozen.
const CLIENTS_MAX: usize = 256;

/// Bytes of a name, as many as are looked at in a certificate.
const NAME_BYTES_MAX: usize = 256;
