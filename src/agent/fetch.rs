//! One file of a tree, from the first source that gives it whole: resumed where it broke off, also at the next source.
//!
//! A source that vouched for its bytes by a strong entity tag goes on under it (`If-Range`, RFC 9110 section 13.1.5). Another one is asked
//! for the last bytes that came once more: only where it sends the same, and says the same size, what follows is put behind them.
//! Never decides which file. Invariant: a file that is told as whole has the manifest's size.

use std::io;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use thiserror::Error;
use tokio::time::sleep;
use url::Url;

use crate::agent::progress::{Progress, Tell};
use crate::agent::sources::Source;
use crate::agent::staging::Partial;
use crate::base::limits::{MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::client::{AskError, Client, Question};

/// A file that is whole.
#[derive(Debug)]
pub(super) struct Whole {
    /// Which of the sources gave the last of it; `None` where it was whole before.
    pub(super) source: Option<usize>,
    /// Bytes that came for it now.
    pub(super) came: u64,
}

/// A manifest, or that it has not changed.
#[derive(Debug)]
pub(super) enum Manifest {
    New(bytes::Bytes, Option<String>),
    Unchanged,
}

/// Why a file is not whole.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// No source gave it.
    #[error("{path}: {}", .tried.join("; "))]
    Sources {
        /// The file.
        path: String,
        /// What each source said.
        tried: Vec<String>,
    },
    /// The disk did not take it.
    #[error("{path}: {source}")]
    Disk {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
}

/// Why one attempt failed.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("it puts the agent off for {} s", .0.as_secs())]
    PutOff(Duration),
    #[error("{there} bytes, the manifest says {size}")]
    Size { there: u64, size: u64 },
    #[error("it ended after {0} bytes")]
    Short(u64),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl Failed {
    /// Whether the same source may do better at once.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Ask(AskError::Connect(_) | AskError::Broken(_)) | Self::Short(_))
    }
}

/// Attempts at one source that bring nothing, before the next one's turn.
const ATTEMPTS: u32 = 3;

/// How long an agent that is put off waits at most, before the next source's turn.
const PUT_OFF_MAX: Duration = Duration::from_mins(5);

/// How often it lets itself be put off by one source.
const PUT_OFFS: u32 = 10;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes that another source has to send once more.
const OVERLAP: u64 = 64 << 10;

/// One file's way to the agent.
pub(super) struct Fetch<'f> {
    pub(super) client: &'f Client,
    pub(super) sources: &'f [Source],
    pub(super) path: &'f str,
    pub(super) size: u64,
}

impl Fetch<'_> {
    /// Takes what is missing of the file.
    pub(super) async fn take(&self, partial: &mut Partial, tell: &mut Tell<'_>) -> Result<Whole, FetchError> {
        let began = partial.len();
        if began == self.size {
            return Ok(Whole { source: None, came: 0 });
        }
        let (mut tried, mut came) = (Vec::new(), 0);
        for (number, source) in self.sources.iter().enumerate() {
            let url = source.url(self.path);
            let (mut fruitless, mut put_off) = (0, 0);
            let failed = loop {
                let before = partial.len();
                let attempt = self.attempt(source, &url, partial, &mut came, tell).await;
                let failed = match attempt {
                    Ok(()) => return Ok(Whole { source: Some(number), came }),
                    Err(Failed::Disk(source)) => {
                        return Err(FetchError::Disk { path: self.path.to_owned(), source });
                    }
                    Err(failed) => failed,
                };
                match failed {
                    Failed::PutOff(wait) if wait <= PUT_OFF_MAX && put_off < PUT_OFFS => {
                        put_off += 1;
                        sleep(wait).await;
                    }
                    _ if failed.may_pass() => {
                        fruitless = if partial.len() > before { 0 } else { fruitless + 1 };
                        if fruitless == ATTEMPTS {
                            break failed;
                        }
                        sleep(PAUSE * (1 + fruitless * fruitless)).await;
                    }
                    // Who was silent for so long once is not waited for again, unless it had sent something.
                    Failed::Ask(AskError::Silence { .. }) if partial.len() > before => {}
                    _ => break failed,
                }
            };
            tell(Progress::SourceFailed { url: url.clone(), reason: failed.to_string() });
            tried.push(format!("{url}: {failed}"));
        }
        if tried.is_empty() {
            tried.push("the relay tells no source for it".to_owned());
        }
        Err(FetchError::Sources { path: self.path.to_owned(), tried })
    }

    async fn attempt(
        &self,
        source: &Source,
        url: &Url,
        partial: &mut Partial,
        came: &mut u64,
        tell: &mut Tell<'_>,
    ) -> Result<(), Failed> {
        if partial.len() > self.size {
            partial.restart(url, None)?;
        }
        let mut question = Question::get(url, source.through.as_ref()).by(&source.shows);
        let voucher = partial.voucher(url).and_then(|tag| HeaderValue::from_str(tag).ok());
        let overlap =
            if partial.len() == 0 || voucher.is_some() { Vec::new() } else { partial.tail(OVERLAP)? };
        let from = partial.len() - overlap.len() as u64;
        if partial.len() > 0 {
            let range =
                HeaderValue::from_str(&format!("bytes={from}-")).expect("digits are a header's value");
            question.headers.insert(header::RANGE, range);
            question.headers.extend(voucher.map(|voucher| (header::IF_RANGE, voucher)));
        }
        let response = self.client.follow(question).await?;
        let etag = strong(response.headers());
        let mut overlap = overlap.as_slice();
        match response.status() {
            StatusCode::OK => {
                check_size(declared(&response), self.size)?;
                partial.restart(url, etag.clone())?;
                overlap = &[];
            }
            StatusCode::PARTIAL_CONTENT => {
                let (start, size) =
                    content_range(response.headers()).ok_or(Failed::Status(response.status()))?;
                check_size(Some(size), self.size)?;
                if start != from {
                    return Err(Failed::Status(response.status()));
                }
                if overlap.is_empty() {
                    partial.go_on(url, etag.clone())?;
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.restart(url, None)?;
                return Err(Failed::Short(0));
            }
            status => return Err(put_off(status, response.headers())),
        }
        self.body(response, partial, (url, etag, overlap), came, tell).await
    }

    /// Takes a body, of which the first bytes are to be those that are there already.
    async fn body(
        &self,
        response: Response<Incoming>,
        partial: &mut Partial,
        (url, etag, mut overlap): (&Url, Option<String>, &[u8]),
        came: &mut u64,
        tell: &mut Tell<'_>,
    ) -> Result<(), Failed> {
        let mut body = response.into_body();
        while let Some(mut piece) = self.client.piece(&mut body).await? {
            *came += piece.len() as u64;
            if !overlap.is_empty() {
                let common = overlap.len().min(piece.len());
                if piece[..common] != overlap[..common] {
                    // Another file: it is taken from its start.
                    partial.restart(url, None)?;
                    return Err(Failed::Short(0));
                }
                overlap = &overlap[common..];
                piece = piece.slice(common..);
                if overlap.is_empty() {
                    partial.go_on(url, etag.clone())?;
                }
            }
            if partial.len() + piece.len() as u64 > self.size {
                let there = partial.len() + piece.len() as u64;
                partial.restart(url, None)?;
                return Err(Failed::Size { there, size: self.size });
            }
            partial.append(&piece)?;
            tell(Progress::Bytes { path: self.path.to_owned(), done: partial.len(), size: self.size });
        }
        if partial.len() == self.size { Ok(()) } else { Err(Failed::Short(partial.len())) }
    }
}

