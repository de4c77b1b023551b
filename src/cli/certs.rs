//! `forebay certs`: an authority and a server's certificate for tests.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::cli::Failed;
use crate::cli::output::print;

/// Makes an authority and a server's certificate for tests.
#[derive(Debug, Args)]
pub struct Certs {
    /// The folder for the files; made where there is none. Nothing in it is overwritten.
    dir: PathBuf,
    /// A name or address that agents reach the relay by. May be given several times.
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Certs {
    /// Writes them.
    pub fn run(self) -> Result<(), Failed> {
        let dir = std::path::absolute(&self.dir)?;
        let [authority, authority_key, chain, key] =
            ["authority.pem", "authority.key", "relay.pem", "relay.key"].map(|name| dir.join(name));
        let there = [&authority, &authority_key, &chain, &key].into_iter().find(|path| path.exists());
        if let Some(path) = there {
            return Err(Failed::new(format!("{} is there already: nothing was written", path.display())));
        }
        let made = Made::new(&self.names)?;
        fs::create_dir_all(&dir).map_err(|error| named(&dir, &error))?;
        write(&authority, &made.authority, PUBLIC)?;
        write(&authority_key, &made.authority_key, SECRET)?;
        write(&chain, &made.chain, PUBLIC)?;
        write(&key, &made.key, SECRET)?;
        let name = self.names.first().map_or("", String::as_str);
        let host = if name.contains(':') { format!("[{name}]") } else { name.replacen('*', "relay", 1) };
        print(&format!(
            "An authority and a certificate for tests are in {dir}. For the settings:\n\n\
             [tls]\nlisten = [\"[::]:8443\", \"0.0.0.0:8443\"]\n\n\
             [[tls.certificate]]\nchain = {chain}\nkey = {key}\n\n\
             try: curl --cacert '{authority}' 'https://{host}:8443/activeupdate/server.ini'",
            dir = dir.display(),
            chain = quoted(&chain),
            key = quoted(&key),
            authority = authority.display(),
        ));
        Ok(())
    }
}

/// Who may read a file.
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// What is made, in PEM.
struct Made {
    authority: String,
    authority_key: String,
    chain: String,
    key: String,
}

impl Made {
    fn new(names: &[String]) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Forebay test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let authority = params.self_signed(&authority_key)?.pem();
        let authority_key_text = authority_key.serialize_pem();
        let issuer = Issuer::new(params, authority_key);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Forebay test relay");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { authority, authority_key: authority_key_text, chain, key: key.serialize_pem() })
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failed> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| named(path, &error))
}

/// A path as settings have it.
fn quoted(path: &Path) -> toml::Value {
    path.to_string_lossy().into_owned().into()
}

fn named(path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(format!("{}: {error}", path.display()))
}
