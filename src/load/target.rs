//! Whom the fleet plays against: one base URL, the addresses of its host, and how they are trusted.
//!
//! Names are asked for once, before the start. Never speaks for another host. Invariant: a target that is played against has an
//! address, and of each address's family a source where sources are given.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use ipnet::IpNet;
use percent_encoding::utf8_percent_encode;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::base::path::{PATH_ESCAPED, TreePath};
use crate::base::reserved::{Reserved, reserved};
use crate::load::connection::open_socket;
use crate::load::known::MANIFEST;
use crate::load::source::source;

/// A server with a tree.
#[derive(Debug)]
pub struct Target {
    base: Url,
    pub(super) host: HeaderValue,
    pub(super) tls: Option<Tls>,
    addresses: Vec<SocketAddr>,
    sources: Vec<IpNet>,
}

/// TLS towards it.
pub(super) struct Tls {
    pub(super) http1: TlsConnector,
    pub(super) http2: TlsConnector,
    pub(super) name: ServerName<'static>,
}

/// Which families are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Those that the host has.
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those of the system's authorities.
    System,
    /// Those of the authorities in a file.
    File(PathBuf),
    /// Any.
    Anybody,
}

/// Why there is no target.
#[derive(Debug, Error)]
pub enum TargetError {
    /// The name has no address.
    #[error("{host}: {source}")]
    Name {
        /// The host.
        host: String,
        /// What was said.
        source: io::Error,
    },
    /// No address that may be used.
    #[error("{host} has no {what}")]
    NoAddress {
        /// The host.
        host: String,
        /// What it would need.
        what: &'static str,
    },
    /// The host is no name for a certificate or a header.
    #[error("{0} is no host to connect to")]
    Host(String),
    /// The authorities cannot be read.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has none.
    #[error("this system has no certificate authorities; name a file of them")]
    NoAuthorities,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// No address takes connections.
    #[error("{address} takes no connection: {source}")]
    Unreached {
        /// The first address.
        address: SocketAddr,
        /// What was said there.
        source: io::Error,
    },
}

impl Target {
    /// Finds the addresses of a base URL that ends in `/`. Connects to nobody.
    pub async fn find(
        base: Url,
        family: Family,
        trust: &Trust,
        sources: Vec<IpNet>,
    ) -> Result<Self, TargetError> {
        let host = base.host_str().unwrap_or_default().to_owned();
        let port = base.port_or_known_default().unwrap_or_default();
        let found = match base.host() {
            Some(Host::Ipv4(v4)) => vec![SocketAddr::new(v4.into(), port)],
            Some(Host::Ipv6(v6)) => vec![SocketAddr::new(v6.into(), port)],
            Some(Host::Domain(name)) => {
                let found = tokio::net::lookup_host((name, port)).await;
                found.map_err(|source| TargetError::Name { host: host.clone(), source })?.collect()
            }
            None => return Err(TargetError::Host(host)),
        };
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            let is_wanted = match family {
                Family::Any => true,
                Family::V4 => address.is_ipv4(),
                Family::V6 => address.is_ipv6(),
            };
            let has_source = sources.is_empty() || source(&sources, 0, address.is_ipv6()).is_some();
            if is_wanted && has_source && !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            let what = match (sources.is_empty(), family) {
                (false, _) => "address of a source's family",
                (true, Family::V4) => "IPv4 address",
                (true, Family::V6) => "IPv6 address",
                (true, Family::Any) => "address",
            };
            return Err(TargetError::NoAddress { host, what });
        }
        let authority = base.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let header = HeaderValue::from_str(&authority).map_err(|_| TargetError::Host(host.clone()))?;
        let tls = match base.scheme() {
            "https" => {
                let config = config(trust)?;
                let speaks = |protocol: &[u8]| {
                    let mut config = config.clone();
                    config.alpn_protocols = vec![protocol.to_owned()];
                    TlsConnector::from(Arc::new(config))
                };
                let name = name(&base, host)?;
                Some(Tls { http1: speaks(b"http/1.1"), http2: speaks(b"h2"), name })
            }
            _ => None,
        };
        Ok(Self { base, host: header, tls, addresses, sources })
    }

    /// An address that is neither this machine's nor a private network's: somebody else's, perhaps.
    pub fn public(&self) -> Option<SocketAddr> {
        let is_own = |address: &SocketAddr| {
            use Reserved::{Link, Private, ThisMachine, UniqueLocal};
            matches!(reserved(address.ip(), &[]), Some(ThisMachine | Link | Private | UniqueLocal))
        };
        self.addresses.iter().find(|address| !is_own(address)).copied()
    }

    /// Connects to each address once and leaves out those that take no connection, with what they said.
    pub async fn probe(&mut self, silence: Duration) -> Result<Vec<(SocketAddr, io::Error)>, TargetError> {
        let mut left_out = Vec::new();
        for address in std::mem::take(&mut self.addresses) {
            let from = source(&self.sources, 0, address.is_ipv6());
            match open_socket(address, from, silence).await {
                Ok(_) => self.addresses.push(address),
                Err(error) => left_out.push((address, error)),
            }
        }
        match (self.addresses.is_empty(), left_out.is_empty()) {
            (true, false) => {
                let (address, source) = left_out.swap_remove(0);
                Err(TargetError::Unreached { address, source })
            }
            _ => Ok(left_out),
        }
    }

    /// The base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// How many addresses agents are spread over.
    pub(super) fn addresses(&self) -> usize {
        self.addresses.len()
    }

    /// Which address an agent asks, by its place.
    pub(super) fn place(&self, agent: u32) -> usize {
        agent as usize % self.addresses.len()
    }

    /// The address at a place, and where an agent comes from.
    pub(super) fn line(&self, place: usize, agent: u32) -> (SocketAddr, Option<IpAddr>) {
        let to = self.addresses[place];
        // Those who share an address go round the sources, not all agents.
        let number = agent / u32::try_from(self.addresses.len()).unwrap_or(1);
        (to, source(&self.sources, number, to.is_ipv6()))
    }

    /// What a request for a file names; `None` is the manifest.
    pub(super) fn request_target(&self, path: Option<&TreePath>) -> String {
        let path = path.map_or(MANIFEST, TreePath::as_str);
        format!("{}{}", self.base.path(), utf8_percent_encode(path, PATH_ESCAPED))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

fn name(base: &Url, host: String) -> Result<ServerName<'static>, TargetError> {
    match base.host() {
        Some(Host::Ipv4(v4)) => Ok(ServerName::IpAddress(IpAddr::V4(v4).into())),
        Some(Host::Ipv6(v6)) => Ok(ServerName::IpAddress(IpAddr::V6(v6).into())),
        _ => ServerName::try_from(host.clone()).map_err(|_| TargetError::Host(host)),
    }
}

