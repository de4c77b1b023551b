//! `Cache-Status` (RFC 9211): what the cache did with a request, said to who reads the answer's head.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The relay's name in the field.
const NAME: &str = "forebay";

/// Why a server was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing is kept for the URL.
    UriMiss,
    /// Nothing that the request selects.
    VaryMiss,
    /// What is kept is stale.
    Stale,
    /// The request wants it so.
    Request,
    /// A part was asked for of what is not kept.
    Partial,
    /// The request's conditions, or what came of others to this URL lately, leave nothing to the cache.
    Bypass,
    /// The method is not one that is kept.
    Method,
}

/// What the cache did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CacheStatus {
    /// Why a server was asked; `None` where it was not.
    pub(super) way: Option<Way>,
    /// What it said.
    pub(super) said: Option<StatusCode>,
    /// For how long the answer is fresh from now on, in seconds; less than 0 where it is stale.
    pub(super) ttl_secs: Option<i64>,
    /// Whether the answer is kept from now on.
    pub(super) stored: bool,
    /// Whether it is the answer to somebody else's question.
    pub(super) collapsed: bool,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Partial => "partial",
            Self::Bypass => "bypass",
            Self::Method => "method",
        }
    }
}

impl CacheStatus {
    /// A server was asked.
    pub(super) fn asked(way: Way) -> Self {
        Self { way: Some(way), ..Self::default() }
    }

    /// With what an age leaves of a lifetime.
    #[must_use]
    pub(super) fn with_ttl(self, lifetime: Duration, age: Duration) -> Self {
        let secs = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Self { ttl_secs: Some(secs(lifetime).saturating_sub(secs(age))), ..self }
    }

    /// Adds it after what caches before this one said.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        let mut text = NAME.to_owned();
        // Writing into a string does not fail.
        let _ = match self.way {
            None => write!(text, "; hit"),
            Some(way) => write!(text, "; fwd={}", way.name()),
        };
        if let Some(said) = self.said {
            let _ = write!(text, "; fwd-status={}", said.as_u16());
        }
        if let Some(secs) = self.ttl_secs {
            let _ = write!(text, "; ttl={secs}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        headers.append(
            CACHE_STATUS,
            HeaderValue::from_str(&text).expect("letters and digits are a header's value"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_reads_as_rfc_9211_writes_it_r3_2() {
        let mut headers = HeaderMap::from_iter([(CACHE_STATUS, HeaderValue::from_static("far; hit"))]);
        CacheStatus::default().with_ttl(Duration::from_mins(1), Duration::from_secs(70)).write(&mut headers);
        let asked =
            CacheStatus { said: Some(StatusCode::OK), stored: true, ..CacheStatus::asked(Way::UriMiss) };
        asked.write(&mut headers);
        CacheStatus { collapsed: true, ..CacheStatus::asked(Way::Stale) }.write(&mut headers);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(
            lines,
            [
                "far; hit",
                "forebay; hit; ttl=-10",
                "forebay; fwd=uri-miss; fwd-status=200; stored",
                "forebay; fwd=stale; collapsed",
            ]
        );
    }
}
