//! Lists page by page: how many, and where a page begins.
//!
//! A cursor says what the page before ended with, and is written for programs to send back unseen. Invariant: whatever is sent as a
//! cursor, it is read as one or refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::problem::Problem;

/// Items of a page where nothing is said.
const LIMIT: u16 = 100;

/// Items of a page at most.
const LIMIT_MAX: u16 = 1000;

/// Bytes of a cursor.
const CURSOR_BYTES_MAX: usize = 512;

/// How many items a page is to have.
pub(super) fn limit(asked: Option<u16>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit.into()),
        _ => Err(Problem::unprocessable(format!("limit: 1 to {LIMIT_MAX} are allowed"))),
    }
}

/// What the page before ended with.
pub(super) fn after<T: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|_| cursor.len() <= CURSOR_BYTES_MAX)?;
        serde_json::from_slice(&bytes).ok()
    };
    read()
        .map(Some)
        .ok_or_else(|| Problem::unprocessable("cursor: this is none that a page has given as its next"))
}

/// A cursor for the page after one that ends with this.
pub(super) fn next<T: Serialize>(last: &T) -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(last).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_nothing_else_is_one() {
        let cursor = next(&(7u32, "pc-1")).unwrap();
        assert_eq!(after::<(u32, String)>(Some(&cursor)).unwrap(), Some((7, "pc-1".to_owned())));
        assert!(after::<u32>(None).unwrap().is_none());
        for junk in ["", "====", "x", &cursor[1..], &"A".repeat(600)] {
            assert!(after::<(u32, String)>(Some(junk)).is_err(), "{junk}");
        }
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
        assert_eq!((limit(None).unwrap(), limit(Some(1000)).unwrap()), (100, 1000));
    }
}
