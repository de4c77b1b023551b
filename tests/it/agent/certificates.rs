//! Agents that are known by a certificate: from files, and of the relay's own making, renewed in time (R5.5).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use forebay::agent::folder::Place;
use forebay::agent::progress::Progress;
use forebay::agent::relay::Went;
use forebay::agent::status::Status;
use forebay::agent::{Asked, Updater};
use forebay::config::agent::KnownBy;
use forebay::disk::Disk;
use forebay::policy::check_in::Why;
use forebay::policy::identity::Fingerprint;
use forebay::policy::secret::SecretHash;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::keys::Key;
use forebay::policy::tree::setting::Values;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::machine::{Ahead, ID, Machine, Told, open};
use crate::agents::{agent, change, domain};
use crate::authority::Authority;

/// The files that an administrator gives an agent.
struct Given {
    certificate: PathBuf,
    key: PathBuf,
}

impl Given {
    fn new(machine: &Machine) -> Self {
        let path = |name: &str| machine.folder().join(name);
        Self { certificate: path("given.pem"), key: path("given.key") }
    }

    fn known_by(&self) -> KnownBy {
        KnownBy::Files { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// Puts a new one there, which names the agent; its fingerprint.
    fn put(&self, authority: Option<&Authority>) -> Fingerprint {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![ID.into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = match authority {
            Some(authority) => authority.issue(&params, &key),
            None => params.self_signed(&key).unwrap(),
        };
        fs::write(&self.certificate, made.pem()).unwrap();
        fs::write(&self.key, key.serialize_pem()).unwrap();
        Fingerprint::of(made.der())
    }
}

/// Whether the relay has heard of the agent, and by which certificate it knows it.
fn known(machine: &mut Machine) -> Option<Fingerprint> {
    let agents = machine.relay.handle().agents().unwrap();
    agents.state().current().tree().agent(&agent(ID)).unwrap().keys?.certificate
}

fn is_heard(machine: &mut Machine) -> bool {
    machine.relay.handle().agents().unwrap().seen().heard(&agent(ID)).is_some()
}

fn give(machine: &mut Machine, key: Key) {
    change(&mut machine.relay, vec![Action::GiveKey { agent: agent(ID), key }]);
}

fn refused(told: &Told) -> String {
    told.outcome.as_ref().unwrap_err().to_string()
}

fn renewed(told: &Told) -> bool {
    told.progress.iter().any(|said| matches!(said, Progress::Certificate { .. }))
}

#[test]
fn an_agent_is_known_by_a_certificate_of_its_administrator_and_by_the_next_in_its_place_r5_5() {
    let authority = Authority::new();
    let mut machine = Machine::secure(&authority);
    let given = Given::new(&machine);
    let settings = machine.known(&authority, given.known_by());
    let missing = Updater::open(settings.clone()).unwrap_err().to_string();
    assert!(missing.contains("given.pem"), "{missing}");
    let fingerprint = given.put(None);
    let add = Action::AddAgent { agent: agent(ID), domain: domain(1), values: Values::default() };
    change(
        &mut machine.relay,
        vec![add, Action::GiveKey { agent: agent(ID), key: Key::Certificate(fingerprint) }],
    );

    let updater = open(settings.clone());
    let told = machine.update_by(&updater, Asked::everything(Why::Start));
    assert_eq!(told.ended().result, Went::Updated, "{}", told.ended().detail);
    machine.check_has(1);
    assert!(is_heard(&mut machine) && !machine.folder().join("token").exists());
    let place = Place::new(machine.folder().to_owned(), Disk::default());
    let status = Status::read(&settings, &place, jiff::Timestamp::now()).unwrap();
    assert_eq!(status.agent, Some(agent(ID)));
    assert!(status.certificate_until.unwrap() > jiff::Timestamp::now());

    // Another one in the same files counts with the next update, once the relay knows it.
    let next = given.put(None);
    let told = machine.update_by(&updater, Asked::everything(Why::Start));
    assert!(refused(&told).contains("403"), "{}", refused(&told));
    give(&mut machine, Key::Certificate(next));
    let told = machine.update_by(&updater, Asked::everything(Why::Start));
    assert_eq!(told.ended().result, Went::UpToDate);
    // One that an authority vouches for needs no such change; and files that do not fit change nothing.
    given.put(Some(&authority));
    let vouched = fs::read(&given.key).unwrap();
    let told = machine.update_by(&updater, Asked::everything(Why::Start));
    assert_eq!(told.ended().result, Went::UpToDate);
    given.put(None);
    fs::write(&given.key, vouched).unwrap();
    let told = machine.update_by(&updater, Asked::everything(Why::Start));
    assert_eq!(told.ended().result, Went::UpToDate);
    drop(updater);
    let said = Updater::open(settings).unwrap_err().to_string();
    assert!(said.contains("given.key") && !said.contains("BEGIN"), "{said}");
}

#[test]
fn the_relay_makes_a_certificate_for_a_key_that_stays_and_it_counts_in_place_of_the_token_r5_5() {
    let authority = Authority::new();
    let mut machine = Machine::secure(&authority);
    machine.enrol();
    let settings = machine.known(&authority, KnownBy::OwnCertificate);
    let path = machine.folder().join("certificate.pem");
    let fingerprint = || Fingerprint::of(&CertificateDer::from_pem_file(&path).unwrap());
    let told = machine.update_with(settings.clone(), Why::Start);
    assert_eq!(told.ended().result, Went::Updated, "{}", told.ended().detail);
    assert!(renewed(&told));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(known(&mut machine), Some(fingerprint()));

    // With another secret in the tree, the token shows nobody; the certificate does.
    let secret = |text: &str| Key::Secret(SecretHash::of(text.as_bytes()));
    let token = fs::read_to_string(machine.folder().join("token")).unwrap();
    give(&mut machine, secret("another"));
    let told = machine.update_with(settings.clone(), Why::Start);
    assert_eq!((told.ended().result, renewed(&told)), (Went::UpToDate, false));
    let told = machine.update(Why::Start);
    assert!(refused(&told).contains("401"), "{}", refused(&told));

    // In time the next one is asked for, by the token; where that fails, the old one still counts.
    let later = |machine: &Machine| {
        let place = Place::new(machine.folder().to_owned(), Disk::default());
        let updater = Updater::open_on(settings.clone(), place, Ahead::by_days(300)).unwrap();
        machine.update_by(&updater, Asked::everything(Why::Start))
    };
    let old = fs::read(&path).unwrap();
    give(&mut machine, secret(token.trim().split_once('~').unwrap().1));
    let told = later(&machine);
    assert_eq!((told.ended().result, renewed(&told)), (Went::UpToDate, true));
    assert_ne!(fs::read(&path).unwrap(), old);
    assert_eq!(known(&mut machine), Some(fingerprint()));
    let told = machine.update_with(settings.clone(), Why::Start);
    assert_eq!((told.ended().result, renewed(&told)), (Went::UpToDate, false));

    // An agent whose certificate the relay knows no longer has another made, by itself.
    give(&mut machine, Key::Certificate(Fingerprint::of(b"another")));
    let told = machine.update_with(settings.clone(), Why::Start);
    assert!(refused(&told).contains("403"), "{}", refused(&told));
    let told = machine.update_with(settings.clone(), Why::Start);
    assert_eq!((told.ended().result, renewed(&told)), (Went::UpToDate, true));
    // A damaged file is one that is not there.
    fs::write(&path, "-----BEGIN").unwrap();
    let told = machine.update_with(settings.clone(), Why::Start);
    assert_eq!((told.ended().result, renewed(&told)), (Went::UpToDate, true));
    // Who is shut out is, whatever it shows.
    change(&mut machine.relay, vec![Action::Revoke { agents: vec![agent(ID)] }]);
    for _ in 0..2 {
        assert!(machine.update_with(settings.clone(), Why::Start).outcome.is_err());
    }
}
