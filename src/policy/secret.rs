//! Secrets that agents and users show, as the relay knows them: by their hashes.
//!
//! A secret has 256 random bits and is made by the program, never by a person: it cannot be guessed, so its hash needs no salt and
//! may be a fast one. Never keeps a secret. Invariant: how long a comparison takes says nothing of what is compared.

use std::fmt;
use std::str::FromStr;

use rand::TryCryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The BLAKE3 hash of a secret, written as 64 lower-case hexadecimal digits. Hashes compare in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(blake3::Hash);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a secret's hash is 64 lower-case hexadecimal digits")]
pub struct SecretHashError;

/// What is shown to be known by: whose it is, and the secret; written `ID~SECRET`, of characters that URLs and headers take as
/// they are (RFC 3986 section 2.3, RFC 6750 section 2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Whose it claims to be.
    pub id: &'a str,
    /// The secret.
    pub secret: &'a str,
}

/// Stands between the id and the secret.
pub const BETWEEN: u8 = b'~';

/// The longest token: an id, the mark, a secret.
pub const TOKEN_BYTES_MAX: usize = 63 + 1 + SECRET_DIGITS;

const SECRET_DIGITS: usize = 64;

impl SecretHash {
    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(blake3::hash(secret))
    }

    /// In place of the hash of what does not exist, so that there is something to compare with.
    pub const NOBODYS: Self = Self(blake3::Hash::from_bytes([0; blake3::OUT_LEN]));
}

/// A new secret: 256 random bits as hexadecimal digits, which pass through URLs, shells and forms as they are.
pub fn new_secret(random: &mut impl TryCryptoRng) -> Result<String, std::io::Error> {
    let mut bits = [0; 32];
    random.try_fill_bytes(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(blake3::Hash::from_bytes(bits).to_hex().to_string())
}

impl<'a> Token<'a> {
    /// Reads a token; `None` where the text is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.split_once(char::from(BETWEEN)).filter(|_| text.len() <= TOKEN_BYTES_MAX)?;
        let digits = secret.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (secret.len() == SECRET_DIGITS && digits).then_some(Self { id, secret })
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.id, char::from(BETWEEN), self.secret)
    }
}

/// Without the secret.
impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.id)
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_hex().as_str())
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SecretHash {
    type Err = SecretHashError;

    fn from_str(text: &str) -> Result<Self, SecretHashError> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(SecretHashError);
        }
        blake3::Hash::from_hex(text).map(Self).map_err(|_| SecretHashError)
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_an_id_and_a_whole_secret_and_never_shows_it() {
        let secret = "0123456789abcdef".repeat(4);
        let text = format!("pc-1.example~{secret}");
        let token = Token::parse(&text).unwrap();
        assert_eq!((token.id, token.secret), ("pc-1.example", &*secret));
        assert_eq!(token.to_string(), text);
        assert!(!format!("{token:?}").contains("0123"));
        let upper = text.to_uppercase();
        let long = format!("{}~{secret}", "a".repeat(64));
        for text in ["", "~", "pc-1", &secret, &text[..text.len() - 1], &upper, &long, &format!("{text}0")] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_hash_reads_back_as_itself_and_two_secrets_differ() {
        let mut random = rand::rngs::SysRng;
        let (one, other) = (new_secret(&mut random).unwrap(), new_secret(&mut random).unwrap());
        assert_ne!(one, other);
        assert!(Token::parse(&format!("a~{one}")).is_some());
        let hash = SecretHash::of(one.as_bytes());
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_ne!(hash, SecretHash::of(other.as_bytes()));
        assert_eq!(hash.to_string().to_uppercase().parse::<SecretHash>(), Err(SecretHashError));
    }
}
