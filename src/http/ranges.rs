//! Byte ranges (RFC 9110 section 14): which bytes a `Range` header asks for, and `multipart/byteranges`.
//!
//! Parsed here rather than by the `headers` crate, which takes a suffix longer than the file for unsatisfiable.

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::base::range::ByteRange;

/// What a `Range` header means for something of a known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: there is no range, or one that is ignored (unknown unit, malformed, too many).
    Whole,
    /// One range, or several; in the order in which they were asked for.
    Ranges(Vec<ByteRange>),
    /// No byte of any range is there.
    Unsatisfiable,
}

/// Reads a `Range` header. More than `ranges_max` ranges, or ranges that together are longer than the file (they overlap),
/// are ignored: they cost more than the file itself (RFC 9110 section 14.2).
pub fn wanted(header: &HeaderValue, size: u64, ranges_max: usize) -> Wanted {
    let Some(specs) = header.to_str().ok().and_then(bytes_unit) else { return Wanted::Whole };
    let mut ranges = Vec::new();
    // Wider than a size: a sum that only saturates could never be over the largest one.
    let mut total = 0u128;
    // A list may have empty elements (RFC 9110 section 5.6.1).
    for spec in specs.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
        let Some(parsed) = parse(spec) else { return Wanted::Whole };
        if let Some(range) = parsed.within(size) {
            total += u128::from(range.len());
            ranges.push(range);
        }
        if ranges.len() > ranges_max {
            return Wanted::Whole;
        }
    }
    match ranges.len() {
        0 => Wanted::Unsatisfiable,
        2.. if total > size.into() => Wanted::Whole,
        _ => Wanted::Ranges(ranges),
    }
}

fn bytes_unit(value: &str) -> Option<&str> {
    let (unit, specs) = value.split_once('=')?;
    let some = specs.split(',').any(|spec| !spec.trim_matches([' ', '\t']).is_empty());
    (unit.eq_ignore_ascii_case("bytes") && some).then_some(specs)
}

/// One element of the list.
#[derive(Clone, Copy)]
enum Spec {
    From(u64),
    FromTo(u64, u64),
    Last(u64),
}

fn parse(spec: &str) -> Option<Spec> {
    match spec.split_once('-')? {
        ("", count) => Some(Spec::Last(number(count)?)),
        (first, "") => Some(Spec::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::FromTo(first, last))
        }
    }
}

/// One digit or more and nothing else. More digits than a u64 has mean "beyond any file".
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Spec {
    fn within(self, size: u64) -> Option<ByteRange> {
        let range = match self {
            Self::From(first) => ByteRange::new(first.min(size), size),
            Self::FromTo(first, last) => ByteRange::new(first.min(size), last.saturating_add(1).min(size)),
            Self::Last(count) => ByteRange::new(size.saturating_sub(count), size),
        };
        (!range.is_empty()).then_some(range)
    }
}

/// `bytes START-END/SIZE`.
pub fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start(), range.end() - 1)
}

/// A `multipart/byteranges` body (RFC 9110 section 14.6): what stands around the ranges.
#[derive(Debug)]
pub struct Multipart {
    /// The value of `Content-Type`.
    pub content_type: HeaderValue,
    /// What stands before each range.
    pub heads: Vec<Bytes>,
    /// What stands after the last.
    pub tail: Bytes,
    /// How many bytes all of it has.
    pub len: u64,
}

