//! What an upstream says to tell one state of a file from another (RFC 9110 section 8.8).

use serde::{Deserialize, Serialize};

/// The `ETag` and `Last-Modified` of an upstream's answer, as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Validator {
    /// The entity tag with its quotes, and `W/` where it is weak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The date, unparsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validator {
    /// The entity tag when it is strong: the only thing that may vouch for joining two transfers (RFC 9110 13.1.5).
    pub fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| tag.starts_with('"'))
    }

    /// Whether the upstream said anything at all.
    pub fn is_none(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// The text that goes into the relay's own entity tag: the tag, else the date, else nothing (R3.1).
    pub fn essence(&self) -> &str {
        self.etag.as_deref().or(self.last_modified.as_deref()).unwrap_or("")
    }
}
