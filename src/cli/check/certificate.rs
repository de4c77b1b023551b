//! What a server's certificate says of itself, for people and programs.
//!
//! Never decides whether it is trusted: that is rustls'. Invariant: what cannot be read is left out, whatever bytes were sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Names shown of one certificate: those of large hosters have hundreds.
const NAMES_MAX: usize = 8;

/// What stands in a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    names: Vec<String>,
    names_count: usize,
    issuer: String,
    until: Option<Timestamp>,
}

impl Shown {
    /// Reads a certificate in DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names: Vec<String> = match &alternative {
            Some(names) => names.value.general_names.iter().filter_map(name).collect(),
            None => vec![certificate.subject().to_string()],
        };
        Some(Self {
            names_count: names.len(),
            names: names.into_iter().take(NAMES_MAX).collect(),
            issuer: certificate.issuer().to_string(),
            until: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok(),
        })
    }

    /// In a few words; `now` tells how long it still holds.
    pub(super) fn words(&self, now: Timestamp) -> String {
        let more = match self.names_count.saturating_sub(self.names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let until = self.until.map_or_else(String::new, |until| {
            let days = until.duration_since(now).as_hours() / 24;
            let rest = if until < now { format!("{} days ago", -days) } else { format!("in {days} days") };
            format!(", expires {until} ({rest})")
        });
        format!("names {}{more}, from {}{until}", self.names.join(" "), self.issuer)
    }

    /// The same for programs.
    pub(super) fn value(&self) -> Value {
        json!({
            "names": self.names,
            "names_count": self.names_count,
            "issuer": self.issuer,
            "until": self.until.map(|until| until.to_string()),
        })
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            let v6 = <[u8; 16]>::try_from(*octets).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn names_issuer_and_end_are_those_of_the_certificate() {
        let mut names: Vec<String> = (0..9).map(|number| format!("au{number}.example")).collect();
        names.push("2001:db8::1".into());
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let shown = Shown::read(certificate.der()).unwrap();
        assert_eq!((shown.names_count, shown.names.len()), (10, 8));
        let words = shown.words("2030-01-01T00:00:00Z".parse().unwrap());
        assert!(
            words.starts_with("names au0.example ") && words.contains(" and 2 more, from CN="),
            "{words}"
        );
        assert!(words.ends_with("expires 2030-01-02T00:00:00Z (in 1 days)"), "{words}");
        let after = shown.words("2030-01-12T00:00:00Z".parse().unwrap());
        assert!(after.ends_with("(10 days ago)"), "{after}");
        assert_eq!(shown.value()["until"], "2030-01-02T00:00:00Z");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_none() {
        for bytes in [&b""[..], b"\x30", b"\x30\x82\xff\xff", &[0x30; 4096]] {
            assert_eq!(Shown::read(bytes), None);
        }
    }
}
