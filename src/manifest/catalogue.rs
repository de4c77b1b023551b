//! The class of a component: what the catalogue knows about labels and paths (activeupdate.md, Components by class).
//!
//! Knowledge is data: `catalogue.toml`, and an administrator's rules before it. Invariant: the first rule that matches
//! counts, and what no rule matches is unknown.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a component is, from the least to the most restricted (R6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Everything under `[PATTERN]`.
    Pattern,
    /// Under `[ENGINE]`, and what the catalogue does not know there.
    Engine,
    /// Under `[ENGINE]`, known by label or path.
    Driver,
    /// A hot fix, under `[Info_...]`.
    Hotfix,
    /// The agent program, and every unknown.
    Program,
}

impl Class {
    /// All classes, the least restricted first, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Pattern, Self::Engine, Self::Driver, Self::Hotfix, Self::Program];

    /// The class's name in settings and in what administrators are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Engine => "engine",
            Self::Driver => "driver",
            Self::Hotfix => "hotfix",
            Self::Program => "program",
        }
    }
}

/// Rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    rules: Vec<Rule>,
}

/// What a component is that has this label, this path, or both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RuleText")]
pub struct Rule {
    /// An `[ENGINE]` line's label, or an `[Info_...]` section's name.
    pub label: Option<Pattern>,
    /// The package's path.
    pub path: Option<Pattern>,
    /// Its class.
    pub class: Class,
}

/// Text in which `*` stands for any run of characters, compared without ASCII case. One that ends in `/` covers
/// everything below.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Box<[u8]>);

/// Why a rule says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// No label and no path: it would match everything.
    #[error("a rule needs a label, a path, or both")]
    Bare,
    /// The pattern has no character, or more than [`PATTERN_BYTES_MAX`].
    #[error("a pattern has 1 to 256 bytes")]
    PatternSize,
}

/// A rule as it stands in a file, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    label: Option<Pattern>,
    path: Option<Pattern>,
    class: Class,
}

/// The built-in file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueText {
    rule: Vec<Rule>,
}

impl Catalogue {
    /// What the relay knows by itself.
    ///
    /// # Panics
    /// Never: the file is part of the program, and a test reads it.
    pub fn builtin() -> Self {
        let text: CatalogueText =
            toml::from_str(include_str!("catalogue.toml")).expect("a test reads the built-in catalogue");
        Self { rules: text.rule }
    }

    /// With an administrator's rules before those that are there.
    #[must_use]
    pub fn with_overrides(self, mut overrides: Vec<Rule>) -> Self {
        overrides.extend(self.rules);
        Self { rules: overrides }
    }

    /// The class that the first matching rule gives, of those that can stand where the component stands. `None` is
    /// unknown.
    pub fn class_of(&self, label: &[u8], path: &str, among: &[Class]) -> Option<Class> {
        let known = |rule: &&Rule| among.contains(&rule.class) && rule.matches(label, path.as_bytes());
        self.rules.iter().find(known).map(|rule| rule.class)
    }
}

impl Rule {
    /// Whether all that the rule asks for is there. A rule that asks for nothing matches nothing.
    fn matches(&self, label: &[u8], path: &[u8]) -> bool {
        let asked =
            |pattern: &Option<Pattern>, text| pattern.as_ref().is_none_or(|pattern| pattern.matches(text));
        (self.label.is_some() || self.path.is_some()) && asked(&self.label, label) && asked(&self.path, path)
    }
}

impl TryFrom<RuleText> for Rule {
    type Error = RuleError;

    fn try_from(text: RuleText) -> Result<Self, RuleError> {
        if text.label.is_none() && text.path.is_none() {
            return Err(RuleError::Bare);
        }
        Ok(Self { label: text.label, path: text.path, class: text.class })
    }
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(RuleError::PatternSize);
        }
        let mut bytes = text.as_bytes().to_vec();
        if bytes.ends_with(b"/") {
            bytes.push(b'*');
        }
        Ok(Self(bytes.into()))
    }

    /// Whether the whole text is what the pattern says. On a mismatch only the last `*` takes one byte more, so the time
    /// is at most the text's length times the pattern's.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut in_pattern, mut in_text) = (0, 0);
        let mut last_star = None;
        while in_text < text.len() {
            match self.0.get(in_pattern) {
                Some(b'*') => {
                    in_pattern += 1;
                    last_star = Some((in_pattern, in_text));
                }
                Some(byte) if byte.eq_ignore_ascii_case(&text[in_text]) => {
                    in_pattern += 1;
                    in_text += 1;
                }
                _ => {
                    let Some((after_star, taken)) = last_star else { return false };
                    last_star = Some((after_star, taken + 1));
                    (in_pattern, in_text) = (after_star, taken + 1);
                }
            }
        }
        self.0[in_pattern..].iter().all(|byte| *byte == b'*')
    }
}

