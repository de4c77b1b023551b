//! What a worker has to say to one of its connections.
//!
//! A connection listens from its one task, whenever that is polled: to listen is a look at a flag, where a `Notify` for each word takes a
//! lock and a place in a list. Never leaves its thread. Invariant: what was told before anybody listened is heard.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// What one connection is told.
#[derive(Debug, Default)]
pub(super) struct Call {
    told: [Cell<bool>; 3],
    /// Whose task listens.
    task: RefCell<Option<Waker>>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Somebody else needs the place.
    Go,
    /// It has been idle for a while, and is to hold no more than it must.
    Rest,
    /// The relay stops.
    Stop,
}

impl Call {
    /// Tells the connection something, and wakes its task.
    pub(super) fn tell(&self, word: Word) {
        self.told[word as usize].set(true);
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Ready once something was told: what is heard is not told again, but that the relay stops.
    pub(super) fn poll_heard(&self, word: Word, cx: &Context<'_>) -> Poll<()> {
        let told = &self.told[word as usize];
        if told.get() {
            told.set(word == Word::Stop);
            return Poll::Ready(());
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_told_is_heard_once_by_whoever_listens_last_and_a_stop_for_ever() {
        let call = Call::default();
        let tasks = [(); 2].map(|()| Arc::<Woken>::default());
        let wakers = tasks.each_ref().map(|task| Waker::from(task.clone()));
        let [first, last] = wakers.each_ref().map(Context::from_waker);
        call.tell(Word::Go);
        assert!(call.poll_heard(Word::Rest, &first).is_pending(), "that was not told");
        assert!(call.poll_heard(Word::Go, &first).is_ready(), "it was told before anybody listened");
        assert!(call.poll_heard(Word::Go, &last).is_pending(), "it is not told again");
        call.tell(Word::Rest);
        call.tell(Word::Stop);
        assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed)), [0, 2]);
        for _ in 0..2 {
            assert!(call.poll_heard(Word::Stop, &first).is_ready());
        }
        assert!(call.poll_heard(Word::Rest, &first).is_ready());
        assert!(call.poll_heard(Word::Rest, &first).is_pending());
    }
}
