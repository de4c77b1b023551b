//! What a connection becomes once nothing more is asked on it: a tunnel, or a stream of events.

use std::cell::RefCell;

use crate::http::held::Held;
use crate::http::tunnel::Tunnel;

/// What a connection of HTTP/1 becomes after the request under way; nothing, as a rule.
#[derive(Debug, Default)]
pub struct Onward(RefCell<Option<Becomes>>);

/// What it becomes.
#[derive(Debug)]
pub enum Becomes {
    /// A tunnel, once its request is answered.
    Tunnel(Box<Tunnel>),
    /// A stream of events, whose head is not sent yet.
    Events(Box<Held>),
}

impl Onward {
    /// Says what the connection becomes.
    pub fn set(&self, becomes: Becomes) {
        self.0.replace(Some(becomes));
    }

    /// What the connection becomes, for whoever makes it that.
    pub fn take(&self) -> Option<Becomes> {
        self.0.take()
    }

    /// Whether it becomes anything.
    pub fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Whether hyper is to leave off in the midst of a request, which somebody else answers.
    pub fn is_taken_over(&self) -> bool {
        matches!(*self.0.borrow(), Some(Becomes::Events(_)))
    }
}