impl Multipart {
    /// Lays out ranges of something of a known size and type. `boundary` must not occur in it: 128 random bits will do.
    pub fn new(ranges: &[ByteRange], size: u64, part_type: &str, boundary: u128) -> Self {
        let boundary = format!("{boundary:032x}");
        let heads: Vec<Bytes> = ranges
            .iter()
            .map(|range| {
                let range = content_range(*range, size);
                format!("\r\n--{boundary}\r\nContent-Type: {part_type}\r\nContent-Range: {range}\r\n\r\n")
                    .into()
            })
            .collect();
        let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let around = heads.iter().chain([&tail]).map(|text| text.len() as u64).sum::<u64>();
        // An upstream may claim a size so near to the largest number that nothing fits around it.
        let len = ranges.iter().fold(around, |len, range| len.saturating_add(range.len()));
        let content_type = HeaderValue::from_str(&format!("multipart/byteranges; boundary={boundary}"));
        Self {
            content_type: content_type.expect("hexadecimal digits are a header's value"),
            heads,
            tail,
            len,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGES_MAX: usize = 16;

    fn of(header: &str, size: u64) -> Wanted {
        wanted(&HeaderValue::from_str(header).unwrap(), size, RANGES_MAX)
    }

    fn ranges(list: &[(u64, u64)]) -> Wanted {
        Wanted::Ranges(list.iter().map(|(start, end)| ByteRange::new(*start, *end)).collect())
    }

    #[test]
    fn examples_of_rfc_9110_section_14_1_2() {
        assert_eq!(of("bytes=0-499", 10_000), ranges(&[(0, 500)]));
        assert_eq!(of("bytes=500-999", 10_000), ranges(&[(500, 1000)]));
        assert_eq!(of("bytes=-500", 10_000), ranges(&[(9500, 10_000)]));
        assert_eq!(of("bytes=9500-", 10_000), ranges(&[(9500, 10_000)]));
        assert_eq!(of("bytes=0-0,-1", 10_000), ranges(&[(0, 1), (9999, 10_000)]));
        assert_eq!(
            of("bytes= 0-999, 4500-5499, -1000", 10_000),
            ranges(&[(0, 1000), (4500, 5500), (9000, 10_000)])
        );
        assert_eq!(of("bytes=500-700,601-999", 10_000), ranges(&[(500, 701), (601, 1000)]));
    }

    #[test]
    fn edges_and_nonsense() {
        assert_eq!(of("bytes=-20000", 10_000), ranges(&[(0, 10_000)]));
        assert_eq!(of("bytes=9999-99999999999999999999999", 10_000), ranges(&[(9999, 10_000)]));
        for unsatisfiable in ["bytes=10000-", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(unsatisfiable, 10_000), Wanted::Unsatisfiable, "{unsatisfiable}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Unsatisfiable);
        for ignored in [
            "bytes=",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=--1",
            "bytes=1",
            "lines=1-2",
            "0-1",
            "bytes=0-9,x",
            "bytes = 0-1",
            "bytes=,",
        ] {
            assert_eq!(of(ignored, 10_000), Wanted::Whole, "{ignored}");
        }
        assert_eq!(of("bytes=0-9999,0-9999", 10_000), Wanted::Whole, "longer than the file");
        let many = (0..=RANGES_MAX).map(|n| format!("{}-{}", n * 2, n * 2)).collect::<Vec<_>>().join(",");
        assert_eq!(of(&format!("bytes={many}"), 10_000), Wanted::Whole, "too many");
    }

    #[test]
    fn a_size_that_only_a_liar_has_overflows_nothing() {
        let halves = [ByteRange::new(0, u64::MAX / 2), ByteRange::new(u64::MAX / 2, u64::MAX)];
        let Wanted::Ranges(found) = of(&format!("bytes=0-{},{}-", u64::MAX / 2 - 1, u64::MAX / 2), u64::MAX)
        else {
            panic!("two halves are no more than the whole")
        };
        assert_eq!(found, halves);
        assert_eq!(Multipart::new(&found, u64::MAX, "text/plain", 0).len, u64::MAX);
        assert_eq!(of("bytes=0-,0-", u64::MAX), Wanted::Whole, "longer than the file");
    }

    proptest! {
        #[test]
        fn a_range_is_a_slice(size in 0usize..200, first in prop::option::of(0usize..260), last in prop::option::of(0usize..260)) {
            prop_assume!(first.is_some() || last.is_some());
            let data: Vec<usize> = (0..size).collect();
            let text = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
            let got = of(&format!("bytes={}-{}", text(first), text(last)), size as u64);
            let slice = match (first, last) {
                (Some(first), Some(last)) if first > last => {
                    prop_assert_eq!(got, Wanted::Whole);
                    return Ok(());
                }
                (Some(first), last) => {
                    let end = last.map_or(size, |last| (last + 1).min(size));
                    data.get(first..end.max(first)).unwrap_or(&[])
                }
                (None, last) => &data[size.saturating_sub(last.unwrap())..],
            };
            match got {
                Wanted::Ranges(ranges) => {
                    prop_assert_eq!(ranges.len(), 1);
                    let (start, end) = (usize::try_from(ranges[0].start()).unwrap(), usize::try_from(ranges[0].end()).unwrap());
                    prop_assert_eq!(&data[start..end], slice);
                }
                Wanted::Unsatisfiable => prop_assert!(slice.is_empty()),
                Wanted::Whole => prop_assert!(false, "a well-formed range was ignored"),
            }
        }

        #[test]
        fn any_header_gives_ranges_inside_the_file(text in "[ -~]{0,40}", size in 0u64..1000) {
            for header in [text.clone(), format!("bytes={text}")] {
                if let Wanted::Ranges(ranges) = of(&header, size) {
                    prop_assert!(ranges.len() <= RANGES_MAX);
                    prop_assert!(ranges.iter().all(|range| !range.is_empty() && range.end() <= size));
                }
            }
        }
    }
}
