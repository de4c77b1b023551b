//! A relay that is named by the URL of its admin listener: whether a token may be sent there, whom TLS believes, what is shown.
//!
//! Never asks anybody. Invariant: without TLS, and unless somebody says otherwise, a URL that is given out leads to this machine: a
//! token is no secret to who stands on the way.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use url::{Host, Url};

use crate::base::address::normalised;
use crate::cli::Failed;
use crate::cli::client::client;
use crate::client::Client;
use crate::client::tls::Trust;
use crate::config::settings::{CertificateFiles, ClearText};
use crate::config::value::http_url;

/// A relay elsewhere.
#[derive(Debug, Default, Args)]
pub struct Remote {
    /// The relay whose administrators connect at this URL; else the variable `FOREBAY_URL` says it, where no folder is named.
    #[arg(
        long = "url",
        id = "relay_url",
        value_name = "URL",
        conflicts_with_all = ["data", "config"],
        help_heading = "Which relay",
        help = "A relay elsewhere: where its administrators connect, such as https://relay.example:8444; the variable FOREBAY_URL \
            names one too, where neither --data nor --config is given"
    )]
    url: Option<String>,
    /// The authorities that vouch for its certificate (PEM), in place of the system's.
    #[arg(long = "ca", id = "relay_ca", value_name = "FILE", help_heading = "Which relay")]
    ca: Option<PathBuf>,
    /// Your certificate (PEM), for a relay that knows you by it.
    #[arg(
        long = "cert",
        id = "relay_cert",
        value_name = "FILE",
        requires = "relay_key",
        help_heading = "Which relay"
    )]
    cert: Option<PathBuf>,
    /// The private key of your certificate (PEM).
    #[arg(
        long = "key",
        id = "relay_key",
        value_name = "FILE",
        requires = "relay_cert",
        help_heading = "Which relay"
    )]
    key: Option<PathBuf>,
    /// Send your token to another machine without TLS, where anybody on the way can read it.
    #[arg(long, help_heading = "Which relay")]
    allow_clear_text: bool,
}

/// The variable that holds a URL.
const VARIABLE: &str = "FOREBAY_URL";

/// Why a URL is refused: what [`NOT_LOOPBACK`](crate::config::admin_access::NOT_LOOPBACK) says to the relay, said to who types.
const CLEAR_TEXT: &str = "without TLS anybody on the way could read your token: use https, as admin.tls.listen gives it, or say \
    --allow-clear-text";

impl Remote {
    /// The URL that was typed, or that the variable holds; `None` where nobody says one.
    pub(super) fn url(&self) -> Result<Option<Url>, Failed> {
        let (text, from) = match &self.url {
            Some(text) => (text.clone(), "--url"),
            None => match std::env::var(VARIABLE) {
                Ok(text) => (text, VARIABLE),
                Err(_) => return Ok(None),
            },
        };
        let clear_text = if self.allow_clear_text { ClearText::Allow } else { ClearText::Refuse };
        let url = listener(&text, clear_text).map_err(|reason| {
            // What may be a password is not repeated.
            let shown = if text.contains('@') { "" } else { &*format!(" {}", text.escape_debug()) };
            Failed::new(format!(
                "{from}{shown}: {reason}; allowed: https://HOST:PORT, and on this machine http://HOST:PORT"
            ))
        })?;
        Ok(Some(url))
    }

    /// What asks it.
    pub(super) fn client(&self) -> Result<Client, Failed> {
        let trust = self.ca.clone().map_or(Trust::System, Trust::File);
        let own = self.cert.clone().zip(self.key.clone());
        client(&trust, own.map(|(chain, key)| CertificateFiles { chain, key }).as_ref())
    }

    /// Whether nothing was typed that is for a relay elsewhere alone.
    pub(super) fn is_left_out(&self) -> Result<(), Failed> {
        let Self { url: _, ca, cert, key: _, allow_clear_text } = self;
        match (ca, cert) {
            (None, None) if !allow_clear_text => Ok(()),
            _ => Err(Failed::new(format!(
                "--ca, --cert, --key and --allow-clear-text are for a relay that is named with --url or {VARIABLE}: the one of a data folder \
                 is asked on this machine"
            ))),
        }
    }
}

/// Reads the URL of an admin listener.
fn listener(text: &str, clear_text: ClearText) -> Result<Url, String> {
    let mut url = http_url(text)?;
    if url.path() != "/" {
        // It is more often the URL that agents have than that of a proxy with folders.
        return Err("it has a path, and the listener for administrators has none".into());
    }
    if url.scheme() == "https" {
        return Ok(url);
    }
    if url.host_str() == Some("localhost") {
        // Nobody is asked what its address is (RFC 6761 section 6.3).
        url.set_ip_host(Ipv4Addr::LOCALHOST.into()).map_err(|()| "no host".to_owned())?;
    }
    let address = match url.host() {
        Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
        Some(Host::Ipv6(v6)) => Some(normalised(v6.into())),
        Some(Host::Domain(_)) | None => None,
    };
    if clear_text == ClearText::Allow || address.is_some_and(|address| address.is_loopback()) {
        Ok(url)
    } else {
        Err(CLEAR_TEXT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        listener(text, ClearText::Refuse).map(|url| url.to_string())
    }

    #[test]
    fn clear_text_is_for_this_machine_alone_unless_it_is_allowed_r11_1() {
        for (text, as_url) in [
            ("https://relay.example:8444", "https://relay.example:8444/"),
            ("https://relay.example/", "https://relay.example/"),
            ("https://[2001:db8::1]:8444", "https://[2001:db8::1]:8444/"),
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081/"),
            ("http://127.3.2.1", "http://127.3.2.1/"),
            ("http://[::1]:8081/", "http://[::1]:8081/"),
            ("http://[::ffff:127.0.0.1]:8081", "http://[::ffff:7f00:1]:8081/"),
            ("http://LOCALHOST:8081", "http://127.0.0.1:8081/"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(as_url));
        }
        for text in [
            "http://192.0.2.1:8081",
            "http://0.0.0.0:8081",
            "http://[::]:8081",
            "http://[2001:db8::1]:8081",
            "http://[::ffff:192.0.2.1]:8081",
            "http://relay.example:8081",
            "http://localhost.example:8081",
            "http://evil.localhost:8081",
            "http://127.0.0.1.example/",
        ] {
            assert_eq!(read(text).unwrap_err(), CLEAR_TEXT, "{text}");
            assert!(listener(text, ClearText::Allow).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_url_of_an_admin_listener_is_an_origin_alone() {
        for (text, reason) in [
            ("relay.example:8444", "the scheme is 'relay.example'"),
            ("relay", "no URL"),
            ("ftp://relay/", "the scheme is 'ftp'"),
            ("https://relay/activeupdate/", "it has a path"),
            ("https://relay//", "it has a path"),
            ("https://relay/?a", "it has a query"),
            ("https://relay/#a", "or a fragment"),
            ("https://alice:secret@relay/", "credentials"),
            ("https://", "no URL"),
            ("https://relay:99999", "no URL"),
            ("https://re lay", "white space"),
            ("https://[fe80::1%25eth0]/", "no URL"),
            ("", "no URL"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
