//! What agents show to be known by: their tokens, a line each.
//!
//! Invariant: no secret is in an error or in debug output; no two agents show the same id.

use std::collections::HashSet;
use std::fmt;

use hyper::header::HeaderValue;
use thiserror::Error;

use crate::policy::secret::Token;
use crate::policy::tree::id::AgentId;

/// The tokens of agents, by their numbers.
#[derive(Clone, Default)]
pub struct Tokens {
    all: Vec<HeaderValue>,
    ids: HashSet<AgentId>,
}

/// Why a text holds no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokensError {
    /// A line that is none.
    #[error("line {0} is no agent's token: one looks like ID~SECRET")]
    Line(usize),
    /// Two agents of one id would take each other's streams away.
    #[error("line {0} has the id of a line before it")]
    Twice(usize),
}

impl Tokens {
    /// Reads tokens; empty lines are passed over.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let mut tokens = Self::default();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if !line.is_empty() && !tokens.add(line).ok_or(TokensError::Line(number))? {
                return Err(TokensError::Twice(number));
            }
        }
        Ok(tokens)
    }

    /// Adds an agent's token: whether its id is new. `None` where the text is no token.
    pub fn add(&mut self, text: &str) -> Option<bool> {
        let id = AgentId::parse(Token::parse(text)?.id).ok()?;
        let mut shown = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        shown.set_sensitive(true);
        let is_new = self.ids.insert(id);
        if is_new {
            self.all.push(shown);
        }
        Some(is_new)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none: agents are known by their addresses.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What an agent shows, as headers hold it.
    pub(in crate::load) fn shown(&self, agent: u32) -> Option<HeaderValue> {
        self.all.get(agent as usize).cloned()
    }
}

/// Without the secrets.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_never_shown() {
        let secret = "0123456789abcdef".repeat(4);
        let tokens = Tokens::parse(&format!("a~{secret}\r\n\n b~{secret} \n")).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens.shown(1).unwrap(), format!("Bearer b~{secret}").as_str());
        assert_eq!(tokens.shown(2), None);
        assert!(!format!("{tokens:?} {:?}", tokens.shown(0)).contains("0123"));
        assert_eq!(Tokens::parse(&format!("a~{secret}\nb~short")).unwrap_err(), TokensError::Line(2));
        assert_eq!(Tokens::parse(&format!("A~{secret}")).unwrap_err(), TokensError::Line(1));
        assert_eq!(Tokens::parse(&format!("a~{secret}\n\na~{secret}")).unwrap_err(), TokensError::Twice(3));
    }
}
