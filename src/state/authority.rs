//! The relay's own authority: it answers an agent's signing request with a client certificate.
//!
//! ```text
//! data/authority/authority.pem   its private key and its certificate: in one file, there is never one without the other
//! ```
//!
//! Never decides who may have a certificate, or which agent has one: whoever calls keeps the fingerprint. Losing it loses no agent, as
//! the agents are known by their certificates' fingerprints. Invariant: a file that is there is used or refused, and never replaced.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tracing::info;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::disk::Disk;
use crate::policy::identity::{Fingerprint, ISSUED};
use crate::policy::tree::id::AgentId;
use crate::state::signing_request::{RequestError, is_signed_by, proven_key};

/// The file in the authority's folder.
const FILE: &str = "authority.pem";

/// How long an authority lasts, in seconds: ten years, longer than the machines of a fleet.
const AUTHORITY_SECS: i64 = 3652 * 24 * 3600;

/// How long before they are made certificates begin to be valid, in seconds: the clocks of agents that look at their own, and of relays
/// that share a fleet, are behind by less than an hour.
const BACK_SECS: i64 = 3600;

/// Bytes of a serial number: random, so that nobody knows the next one (CA/Browser Forum, at least 64 bits; RFC 5280, at most 20 bytes).
const SERIAL_BYTES: usize = 16;

/// The end of what times in certificates can say (RFC 5280 section 4.1.2.5), in seconds since 1970: that of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// A key that signs agents' certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Its last second, since 1970.
    until: i64,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// In PEM, for the agent.
    pub certificate: String,
    /// What the agent is known by from now on.
    pub fingerprint: Fingerprint,
    /// Its last second.
    pub until: Timestamp,
}

/// Why there is no authority.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The file or its folder could not be used.
    #[error("the relay's authority: {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "the relay's authority: {path} is damaged: {reason}. Put it back from a copy, or move it away: then a new authority is made, and \
        agents keep the certificates that they have",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It could not be made.
    #[error("the relay's authority cannot be made: {0}")]
    Make(#[source] rcgen::Error),
}

/// Why no certificate was made.
#[derive(Debug, Error)]
pub enum SignError {
    /// The agent's request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Nothing that is signed now would be valid.
    #[error(
        "the relay's authority is no longer valid: move {FILE} in its folder away, and a new one is made at the next start; agents keep \
        the certificates that they have"
    )]
    Expired,
    /// It could not be signed.
    #[error("the certificate cannot be made: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// Opens the authority in this folder, or makes one where there is none. Whoever calls holds the data folder's lock. Blocks on the
    /// disk.
    pub fn open(disk: &Disk, folder: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let path = folder.join(FILE);
        let io = |path: &Path, source| AuthorityError::Io { path: path.to_owned(), source };
        if let Some(text) = disk.read(&path).map_err(|error| io(&path, error))? {
            return Self::parse(&text).map_err(|reason| AuthorityError::Damaged { path, reason });
        }
        let (made, text) = Self::make(now).map_err(AuthorityError::Make)?;
        disk.create_private_folder(folder).map_err(|error| io(folder, error))?;
        if let Some(above) = folder.parent() {
            disk.sync_folder(above).map_err(|error| io(above, error))?;
        }
        disk.write_whole_private(&path, text.as_bytes()).map_err(|error| io(&path, error))?;
        info!(fingerprint = %Fingerprint::of(&made.certificate), "an authority for agents' certificates was made");
        Ok(made)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Answers a signing request in PEM or DER with a certificate for this agent, valid until `validity` has passed, or until the
    /// authority's end if that comes first. Blocks for as long as a signature takes.
    pub fn sign(
        &self,
        request: &[u8],
        agent: &AgentId,
        now: Timestamp,
        validity: Duration,
    ) -> Result<Issued, SignError> {
        let key = proven_key(request)?;
        let now = now.as_second();
        if now >= self.until {
            return Err(SignError::Expired);
        }
        let until = now.saturating_add_unsigned(validity.as_secs()).min(self.until);
        let mut params = valid(now, until);
        params.distinguished_name.push(DnType::CommonName, agent.as_str());
        params.subject_alt_names =
            vec![SanType::URI(Ia5String::try_from(format!("{ISSUED}{}", agent.as_str()))?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let fingerprint = Fingerprint::of(certificate.der());
        let until = Timestamp::from_second(until).unwrap_or(Timestamp::MAX);
        Ok(Issued { certificate: certificate.pem(), fingerprint, until })
    }

    /// A new one, and its file's text.
    fn make(now: Timestamp) -> Result<(Self, String), rcgen::Error> {
        let now = now.as_second();
        let until = now.saturating_add(AUTHORITY_SECS).min(LAST_SECOND);
        let mut params = valid(now, until);
        // Relays that share a fleet have authorities of different names: whoever looks for an issuer looks by its name.
        let name = format!("Forebay agents {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let text = key.serialize_pem() + &certificate.pem();
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key)?;
        Ok((Self { issuer, certificate: certificate.der().clone(), until }, text))
    }

    /// What a parser says of a key may show some of it: the reasons are our own.
    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| "it holds no private key in PEM")?;
        let key = KeyPair::try_from(&key).map_err(|_| "its private key cannot be used")?;
        let certificate =
            CertificateDer::from_pem_slice(text).map_err(|_| "it holds no certificate in PEM")?;
        let unread = "its certificate cannot be read";
        let (rest, parsed) = X509Certificate::from_der(&certificate).map_err(|_| unread)?;
        if !rest.is_empty() {
            return Err(unread);
        }
        let public_key = key.subject_public_key_info();
        if parsed.public_key().raw != public_key {
            return Err("its key is not its certificate's");
        }
        // The authority signed itself, so this finds each bit of it that is another one. What stands outside of what is signed is
        // the kind of signature, which webpki compares with the one inside.
        let is_signed =
            is_signed_by(&public_key, parsed.tbs_certificate.as_ref(), &parsed.signature_value.data);
        if !is_signed || EndEntityCert::try_from(&certificate).is_err() {
            return Err("its certificate was changed");
        }
        if !parsed.is_ca() {
            return Err("its certificate is no authority's");
        }
        let until = parsed.validity().not_after.timestamp();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| unread)?;
        Ok(Self { issuer, certificate, until })
    }
}

