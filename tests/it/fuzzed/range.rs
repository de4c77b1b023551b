//! Any `Range` and any preconditions: what is answered lies within the file, adds up, and is no more than was allowed.
//!
//! The input is a line `SIZE RANGES_MAX SECONDS`, a line with the value of `Range`, then headers, a line each.

use std::time::{Duration, SystemTime};

use forebay::base::range::ByteRange;
use forebay::http::conditional::{Verdict, evaluate, range_holds};
use forebay::http::ranges::{Multipart, Wanted, content_range, wanted};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// More than any setting allows, and few enough for the model.
const RANGES_MAX: usize = 1000;

/// Headers of one request that count here.
const HEADERS_MAX: usize = 32;

const ETAG: &str = "\"e\"";
const MODIFIED: Duration = Duration::from_secs(784_111_777);

/// Checks the claim.
pub(super) fn check(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let numbers = lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let mut numbers = numbers.split(' ').map(|number| number.parse::<u64>().unwrap_or(0));
    let size = numbers.next().unwrap_or(0);
    let ranges_max = usize::try_from(numbers.next().unwrap_or(0)).unwrap_or(0).clamp(1, RANGES_MAX);
    let age = Duration::from_secs(numbers.next().unwrap_or(0).min(1 << 32));
    let range = lines.next().and_then(|line| HeaderValue::from_bytes(line).ok());
    if let Some(range) = range {
        check_ranges(&range, size, ranges_max);
    }
    let headers = lines.take(HEADERS_MAX).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
    });
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value);
    }
    check_conditions(&map, age);
}

fn check_ranges(header: &HeaderValue, size: u64, ranges_max: usize) {
    let found = wanted(header, size, ranges_max);
    let modelled = header.to_str().ok().and_then(|text| model(text, size));
    match (&found, modelled) {
        (Wanted::Whole, None) => {}
        (Wanted::Whole, Some(ranges)) => {
            let total: u128 = ranges.iter().map(|range| u128::from(range.len())).sum();
            assert!(
                ranges.len() > ranges_max || (ranges.len() > 1 && total > size.into()),
                "ignored: {ranges:?}"
            );
        }
        (Wanted::Unsatisfiable, ranges) => assert_eq!(ranges, Some(Vec::new())),
        (Wanted::Ranges(found), ranges) => {
            assert_eq!(Some(found), ranges.as_ref());
            check_answer(found, size, ranges_max);
        }
    }
}

fn check_answer(ranges: &[ByteRange], size: u64, ranges_max: usize) {
    assert!((1..=ranges_max).contains(&ranges.len()));
    assert!(ranges.iter().all(|range| !range.is_empty() && range.end() <= size));
    let total: u64 = ranges.iter().map(|range| range.len()).sum();
    assert!(total <= size, "{total} of {size}");
    let multipart = Multipart::new(ranges, size, "application/octet-stream", 0x5eed);
    let around: usize = multipart.heads.iter().chain([&multipart.tail]).map(bytes::Bytes::len).sum();
    assert_eq!(multipart.len, (around as u64).saturating_add(total));
    for (head, range) in multipart.heads.iter().zip(ranges) {
        let said = content_range(*range, size);
        assert_eq!(said, format!("bytes {}-{}/{size}", range.start(), range.start() + range.len() - 1));
        assert!(std::str::from_utf8(head).is_ok_and(|head| head.contains(&said)));
    }
    assert_eq!(multipart.heads.len(), ranges.len());
    // What was answered, asked for, is answered again.
    let specs: Vec<_> = ranges.iter().map(|range| format!("{}-{}", range.start(), range.end() - 1)).collect();
    let again = HeaderValue::from_str(&format!("Bytes=, {} ,", specs.join(" ,\t"))).expect("digits");
    assert_eq!(wanted(&again, size, ranges_max), Wanted::Ranges(ranges.to_vec()));
}

/// What a header asks for, without any bound; `None` where it is not well-formed (RFC 9110 section 14.1.1).
fn model(text: &str, size: u64) -> Option<Vec<ByteRange>> {
    let at = text.find('=')?;
    let specs = text[..at].to_ascii_lowercase().eq("bytes").then_some(&text[at + 1..])?;
    let specs: Vec<&str> = specs.split(',').map(|spec| spec.trim_matches(['\t', ' '])).collect();
    let specs: Vec<&str> = specs.into_iter().filter(|spec| !spec.is_empty()).collect();
    if specs.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    for spec in specs {
        let dash = spec.bytes().position(|byte| byte == b'-')?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        if !first.bytes().chain(last.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let file = u128::from(size);
        let (start, end) = match (number(first), number(last)) {
            (None, None) => return None,
            (None, Some(count)) => (file - count.min(file), file),
            (Some(first), None) => (first.min(file), file),
            (Some(first), Some(last)) if first > last => return None,
            (Some(first), Some(last)) => (first.min(file), (last + 1).min(file)),
        };
        let bytes = |number: u128| u64::try_from(number).expect("it is not over the size");
        if start < end {
            ranges.push(ByteRange::new(bytes(start), bytes(end)));
        }
    }
    Some(ranges)
}

/// Digits as a number; what is beyond any file is as far beyond as any other.
fn number(digits: &str) -> Option<u128> {
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u128::MAX).min(u64::MAX.into()))
}

fn check_conditions(headers: &HeaderMap, age: Duration) {
    let etag = HeaderValue::from_static(ETAG);
    let modified = SystemTime::UNIX_EPOCH + MODIFIED;
    for known in [None, Some(modified)] {
        let verdict = evaluate(headers, &etag, known);
        let asks =
            [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];
        if !asks.iter().any(|name| headers.contains_key(name)) {
            assert_eq!(verdict, Verdict::Proceed);
        }
        if headers.get_all(header::IF_NONE_MATCH).iter().eq([&etag]) {
            assert_ne!(verdict, Verdict::Proceed, "the agent has it");
        }
        let holds = range_holds(headers, Some(&etag), known, modified + age);
        let conditions: Vec<_> = headers.get_all(header::IF_RANGE).iter().collect();
        let [condition] = conditions[..] else {
            assert_eq!(holds, conditions.is_empty());
            continue;
        };
        let date = condition.to_str().ok().and_then(|date| httpdate::parse_http_date(date).ok());
        let dated = known.is_some() && date == known && age >= Duration::from_secs(1);
        assert_eq!(holds, *condition == etag || dated, "{condition:?}");
    }
}
