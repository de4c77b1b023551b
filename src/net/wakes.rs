//! What other threads wake on a worker, told to it together.
//!
//! A runtime is told of each task that another thread wakes by a system call of that thread, and a crowd that waits for one file is thousands
//! of tasks. Here the first of them wakes one task of the worker, which wakes the others from the worker's own thread, all at once: whoever
//! asks later has its turn after theirs, as it came. (A few at a time, those told last had all that asked meanwhile before them.) Never keeps
//! what the worker's own thread wakes. Invariant: a task that was woken, by whomever, is polled after that.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use futures_util::task::AtomicWaker;

/// What other threads woke on this one, until this one is told.
#[derive(Debug)]
pub(super) struct Wakes {
    thread: ThreadId,
    /// Guards those of whom this thread is to be told; held for moments.
    woken: Mutex<Vec<Arc<Bundled>>>,
    /// Wakes who wakes them.
    teller: AtomicWaker,
}

/// A task whose wakes by other threads are told with others'.
#[derive(Debug)]
struct Bundled {
    wakes: Weak<Wakes>,
    thread: ThreadId,
    task: Waker,
    /// Whether it is among those of whom this thread is to be told.
    is_woken: AtomicBool,
}

impl Wakes {
    /// Those of the calling thread.
    pub(super) fn of_this_thread() -> Arc<Self> {
        let (woken, teller) = (Mutex::default(), AtomicWaker::new());
        Arc::new(Self { thread: thread::current().id(), woken, teller })
    }

