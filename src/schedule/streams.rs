//! The streams that agents hold to be told: who is there, and what each is still to hear.
//!
//! What an agent is to hear is a state and no queue: the newest notice, and whether its settings changed. However long it does not
//! listen, that is all there is to keep. Never decides who is told. Invariants: an agent holds one stream, the newest; it is away only
//! once none of its was held for as long as it may linger.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::clock::Clock;
use crate::policy::tree::id::AgentId;
use crate::schedule::notices::notice::Notice;

/// All streams.
#[derive(Debug)]
pub struct Streams {
    clock: Arc<dyn Clock>,
    /// Guarded for moments: nobody waits within.
    table: Mutex<Table>,
    /// Wakes whoever follows what is heard.
    heard: Notify,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    ears: HashMap<AgentId, Arc<Ear>, foldhash::fast::RandomState>,
    /// The notices under way: an agent that comes back is told again.
    told: HashMap<AgentId, Notice, foldhash::fast::RandomState>,
    /// What was heard since it was asked last, an entry for each agent.
    heard: HashMap<AgentId, Heard, foldhash::fast::RandomState>,
}

/// What was heard of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// It came or went; that is how it is now.
    pub presence: Option<Presence>,
    /// It has reported how an update went.
    pub reported: bool,
    /// It has checked in, and its user's switch may stand otherwise.
    pub checked_in: bool,
}

/// Whether an agent can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It holds a stream.
    Here,
    /// It holds none; from this moment of the monotonic clock on it is away.
    Away(Duration),
}

/// What an agent hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is to update.
    Update(Notice),
    /// What holds for it has changed.
    Settings,
    /// Its stream ends.
    End(End),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent holds a newer one.
    Replaced,
    /// It is known no more.
    Revoked,
}

/// One end of a stream.
#[derive(Debug)]
struct Ear {
    number: u64,
    waiting: Mutex<Waiting>,
    heard: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    notice: Option<Notice>,
    settings: bool,
    end: Option<End>,
}

/// A stream that an agent holds, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    streams: Arc<Streams>,
    agent: AgentId,
    ear: Arc<Ear>,
    linger: Duration,
}

impl Streams {
    /// No agent is there.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, table: Mutex::default(), heard: Notify::new(), next: AtomicU64::new(1) }
    }

    /// Has an agent listen, which heard of the notices up to this number. Once it stops it may take as long to come back as it may
    /// linger, before it counts as away.
    pub fn listen(self: &Arc<Self>, agent: AgentId, heard: u64, linger: Duration) -> Listening {
        let mut table = self.table();
        let notice = table.told.get(&agent).filter(|notice| notice.number > heard).cloned();
        let ear = Arc::new(Ear {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            waiting: Mutex::new(Waiting { notice, ..Waiting::default() }),
            heard: Notify::new(),
        });
        if let Some(older) = table.ears.insert(agent, ear.clone()) {
            older.tell(|waiting| waiting.end = Some(End::Replaced));
        }
        table.heard.entry(agent).or_default().presence = Some(Presence::Here);
        drop(table);
        self.heard.notify_one();
        Listening { streams: self.clone(), agent, ear, linger }
    }

    /// Tells an agent; one that is not there for the moment hears it when it comes back, while the notice is under way.
    pub fn tell(&self, agent: AgentId, notice: Notice) {
        let mut table = self.table();
        if table.heard.get(&agent).is_some_and(|heard| heard.reported) {
            // It has followed the notice meanwhile, which whoever tells has not heard yet.
            return;
        }
        if let Some(ear) = table.ears.get(&agent) {
            let notice = notice.clone();
            ear.tell(|waiting| waiting.notice = Some(notice));
        }
        table.told.insert(agent, notice);
    }

    /// A notice has been followed, or is given up.
    pub fn settled(&self, agent: &AgentId) {
        let mut table = self.table();
        table.told.remove(agent);
        if let Some(ear) = table.ears.get(agent) {
            ear.waiting().notice = None;
        }
    }

    /// The notice that is under way for an agent.
    pub fn told(&self, agent: &AgentId) -> Option<Notice> {
        self.table().told.get(agent).cloned()
    }

    /// Tells those of the listening that what holds for them has changed, and those that are known no more that theirs is over.
    pub fn settings_changed(&self, mut of: impl FnMut(&AgentId) -> Option<Change>) {
        for (agent, ear) in &self.table().ears {
            match of(agent) {
                Some(Change::Settings) => ear.tell(|waiting| waiting.settings = true),
                Some(Change::Revoked) => ear.tell(|waiting| waiting.end = Some(End::Revoked)),
                None => {}
            }
        }
    }

    /// An agent has reported how an update went: it does not hear of it again.
    pub fn reported(&self, agent: AgentId) {
        self.settled(&agent);
        self.table().heard.entry(agent).or_default().reported = true;
        self.heard.notify_one();
    }

    /// An agent has checked in.
    pub fn checked_in(&self, agent: AgentId) {
        self.table().heard.entry(agent).or_default().checked_in = true;
        self.heard.notify_one();
    }

    /// What was heard since this was asked last.
    pub fn take_heard(&self) -> impl Iterator<Item = (AgentId, Heard)> + use<> {
        std::mem::take(&mut self.table().heard).into_iter()
    }

    /// Waits until something is heard, or whoever follows is to look.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Has whoever follows look.
    pub fn look(&self) {
        self.heard.notify_one();
    }

    /// Who listens.
    pub fn listening(&self) -> Vec<AgentId> {
        self.table().ears.keys().copied().collect()
    }

    /// How many listen.
    pub fn count(&self) -> usize {
        self.table().ears.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has changed for an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its effective settings, or its settings files.
    Settings,
    /// It is known no more.
    Revoked,
}

impl Ear {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: impl FnOnce(&mut Waiting)) {
        what(&mut self.waiting());
        self.heard.notify_one();
    }
}

impl Listening {
    /// Waits for what the agent is to hear next.
    pub async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.ear.heard.notified().await;
        }
    }

    /// What there is to hear now.
    pub fn take(&self) -> Option<Event> {
        let mut waiting = self.ear.waiting();
        if let Some(end) = waiting.end {
            return Some(Event::End(end));
        }
        if std::mem::take(&mut waiting.settings) {
            return Some(Event::Settings);
        }
        waiting.notice.take().map(Event::Update)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut table = self.streams.table();
        if table.ears.get(&self.agent).is_some_and(|ear| ear.number == self.ear.number) {
            table.ears.remove(&self.agent);
            let away = self.streams.clock.monotonic() + self.linger;
            table.heard.entry(self.agent).or_default().presence = Some(Presence::Away(away));
            drop(table);
            self.streams.heard.notify_one();
        }
    }
}