/// Takes a manifest, unless it is still the one of this tag.
pub(super) async fn manifest(
    client: &Client,
    source: &Source,
    etag: Option<&str>,
) -> Result<Manifest, String> {
    let url = source.url("server.ini");
    let mut put_offs = 0;
    loop {
        let mut question = Question::get(&url, source.through.as_ref()).by(&source.shows);
        if let Some(tag) = etag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            question.headers.insert(header::IF_NONE_MATCH, tag);
        }
        let response = client.follow(question).await.map_err(|error| error.to_string())?;
        match response.status() {
            StatusCode::OK => {
                let etag = tag(response.headers());
                let bytes = client.whole(response.into_body(), MANIFEST_BYTES_MAX as u64).await;
                return bytes.map(|bytes| Manifest::New(bytes, etag)).map_err(|error| error.to_string());
            }
            StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Manifest::Unchanged),
            status => match put_off(status, response.headers()) {
                Failed::PutOff(wait) if wait <= PUT_OFF_MAX && put_offs < PUT_OFFS => {
                    put_offs += 1;
                    sleep(wait).await;
                }
                failed => return Err(failed.to_string()),
            },
        }
    }
}

/// Takes a signature; `None` where the source has none.
pub(super) async fn signature(
    client: &Client,
    source: &Source,
    path: &str,
) -> Result<Option<bytes::Bytes>, String> {
    let url = source.url(path);
    let question = Question::get(&url, source.through.as_ref()).by(&source.shows);
    let response = client.follow(question).await.map_err(|error| error.to_string())?;
    match response.status() {
        StatusCode::OK => {
            let whole = client.whole(response.into_body(), SIGNATURE_BYTES_MAX).await;
            whole.map(Some).map_err(|error| error.to_string())
        }
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(format!("status {}", status.as_u16())),
    }
}

/// What an answer that brings nothing means: whether to come back, or to go elsewhere.
fn put_off(status: StatusCode, headers: &HeaderMap) -> Failed {
    let asks = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    match retry_after(headers).filter(|_| asks) {
        Some(wait) => Failed::PutOff(wait),
        None => Failed::Status(status),
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn check_size(there: Option<u64>, size: u64) -> Result<(), Failed> {
    match there.filter(|there| *there != size) {
        Some(there) => Err(Failed::Size { there, size }),
        None => Ok(()),
    }
}

fn declared(response: &Response<Incoming>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Where a range begins, and the size of the whole (RFC 9110 section 14.4).
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, size) = text.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, size): (u64, u64, u64) = (start.parse().ok()?, end.parse().ok()?, size.parse().ok()?);
    (start <= end && end.checked_add(1) == Some(size)).then_some((start, size))
}

fn tag(headers: &HeaderMap) -> Option<String> {
    headers.get(header::ETAG)?.to_str().ok().map(str::to_owned)
}

fn strong(headers: &HeaderMap) -> Option<String> {
    tag(headers).filter(|tag| tag.starts_with('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_only_where_it_goes_to_the_end() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_static(text));
            content_range(&headers)
        };
        assert_eq!(read("bytes 5-9/10"), Some((5, 10)));
        for text in [
            "bytes 5-8/10",
            "bytes 9-5/10",
            "bytes 5-9/*",
            "bytes */10",
            "5-9/10",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn only_who_says_when_to_come_back_puts_off() {
        let mut headers = HeaderMap::new();
        assert!(matches!(put_off(StatusCode::SERVICE_UNAVAILABLE, &headers), Failed::Status(_)));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let Failed::PutOff(wait) = put_off(StatusCode::TOO_MANY_REQUESTS, &headers) else {
            panic!("not put off")
        };
        assert_eq!(wait, Duration::from_secs(7));
        assert!(matches!(put_off(StatusCode::FORBIDDEN, &headers), Failed::Status(_)));
    }
}
