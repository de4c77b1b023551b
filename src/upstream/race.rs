//! The race of an upstream's addresses for one connection (RFC 8305, with the figures of its successor's draft; R4.3).
//!
//! Events go in (an answer, a failure, a connection), and [`Race::next`] says what to do now: ask, attempt, wait, or that it is
//! over. Knows no socket and no clock: times are those that it is given. It never orders addresses of one family, which is the
//! resolver's. Invariant: no address is attempted twice, and a race that is lost has attempted every address that it was told.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::settings::Family;

/// How long IPv4 addresses wait for IPv6 addresses, and those that failed before for any other.
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How many attempts the preferred family has before the other one's first.
pub const FIRST_FAMILY_COUNT: usize = 1;

/// How long IPv6 addresses of the name itself have before NAT64 is tried beside them.
pub const LAST_RESORT_DELAY: Duration = Duration::from_secs(2);

/// Addresses taken of one answer: an upstream has a few; an answer may hold thousands.
pub const ADDRESSES_MAX: usize = 16;

/// Attempts under way at a time: for another one the oldest is given up, which by then had two seconds.
pub const ATTEMPTS_AT_ONCE_MAX: usize = 8;

/// What a race is run by.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which addresses take part.
    pub family: Family,
    /// From one attempt to the next while none fails.
    pub attempt_delay: Duration,
    /// Whether IPv4 addresses may be reached by NAT64.
    pub nat64: bool,
}

/// What is asked of the resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The name's IPv6 addresses.
    Aaaa,
    /// The name's IPv4 addresses.
    A,
    /// IPv6 addresses that stand for those IPv4 addresses on this network.
    Embedded,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask, and tell the answer.
    Ask(Question),
    /// Begin an attempt, and tell its end. Another one is to be given up for it.
    Attempt(IpAddr, Option<IpAddr>),
    /// Nothing before this time, or the next event.
    Wait(Option<Duration>),
    /// This address is connected; all other attempts are to be closed.
    Won(IpAddr),
    /// No attempt is left.
    Lost,
}

/// Why something did not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A question without an answer.
    Question(Question, String),
    /// An attempt that failed.
    Attempt(IpAddr, String),
}

impl Loss {
    /// Whether an address was attempted.
    pub fn is_attempt(&self) -> bool {
        matches!(self, Self::Attempt(..))
    }
}

/// One race.
#[derive(Debug)]
pub struct Race {
    plan: Plan,
    aaaa: Asking,
    a: Asking,
    embedded: Asking,
    /// When the first addresses came.
    came: Option<Duration>,
    ipv4: Vec<Ipv4Addr>,
    /// Whether the name has IPv6 addresses of its own.
    has_ipv6: bool,
    /// Addresses that wait for their attempt: those that are not known to fail, then those that are.
    fresh: Lanes,
    behind: Lanes,
    told: Vec<IpAddr>,
    under_way: Vec<Attempt>,
    begun: usize,
    last: Option<Attempt>,
    /// An attempt failed since the last one began: the next one need not wait.
    failed: bool,
    won: Option<IpAddr>,
    losses: Vec<Loss>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// It may be asked.
    Open,
    Asked,
    /// It is answered, or not to be asked.
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    address: IpAddr,
    at: Duration,
}

/// Addresses by family, each in the resolver's order.
#[derive(Debug, Default)]
struct Lanes {
    ipv6: VecDeque<IpAddr>,
    ipv4: VecDeque<IpAddr>,
}

impl Lanes {
    fn push(&mut self, address: IpAddr) {
        if address.is_ipv6() { &mut self.ipv6 } else { &mut self.ipv4 }.push_back(address);
    }

    fn pop(&mut self, ipv6_first: bool) -> Option<IpAddr> {
        let (one, other) =
            if ipv6_first { (&mut self.ipv6, &mut self.ipv4) } else { (&mut self.ipv4, &mut self.ipv6) };
        one.pop_front().or_else(|| other.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.ipv6.is_empty() && self.ipv4.is_empty()
    }
}

impl Race {
    /// A race in which nothing was asked yet.
    pub fn new(plan: Plan) -> Self {
        let when = |asked| if asked { Asking::Open } else { Asking::Closed };
        let (native_6, native_4) = (plan.family != Family::Ipv4, plan.family != Family::Ipv6);
        let nat64 = plan.nat64 && native_6;
        Self {
            plan,
            aaaa: when(native_6),
            // Without IPv4, IPv4 addresses are asked for what they are embedded as.
            a: when(native_4 || nat64),
            embedded: when(nat64),
            came: None,
            ipv4: Vec::new(),
            has_ipv6: false,
            fresh: Lanes::default(),
            behind: Lanes::default(),
            told: Vec::new(),
            under_way: Vec::new(),
            begun: 0,
            last: None,
            failed: false,
            won: None,
            losses: Vec::new(),
        }
    }

    /// Takes an answer: addresses (none where the name has none), or why there is no answer. Addresses that `failed` before
    /// are put behind all others.
    pub fn answered(
        &mut self,
        question: Question,
        answer: Result<Vec<IpAddr>, String>,
        now: Duration,
        failed: impl Fn(IpAddr) -> bool,
    ) {
        *self.asking(question) = Asking::Closed;
        let addresses = match answer {
            Ok(addresses) => addresses,
            Err(reason) => return self.losses.push(Loss::Question(question, reason)),
        };
        let of_question = |address: &IpAddr| address.is_ipv4() == (question == Question::A);
        for address in addresses.into_iter().filter(of_question).take(ADDRESSES_MAX) {
            if self.told.contains(&address) {
                continue;
            }
            self.told.push(address);
            self.came.get_or_insert(now);
            if let IpAddr::V4(v4) = address {
                self.ipv4.push(v4);
                if self.plan.family == Family::Ipv6 {
                    continue;
                }
            }
            self.has_ipv6 |= question == Question::Aaaa;
            if failed(address) { &mut self.behind } else { &mut self.fresh }.push(address);
        }
    }

