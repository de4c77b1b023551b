//! Check-ins.

/// What an agent said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Until when it may take packages, in seconds of the monotonic clock.
    pub permitted_until_secs: u64,
}
