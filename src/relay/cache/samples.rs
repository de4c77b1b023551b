//! Heads for tests.

use hyper::header::{DATE, HeaderMap};

/// Lines of a head; names in lower case.
pub(super) type Lines<'a> = &'a [(&'static str, &'static str)];

/// When a dated sample was sent.
pub(super) const NOW: &str = "Sat, 21 Nov 2026 12:00:00 GMT";

/// A head of these lines, in their order.
pub(super) fn headers(lines: Lines<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

/// The same, sent at [`NOW`].
pub(super) fn dated(lines: Lines<'_>) -> HeaderMap {
    let mut headers = headers(lines);
    headers.insert(DATE, NOW.parse().unwrap());
    headers
}