    /// Takes the failure of an attempt.
    pub fn failed(&mut self, address: IpAddr, reason: String) {
        if self.end(address) {
            self.failed = true;
            self.losses.push(Loss::Attempt(address, reason));
        }
    }

    /// Takes the success of an attempt: the first one wins.
    pub fn connected(&mut self, address: IpAddr) {
        self.won.get_or_insert(address);
    }

    /// What is to be done at this time. Asked again after each step that it gave, until it says to wait or that it is over.
    pub fn next(&mut self, now: Duration) -> Next {
        if let Some(won) = self.won {
            return Next::Won(won);
        }
        for question in [Question::Aaaa, Question::A] {
            if *self.asking(question) == Asking::Open {
                *self.asking(question) = Asking::Asked;
                return Next::Ask(question);
            }
        }
        if let Some(wait) = self.resolution_delay(now) {
            return wait;
        }
        if self.fresh.is_empty() && self.behind.is_empty() {
            return self.last_resort(now);
        }
        match self.due(self.plan.attempt_delay) {
            Some(due) if now < due => Next::Wait(Some(due)),
            _ => self.attempt(now),
        }
    }

    /// The IPv4 addresses that may be embedded.
    pub fn ipv4(&self) -> &[Ipv4Addr] {
        &self.ipv4
    }

    /// What went wrong so far, in order.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// The attempts that did not end yet.
    pub fn under_way(&self) -> impl Iterator<Item = IpAddr> {
        self.under_way.iter().map(|attempt| attempt.address)
    }

    /// The attempts that another one overtook, though it began a whole delay later: they are slow or dead.
    pub fn overtaken(&self) -> impl Iterator<Item = IpAddr> {
        let winner = self.under_way.iter().find(|attempt| Some(attempt.address) == self.won);
        let latest = winner.and_then(|winner| winner.at.checked_sub(self.plan.attempt_delay));
        let slow = move |attempt: &&Attempt| latest.is_some_and(|latest| attempt.at <= latest);
        self.under_way.iter().filter(slow).map(|attempt| attempt.address)
    }

    /// While the first attempt is to wait for answers: that.
    fn resolution_delay(&self, now: Duration) -> Option<Next> {
        // An answer that is still to come may hold what goes before the addresses that are there.
        let settled = match (self.aaaa, self.a) {
            (Asking::Closed, Asking::Closed) => true,
            (Asking::Closed, _) => !self.fresh.is_empty(),
            _ => !self.fresh.ipv6.is_empty(),
        };
        let until = self.came.map(|came| came + RESOLUTION_DELAY);
        let waits = self.begun == 0 && !settled && until.is_none_or(|until| now < until);
        waits.then_some(Next::Wait(until))
    }

    /// When the next attempt may begin, so long after the last one; `None` for at once.
    fn due(&self, delay: Duration) -> Option<Duration> {
        self.last.filter(|_| !self.failed && !self.under_way.is_empty()).map(|last| last.at + delay)
    }

    fn attempt(&mut self, now: Duration) -> Next {
        let ipv6_first = match self.last {
            Some(last) if self.begun >= FIRST_FAMILY_COUNT => last.address.is_ipv4(),
            _ => true,
        };
        let Some(address) = self.fresh.pop(ipv6_first).or_else(|| self.behind.pop(ipv6_first)) else {
            return Next::Wait(None);
        };
        let oldest = (self.under_way.len() >= ATTEMPTS_AT_ONCE_MAX).then(|| self.under_way.remove(0).address);
        if let Some(oldest) = oldest {
            let reason = format!("no answer while {ATTEMPTS_AT_ONCE_MAX} others were attempted");
            self.losses.push(Loss::Attempt(oldest, reason));
        }
        let attempt = Attempt { address, at: now };
        self.under_way.push(attempt);
        self.last = Some(attempt);
        self.begun += 1;
        self.failed = false;
        Next::Attempt(address, oldest)
    }

    /// What is left when each address has had its attempt.
    fn last_resort(&mut self, now: Duration) -> Next {
        let asked = [self.aaaa, self.a].contains(&Asking::Asked);
        if self.embedded == Asking::Open && !self.ipv4.is_empty() && self.aaaa == Asking::Closed {
            let delay = if self.has_ipv6 { LAST_RESORT_DELAY } else { self.plan.attempt_delay };
            // One of several that failed says nothing of the rest.
            let due = self.last.filter(|_| !self.under_way.is_empty()).map(|last| last.at + delay);
            return match due {
                Some(due) if now < due => Next::Wait(Some(due)),
                _ => {
                    self.embedded = Asking::Asked;
                    Next::Ask(Question::Embedded)
                }
            };
        }
        let over = !asked && self.embedded != Asking::Asked && self.under_way.is_empty();
        if over { Next::Lost } else { Next::Wait(None) }
    }

    fn end(&mut self, address: IpAddr) -> bool {
        let place = self.under_way.iter().position(|attempt| attempt.address == address);
        place.map(|place| self.under_way.remove(place)).is_some()
    }

    fn asking(&mut self, question: Question) -> &mut Asking {
        match question {
            Question::Aaaa => &mut self.aaaa,
            Question::A => &mut self.a,
            Question::Embedded => &mut self.embedded,
        }
    }
}

#[cfg(test)]
mod replays;