impl TryFrom<String> for Pattern {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        Self::parse(&text)
    }
}

/// The longest pattern, in bytes: matching takes the text's length times this at worst.
pub const PATTERN_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENGINES: [Class; 2] = [Class::Engine, Class::Driver];
    const PROGRAMS: [Class; 2] = [Class::Hotfix, Class::Program];

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn the_builtin_catalogue_knows_engines_and_drivers_by_label() {
        let catalogue = Catalogue::builtin();
        let cases = [
            ("VSAPI32_NT_I386", Some(Class::Engine)),
            ("ATSE_WIN64", Some(Class::Engine)),
            ("SSENGINE_SSAPI32_V6", Some(Class::Engine)),
            ("TSC64", Some(Class::Engine)),
            ("TMUFE_WIN32", Some(Class::Engine)),
            ("TMBMSRV_X64", Some(Class::Engine)),
            ("VSAPI_DRIVER_X64", Some(Class::Driver)),
            ("TMBM_DRIVER_X64", Some(Class::Driver)),
            ("tmcfw_driver_x64", Some(Class::Driver)),
            ("TMEBC_DRIVER_I386", Some(Class::Driver)),
            ("ANY_DRV_X64", Some(Class::Driver)),
            ("NOBODY_KNOWS", None),
        ];
        for (label, class) in cases {
            assert_eq!(catalogue.class_of(label.as_bytes(), "engine/x.zip", &ENGINES), class, "{label}");
        }
    }

    #[test]
    fn the_builtin_catalogue_knows_hot_fixes_by_path() {
        let catalogue = Catalogue::builtin();
        let cases = [
            ("product/osce14/enu/hotfix/b1234.zip", Some(Class::Hotfix)),
            ("product/osce14_hfb1234.zip", Some(Class::Hotfix)),
            ("product/osce14/enu/agent.zip", Some(Class::Program)),
            ("elsewhere/agent.zip", None),
        ];
        for (path, class) in cases {
            assert_eq!(catalogue.class_of(b"Info_1", path, &PROGRAMS), class, "{path}");
        }
    }

    #[test]
    fn an_override_comes_before_the_builtin_rules_and_the_first_of_two_counts() {
        let rule = |class| Rule { label: Some(pattern("vsapi32*")), path: None, class };
        let catalogue = Catalogue::builtin().with_overrides(vec![rule(Class::Driver), rule(Class::Engine)]);
        assert_eq!(catalogue.class_of(b"VSAPI32_NT", "engine/x.zip", &ENGINES), Some(Class::Driver));
    }

    #[test]
    fn a_rule_with_label_and_path_needs_both() {
        let rule = Rule { label: Some(pattern("A*")), path: Some(pattern("engine/")), class: Class::Engine };
        assert!(rule.matches(b"abc", b"engine/x"));
        assert!(!rule.matches(b"abc", b"pattern/x"));
        assert!(!rule.matches(b"bbc", b"engine/x"));
        let bare = Rule { label: None, path: None, class: Class::Pattern };
        assert!(!bare.matches(b"", b""));
    }

    #[test]
    fn rules_that_say_nothing_or_too_much_are_refused() {
        let cases = [
            ("class = 'driver'", "a label, a path, or both"),
            ("label = ''\nclass = 'driver'", "1 to 256 bytes"),
            ("label = 'A'\nclass = 'rootkit'", "unknown variant"),
            ("label = 'A'\nclass = 'driver'\nsize = 1", "unknown field `size`"),
            ("label = 'A'", "missing field `class`"),
        ];
        for (text, said) in cases {
            let error = toml::from_str::<Rule>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    /// The plain meaning of a pattern, in exponential time.
    fn matches_plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|taken| matches_plainly(rest, &text[taken..])),
            [byte, rest @ ..] => {
                text.first().is_some_and(|first| first.eq_ignore_ascii_case(byte))
                    && matches_plainly(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_plain_meaning_matches(glob in "[aAb*]{1,6}", text in "[aAbB]{0,8}") {
            prop_assert_eq!(
                pattern(&glob).matches(text.as_bytes()),
                matches_plainly(glob.as_bytes(), text.as_bytes())
            );
        }
    }
}