    /// Wakes on this thread whom others wake; a task of it.
    pub(super) async fn tell(self: Arc<Self>) {
        let mut woken = Vec::new();
        poll_fn(|cx| {
            self.teller.register(cx.waker());
            mem::swap(&mut *self.woken(), &mut woken);
            for bundled in woken.drain(..) {
                // Before the wake: who wakes it from now on is heard anew.
                bundled.is_woken.swap(false, Ordering::AcqRel);
                bundled.task.wake_by_ref();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// The same future, for a task of this thread.
    pub(super) async fn bundle<T>(self: &Arc<Self>, mut future: Pin<Box<impl Future<Output = T>>>) -> T {
        let mut bundled: Option<(Arc<Bundled>, Waker)> = None;
        poll_fn(|cx| {
            let of_this_task = bundled.take_if(|(of, _)| of.task.will_wake(cx.waker()));
            let (_, waker) = bundled.insert(of_this_task.unwrap_or_else(|| self.bundled(cx.waker())));
            future.as_mut().poll(&mut Context::from_waker(waker))
        })
        .await
    }

    fn bundled(self: &Arc<Self>, task: &Waker) -> (Arc<Bundled>, Waker) {
        let (wakes, is_woken) = (Arc::downgrade(self), AtomicBool::new(false));
        let bundled = Arc::new(Bundled { wakes, thread: self.thread, task: task.clone(), is_woken });
        let waker = bundled.clone().into();
        (bundled, waker)
    }

    fn woken(&self) -> MutexGuard<'_, Vec<Arc<Bundled>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bundled {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if thread::current().id() == self.thread {
            return self.task.wake_by_ref();
        }
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        // Nobody is told any more where the thread has ended.
        let Some(wakes) = self.wakes.upgrade() else { return };
        wakes.woken().push(self.clone());
        // It is woken but once until it has looked, by whoever comes first.
        wakes.teller.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::{oneshot, watch};
    use tokio::task::spawn_local;

    use super::*;

    /// How often it was woken, and by its own thread.
    struct Task {
        thread: ThreadId,
        wakes: AtomicUsize,
        by_others: AtomicUsize,
    }

    impl Task {
        fn of_this_thread() -> Arc<Self> {
            Arc::new(Self {
                thread: thread::current().id(),
                wakes: AtomicUsize::new(0),
                by_others: AtomicUsize::new(0),
            })
        }

        fn wakes(&self) -> (usize, usize) {
            (self.wakes.load(Ordering::SeqCst), self.by_others.load(Ordering::SeqCst))
        }
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            let is_own = thread::current().id() == self.thread;
            let count = if is_own { &self.wakes } else { &self.by_others };
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Tells once whom others woke; `teller` is woken where more are to be told.
    fn tell(wakes: &Arc<Wakes>, teller: &Arc<Task>) {
        let told = std::pin::pin!(wakes.clone().tell());
        assert!(told.poll(&mut Context::from_waker(&teller.clone().into())).is_pending());
    }

    fn by_another_thread(wake: impl FnOnce() + Send) {
        thread::scope(|scope| scope.spawn(wake).join().unwrap());
    }

    #[test]
    fn a_crowd_that_another_thread_wakes_is_told_at_once_and_each_is_woken_by_its_own() {
        let (wakes, teller) = (Wakes::of_this_thread(), Task::of_this_thread());
        let tasks: Vec<_> = (0..2000).map(|_| Task::of_this_thread()).collect();
        let bundled: Vec<_> = tasks.iter().map(|task| wakes.bundled(&task.clone().into()).1).collect();
        tell(&wakes, &teller);
        by_another_thread(|| {
            for _ in 0..2 {
                bundled.iter().for_each(Waker::wake_by_ref);
            }
        });
        assert_eq!(teller.wakes(), (0, 1), "the other thread wakes one task, once");
        assert!(tasks.iter().all(|task| task.wakes() == (0, 0)));
        tell(&wakes, &teller);
        assert!(tasks.iter().all(|task| task.wakes() == (1, 0)));
    }

    #[test]
    fn who_is_woken_again_after_it_was_told_is_told_again() {
        let (wakes, teller, task) = (Wakes::of_this_thread(), Task::of_this_thread(), Task::of_this_thread());
        let (_, bundled) = wakes.bundled(&task.clone().into());
        for told in 1..4 {
            by_another_thread(|| bundled.wake_by_ref());
            tell(&wakes, &teller);
            assert_eq!(task.wakes(), (told, 0));
        }
        tell(&wakes, &teller);
        assert_eq!(task.wakes(), (3, 0), "nobody woke it");
    }

    #[test]
    fn what_its_own_thread_wakes_waits_for_nobody() {
        let (wakes, teller, task) = (Wakes::of_this_thread(), Task::of_this_thread(), Task::of_this_thread());
        tell(&wakes, &teller);
        wakes.bundled(&task.clone().into()).1.wake();
        assert_eq!((task.wakes(), teller.wakes()), ((1, 0), (0, 0)));
    }

    #[test]
    fn who_outlives_its_thread_is_let_go() {
        let (wakes, task) = (Wakes::of_this_thread(), Task::of_this_thread());
        let (_, told) = wakes.bundled(&task.clone().into());
        let (_, late) = wakes.bundled(&task.clone().into());
        by_another_thread(|| told.wake());
        drop(wakes);
        by_another_thread(|| late.wake());
        assert_eq!(Arc::strong_count(&task), 1);
    }

    /// As a worker does it, with threads that wake as fast as they can.
    #[test]
    fn nobody_misses_what_it_waits_for() {
        const TASKS: usize = 200;
        const LAST: u64 = 300;
        let runtime =
            Builder::new_current_thread().enable_time().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let wakes = Wakes::of_this_thread();
            spawn_local(wakes.clone().tell());
            let senders: Vec<_> = (0..2).map(|_| watch::Sender::new(0_u64)).collect();
            let counts = Rc::new([Cell::new(0), Cell::new(0)]);
            let tasks: Vec<_> = (0..TASKS)
                .map(|number| {
                    let (wakes, counts) = (wakes.clone(), counts.clone());
                    let mut receiver = senders[number % 2].subscribe();
                    let waits = async move {
                        let [begun, told] = &*counts;
                        begun.set(begun.get() + 1);
                        while *receiver.borrow_and_update() < LAST {
                            receiver.changed().await.unwrap();
                            told.set(told.get() + 1);
                        }
                    };
                    spawn_local(async move { wakes.bundle(Box::pin(waits)).await })
                })
                .collect();
            let (begin, begins) = oneshot::channel::<()>();
            let waking = thread::spawn(move || {
                begins.blocking_recv().unwrap();
                thread::scope(|scope| {
                    for sender in &senders {
                        scope.spawn(|| (1..=LAST).for_each(|now| _ = sender.send_replace(now)));
                    }
                });
                senders
            });
            let [begun, told] = &*counts;
            while begun.get() < TASKS {
                tokio::task::yield_now().await;
            }
            begin.send(()).unwrap();
            let all = futures_util::future::join_all(tasks);
            let ended =
                tokio::time::timeout(Duration::from_mins(1), all).await.expect("somebody still waits");
            assert!(ended.iter().all(Result::is_ok));
            waking.join().unwrap();
            assert!(told.get() >= TASKS, "each was told of something");
        });
    }
}
