//! A client's certificate as it is read: the bounds of what may be shown, and the names in it.
//!
//! Never decides whether the names count. Invariant: whatever bytes a client shows, what is kept of them is bounded.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::policy::identity::{ISSUED, Validity};

/// Certificates that a client may show: its own, and those between it and its authority. Chains have two or three.
const CHAIN_MAX: usize = 8;

/// Their bytes: eight certificates of RSA keys, and ten times what most have. A connection holds them as long as it lasts, and so does
/// each ticket that goes to the client, whose length has 16 bits (RFC 8446 section 4.6.1).
const CHAIN_BYTES_MAX: usize = 16 << 10;

/// Names that count of one certificate, those of most machines being one or two.
const NAMES_MAX: usize = 16;

/// Bytes of a name that counts: a DNS name has no more (RFC 1035 section 2.3.4), and a URI that names an agent is short.
const NAME_BYTES_MAX: usize = 256;

/// Whether a chain is within the bounds.
pub(super) fn is_bounded(first: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> bool {
    let bytes = others.iter().fold(first.len(), |sum, one| sum.saturating_add(one.len()));
    others.len() < CHAIN_MAX && bytes <= CHAIN_BYTES_MAX
}

/// Whether a certificate says that it is a client's (RFC 5280 section 4.2.1.12). One that says nothing of its use may be a server's.
pub(super) fn is_a_clients(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    matches!(certificate.extended_key_usage(), Ok(Some(usage)) if usage.value.client_auth)
}

/// Whether a certificate is valid at a moment, in seconds since 1970; one that cannot be read never is.
pub(super) fn validity(certificate: &CertificateDer<'_>, now: i64) -> Validity {
    let read = X509Certificate::from_der(certificate);
    let valid = read.is_ok_and(|(_, certificate)| {
        let validity = certificate.validity();
        (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
    });
    if valid { Validity::Valid } else { Validity::Past }
}

/// The first names in it that may name an agent; none where it cannot be read.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let uris = certificate.valid_uri_names().filter(|uri| may_name(uri)).map(Into::into);
    let hosts =
        certificate.valid_dns_names().filter(|name| name.len() <= NAME_BYTES_MAX && !name.contains('*'));
    uris.chain(hosts.map(|name| name.to_ascii_lowercase().into())).take(NAMES_MAX).collect()
}

fn may_name(uri: &str) -> bool {
    let schemed = uri.split_once(':').is_some_and(|(scheme, _)| {
        // RFC 3986 section 3.1.
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    // The two first parts of a URN are the same in any case (RFC 8141 section 3.1).
    let issued = uri.get(..ISSUED.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(ISSUED));
    schemed && !issued && uri.len() <= NAME_BYTES_MAX && uri.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};

    use super::*;

    fn made(names: impl IntoIterator<Item = SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.into_iter().collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).unwrap())
    }

    fn host(text: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(text).unwrap())
    }

    fn read(names: impl IntoIterator<Item = SanType>) -> Vec<String> {
        super::names(&made(names)).into_iter().map(Into::into).collect()
    }

    #[test]
    fn uris_and_dns_names_are_names_and_nothing_else_is() {
        let address = SanType::IpAddress([192, 0, 2, 1].into());
        let mail = SanType::Rfc822Name(Ia5String::try_from("pc@corp.test").unwrap());
        let all = [address, mail, host("PC-7.Corp.Test"), uri("urn:uuid:7"), uri("spiffe://Corp/PC")];
        assert_eq!(read(all), ["urn:uuid:7", "spiffe://Corp/PC", "pc-7.corp.test"]);
        assert!(read([]).is_empty());
    }

    #[test]
    fn what_could_be_taken_for_another_name_is_none() {
        for text in [
            "pc.corp.test",
            "",
            ":pc",
            "7:pc",
            "a b:pc",
            "urn:pc 7",
            "urn:pc\n",
            "urn:pc\0",
            "urn:forebay:agent:pc",
            "URN:Forebay:AGENT:pc",
            "urn:forebay:agent:",
        ] {
            assert!(read([uri(text)]).is_empty(), "{text:?}");
        }
        for text in ["*.corp.test", "pc corp.test", "", ".", "pc..test", "-", "pc.test\0"] {
            assert!(read([host(text)]).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn names_have_bounds() {
        let many: Vec<_> = (0..40).map(|index| host(&format!("pc-{index}.test"))).collect();
        assert_eq!(read(many.clone()).len(), NAMES_MAX);
        // A URI has its place before any number of others.
        assert_eq!(read(many.into_iter().chain([uri("urn:pc")]))[0], "urn:pc");
        let fits = format!("urn:{}", "a".repeat(NAME_BYTES_MAX - 4));
        let too_long = format!("{fits}a");
        assert_eq!(read([uri(&too_long), uri(&fits)]), [fits]);
    }

    #[test]
    fn names_behind_bytes_that_are_none_do_not_count() {
        let good = made([host("aa.test"), host("bb.test")]);
        let at = good.windows(7).position(|seven| seven == b"bb.test").unwrap();
        for (change, value) in [(at - 1, 0x7f), (at - 2, 0x1f), (at - 1, 0), (at, 0xff)] {
            let mut bytes = good.to_vec();
            bytes[change] = value;
            let names = super::names(&bytes.into());
            assert!(names.iter().all(|name| &**name == "aa.test"), "{names:?}");
        }
        for len in 0..good.len() {
            assert!(super::names(&good[..len].into()).is_empty(), "{len}");
        }
    }

    #[test]
    fn a_clients_certificate_says_so() {
        use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        for (usages, is) in [
            (&[ClientAuth][..], true),
            (&[ServerAuth, ClientAuth], true),
            (&[ServerAuth], false),
            (&[Any], false),
            (&[], false),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.extended_key_usages = usages.to_vec();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(is_a_clients(certificate.der()), is, "{usages:?}");
        }
        assert!(!is_a_clients(&b"junk".as_slice().into()));
    }

    #[test]
    fn a_chain_has_bounds() {
        let bytes = |len: usize| CertificateDer::from(vec![0; len]);
        let seven = || vec![bytes(1); CHAIN_MAX - 1];
        assert!(is_bounded(&bytes(1), &seven()));
        assert!(!is_bounded(&bytes(1), &vec![bytes(1); CHAIN_MAX]));
        assert!(is_bounded(&bytes(CHAIN_BYTES_MAX - 7), &seven()));
        assert!(!is_bounded(&bytes(CHAIN_BYTES_MAX - 6), &seven()));
    }
}
