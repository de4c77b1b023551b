//! Stolen, damaged and oversize certificates.

use rcgen::{KeyPair, SanType};
use rustls::pki_types::CertificateDer;

use super::{Agent, NAMES, Site, VERSIONS, named};
use crate::authority::Authority;

#[test]
fn whoever_shows_anothers_certificate_has_no_connection() {
    let authority = Authority::new();
    let Agent { chain, .. } = Agent::signed(&authority, &named());
    let thief = Agent { chain, key: KeyPair::generate().unwrap() };
    let site = Site::new(vec![authority.file()]);
    for version in VERSIONS {
        let refused = site.meet_client(site.client(version, Some(&thief)).0).unwrap_err();
        assert!(refused.to_string().contains("BadSignature"), "{refused}");
    }
}

#[test]
fn hostile_certificates_do_no_harm_and_have_no_names_beyond_the_bounds() {
    let authority = Authority::new();
    let site = Site::new(vec![authority.file()]);
    let many = |count: usize| {
        let mut params = named();
        let names = (0..count).map(|index| format!("n{index}.test").try_into().unwrap());
        params.subject_alt_names = names.map(SanType::DnsName).collect();
        Agent::signed(&authority, &params)
    };
    let good = Agent::signed(&authority, &named());
    let damaged = |from: usize, value: u8| {
        let mut bytes = good.chain[0].to_vec();
        bytes[from] = value;
        Agent { chain: vec![bytes.into()], key: KeyPair::generate().unwrap() }
    };
    let longer = |count: usize| {
        let Agent { mut chain, key } = Agent::signed(&authority, &named());
        chain.extend(vec![chain[0].clone(); count]);
        Agent { chain, key }
    };
    let junk = || {
        let Agent { mut chain, key } = Agent::signed(&authority, &named());
        chain.extend(vec![CertificateDer::from(vec![0x30; 1500]); 7]);
        Agent { chain, key }
    };
    for version in VERSIONS {
        let names = site.sees(version, Some(&many(1000))).unwrap().names;
        assert_eq!(names.len(), 16);
        for within in [longer(7), junk()] {
            assert_eq!(site.sees(version, Some(&within)).unwrap().names.len(), NAMES.len());
        }
        for (beyond, reason) in [
            (many(4000), "ApplicationVerificationFailure"),
            (longer(8), "ApplicationVerificationFailure"),
            (many(50_000), "HandshakePayloadTooLarge"),
            (longer(200), "HandshakePayloadTooLarge"),
            (damaged(0, 0x31), "BadEncoding"),
            (damaged(1, 0x7f), "BadEncoding"),
        ] {
            let refused = site.meet_client(site.client(version, Some(&beyond)).0).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        assert_eq!(site.sees(version, Some(&good)), Some(good.as_seen(NAMES)));
    }
}
