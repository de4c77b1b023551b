//! What an agent may update (R6.1).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::catalogue::Class;

/// The three scopes, each holding the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Patterns alone.
    Patterns,
    /// Patterns, engines and drivers.
    PatternsEnginesDrivers,
    /// Everything: hot fixes and the agent program too.
    All,
}

impl Scope {
    /// All scopes, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Patterns, Self::PatternsEnginesDrivers, Self::All];

    /// Whether components of this class are in the scope.
    pub fn sees(self, class: Class) -> bool {
        match class {
            Class::Pattern => true,
            Class::Engine | Class::Driver => self >= Self::PatternsEnginesDrivers,
            Class::Hotfix | Class::Program => self == Self::All,
        }
    }

    /// The scope's name in settings, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patterns => "patterns",
            Self::PatternsEnginesDrivers => "patterns-engines-drivers",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
