//! A certificate authority made when the test runs, what it signs, and clients that trust it alone.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::config::settings::CertificateFiles;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::raw::PATIENCE;

/// An authority with a folder for its files.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A TLS connection over a socket.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    /// A new one; its certificate stands in a file.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Where issuer and subject are equal, a client takes any certificate for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), certificate }
    }

    /// The file of its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Writes a certificate for these names, and its key, in place of what stood there; gives its bytes too.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> (CertificateFiles, Vec<u8>) {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let place = |extension: &str| self.folder.path().join(file).with_extension(extension);
        replace(&place("key"), &key.serialize_pem());
        replace(&place("pem"), &certificate.pem());
        let files = CertificateFiles { chain: place("pem"), key: place("key") };
        (files, certificate.der().to_vec())
    }

    /// Signs what is said, for this key.
    pub(crate) fn issue(&self, params: &CertificateParams, key: &KeyPair) -> rcgen::Certificate {
        params.signed_by(key, &self.issuer).unwrap()
    }

    /// A client's side that trusts this authority alone.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    /// Connects and shakes hands, asking for a name.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> Result<Stream, std::io::Error> {
        let config = self.client(rustls::DEFAULT_VERSIONS);
        shake_hands(Arc::new(config), address, name)
    }
}

/// Connects and shakes hands.
pub(crate) fn shake_hands(
    config: Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> Result<Stream, std::io::Error> {
    shake_hands_over(config, TcpStream::connect(address).unwrap(), name)
}

/// Shakes hands on a connection.
pub(crate) fn shake_hands_over(
    config: Arc<ClientConfig>,
    socket: TcpStream,
    name: &str,
) -> Result<Stream, std::io::Error> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let connection = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The certificate that the other side showed.
pub(crate) fn shown(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

/// One GET over HTTP/1.1; the whole answer, and the connection stays open.
pub(crate) fn get(stream: &mut Stream, path: &str) -> (String, Vec<u8>) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "closed before the head: {}", bytes.escape_ascii());
        bytes.extend(&piece[..count]);
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let length: usize = length.parse().unwrap();
    let had = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[had..]).unwrap();
    (head, body)
}

/// Puts a file in another's place in one step.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}
