//! The texts of settings as values: base paths, public bases, upstream URLs, prefixes, listening addresses,
//! lines of hosts, NAT64 prefixes, byte counts.
//!
//! Each reader's error is the reason for refusing, for a message that names key, value and what is allowed
//! besides. Invariant: a [`TreeBase`] begins and ends with `/` and has plain segments; a [`PublicBase`] is an
//! origin and no more.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Url;

use crate::base::nat64::Prefix;
use crate::base::tree::TreeName;
use crate::config::settings::{HostEntry, Nat64};

/// Where a tree stands in the relay's URLs: `/activeupdate/`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeBase(Arc<str>);

impl TreeBase {
    /// Reads a base path: `/` before, between and after names of `A-Z a-z 0-9 . _ ~ -`, so that no client
    /// writes it in two ways. `/` alone is none: the rest of the relay's paths would be the tree's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(inner) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) else {
            return Err("it does not begin and end with '/'".into());
        };
        if text.len() > TREE_BASE_BYTES_MAX {
            return Err(format!("longer than {TREE_BASE_BYTES_MAX} bytes"));
        }
        if let Some(own) = OWN_PATHS.iter().find(|own| text.starts_with(**own)) {
            return Err(format!("what begins with '{own}' is the relay's own"));
        }
        for segment in inner.split('/') {
            if segment.is_empty() {
                return Err("a name in it is empty".into());
            }
            if matches!(segment, "." | "..") {
                return Err("'.' and '..' are no names".into());
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)) {
                return Err(format!("'{}' has other characters in it", segment.escape_debug()));
            }
        }
        Ok(Self(text.into()))
    }

    /// The path's text, from the first `/` to the last.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that a tree has where none is given: `/a/B.c/` -> `a-b-c`. `None` where that is no name.
    pub fn name(&self) -> Option<TreeName> {
        let name = self.0.trim_matches('/').to_ascii_lowercase().replace(['/', '.', '~'], "-");
        TreeName::parse(&name).ok()
    }
}

/// `/activeupdate/`, where agents look (R1.1).
impl Default for TreeBase {
    fn default() -> Self {
        Self("/activeupdate/".into())
    }
}

impl fmt::Display for TreeBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What no tree or mount stands at: the agents' API, and paths that begin with a token.
const OWN_PATHS: [&str; 2] = ["/api/", "/t/"];

/// The origin under which agents reach the relay: `https://updates.example:8443`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicBase(Arc<str>);

impl PublicBase {
    /// Reads `http(s)://host[:port]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = http_url(text)?;
        if url.path() != "/" || text.ends_with('/') {
            return Err("it has a path or a '/' at its end".into());
        }
        Ok(Self(url.origin().ascii_serialization().into()))
    }

    /// The origin's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads an upstream URL and ends its path with `/`.
pub fn upstream_url(text: &str) -> Result<Url, String> {
    let mut url = http_url(text)?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Reads a path of the file system; a relative one counts from where the relay is started.
pub(super) fn file_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty".into()),
        text if text.contains('\0') => Err("it has a NUL in it".into()),
        text => Ok(text.into()),
    }
}

/// Reads a listening address. A zone is a number: names of interfaces come and go, and resolving them is I/O.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text {
        zoned if zoned.contains('%') => "no address and port with a zone by number (see `ip link`)".into(),
        _ => "no address and port".into(),
    })
}

/// Reads a prefix without host bits, or one address as the prefix of itself, as rules see it (R4.1).
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let alone = |_| text.parse::<IpAddr>().map(IpNet::from);
    let net = text.parse::<IpNet>().or_else(alone).map_err(|_| "no prefix".to_owned())?;
    if net != net.trunc() {
        return Err(format!("host bits are set; the prefix is {}", net.trunc()));
    }
    match net {
        IpNet::V6(v6) if MAPPED.contains(&v6) => match v6.addr().to_ipv4_mapped() {
            Some(v4) => {
                let v4 = Ipv4Net::new_assert(v4, v6.prefix_len() - MAPPED.prefix_len());
                Err(format!("IPv4-mapped addresses are seen as IPv4; the prefix is {v4}"))
            }
            None => Ok(net),
        },
        _ => Ok(net),
    }
}

