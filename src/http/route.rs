//! What a request is for: one match over method and target.
//!
//! An agent names what it wants by a path of the relay, or, as one does with a proxy, by a URL (absolute-form), or within a
//! connection that it was given as one to another server (CONNECT, SOCKS). A URL of a tree's upstream is that tree, whichever
//! way it was named: the same decision, the same store (R6.2).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Uri, Version};
use memchr::memchr;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::base::destination::Destination;
use crate::base::path::{PATH_ESCAPED, TreePath};
use crate::http::agents::Call;
use crate::http::respond::Failure;
use crate::policy::decide::Refusal;
use crate::policy::scope::Scope;
use crate::relay::decision::Named;
use crate::relay::live::{Live, Standing};
use crate::relay::tree::Tree;

/// What a request is for.
#[derive(Debug)]
pub enum Route {
    /// A tree's `server.ini`.
    Manifest(Arc<Tree>),
    /// A file of a tree.
    File(Arc<Tree>, TreePath),
    /// What another server has.
    Elsewhere(Elsewhere),
    /// A connection to another server.
    Tunnel(Destination),
    /// The agents' API.
    Agents(Call),
}

/// What a request is for, what its path says of who sends it, and whom it is for.
#[derive(Debug)]
pub struct Routed {
    /// What it is for.
    pub route: Route,
    /// The token of its path, or what stands in the place of one.
    pub token: Option<Box<str>>,
    /// Whom it is for.
    pub toward: Toward,
}

/// Whom a request is for that the relay answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// The relay.
    Relay,
    /// Another server, by the relay as a proxy: a tree's upstream, say.
    Other,
}

/// What another server has, and what lets an agent ask there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// What is asked for.
    pub url: Url,
    /// What lets the agent ask.
    pub leave: Leave,
}

/// What lets an agent ask another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// A mount stands for it, which agents of this scope and wider ones see.
    Mount(Scope),
    /// The agent uses the relay as its proxy: the policy says where that may lead.
    Proxy,
}

/// Where a request was sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The relay's own address, as the connection has it.
    pub local: SocketAddr,
    /// The server that the agent believes to speak to, where the relay stands in for it.
    pub toward: Option<&'a Destination>,
}

/// Finds a request's route. A query is ignored for what the relay has itself, as file servers do.
pub fn route(request: &Parts, live: &Live, asked: Asked<'_>) -> Result<Routed, Failure> {
    check_framing(request)?;
    check_host(request)?;
    // Whoever asked first is not known any more: the relay would answer itself, with its own scope.
    if live.cache.pseudonym().is_in(&request.headers) {
        return Err(Refusal::Loop.into());
    }
    if request.method == Method::CONNECT {
        return tunnel(request, asked).map(Routed::by_proxy);
    }
    let Some(url) = named_url(request, live, asked)? else {
        check_target(request)?;
        let path = path(&request.uri, live.limits.path_bytes_max)?;
        let (token, path) = match Prefixed::of(&path) {
            Some(Prefixed { token, path }) => (Some(token.into()), path),
            None => (None, &*path),
        };
        let route = here(&request.method, path, request.uri.query(), live)?;
        return Ok(Routed { route, token, toward: Toward::Relay });
    };
    let host = Destination::of(&url).ok_or(Failure::Target)?;
    let path = decoded(url.path(), live.limits.path_bytes_max);
    match path.ok().and_then(|path| live.here(url.scheme(), &host, &path)) {
        Some(path) => here(&request.method, &path, url.query(), live).map(Routed::by_proxy),
        None => Ok(Routed::by_proxy(Route::Elsewhere(Elsewhere { url, leave: Leave::Proxy }))),
    }
}

impl Routed {
    fn by_proxy(route: Route) -> Self {
        Self { route, token: None, toward: Toward::Other }
    }
}

/// The path of an agent that can be given nothing but a URL, `/t/TOKEN/PATH`, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Prefixed<'a> {
    /// Its token, or what stands in the place of one.
    pub token: &'a str,
    /// The path that it means, with its leading slash.
    pub path: &'a str,
}

