//! `Cache-Control` as both sides send it (RFC 9111 section 5.2): names without regard to case, arguments as tokens or in quotes.
//!
//! Never decides anything. Invariant: what cannot be read as it was meant counts as [`Delta::Wrong`], never as absent.

use std::time::Duration;

use hyper::header::{CACHE_CONTROL, HeaderMap, PRAGMA};

/// The directives of a request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives(Vec<(String, Option<String>)>);

/// The argument of a directive that has a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// The directive is not there.
    Absent,
    /// It is, with this argument.
    Of(Duration),
    /// It is, without a number, or with two that differ (section 4.2.1).
    Wrong,
}

impl Directives {
    /// Reads all lines of the field.
    pub fn of(headers: &HeaderMap) -> Self {
        let lines =
            headers.get_all(CACHE_CONTROL).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        Self(lines.flat_map(|line| elements(&line)).collect())
    }

    /// Those of a request: where there is no `Cache-Control`, `Pragma: no-cache` stands for it (section 5.4).
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut pragmas = headers.get_all(PRAGMA).iter();
        let names_it = |value: &[u8]| {
            value.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
        };
        if !headers.contains_key(CACHE_CONTROL) && pragmas.any(|value| names_it(value.as_bytes())) {
            return Self(vec![("no-cache".to_owned(), None)]);
        }
        Self::of(headers)
    }

    /// Whether a directive is there, with or without an argument.
    pub fn has(&self, name: &str) -> bool {
        self.arguments(name).next().is_some()
    }

    /// A directive's seconds. More than a u32 has count as that many: a century is as good as for ever (section 1.2.2).
    pub fn delta(&self, name: &str) -> Delta {
        let mut found = Delta::Absent;
        for argument in self.arguments(name) {
            let secs =
                argument.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(secs) = secs else { return Delta::Wrong };
            let secs = Duration::from_secs(secs.parse::<u32>().unwrap_or(u32::MAX).into());
            match found {
                Delta::Of(before) if before != secs => return Delta::Wrong,
                _ => found = Delta::Of(secs),
            }
        }
        found
    }

    /// Whether a directive is there without an argument.
    pub fn is_bare(&self, name: &str) -> bool {
        self.arguments(name).any(|argument| argument.is_none())
    }

    fn arguments(&self, name: &str) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, argument)| argument.as_deref())
    }
}

/// The elements of one line: what stands between commas that are in no quotes.
fn elements(line: &str) -> Vec<(String, Option<String>)> {
    let (mut found, mut name, mut argument) = (Vec::new(), String::new(), None::<String>);
    let (mut quoted, mut letters) = (false, line.chars());
    while let Some(letter) = letters.next() {
        match (letter, quoted, &mut argument) {
            ('"', _, Some(_)) => quoted = !quoted,
            ('\\', true, Some(argument)) => argument.extend(letters.next()),
            (',', false, _) => take(&mut found, &mut name, &mut argument),
            ('=', false, None) => argument = Some(String::new()),
            (letter, _, Some(argument)) => argument.push(letter),
            (letter, _, None) => name.push(letter),
        }
    }
    take(&mut found, &mut name, &mut argument);
    found
}

fn take(found: &mut Vec<(String, Option<String>)>, name: &mut String, argument: &mut Option<String>) {
    let (name, argument) = (std::mem::take(name).trim().to_ascii_lowercase(), argument.take());
    if !name.is_empty() {
        found.push((name, argument.map(|argument| argument.trim().to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Directives {
        Directives::of(&lines.iter().map(|line| (CACHE_CONTROL, line.parse().unwrap())).collect())
    }

    fn secs(secs: u64) -> Delta {
        Delta::Of(Duration::from_secs(secs))
    }

    #[test]
    fn names_have_no_case_and_arguments_may_be_quoted_r3_2() {
        let all = of(&["Max-Age=60, NO-CACHE=\"set-cookie, max-age=5\"", "S-MaxAge=\"7\",,public ,x = y"]);
        assert_eq!(all.delta("max-age"), secs(60));
        assert_eq!(all.delta("s-maxage"), secs(7));
        assert!(all.has("no-cache") && !all.is_bare("no-cache") && all.is_bare("public") && all.has("x"));
        assert_eq!(all.delta("min-fresh"), Delta::Absent);
    }

    #[test]
    fn what_is_no_number_or_two_numbers_is_wrong_and_not_absent_r3_2() {
        for line in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=+1", "max-age=1, max-age=2"]
        {
            assert_eq!(of(&[line]).delta("max-age"), Delta::Wrong, "{line}");
        }
        assert_eq!(of(&["max-age=1", "max-age=1"]).delta("max-age"), secs(1));
        assert_eq!(of(&["max-age=99999999999999999999999"]).delta("max-age"), secs(u32::MAX.into()));
    }

    #[test]
    fn pragma_counts_where_there_is_no_cache_control_r3_2() {
        let mut headers = HeaderMap::from_iter([(PRAGMA, "x, No-Cache".parse().unwrap())]);
        assert!(Directives::of_request(&headers).has("no-cache"));
        headers.insert(CACHE_CONTROL, "max-age=1".parse().unwrap());
        assert!(!Directives::of_request(&headers).has("no-cache"));
    }

    proptest! {
        #[test]
        fn any_line_is_read_and_a_plain_one_as_it_stands(line in "[ -~]{0,60}", age in 0u32..1_000_000) {
            let _ = of(&[&line]).delta("max-age");
            prop_assert_eq!(of(&[&format!("no-store, max-age={age}, a=\"b\"")]).delta("max-age"), secs(age.into()));
        }
    }
}
