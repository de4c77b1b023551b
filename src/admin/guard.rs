//! Keeps web pages away from the admin listener: it stands on loopback, where every browser of the machine can reach it.
//!
//! A page of another origin sends `Origin` or a `Host` that is a name (DNS rebinding). Programs send neither: they call
//! an address. With TLS a name is right: nobody else has a certificate for it.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::admin::access::{Peer, Wire};
use crate::admin::problem::Problem;

/// Refuses what a web page may have sent.
pub async fn check(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return Problem::new(StatusCode::FORBIDDEN, "requests of web pages are refused here").into_response();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.transport == Wire::Tls);
    if tls || host.is_none_or(is_address) {
        next.run(request).await
    } else {
        let detail = "the Host header must be an address or localhost: names are refused here";
        Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
    }
}

fn is_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_pass_and_names_do_not() {
        for host in ["127.0.0.1:8081", "[::1]:8081", "[::1]", "localhost", "LOCALHOST:80", "192.0.2.1"] {
            assert!(is_address(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example:80", "", "[evil]:80"] {
            assert!(!is_address(host), "{host}");
        }
    }
}