fn config(trust: &Trust) -> Result<ClientConfig, TargetError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut config = match trust {
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        Trust::System => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TargetError::NoAuthorities);
            }
            builder.with_root_certificates(roots)
        }
        Trust::File(path) => builder.with_root_certificates(authorities(path)?),
    }
    .with_no_client_auth();
    // Agents are different machines: none has a session of another's to resume.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn authorities(path: &Path) -> Result<RootCertStore, TargetError> {
    let wrong = |reason: String| TargetError::Authorities { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for read in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = read.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate is in it".into())) } else { Ok(roots) }
}

/// Believes any certificate, for test machines; that its key is the other side's is checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, own, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, own, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Addresses of one name that agents are spread over.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn find(url: &str, family: Family, sources: &[&str]) -> Result<Target, TargetError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sources = sources.iter().map(|range| range.parse().unwrap()).collect();
        runtime.block_on(Target::find(url.parse().unwrap(), family, &Trust::Anybody, sources))
    }

    #[test]
    fn only_addresses_of_others_are_public() {
        for own in ["127.0.0.1", "[::1]", "10.1.2.3", "192.168.0.1", "[fd00::1]", "[fe80::1]", "169.254.1.1"]
        {
            assert_eq!(find(&format!("http://{own}/a/"), Family::Any, &[]).unwrap().public(), None, "{own}");
        }
        for other in ["192.0.2.1", "[2001:db8::1]", "100.64.0.1", "169.254.169.254", "[64:ff9b::c000:201]"] {
            assert!(
                find(&format!("http://{other}/a/"), Family::Any, &[]).unwrap().public().is_some(),
                "{other}"
            );
        }
    }

    #[test]
    fn families_and_sources_bound_the_addresses_r4_1() {
        let said = |url, family, sources: &[&str]| find(url, family, sources).unwrap_err().to_string();
        assert_eq!(said("http://127.0.0.1/a/", Family::V6, &[]), "127.0.0.1 has no IPv6 address");
        assert_eq!(said("http://[::1]/a/", Family::V4, &[]), "[::1] has no IPv4 address");
        let other = said("http://[::1]/a/", Family::Any, &["127.0.0.0/8"]);
        assert_eq!(other, "[::1] has no address of a source's family");
        let target = find("http://127.0.0.1:81/a/", Family::Any, &["127.0.0.0/8"]).unwrap();
        let line = target.line(target.place(300), 300);
        assert_eq!(line, ("127.0.0.1:81".parse().unwrap(), Some("127.0.1.45".parse().unwrap())));
    }

    #[test]
    fn files_stand_below_the_base_and_are_escaped() {
        let target = find("http://127.0.0.1:81/au/", Family::Any, &[]).unwrap();
        assert_eq!(target.request_target(None), "/au/server.ini");
        let path = TreePath::parse("p/a b%.zip".as_bytes()).unwrap();
        assert_eq!(target.request_target(Some(&path)), "/au/p/a%20b%25.zip");
        assert_eq!(target.host, "127.0.0.1:81");
    }
}