/// Reads a name server's address, with port 53 where it names none.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let alone = |_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
    text.parse().or_else(alone).map_err(|_| "no address".into())
}

/// Reads a line of a hosts file: an address, then its names.
pub fn host_entry(line: &str) -> Result<HostEntry, String> {
    let mut words = line.split_whitespace();
    let address =
        words.next().and_then(|word| word.parse().ok()).ok_or("it does not begin with an address")?;
    let names: Vec<String> = words.map(host_name).collect::<Result<_, _>>()?;
    if names.is_empty() {
        Err("no name follows the address".into())
    } else {
        Ok(HostEntry { address, names })
    }
}

fn host_name(word: &str) -> Result<String, String> {
    let name = word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase();
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > HOST_NAME_BYTES_MAX || !name.split('.').all(plain) {
        return Err(format!("'{}' is no name of a host", word.escape_debug()));
    }
    Ok(name)
}

/// Reads a NAT64 prefix, or a word in its place.
pub(super) fn nat64(text: &str) -> Result<Nat64, String> {
    match text {
        "discover" => Ok(Nat64::Discover),
        "off" => Ok(Nat64::Off),
        _ => {
            let net: Ipv6Net = text.parse().map_err(|_| "neither a word nor an IPv6 prefix".to_owned())?;
            Ok(Nat64::Prefix(Prefix::new(net)?))
        }
    }
}

/// Reads a number of bytes with its unit: `10 GiB`.
pub fn byte_count(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let shift = match unit.trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("no whole number with a unit (B, KiB, MiB, GiB or TiB)".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "no whole number before the unit".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "out of bounds".into())
}

/// Reads an http or https URL that is a place alone: no credentials, query or fragment.
pub fn http_url(text: &str) -> Result<Url, String> {
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err("a URL has no white space or control characters in it".into());
    }
    let url = Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme is '{}'", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds credentials, which would show in logs".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or a fragment".into());
    }
    Ok(url)
}

/// Longer base paths than this are a mistake, in bytes.
const TREE_BASE_BYTES_MAX: usize = 255;

/// Where name servers listen.
const DNS_PORT: u16 = 53;

/// The longest name that DNS has, in bytes.
const HOST_NAME_BYTES_MAX: usize = 253;

