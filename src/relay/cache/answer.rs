//! An answer that is kept: its head, which requests select it, and the blob that is its body.
//!
//! Invariant: its headers concern the answer, never the connection that it came by, and one of them is `Date`.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{AGE, CONTENT_LENGTH, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

use crate::relay::cache::directives::Directives;
use crate::relay::cache::freshness::{Exchange, date, initial_age, lifetime};
use crate::relay::cache::storable::is_final;
use crate::relay::cache::vary::Selecting;
use crate::store::blobs::BlobName;

/// The longest head that is kept, in bytes, with its URL and what selects it: the index holds longer rows apart from the others,
/// and memory for each that it ever had.
const HEAD_BYTES_MAX: usize = 2 << 10;

/// A moment by both clocks: the one that people have, and the one that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: SystemTime,
    /// Time since some moment before.
    pub monotonic: Duration,
}

/// A head that came, with how old it was.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers; `Content-Length` and `Age` are not among them.
    pub headers: HeaderMap,
    /// How old it was at `since`.
    age: Duration,
    since: Duration,
    received: SystemTime,
    /// Whether something happened after which only its server can say that it still holds.
    pub doubted: bool,
}

/// An answer that is kept.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// What selects it.
    pub selecting: Selecting,
    /// Its body.
    pub blob: BlobName,
}

/// An answer as the data folder has it. Text is Latin-1 read as UTF-8: headers may hold any byte.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    key: String,
    status: u16,
    headers: Vec<(String, String)>,
    selecting: Vec<(String, Option<String>)>,
    #[serde(flatten)]
    blob: BlobName,
    age_secs: u64,
    received_secs: u64,
    doubted: bool,
}

impl Head {
    /// A head that came just now. Hop-by-hop fields were removed.
    pub fn new(status: StatusCode, mut headers: HeaderMap, delay: Duration, now: Now) -> Self {
        headers.remove(CONTENT_LENGTH);
        // Before it gets a date that has whole seconds only: that would make it older than it is.
        let age = initial_age(&headers, Exchange { delay, received: now.wall });
        if date(&headers, &DATE).is_none() {
            let sent = httpdate::fmt_http_date(now.wall);
            headers.insert(DATE, HeaderValue::from_str(&sent).expect("a date is a header's value"));
        }
        // From here on it is counted.
        headers.remove(AGE);
        Self { status, headers, age, since: now.monotonic, received: now.wall, doubted: false }
    }

    /// How old it is.
    pub fn age(&self, now: Now) -> Duration {
        self.age + now.monotonic.saturating_sub(self.since)
    }

    /// For how long it is fresh from its making on.
    pub fn lifetime(&self) -> Duration {
        lifetime(self.status, &self.headers, &self.directives())
    }

    /// Whether it is too long to be kept, with its URL and what selects it.
    pub fn is_too_long(&self, key: &str, selecting: &Selecting) -> bool {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let selecting =
            selecting.iter().map(|(name, value)| name.as_str().len() + value.as_ref().map_or(0, Vec::len));
        key.len() + headers.chain(selecting).sum::<usize>() > HEAD_BYTES_MAX
    }

    /// What its server says to caches.
    pub fn directives(&self) -> Directives {
        Directives::of(&self.headers)
    }

    /// The entity tag.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    /// When what it shows was last changed; where that is not said, when it was sent (RFC 9111 section 4.3.2).
    pub fn changed(&self) -> Option<SystemTime> {
        date(&self.headers, &LAST_MODIFIED).or_else(|| date(&self.headers, &DATE))
    }

    /// When what it shows was last changed, where that is said.
    pub fn last_modified(&self) -> Option<SystemTime> {
        date(&self.headers, &LAST_MODIFIED)
    }
}

impl Answer {
    /// The same with a head that is newer.
    #[must_use]
    pub fn with_head(&self, head: Head) -> Self {
        Self { head, selecting: self.selecting.clone(), blob: self.blob }
    }