/// Before the token of a path.
const PREFIX: &str = "/t/";

impl<'a> Prefixed<'a> {
    /// Takes a path without escapes apart; `None` where it begins otherwise.
    pub fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix(PREFIX)?;
        let at = rest.find('/').unwrap_or(rest.len());
        Some(Self { token: &rest[..at], path: &rest[at..] })
    }
}

/// What a path of the relay is for.
fn here(method: &Method, path: &str, query: Option<&str>, live: &Live) -> Result<Route, Failure> {
    if let Some(call) = Call::of(method, path) {
        return call.map(Route::Agents);
    }
    let standing = live.find(path);
    if let Some((Standing::Mount(mount), rest)) = standing {
        let mut url = mount.upstream.clone();
        url.set_path(&format!("{}{}", url.path(), utf8_percent_encode(rest, PATH_ESCAPED)));
        if !url.path().starts_with(mount.upstream.path()) {
            // It climbed out of the mount.
            return Err(Failure::NotFound);
        }
        url.set_query(query);
        return Ok(Route::Elsewhere(Elsewhere { url, leave: Leave::Mount(mount.scope) }));
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Failure::Method);
    }
    let Some((Standing::Tree(tree), rest)) = standing else { return Err(Failure::NotFound) };
    match Named::parse(rest)? {
        Named::Nothing => Err(Failure::NotFound),
        Named::Manifest => Ok(Route::Manifest(tree.clone())),
        Named::File(path) => Ok(Route::File(tree.clone(), path)),
    }
}

/// The URL that a request names, where it is one of another server.
fn named_url(request: &Parts, live: &Live, asked: Asked<'_>) -> Result<Option<Url>, Failure> {
    let uri = &request.uri;
    let url = match (uri.scheme_str(), asked.toward) {
        (None, Some(toward)) if uri.path().starts_with('/') => {
            let target = uri.path_and_query().map_or("/", |target| target.as_str());
            format!("http://{toward}{target}")
        }
        // Every request of HTTP/2 names its scheme; where that is all, the relay itself is meant.
        (Some("http" | "https"), None) if request.version == Version::HTTP_2 => return Ok(None),
        (Some("http" | "https"), _) => uri.to_string(),
        _ => return Ok(None),
    };
    let url = Url::parse(&url).map_err(|_| Failure::Target)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::Target);
    }
    let host = Destination::of(&url).ok_or(Failure::Target)?;
    let own = live.own.contains(&host) || Destination::at(asked.local.ip(), asked.local.port()) == host;
    Ok(Some(url).filter(|_| !own))
}

/// Where a CONNECT leads (RFC 9110 section 9.3.6).
fn tunnel(request: &Parts, asked: Asked<'_>) -> Result<Route, Failure> {
    let authority =
        request.uri.authority().filter(|_| request.uri.scheme().is_none() && asked.toward.is_none());
    let authority = authority.ok_or(Failure::Target)?;
    Destination::parse(authority.as_str()).map(Route::Tunnel).map_err(|_| Failure::Target)
}

/// A request for a file has no body; one that claims to have one is refused before its framing matters (R3.3, RFC 9112
/// section 6.3: what hyper lets through with both a length and an encoding ends here).
fn check_framing(request: &Parts) -> Result<(), Failure> {
    let length = request.headers.get(CONTENT_LENGTH);
    let claims_body =
        length.is_some_and(|length| length != "0") || request.headers.contains_key(TRANSFER_ENCODING);
    if claims_body && matches!(request.method, Method::GET | Method::HEAD | Method::CONNECT) {
        return Err(Failure::RequestBody);
    }
    Ok(())
}

/// One valid `Host`; HTTP/1.0 may leave it out (RFC 9112 section 3.2, which hyper leaves to its user). Nothing is served by
/// it, but what two servers on the way could read in two ways is refused.
fn check_host(request: &Parts) -> Result<(), Failure> {
    let named = request.uri.authority().filter(|_| request.version == Version::HTTP_2);
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (host, None) if named.is_some() => check_authority(named, host),
        (None, _) if request.version == Version::HTTP_10 => Ok(()),
        (Some(host), None) if host.is_empty() || is_host(host.as_bytes()) => Ok(()),
        _ => Err(Failure::Host),
    }
}

