//! Requests of the fleet, and the calls of a relay's API among them.
//!
//! Never sends. Invariant: a token is shown to the target alone, in a header that debug output leaves out.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Uri, Version};

use crate::load::target::Target;

/// A request for a path of the target, by whoever shows this token; with a body, in JSON, where there is something to say.
pub(super) fn request(
    target: &Target,
    shown: Option<HeaderValue>,
    path: &str,
    says: Bytes,
) -> Request<Full<Bytes>> {
    let has_body = !says.is_empty();
    let mut request = Request::new(Full::new(says));
    *request.uri_mut() = path.parse().expect("a base's path and an escaped path make a request target");
    let headers = request.headers_mut();
    headers.insert(header::HOST, target.host.clone());
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(shown) = shown {
        headers.insert(header::AUTHORIZATION, shown);
    }
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.method_mut() = Method::POST;
    }
    request
}

/// The same as HTTP/2 has it: the host stands in the URI (RFC 9113 section 8.3.1).
pub(super) fn over_http2(mut request: Request<Full<Bytes>>, target: &Target) -> Request<Full<Bytes>> {
    request.headers_mut().remove(header::HOST);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = target.host.to_str().expect("a host is text");
    let whole = format!("{}://{host}{path}", target.base().scheme());
    *request.uri_mut() = Uri::try_from(whole).expect("a URL's scheme and host before a path are a URI");
    *request.version_mut() = Version::HTTP_2;
    request
}

/// Where agents say that they are about to update.
pub(super) const CHECK_IN: &str = "/api/v1/agent/check-in";

/// Where they say how it went.
pub(super) const REPORT: &str = "/api/v1/agent/report";

/// Where they hear of what they are told.
pub(super) const EVENTS: &str = "/api/v1/agent/events";

/// Where they are let in.
pub(super) const ENROL: &str = "/api/v1/enrol";

/// An answer of the API, in bytes: sources of some trees, and 10,000 settings files.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How the fleet names itself.
const USER_AGENT: &str = concat!("forebay-load/", env!("CARGO_PKG_VERSION"));
