//! What a request is for: one match over method and path.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::base::path::TreePath;
use crate::http::respond::Failure;
use crate::relay::live::Live;
use crate::relay::refresh::MANIFEST;
use crate::relay::tree::Tree;

/// What clients ask for first; its inside is unknown, so it is always 404 and they take the manifest
/// (activeupdate.md, Tree).
const MANIFEST_ARCHIVE: &str = "ini_xml.zip";

/// What a request is for.
#[derive(Debug)]
pub enum Route {
    /// A tree's `server.ini`.
    Manifest(Arc<Tree>),
    /// A file of a tree.
    File(Arc<Tree>, TreePath),
}

/// Finds a request's route. A query is ignored, as file servers do.
pub fn route(request: &Parts, live: &Live) -> Result<Route, Failure> {
    check_framing(request)?;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Failure::Method);
    }
    let path = path(&request.uri, live.limits.path_bytes_max)?;
    let Some((tree, rest)) = live.tree(&path) else { return Err(Failure::NotFound) };
    match rest {
        "" | MANIFEST_ARCHIVE => Err(Failure::NotFound),
        MANIFEST => Ok(Route::Manifest(tree.clone())),
        rest => Ok(Route::File(tree.clone(), TreePath::parse(rest.as_bytes())?)),
    }
}

/// A request for a file has no body; one that claims to have one is refused before its framing matters (R3.3, RFC 9112
/// section 6.3: what hyper lets through with both a length and an encoding ends here).
fn check_framing(request: &Parts) -> Result<(), Failure> {
    let length = request.headers.get(CONTENT_LENGTH);
    let claims_body =
        length.is_some_and(|length| length != "0") || request.headers.contains_key(TRANSFER_ENCODING);
    if claims_body && matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Failure::RequestBody);
    }
    Ok(())
}

/// The path with its escapes decoded once. Escaped slashes and NUL are refused: they mean different things to different
/// servers.
fn path(uri: &Uri, bytes_max: usize) -> Result<Cow<'_, str>, Failure> {
    let path = uri.path();
    if path.len() > bytes_max {
        return Err(Failure::PathTooLong);
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
    use super::*;

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
