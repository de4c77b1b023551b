//! What a TLS client certificate says of whoever shows it: its fingerprint, and names where an authority vouches for them.
//!
//! Never decides which agent that is. Invariant: a fingerprint has one spelling, however it was read.

use std::fmt;
use std::str::FromStr;

use ring::digest;
use thiserror::Error;

/// 32 bytes of SHA-256 over a certificate's DER, written as 64 lower-case hexadecimal digits.
///
/// SHA-256, and not BLAKE3 as elsewhere: administrators read fingerprints off other programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// The text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a fingerprint is the SHA-256 of a certificate: 64 lower-case hexadecimal digits, or 32 upper-case pairs with colons \
    between them, as `openssl x509 -fingerprint -sha256` prints them"
)]
pub struct FingerprintError;

/// What a connection's certificate says, once its owner has shown to have the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What the certificate is known by, whoever issued it.
    pub fingerprint: Fingerprint,
    /// Its URIs, and its DNS names in lower case (RFC 5280 section 4.2.1.6), where an authority of the settings vouches for them;
    /// else none. At most 16, each of 1 to 256 bytes of printable ASCII. A URI has a scheme, so that none is taken for a DNS name;
    /// those that begin with [`ISSUED`] are left out, and so are wildcards, which name nobody.
    pub names: Vec<Box<str>>,
    /// Whether it is valid at this time.
    pub validity: Validity,
}

/// Whether a certificate is valid (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is.
    Valid,
    /// It is not yet, or not any more.
    Past,
}

/// What the URI in a certificate of a relay's own authority begins with; an agent's id follows. Such a certificate is known by its
/// fingerprint alone, whoever vouches for that authority: a name could not be revoked.
pub const ISSUED: &str = "urn:forebay:agent:";

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, certificate);
        Self(hash.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }

    /// The 32 bytes themselves.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (step, ten) = match text.len() {
            64 => (2, b'a'),
            95 => (3, b'A'),
            _ => return Err(FingerprintError),
        };
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            _ if (ten..ten + 6).contains(&byte) => Ok(byte - ten + 10),
            _ => Err(FingerprintError),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(step)) {
            if pair.get(2).is_some_and(|&between| between != b':') {
                return Err(FingerprintError);
            }
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc" (FIPS 180-4, example of one block).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn with_colons(text: &str) -> String {
        let text = text.to_uppercase();
        let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        pairs.collect::<Vec<_>>().join(":")
    }

    #[test]
    fn a_fingerprint_is_sha_256_and_reads_back_in_both_spellings() {
        let fingerprint = Fingerprint::of(b"abc");
        assert_eq!(fingerprint.to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(fingerprint));
        assert_eq!(with_colons(ABC).parse(), Ok(fingerprint));
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(json, format!("\"{ABC}\""));
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
    }

    #[test]
    fn any_other_spelling_is_no_fingerprint() {
        let colons = with_colons(ABC);
        let not_ascii = format!("{}é", &ABC[..62]);
        for text in [
            "",
            &ABC[1..],
            &format!("{ABC}0"),
            &ABC.to_uppercase(),
            &ABC.replacen('b', "g", 1),
            &ABC.replacen('b', "A", 1),
            &not_ascii,
            &colons.to_lowercase(),
            &colons.replacen(':', "-", 1),
            &colons.replacen(':', "0", 1),
            &format!("{}:", &colons[..94]),
            &format!(":{}", &colons[..94]),
            &format!("sha256:{ABC}"),
            &format!(" {}", &ABC[1..]),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }
}