/// The prefix of IPv4-mapped addresses (RFC 4291, 2.5.5.2).
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_have_one_spelling() {
        for good in ["/activeupdate/", "/a/b/", "/osce14.v2/~x_-/"] {
            assert_eq!(TreeBase::parse(good).unwrap().to_string(), good);
        }
        for bad in
            ["", "/", "//", "a/", "/a", "/a//b/", "/./", "/a/../b/", "/a%20b/", "/ü/", "/a b/", "/a\0/"]
        {
            TreeBase::parse(bad).unwrap_err();
        }
        TreeBase::parse(&format!("/{}/", "a".repeat(254))).unwrap_err();
    }

    #[test]
    fn names_come_from_bases() {
        let name = |base: &str| TreeBase::parse(base).unwrap().name().map(|name| name.to_string());
        assert_eq!(name("/activeupdate/").unwrap(), "activeupdate");
        assert_eq!(name("/OSCE/14.0/").unwrap(), "osce-14-0");
        assert_eq!(name("/-x/"), None);
    }

    #[test]
    fn public_bases_are_origins() {
        for good in
            ["http://relay", "https://relay.example:8443", "http://[2001:db8::1]:8080", "http://192.0.2.1"]
        {
            assert_eq!(PublicBase::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "relay",
            "ftp://relay",
            "http://relay/",
            "http://relay/au",
            "http://u:p@relay",
            "http://relay?x",
            "http://",
        ] {
            PublicBase::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn upstreams_end_with_a_slash() {
        let read = |text| upstream_url(text).map(|url| url.to_string());
        assert_eq!(read("http://host").unwrap(), "http://host/");
        assert_eq!(read("https://host:8443/au").unwrap(), "https://host:8443/au/");
        assert_eq!(read("http://[2001:db8::1]/a/b/").unwrap(), "http://[2001:db8::1]/a/b/");
        assert!(read("http://user@host/").unwrap_err().contains("credentials"));
        assert!(read("file:///srv").unwrap_err().contains("'file'"));
        for bad in ["http://host/?a", "http://host/#a", "http://ho st/", "http://host/\n"] {
            read(bad).unwrap_err();
        }
    }

    #[test]
    fn prefixes_have_no_host_bits_and_no_mapped_addresses() {
        assert_eq!(prefix("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(prefix("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert_eq!(prefix("::/0").unwrap().to_string(), "::/0");
        assert!(prefix("10.1.2.3/8").unwrap_err().ends_with("10.0.0.0/8"));
        assert!(prefix("::ffff:10.0.0.0/104").unwrap_err().ends_with("10.0.0.0/8"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "fe80::1%eth0/64", "host"] {
            prefix(bad).unwrap_err();
        }
    }

    #[test]
    fn host_lines_have_an_address_and_names() {
        let entry = host_entry(" 2001:db8::1\tAu.Example. mirror_1 ").unwrap();
        assert_eq!(entry.address.to_string(), "2001:db8::1");
        assert_eq!(entry.names, ["au.example", "mirror_1"]);
        for bad in ["", "192.0.2.1", "au.example 192.0.2.1", "192.0.2.1 a..b", "192.0.2.1 a/b", "192.0.2.1 ."]
        {
            host_entry(bad).unwrap_err();
        }
        host_entry(&format!("192.0.2.1 {}", "a.".repeat(130))).unwrap_err();
    }

    #[test]
    fn nat64_is_a_prefix_or_a_word() {
        assert_eq!(nat64("off"), Ok(Nat64::Off));
        assert_eq!(nat64("discover"), Ok(Nat64::Discover));
        assert!(matches!(nat64("64:ff9b::/96"), Ok(Nat64::Prefix(_))));
        for bad in ["", "on", "64:ff9b::", "64:ff9b::/95", "64:ff9b::1/96", "10.0.0.0/8"] {
            nat64(bad).unwrap_err();
        }
    }

    #[test]
    fn name_servers_listen_on_53_unless_said() {
        let read = |text| name_server(text).map(|server| server.to_string());
        assert_eq!(read("192.0.2.1").unwrap(), "192.0.2.1:53");
        assert_eq!(read("[2001:db8::1]:5353").unwrap(), "[2001:db8::1]:5353");
        assert_eq!(read("2001:db8::1").unwrap(), "[2001:db8::1]:53");
        read("resolver.example").unwrap_err();
    }

    #[test]
    fn byte_counts_have_binary_units() {
        assert_eq!(byte_count("10 GiB"), Ok(10 << 30));
        assert_eq!(byte_count("16KiB"), Ok(16 << 10));
        assert_eq!(byte_count("0 B"), Ok(0));
        for bad in ["", "10", "GiB", "10 GB", "-1 B", "1.5 GiB", "16777216 TiB", "99999999999999999999 B"] {
            byte_count(bad).unwrap_err();
        }
    }

    #[test]
    fn zones_are_numbers() {
        assert_eq!(socket_address("[fe80::1%3]:8080").unwrap().to_string(), "[fe80::1%3]:8080");
        assert!(socket_address("[fe80::1%eth0]:8080").unwrap_err().contains("by number"));
        for bad in ["", "8080", "localhost:8080", "0.0.0.0", "[::]:65536"] {
            socket_address(bad).unwrap_err();
        }
    }
}
