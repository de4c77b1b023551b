//! Sections -> where the relay listens, and the certificates that it shows there.
//!
//! Invariant: no two listeners take the same port of an address.

use std::net::{IpAddr, SocketAddr};

use crate::config::reader::Section;
use crate::config::settings::{CertificateFiles, Listen, TlsSettings};
use crate::config::value::{file_path, socket_address};

/// Reads addresses to listen on, none of which may take the port of another or of one in `taken`.
pub(super) fn listen(section: &mut Section<'_>, default: Listen, taken: &mut Vec<SocketAddr>) -> Listen {
    let configured = section.texts("listen", LISTEN_MAX, |text| {
        let address = socket_address(text)?;
        if let Some(other) = taken.iter().find(|other| clash(address, **other)) {
            return Err(format!("it takes the port of {other}"));
        }
        taken.push(address);
        Ok(address)
    });
    if !section.has("listen")
        && let Some(both) =
            default.addresses().iter().find(|own| taken.iter().any(|other| clash(**own, *other)))
    {
        section.refuse("listen", format!("the default {both} takes a port that another listener has"));
    }
    configured.map_or(default, Listen::Configured)
}

/// Whether two sockets cannot both be had: the same port on the same address, or on all of a family.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |address: IpAddr| address.is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one == other || all(one.ip()) || all(other.ip()))
}

/// Reads the TLS listeners: addresses and certificates come together or not at all.
pub(super) fn tls(section: &mut Section<'_>, taken: &mut Vec<SocketAddr>) -> TlsSettings {
    let listen = listen(section, Listen::Configured(Vec::new()), taken).addresses().to_vec();
    let client_authorities =
        section.texts("client_ca_files", CLIENT_CA_FILES_MAX, file_path).unwrap_or_default();
    let sections = section.sections("certificate", CERTIFICATES_MAX);
    let tables = sections.as_ref().map(Vec::len);
    let certificates = sections.into_iter().flatten().filter_map(certificate).collect();
    if section.has("listen") && tables == Some(0) {
        let allowed =
            format!("at least one table [[{}certificate]], with a chain and a key", section.prefix());
        section.missing("certificate", allowed);
    }
    if tables.is_some_and(|count| count > 0) || section.has("client_ca_files") {
        section.require("listen");
    }
    TlsSettings { listen, certificates, client_authorities }
}

fn certificate(mut section: Section<'_>) -> Option<CertificateFiles> {
    let chain = section.text("chain", file_path);
    let key = section.text("key", file_path);
    section.require("chain");
    section.require("key");
    Some(CertificateFiles { chain: chain?, key: key? })
}

/// Each address is a socket for every worker.
const LISTEN_MAX: usize = 64;

/// Certificates of one relay: each is looked at for changes every second.
const CERTIFICATES_MAX: usize = 64;

/// Files of clients' authorities: each is looked at as often, and each may hold many.
const CLIENT_CA_FILES_MAX: usize = 16;
