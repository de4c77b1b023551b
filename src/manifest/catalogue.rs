//! The class of a component.

/// What a component is, from the least to the most restricted (R6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
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
