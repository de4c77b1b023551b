//! Certificates of others, and sessions that outlive what they began with (R5.5).

use std::sync::Arc;

use super::line::{Certificate, HERE, Site};
use super::*;
use crate::authority::{self, shake_hands};

#[test]
fn a_certificate_without_its_key_or_of_another_authority_shows_nobody_r5_5() {
    let mut site = Site::new();
    let address = site.relay.handle().running().tls[0];
    let status = |stream: &mut authority::Stream| {
        let (head, _) = authority::get(stream, PATTERN);
        head.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for at in [0, 1] {
        let real = &site.certificates(2)[at];
        let stolen =
            Certificate { certificate: real.certificate.clone(), key: rcgen::KeyPair::generate().unwrap() };
        let met = shake_hands(Arc::new(site.shows(&stolen)), address, HERE);
        // The client is done with TLS 1.3 before the relay has judged it.
        let refused = met.and_then(|mut stream| std::io::Read::read(&mut stream, &mut [0]));
        assert!(refused.is_err(), "{refused:?}");
    }
    let others = authority::Authority::new();
    for forged in [Certificate::naming(&others, "all"), Certificate::self_signed("all")] {
        let mut stream = shake_hands(Arc::new(site.shows(&forged)), address, HERE).unwrap();
        assert_eq!(status(&mut stream), 403);
    }
    // A certificate counts before a token, and a wrong one is not passed over for it.
    let mut line = site.secure(site.shows(&Certificate::naming(&others, "all")));
    let token = bearer(&token("all"));
    assert_eq!(line.ask("GET", "pattern/vsapi329.zip", &[("authorization", &token)]).status, 403);
}

#[test]
fn a_resumed_session_shows_nobody_once_its_agent_is_revoked_r5_5() {
    for at in [0, 1] {
        let mut site = Site::new();
        let address = site.relay.handle().running().tls[0];
        let config = Arc::new(site.shows(&site.certificates(0)[at]));
        let ask = || {
            let mut stream = shake_hands(config.clone(), address, HERE).unwrap();
            let (head, _) = authority::get(&mut stream, PATTERN);
            (head.split(' ').nth(1).unwrap().to_owned(), stream.conn.handshake_kind().unwrap())
        };
        let (full, resumed) = (rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed);
        assert_eq!([ask(), ask()], [("200".into(), full), ("200".into(), resumed)]);
        change(&mut site.relay, vec![Action::Revoke { agents: vec![agent("patterns")] }]);
        assert_eq!(ask(), ("403".into(), resumed));
    }
}