    /// As it is written down.
    pub fn row(&self, key: &str) -> Row {
        let head = &self.head;
        let named =
            |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), widened(value.as_bytes()));
        Row {
            key: key.to_owned(),
            status: head.status.as_u16(),
            headers: head.headers.iter().map(named).collect(),
            selecting: self
                .selecting
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_deref().map(widened)))
                .collect(),
            blob: self.blob,
            age_secs: head.age.as_secs(),
            received_secs: secs(head.received),
            doubted: head.doubted,
        }
    }
}

impl Row {
    /// Reads it back; `None` where it is none. Where the wall clock has gone back since, its age is not known: it counts as
    /// older than anything is fresh.
    pub fn read(self, now: Now) -> Option<(String, Answer)> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_bytes(&narrowed(&value)?).ok()?,
            );
        }
        date(&headers, &DATE)?;
        let selecting = self.selecting.into_iter();
        let selecting = selecting.map(|(name, value)| {
            let value = value.map_or(Some(None), |value| narrowed(&value).map(Some));
            Some((name.parse().ok()?, value?))
        });
        let received = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.received_secs))?;
        let passed = now.wall.duration_since(received).unwrap_or(UNKNOWN_AGE);
        let head = Head {
            status: StatusCode::from_u16(self.status).ok().filter(|status| is_final(*status))?,
            headers,
            age: Duration::from_secs(self.age_secs).saturating_add(passed),
            since: now.monotonic,
            received: now.wall,
            doubted: self.doubted,
        };
        let selecting = selecting.collect::<Option<_>>()?;
        Some((self.key, Answer { head, selecting, blob: self.blob }))
    }
}

/// Longer than any lifetime that can be written.
const UNKNOWN_AGE: Duration = Duration::from_secs(1 << 33);

fn secs(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn widened(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn narrowed(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|letter| u8::try_from(letter).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::blob::BlobId;

    fn now(wall: u64, monotonic: u64) -> Now {
        Now {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall),
            monotonic: Duration::from_secs(monotonic),
        }
    }

    fn answer() -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("age", "5".parse().unwrap());
        headers.insert("x-bytes", HeaderValue::from_bytes(b"\xff\xfe a").unwrap());
        headers.append("link", "<a>".parse().unwrap());
        headers.append("link", "<b>".parse().unwrap());
        let head = Head::new(StatusCode::OK, headers, Duration::from_secs(1), now(1_000_000, 50));
        let selecting = vec![(hyper::header::ACCEPT, Some(b"x\xff".to_vec())), (hyper::header::COOKIE, None)];
        let blob = BlobName { id: BlobId::of(b"x"), size: 1 };
        Answer { head, selecting, blob }
    }

    #[test]
    fn ages_go_on_with_the_clock_that_never_jumps_r3_2() {
        let answer = answer();
        assert_eq!(answer.head.age(now(1_000_000, 50)).as_secs(), 6);
        assert_eq!(answer.head.age(now(1, 60)).as_secs(), 16, "whatever the wall clock does");
        assert_eq!(answer.head.age(now(9_000_000, 60)).as_secs(), 16);
    }

    #[test]
    fn an_answer_that_has_no_date_is_new_when_it_comes_r3_2() {
        let came = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_999);
        let now = Now { wall: came, monotonic: Duration::ZERO };
        let head = Head::new(StatusCode::OK, HeaderMap::new(), Duration::ZERO, now);
        assert_eq!(head.headers[DATE], "Thu, 01 Jan 1970 00:16:40 GMT");
        assert_eq!(head.age(now), Duration::ZERO);
    }

    #[test]
    fn a_row_reads_back_and_counts_the_time_between_r3_2() {
        let text = serde_json::to_string(&answer().row("http://a/")).unwrap();
        let read = |now| serde_json::from_str::<Row>(&text).unwrap().read(now).unwrap();
        let (key, again) = read(now(1_000_100, 7));
        assert_eq!((&*key, again.blob), ("http://a/", answer().blob));
        assert_eq!(
            (again.head.headers.clone(), again.selecting.clone()),
            (answer().head.headers, answer().selecting)
        );
        assert_eq!(again.head.age(now(0, 10)).as_secs(), 6 + 100 + 3);
        let (_, doubtful) = read(now(999_999, 7));
        assert!(doubtful.head.age(now(0, 7)) >= UNKNOWN_AGE, "the clock went back");
    }
}