/// A certificate's validity, from a little before `now` on, and its serial number.
fn valid(now: i64, until: i64) -> CertificateParams {
    let moment = |second: i64| {
        let second = second.clamp(0, LAST_SECOND).unsigned_abs();
        date_time_ymd(1970, 1, 1) + Duration::from_secs(second)
    };
    let mut serial: [u8; SERIAL_BYTES] = rand::random();
    // It is positive, and of this length (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x3f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = (moment(now.saturating_sub(BACK_SECS)), moment(until));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls_pki_types::UnixTime;
    use tempfile::TempDir;
    use webpki::{KeyUsage, anchor_from_trusted_cert};
    use x509_parser::extensions::GeneralName;

    use super::*;
    use crate::disk::Verdict;

    const NOW: i64 = 1_800_000_000;
    const YEAR: Duration = Duration::from_hours(365 * 24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn open(folder: &TempDir) -> Result<Authority, AuthorityError> {
        Authority::open(&Disk::default(), &folder.path().join("authority"), at(NOW))
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("authority").join(FILE)
    }

    fn request(params: &CertificateParams) -> Vec<u8> {
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn sign(authority: &Authority, now: i64) -> Result<Issued, SignError> {
        let agent = AgentId::parse("pc-7").unwrap();
        authority.sign(&request(&CertificateParams::default()), &agent, at(now), YEAR)
    }

    fn der(issued: &Issued) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
    }

    #[test]
    fn it_is_made_once_and_its_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = open(&folder).unwrap();
        assert_eq!(open(&folder).unwrap().certificate(), made.certificate());
        for (path, mode) in [(file(&folder), 0o600), (folder.path().join("authority"), 0o700)] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "{path:?}");
        }
        let (_, parsed) = X509Certificate::from_der(made.certificate()).unwrap();
        assert!(parsed.validity().not_before.timestamp() == NOW - BACK_SECS);
        assert_eq!(parsed.validity().not_after.timestamp(), NOW + AUTHORITY_SECS);
        let elsewhere = open(&tempfile::tempdir().unwrap()).unwrap();
        let (_, other) = X509Certificate::from_der(elsewhere.certificate()).unwrap();
        assert_ne!(parsed.subject(), other.subject());
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_certificate_is_a_clients_and_its_agents_whatever_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(&folder).unwrap();
        let mut wants = CertificateParams::new(vec!["relay.test".into()]).unwrap();
        wants.distinguished_name.push(DnType::CommonName, "somebody else");
        wants.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wants.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        wants.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let agent = AgentId::parse("pc-7").unwrap();
        let request = request(&wants);
        let issued = authority.sign(&request, &agent, at(NOW), YEAR).unwrap();
        let der = der(&issued);
        assert_eq!(issued.fingerprint, Fingerprint::of(&der));
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=pc-7");
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("urn:forebay:agent:pc-7")]);
        assert!(!parsed.is_ca() && !parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert_eq!(parsed.validity().not_before.timestamp(), NOW - BACK_SECS);
        assert_eq!(parsed.validity().not_after.timestamp(), issued.until.as_second());
        assert_eq!(issued.until.as_second(), NOW + YEAR.as_secs().cast_signed());
        // The same request again is another certificate.
        let again = authority.sign(&request, &agent, at(NOW), YEAR).unwrap();
        assert_ne!(again.fingerprint, issued.fingerprint);
    }

    #[test]
    fn what_it_signs_is_valid_by_it_and_by_no_other() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let issued = der(&sign(&open(&folder).unwrap(), NOW).unwrap());
        let valid = |authority: &Authority, now: i64| {
            let anchor = anchor_from_trusted_cert(authority.certificate()).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
            let ways = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
            let certificate = EndEntityCert::try_from(&issued).unwrap();
            let usage = KeyUsage::client_auth();
            certificate.verify_for_usage(ways, &[anchor], &[], now, usage, None, None).is_ok()
        };
        // It was opened anew, from its file.
        let authority = open(&folder).unwrap();
        assert!(valid(&authority, NOW) && valid(&authority, NOW - BACK_SECS));
        assert!(!valid(&authority, NOW - BACK_SECS - 1) && !valid(&authority, NOW + 366 * 24 * 3600));
        assert!(!valid(&open(&other).unwrap(), NOW));
    }

    #[test]
    fn nothing_is_valid_after_the_authoritys_end() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(&folder).unwrap();
        let end = NOW + AUTHORITY_SECS;
        assert_eq!(sign(&authority, end - 60).unwrap().until, at(end));
        assert!(matches!(sign(&authority, end), Err(SignError::Expired)));
        assert!(matches!(sign(&authority, Timestamp::MAX.as_second()), Err(SignError::Expired)));
        // Clocks that are far off.
        for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let folder = tempfile::tempdir().unwrap();
            Authority::open(&Disk::default(), folder.path(), now).unwrap();
        }
    }

    #[test]
    fn a_damaged_file_is_refused_by_name_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let whole = open(&folder).unwrap();
        let text = fs::read(file(&folder)).unwrap();
        let secret = whole.issuer.key().serialize_pem();
        let refused = |bytes: &[u8]| {
            fs::write(file(&folder), bytes).unwrap();
            let opened = open(&folder);
            assert_eq!(fs::read(file(&folder)).unwrap(), bytes);
            opened.map(|authority| authority.certificate).map_err(|error| error.to_string())
        };
        for len in 0..text.len() - 1 {
            // The certificate's last line may lack bytes of its end, which say nothing.
            let Err(said) = refused(&text[..len]) else { panic!("{len} of {}", text.len()) };
            assert!(said.contains(file(&folder).to_str().unwrap()), "{said}");
            assert!(secret.lines().skip(1).all(|line| !said.contains(line)), "{said}");
        }
        for index in 0..text.len() {
            let mut changed = text.clone();
            changed[index] ^= 1;
            // A change that says the same, such as one of a line's end, is none.
            if let Ok(certificate) = refused(&changed) {
                assert_eq!(certificate, whole.certificate, "byte {index}");
            }
        }
        let other = tempfile::tempdir().unwrap();
        let others = open(&other).map(|_| fs::read_to_string(file(&other)).unwrap()).unwrap();
        let own = String::from_utf8(text).unwrap();
        let at = |text: &str| text.find("-----BEGIN CERTIFICATE").unwrap();
        let mixed = own[..at(&own)].to_owned() + &others[at(&others)..];
        assert!(refused(mixed.as_bytes()).unwrap_err().contains("not its certificate's"));
    }

    #[test]
    fn a_disk_that_fails_at_any_step_leaves_none_or_a_whole_one() {
        for step in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let count = Arc::new(AtomicUsize::new(0));
            let counted = count.clone();
            let disk = Disk::with_seam(move |when, _| {
                let fails =
                    when == crate::disk::When::Before && counted.fetch_add(1, Ordering::Relaxed) == step;
                if fails { Verdict::Torn(10) } else { Verdict::Done }
            });
            let opened = Authority::open(&disk, &folder.path().join("authority"), at(NOW));
            let written = fs::read(file(&folder)).ok();
            let after = open(&folder).unwrap();
            assert_eq!(open(&folder).unwrap().certificate(), after.certificate());
            assert!(written.is_none_or(|bytes| bytes == fs::read(file(&folder)).unwrap()));
            if count.load(Ordering::Relaxed) <= step {
                assert_eq!(opened.unwrap().certificate(), after.certificate());
                assert!(step > 5, "it has more steps than that");
                return;
            }
            let said = opened.unwrap_err().to_string();
            assert!(said.contains(folder.path().to_str().unwrap()), "{said}");
        }
    }
}
