//! Which of several answers to one URL a request selects: `Vary` (RFC 9111 section 4.1).
//!
//! Invariant: an answer that varies by what nobody can compare (`*`) is selected by no request.

use hyper::header::{HeaderMap, HeaderName, HeaderValue, VARY};

/// The values of a request's fields that selected an answer, as they are compared; `None` where the field was not there.
pub type Selecting = Vec<(HeaderName, Option<Vec<u8>>)>;

/// What of a request selects this answer; `None` where no later request can.
pub fn selecting(answer: &HeaderMap, request: &HeaderMap) -> Option<Selecting> {
    let mut selecting = Selecting::new();
    for line in answer.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            // `*` is a token, and so reads as a field's name.
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| *name != "*")?;
            if !selecting.iter().any(|(known, _)| *known == name) {
                let value = compared(request, &name);
                selecting.push((name, value));
            }
        }
    }
    Some(selecting)
}

/// Whether a request selects what these values selected.
pub fn selects(selecting: &Selecting, request: &HeaderMap) -> bool {
    selecting.iter().all(|(name, value)| compared(request, name) == *value)
}

/// A field's lines as one, without the space around commas: what may change on the way without a meaning.
fn compared(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let members = lines.flat_map(|line| line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    headers.contains_key(name).then(|| members.collect::<Vec<_>>().join(&b','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::cache::samples::headers;

    #[test]
    fn requests_select_by_the_fields_that_vary_names_r3_2() {
        let answer = headers(&[("vary", "Accept-Encoding, x-a"), ("vary", "ACCEPT-encoding")]);
        let first = headers(&[("accept-encoding", "gzip , br"), ("x-b", "1")]);
        let by = selecting(&answer, &first).unwrap();
        assert_eq!(by.len(), 2);
        for (same, lines) in [
            (true, &[("accept-encoding", "gzip,br"), ("x-b", "2")][..]),
            (true, &[("accept-encoding", "gzip"), ("accept-encoding", "br")]),
            (false, &[("accept-encoding", "br,gzip")]),
            (false, &[("accept-encoding", "gzip,br"), ("x-a", "")]),
            (false, &[]),
        ] {
            assert_eq!(selects(&by, &headers(lines)), same, "{lines:?}");
        }
        assert!(selects(&selecting(&headers(&[]), &first).unwrap(), &headers(&[])));
    }

    #[test]
    fn values_that_are_no_text_select_by_their_bytes_r3_2() {
        let of = |bytes: &[u8]| {
            HeaderMap::from_iter([(hyper::header::COOKIE, HeaderValue::from_bytes(bytes).unwrap())])
        };
        let by = selecting(&headers(&[("vary", "cookie")]), &of(b"\xff")).unwrap();
        assert!(selects(&by, &of(b"\xff")));
        assert!(!selects(&by, &of(b"\xfe")) && !selects(&by, &of("\u{fffd}".as_bytes())));
    }

    #[test]
    fn what_varies_by_anything_is_selected_by_nothing_r3_2() {
        for vary in ["*", "accept, *", "a b", "\u{e9}"] {
            let mut answer = HeaderMap::new();
            answer.insert(VARY, hyper::header::HeaderValue::from_bytes(vary.as_bytes()).unwrap());
            assert_eq!(selecting(&answer, &HeaderMap::new()), None, "{vary}");
        }
    }
}
