//! What parent proxies are told of who asks: `user:password`, from a file.
//!
//! Never shows a secret: neither errors nor debug output hold a byte of one. Invariant: what was read can be sent to every
//! kind of parent that it is for.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use headers::Authorization;
use headers::authorization::Credentials as _;
use hyper::header::HeaderValue;
use thiserror::Error;
use tracing::warn;

use crate::config::elsewhere::ParentScheme;

/// The largest file of credentials, in bytes: a line with a name and a password is far shorter, and a larger file is a mistake.
const FILE_BYTES_MAX: u64 = 4096;

/// The longest name or password that SOCKS5 has (RFC 1929), in bytes.
const SOCKS_BYTES_MAX: usize = 255;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

/// Why a file of credentials cannot be used.
#[derive(Debug, Error)]
#[error("route.credentials {path}: {reason}", path = path.display())]
pub struct CredentialsError {
    path: PathBuf,
    reason: String,
}

impl Credentials {
    /// Reads the first line of a file, for parents that speak this.
    pub fn read(path: &Path, scheme: ParentScheme) -> Result<Self, CredentialsError> {
        let refuse = |reason: String| CredentialsError { path: path.to_owned(), reason };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| refuse(error.to_string()))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(refuse("larger than a line with a name and a password".into()));
        }
        if metadata.is_file() && metadata.permissions().mode() & READ_BY_OTHERS != 0 {
            warn!(file = %path.display(), "the file of credentials may be read by everybody: 'chmod 0600' keeps it secret");
        }
        Self::parse(&bytes, scheme).map_err(|reason| refuse(reason.into()))
    }

    fn parse(bytes: &[u8], scheme: ParentScheme) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "its text is not UTF-8")?;
        let line = text.lines().next().unwrap_or_default();
        let (user, password) = line.split_once(':').ok_or("its first line is not user:password")?;
        if user.is_empty() {
            return Err("its first line names no user before the ':'");
        }
        if line.chars().any(char::is_control) {
            return Err("its first line has control characters");
        }
        if scheme == ParentScheme::Socks5 {
            let fits = |text: &str| (1..=SOCKS_BYTES_MAX).contains(&text.len());
            if !fits(user) || !fits(password) {
                return Err("a SOCKS5 parent takes a user and a password of 1 to 255 bytes each");
            }
        }
        Ok(Self { user: user.to_owned(), password: password.to_owned() })
    }

    /// Who asks.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The secret.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// What `Proxy-Authorization` says (RFC 7617).
    pub(super) fn basic(&self) -> HeaderValue {
        let mut value = Authorization::basic(&self.user, &self.password).0.encode();
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// The permission of those who are neither owner nor of the group.
const READ_BY_OTHERS: u32 = 0o004;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Credentials, &'static str> {
        Credentials::parse(text.as_bytes(), ParentScheme::Http)
    }

    #[test]
    fn the_first_line_is_user_and_password_with_whatever_line_end_r4_5() {
        for text in ["relay:s:3 cret", "relay:s:3 cret\n", "relay:s:3 cret\r\n", "relay:s:3 cret\nnotes\n"] {
            let read = parse(text).unwrap();
            assert_eq!((read.user(), read.password()), ("relay", "s:3 cret"), "{text:?}");
        }
        // RFC 7617, section 2.
        assert_eq!(parse("Aladdin:open sesame").unwrap().basic(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(parse("relay:").unwrap().password(), "", "HTTP has empty passwords");
    }

    #[test]
    fn what_is_no_line_of_credentials_is_refused_without_a_word_of_it_r4_5() {
        let long = format!("relay:{}", "s".repeat(256));
        for (bytes, scheme) in [
            (&b""[..], ParentScheme::Http),
            (b"\nrelay:3cret", ParentScheme::Http),
            (b"3cret", ParentScheme::Http),
            (b":3cret", ParentScheme::Http),
            (b"relay:3cret\x07", ParentScheme::Http),
            (b"relay:3cret\xff", ParentScheme::Http),
            (b"relay:", ParentScheme::Socks5),
            (long.as_bytes(), ParentScheme::Socks5),
        ] {
            let reason = Credentials::parse(bytes, scheme).unwrap_err();
            assert!(!reason.contains("3cret") && !reason.contains("sss"), "{reason}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_named_and_secrets_do_not_show_r4_5() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parent");
        let missing = Credentials::read(&path, ParentScheme::Http).unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()) && missing.contains("No such file"), "{missing}");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        let large = Credentials::read(&path, ParentScheme::Http).unwrap_err().to_string();
        assert!(large.contains("larger") && large.contains("route.credentials"), "{large}");
        std::fs::write(&path, "relay:3cret\n").unwrap();
        let read = Credentials::read(&path, ParentScheme::Socks5).unwrap();
        assert!(!format!("{read:?}{:?}", read.basic()).contains("3cret"), "{read:?}");
        assert!(!format!("{:?}", read.basic()).contains("cmVsYXk"));
    }
}
