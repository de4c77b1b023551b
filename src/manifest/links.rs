//! URLs in manifests that lead past the relay, and what they become where the relay stands for what they name (R4.4, R6.4).
//!
//! Never touches a URL that neither a tree nor a mount stands for: nobody knows where else it could be had. Invariant: what is
//! not such a URL stays byte for byte.

use std::borrow::Cow;

use url::{Position, Url};

use crate::base::destination::Destination;

/// Other servers' paths, each with what it is on the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(Vec<Link>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    scheme: Box<str>,
    host: Destination,
    /// As the URL has it, with `/` at its end.
    path: Box<str>,
    /// The URL on the relay, with `/` at its end.
    to: Box<str>,
}

impl Links {
    /// Links from base URLs to URLs on the relay; both end with `/`. Of several that a URL lies under the longest counts.
    pub fn new(links: impl IntoIterator<Item = (Url, String)>) -> Self {
        let links = links.into_iter().filter_map(|(from, to)| {
            let host = Destination::of(&from)?;
            Some(Link { scheme: from.scheme().into(), host, path: from.path().into(), to: to.into() })
        });
        let mut links: Vec<Link> = links.collect();
        links.sort_by_key(|link| std::cmp::Reverse(link.path.len()));
        Self(links)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value with its URLs led to the relay.
    pub fn lead<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        if self.is_empty() {
            return value.into();
        }
        let (mut led, mut kept, mut from) = (Vec::new(), 0, 0);
        while let Some(start) = next_url(value, from) {
            let end = start + value[start..].iter().take_while(|byte| is_in_url(**byte)).count();
            if let Some(to) = self.leads_to(&value[start..end]) {
                led.extend_from_slice(&value[kept..start]);
                led.extend_from_slice(to.as_bytes());
                kept = end;
            }
            from = end;
        }
        if kept == 0 {
            return value.into();
        }
        led.extend_from_slice(&value[kept..]);
        led.into()
    }

    fn leads_to(&self, url: &[u8]) -> Option<String> {
        let url = Url::parse(std::str::from_utf8(url).ok()?).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = Destination::of(&url)?;
        let under = self.0.iter().filter(|link| *link.scheme == *url.scheme() && link.host == host);
        under.into_iter().find_map(|link| {
            let behind = &url[Position::AfterPath..];
            // A base is mostly named without its last slash, and stays so.
            if url.path() == link.path.trim_end_matches('/') {
                return Some(format!("{}{behind}", link.to.trim_end_matches('/')));
            }
            let rest = url.path().strip_prefix(&*link.path)?;
            Some(format!("{}{rest}{behind}", link.to))
        })
    }
}

/// Where the next `http://` or `https://` begins.
fn next_url(value: &[u8], from: usize) -> Option<usize> {
    let begins = |at: &[u8]| {
        SCHEMES.iter().any(|scheme| {
            at.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        })
    };
    (from..value.len()).find(|start| begins(&value[*start..]))
}

/// Whether a byte may be of a URL in a list of values.
fn is_in_url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"'<>,;|\\^`{}".contains(&byte)
}

const SCHEMES: [&str; 2] = ["http://", "https://"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links() -> Links {
        let link = |from: &str, to: &str| (Url::parse(from).unwrap(), to.to_owned());
        Links::new([
            link("http://au.example/activeupdate/", "http://relay:8080/activeupdate/"),
            link("http://192.0.2.7/files/", "http://relay:8080/files/"),
            link("http://192.0.2.7/files/deep/", "http://relay:8080/deep/"),
            link("https://[2001:db8::1]:8443/", "http://relay:8080/six/"),
        ])
    }

    fn led(value: &str) -> String {
        String::from_utf8(links().lead(value.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn urls_of_what_the_relay_stands_for_lead_to_it_r4_4() {
        for (value, expected) in [
            ("http://au.example/activeupdate/pattern/a.zip", "http://relay:8080/activeupdate/pattern/a.zip"),
            ("http://au.example/activeupdate", "http://relay:8080/activeupdate"),
            ("HTTP://AU.example.:80/activeupdate/a?b#c", "http://relay:8080/activeupdate/a?b#c"),
            ("x,http://192.0.2.7/files/a.exe,7", "x,http://relay:8080/files/a.exe,7"),
            ("http://192.0.2.7/files/deep/a", "http://relay:8080/deep/a"),
            (
                "\"http://192.0.2.7/files/a\" http://192.0.2.7/files/b",
                "\"http://relay:8080/files/a\" http://relay:8080/files/b",
            ),
            ("http://[::ffff:192.0.2.7]/files/a", "http://relay:8080/files/a"),
            ("http://3221225991/files/a", "http://relay:8080/files/a"),
            ("https://[2001:db8::1]:8443/a/b", "http://relay:8080/six/a/b"),
        ] {
            assert_eq!(led(value), expected);
        }
    }

    #[test]
    fn all_other_urls_stay_byte_for_byte_r6_4() {
        for value in [
            "https://au.example/activeupdate/a",
            "http://au.example:81/activeupdate/a",
            "http://au.example/activeupdates/a",
            "http://au.example/",
            "http://other.example/activeupdate/a",
            "http://user@au.example/activeupdate/a",
            "http://192.0.2.8/files/a",
            "http://au.example/activeupdate/../a",
            "http://",
            "pattern/a.zip,1,2",
            "",
        ] {
            assert_eq!(led(value), value);
        }
    }

    proptest! {
        #[test]
        fn without_a_link_nothing_changes_and_any_bytes_are_taken_r6_4(value in any::<Vec<u8>>()) {
            let none = Links::default();
            prop_assert_eq!(&*none.lead(&value), &value[..]);
            links().lead(&value);
        }

        #[test]
        fn what_stands_around_a_url_stays_r6_4(before in "[ ,;\"a-z]{0,9}", after in "[ ,;\"]{0,9}") {
            let value = format!("{before}http://192.0.2.7/files/x{after}");
            prop_assert_eq!(led(&value), format!("{before}http://relay:8080/files/x{after}"));
        }
    }
}
