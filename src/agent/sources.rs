//! The sources that the relay tells, as they are asked: which URL, through which proxy, by whom.
//!
//! Invariant: what the agent is known by goes to its relay alone; its token in clear text only where the settings say to reach the relay
//! so, its certificate never.

use url::{Host, Url};

use crate::agent::told::{Reason, ToldSource};
use crate::base::path::PATH_ESCAPED;
use crate::client::{Shows, Through};

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// With `/` at its end.
    pub(super) base: Url,
    pub(super) through: Option<Through>,
    /// What it is shown, where it is the relay.
    pub(super) shows: Shows,
    pub(super) reason: Reason,
}

/// Who asks: the relay of the settings, what that is shown, and the user's own proxy where it counts.
#[derive(Clone, Debug)]
pub(super) struct Asking<'a> {
    pub(super) relay: &'a Url,
    pub(super) shows: Shows,
    pub(super) own_proxy: Option<&'a Through>,
}

impl Source {
    /// The URL of a file of a tree.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let path = percent_encoding::utf8_percent_encode(path, PATH_ESCAPED);
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}

impl Asking<'_> {
    /// A source as it is asked.
    pub(super) fn source(&self, told: &ToldSource) -> Source {
        let is_relay = told.reason == Reason::Relay;
        let base = with_slash(if is_relay { self.reached(&told.url) } else { told.url.clone() });
        let shows = if is_relay { self.shown_to(&base) } else { Shows::Nothing };
        let through = match &told.through {
            Some(proxy) => {
                let url = self.reached(proxy);
                Some(Through { shows: self.shown_to(&url), url })
            }
            // The relay was reached without it, and its token is not for a proxy to see.
            None => self.own_proxy.filter(|_| !is_relay).cloned(),
        };
        Source { base, through, shows, reason: told.reason }
    }

    /// The relay names itself by the address at which it was reached, where it has no public name: the settings' host leads there too,
    /// and is the one that its certificate is for.
    fn reached(&self, told: &Url) -> Url {
        let by_address = matches!(told.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
        if !by_address || told.scheme() != self.relay.scheme() {
            return told.clone();
        }
        let mut url = self.relay.clone();
        url.set_path(told.path());
        url
    }

    /// What the relay is shown at a URL. Whoever could read it there could read it nowhere else gets it.
    fn shown_to(&self, url: &Url) -> Shows {
        let is_secure = url.scheme() == "https";
        let may = match &self.shows {
            Shows::Nothing => false,
            Shows::Authorization(_) => is_secure || self.relay.scheme() == "http",
            Shows::Certificate => is_secure,
        };
        if may { self.shows.clone() } else { Shows::Nothing }
    }
}

fn with_slash(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::relay::Secret;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn told(reason: Reason, at: &str, through: Option<&str>) -> ToldSource {
        ToldSource { url: url(at), reason, through: through.map(url) }
    }

    #[test]
    fn what_the_agent_is_known_by_goes_to_the_relay_alone_and_never_into_clear_text_instead_of_tls_r7() {
        let secret = Secret::parse(&format!("pc-1~{}", "0123456789abcdef".repeat(4))).unwrap();
        let token = Shows::Authorization(secret.bearer());
        for (relay, at, reason, shown) in [
            ("https://relay.test:8443/", "https://192.0.2.1:8443/a/", Reason::Relay, true),
            ("https://relay.test/", "https://public.test/a/", Reason::Relay, true),
            ("https://relay.test/", "http://public.test/a/", Reason::Relay, false),
            ("http://relay.test/", "http://[2001:db8::1]:8080/a/", Reason::Relay, true),
            ("http://relay.test/", "http://other.test/a/", Reason::Customised, false),
            ("http://relay.test/", "http://up.test/a/", Reason::Upstream, false),
            ("http://relay.test/", "http://up.test/a/", Reason::Other, false),
        ] {
            let relay = url(relay);
            let asking = |shows| Asking { relay: &relay, shows, own_proxy: None };
            let source = asking(token.clone()).source(&told(reason, at, None));
            assert_eq!(source.shows, if shown { token.clone() } else { Shows::Nothing }, "{relay} {at}");
            let shown = shown && at.starts_with("https");
            let source = asking(Shows::Certificate).source(&told(reason, at, None));
            assert_eq!(source.shows == Shows::Certificate, shown, "{relay} {at}");
            let by_proxy = asking(Shows::Certificate).source(&told(Reason::Upstream, at, Some(at)));
            let through = by_proxy.through.unwrap();
            assert_eq!(through.shows == Shows::Certificate, at.starts_with("https"), "{relay} {at}");
            assert_eq!(by_proxy.shows, Shows::Nothing, "{relay} {at}");
        }
    }

    #[test]
    fn a_relay_that_names_its_address_is_asked_by_the_name_of_the_settings() {
        let relay = url("https://relay.test:8443/");
        let asking = Asking { relay: &relay, shows: Shows::Nothing, own_proxy: None };
        let source = asking.source(&told(Reason::Relay, "https://192.0.2.1:9443/a/", None));
        assert_eq!(source.base.as_str(), "https://relay.test:8443/a/");
        assert_eq!(source.url("p/a b%.zip").as_str(), "https://relay.test:8443/a/p/a%20b%25.zip");
        let source = asking.source(&told(Reason::Upstream, "http://up.test/au", Some("https://192.0.2.1/")));
        assert_eq!(source.base.as_str(), "http://up.test/au/");
        assert_eq!(source.through.unwrap().url.as_str(), "https://relay.test:8443/");
    }

    #[test]
    fn the_users_own_proxy_counts_where_the_relay_names_none_r8_2() {
        let relay = url("http://relay.test/");
        let own = Through { url: url("http://own.test:3128/"), shows: Shows::Nothing };
        let asking = Asking { relay: &relay, shows: Shows::Nothing, own_proxy: Some(&own) };
        let plain = asking.source(&told(Reason::Customised, "http://x.test/", None));
        assert_eq!(plain.through, Some(own.clone()));
        assert_eq!(asking.source(&told(Reason::Relay, "http://192.0.2.1/", None)).through, None);
        let through = asking.source(&told(Reason::Upstream, "http://x.test/", Some("http://relay.test/")));
        assert_ne!(through.through, Some(own));
    }
}