/// In HTTP/2 `:authority` stands for `Host`; where both are, they are the same (RFC 9113 section 8.3.1).
fn check_authority(named: Option<&Authority>, host: Option<&HeaderValue>) -> Result<(), Failure> {
    let Some(named) = named else { return Err(Failure::Host) };
    let same = host.is_none_or(|host| host.as_bytes().eq_ignore_ascii_case(named.as_str().as_bytes()));
    if same && is_host(named.as_str().as_bytes()) { Ok(()) } else { Err(Failure::Host) }
}

/// `uri-host [":" port]`: an authority without user information. Nearly all are a name or an IPv4 address, which need no parser.
fn is_host(value: &[u8]) -> bool {
    is_plain_host(value) || is_host_as_parsed(value)
}

fn is_plain_host(value: &[u8]) -> bool {
    let (name, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &[][..]),
    };
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty() && name.iter().all(is_of_name) && port.iter().all(u8::is_ascii_digit)
}

fn is_host_as_parsed(value: &[u8]) -> bool {
    Authority::try_from(value).is_ok_and(|authority| {
        let port = authority.as_str().strip_prefix(authority.host());
        port.is_some_and(|port| {
            port.is_empty()
                || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
        })
    })
}

/// Only a path names something here; `*` is for OPTIONS (RFC 9112 section 3.2.4).
fn check_target(request: &Parts) -> Result<(), Failure> {
    match request.uri.scheme_str() {
        None | Some("http" | "https") if request.uri.path().starts_with('/') => Ok(()),
        None if request.uri.path() == "*" && request.method == Method::OPTIONS => Err(Failure::Method),
        _ => Err(Failure::Target),
    }
}

/// The path with its escapes decoded once. Escaped slashes and NUL are refused: they mean different things to different
/// servers.
fn path(uri: &Uri, bytes_max: usize) -> Result<Cow<'_, str>, Failure> {
    decoded(uri.path(), bytes_max)
}

fn decoded(path: &str, bytes_max: usize) -> Result<Cow<'_, str>, Failure> {
    if path.len() > bytes_max {
        return Err(Failure::PathTooLong);
    }
    if memchr(b'%', path.as_bytes()).is_none() {
        return Ok(path.into());
    }
    let mut rest = path;
    while let Some((_, escape)) = rest.split_once('%') {
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            None => return Err(Failure::Escape("a '%' without two hexadecimal digits")),
            Some(b'/' | b'\\') => return Err(Failure::Escape("an escaped slash")),
            Some(0) => return Err(Failure::Escape("an escaped NUL")),
            Some(_) => rest = &escape[2..],
        }
    }
    percent_decode_str(path).decode_utf8().map_err(|_| Failure::Escape("escapes that are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_host_that_needs_no_parser_is_one_that_the_parser_takes(
            host in "[a-z0-9.:-]{0,12}|[A-Za-z0-9.-]{1,9}:[0-9]{0,7}|[ -~]{0,6}",
        ) {
            prop_assert!(!is_plain_host(host.as_bytes()) || is_host_as_parsed(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn escapes_are_decoded_once_and_ambiguous_ones_are_refused() {
        let decode = |text: &str| path(&text.parse().unwrap(), 64).map(Cow::into_owned);
        assert_eq!(decode("/a%20b?x=%2F").unwrap(), "/a b");
        assert_eq!(decode("/a%252Fb").unwrap(), "/a%2Fb");
        for refused in ["/a%2Fb", "/a%2fb", "/a%5cb", "/a%00b", "/a%zz", "/a%f", "/a%", "/a%ff", "/a%+1"] {
            assert!(matches!(decode(refused), Err(Failure::Escape(_))), "{refused}");
        }
        assert!(matches!(decode(&format!("/{}", "a".repeat(64))), Err(Failure::PathTooLong)));
    }
}
