//! Turns of bodies on one worker, as its runtime has them.

use std::pin::pin;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use super::*;

/// What happened on a worker, in order: which body gave how much in a turn.
type Told = Rc<RefCell<Vec<(usize, u64)>>>;

/// Bodies on one worker.
#[derive(Default)]
struct Worker {
    turns: Rc<Turns>,
    told: Told,
}

impl Worker {
    /// A connection whose body has so many turns, a chunk at a time.
    fn body(&self, number: usize, turns: usize) -> JoinHandle<()> {
        self.body_after(std::future::ready(()), number, turns)
    }

    /// The same once something has happened.
    fn body_after(&self, before: impl Future + 'static, number: usize, turns: usize) -> JoinHandle<()> {
        let turn = Rc::new(Turn::new(self.turns.clone()));
        let (mut share, mut left, told) = (Share::of(turn.clone()), turns, self.told.clone());
        let turns = poll_fn(move |cx| {
            let given = turn.have(|| {
                let mut given = 0;
                while let Poll::Ready(left) = share.poll_left(cx) {
                    share.gave(left.min(10_000));
                    given += left.min(10_000);
                }
                given
            });
            if given > 0 {
                told.borrow_mut().push((number, given));
                left -= 1;
            }
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        spawn_local(async move {
            before.await;
            turns.await;
        })
    }

    /// How much a body gave in each of its turns, in KiB.
    fn given_by(&self, number: usize) -> Vec<u64> {
        self.told.borrow().iter().filter(|told| told.0 == number).map(|told| told.1 >> 10).collect()
    }

    /// Whether the crowd has passed once whoever is ready has run a few times.
    async fn passes(&self) -> bool {
        for _ in 0..4 {
            let_others_in().await;
        }
        self.turns.crowds.have_passed()
    }

    async fn told(&self, count: usize) {
        while self.told.borrow().len() < count {
            let_others_in().await;
        }
    }
}

fn on_a_worker(test: impl AsyncFnOnce(Worker) + 'static) {
    // As a worker's is.
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.global_queue_interval(2).build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let worker = Worker::default();
        spawn_local(worker.turns.clone().tend());
        spawn_local(test(worker)).await.unwrap();
    });
}

#[test]
fn first_turns_share_a_round_or_are_small_in_a_crowd_and_later_ones_double() {
    for (count, expected) in [
        (1, &[2048, 2048][..]),
        (8, &[2048, 2048]),
        (16, &[1024, 2048, 2048]),
        (128, &[128, 256, 512, 1024, 2048, 2048]),
        (129, &[4, 8, 16, 32, 64, 128, 256, 512]),
        (9000, &[4, 8, 16, 32, 64, 128, 256, 512, 512]),
    ] {
        let turns = Turns { under_way: Cell::new(count), ..Turns::default() };
        let mut last = 0;
        for kib in expected {
            last = turns.turn_bytes_after(last);
            assert_eq!(last >> 10, *kib, "{count}");
        }
    }
}

#[test]
fn whose_others_have_ended_has_whole_turns() {
    on_a_worker(async |worker| {
        let others: Vec<_> = (1..2100).map(|number| worker.body(number, 9)).collect();
        let body = worker.body(0, 11);
        for other in others {
            other.await.unwrap();
        }
        body.await.unwrap();
        assert_eq!(worker.given_by(0), [4, 8, 16, 32, 64, 128, 256, 512, 2048, 2048, 2048]);
    });
}

#[test]
fn all_have_a_turn_before_anybody_has_the_next() {
    on_a_worker(async |worker| {
        let bodies: Vec<_> = (0..500).map(|number| worker.body(number, 5)).collect();
        for body in bodies {
            body.await.unwrap();
        }
        for (round, told) in worker.told.borrow().chunks(500).enumerate() {
            assert!(told.iter().map(|told| told.0).eq(0..500), "round {round}");
        }
    });
}

#[test]
fn a_crowd_that_one_file_wakes_has_its_first_turns_before_later_ones() {
    on_a_worker(async |worker| {
        let file = watch::Sender::new(false);
        let waiting = |number| {
            let mut file = file.subscribe();
            worker.body_after(async move { file.wait_for(|is_there| *is_there).await.is_ok() }, number, 3)
        };
        let bodies: Vec<_> = (0..2000).map(waiting).collect();
        let_others_in().await;
        std::thread::spawn(move || file.send_replace(true)).join().unwrap();
        for body in bodies {
            body.await.unwrap();
        }
        let mut had = [0; 2000];
        let is_first = |told: &(usize, u64)| std::mem::replace(&mut had[told.0], 1) == 0;
        let first: Vec<_> = worker.told.borrow().iter().map(is_first).collect();
        let until = first.iter().rposition(|is_first| *is_first).unwrap();
        let later = until + 1 - 2000;
        assert!(later <= 2000 / CROWD_FIRST_TURNS + BODY_TURNS_AT_ONCE, "{later} had a later turn before");
    });
}

#[test]
fn later_turns_are_had_also_while_first_ones_go_on_and_on() {
    on_a_worker(async |worker| {
        let bodies: Vec<_> = (0..150).map(|number| worker.body(number, 20)).collect();
        // Many each time that whoever is ready runs.
        let turns = worker.turns.clone();
        let first_turns = spawn_local(async move {
            for _ in 0..150 * 20 {
                for _ in 0..2 * CROWD_FIRST_TURNS {
                    let turn = Rc::new(Turn::new(turns.clone()));
                    let mut share = Share::of(turn.clone());
                    turn.have(|| share.gave(1));
                }
                let_others_in().await;
            }
        });
        for body in bodies {
            body.await.unwrap();
        }
        assert!(!first_turns.is_finished(), "they came to their end before");
    });
}

#[test]
fn who_fetches_is_told_of_a_crowd_while_it_has_its_first_turns() {
    on_a_worker(async |worker| {
        let crowds = worker.turns.crowds.clone();
        let body = |number| worker.body(number, 5);
        let few: Vec<_> = (0..100).map(body).collect();
        worker.told(50).await;
        assert!(crowds.have_passed(), "so few are no crowd");
        let many: Vec<_> = (100..600).map(body).collect();
        worker.told(300).await;
        assert!(!crowds.have_passed());
        worker.told(1500).await;
        assert!(crowds.have_passed(), "later turns are nobody's first");
        for body in few.into_iter().chain(many) {
            body.await.unwrap();
        }
    });
}

#[test]
fn a_crowd_whose_bodies_are_given_in_one_turn_passes_too() {
    on_a_worker(async |worker| {
        let bodies: Vec<_> = (0..500).map(|number| worker.body(number, 1)).collect();
        worker.told(300).await;
        assert!(!worker.turns.crowds.have_passed());
        for body in bodies {
            body.await.unwrap();
        }
        assert!(worker.passes().await);
    });
}

#[test]
fn whoever_asks_waits_for_the_few_who_were_let_on_however_many_wait() {
    on_a_worker(async |worker| {
        let bodies: Vec<_> = (1..2000).map(|number| worker.body(number, 20)).collect();
        worker.told(17_000).await;
        let before = worker.told.borrow().len();
        let newcomer = worker.body(0, 1);
        newcomer.await.unwrap();
        let waited = worker.told.borrow()[before..].iter().position(|told| told.0 == 0).unwrap();
        assert!(waited <= BODY_TURNS_AT_ONCE, "{waited} had a turn before");
        bodies.iter().for_each(JoinHandle::abort);
    });
}

#[test]
fn who_leaves_at_whatever_moment_holds_nobody_up() {
    on_a_worker(async |worker| {
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 40).unwrap() % below
        };
        for round in 0..200 {
            // A crowd now and then.
            let count = if round % 8 == 0 { 300 } else { 30 };
            let bodies: Vec<_> = (0..count).map(|number| worker.body(number, 1 + random(20))).collect();
            let mut stay = Vec::new();
            for body in bodies {
                if random(2) == 0 {
                    for _ in 0..random(4) {
                        let_others_in().await;
                    }
                    body.abort();
                } else {
                    stay.push(body);
                }
                if random(4) == 0 {
                    let_others_in().await;
                }
            }
            for body in stay {
                body.await.unwrap();
            }
            let_others_in().await;
            assert_eq!((worker.turns.let_on.get(), worker.turns.under_way.get()), (0, 0));
            assert!(worker.passes().await);
        }
    });
}

#[test]
fn a_later_turn_is_had_in_the_order_of_the_queue_whoever_wakes_a_task() {
    let (turns, cx) = (Rc::<Turns>::default(), Context::from_waker(Waker::noop()));
    let mut shares: Vec<_> =
        (0..=BODY_TURNS_AT_ONCE).map(|_| Share::of(Rc::new(Turn::new(turns.clone())))).collect();
    let has_turn = |share: &mut Share| share.turn.clone().have(|| share.poll_left(&cx).is_ready());
    assert!(shares.iter_mut().all(has_turn), "they are first turns");
    for share in &mut shares {
        share.turn.clone().have(|| {
            share.gave(BODY_TURN_BYTES);
            assert!(share.poll_left(&cx).is_pending());
        });
    }
    let (last, others) = shares.split_last_mut().unwrap();
    assert!(!has_turn(last));
    assert!(has_turn(&mut others[0]) && has_turn(last));
    assert!(others[1..].iter_mut().all(has_turn));
    assert_eq!(turns.let_on.get(), 0);
}

#[test]
fn one_connection_has_one_turn_for_all_its_bodies() {
    let turn = Rc::new(Turn::new(Rc::default()));
    let cx = Context::from_waker(Waker::noop());
    turn.have(|| {
        let mut first = Share::of(turn.clone());
        assert_eq!(first.poll_left(&cx), Poll::Ready(BODY_TURN_BYTES));
        first.gave(BODY_TURN_BYTES);
        drop(first);
        assert!(Share::of(turn.clone()).poll_left(&cx).is_pending(), "the turn is used up");
    });
}

#[test]
fn others_are_let_in_once_by_who_asks_at_the_same_time_and_is_no_crowd() {
    let lets_in = |asking: Asking| {
        let mut letting = pin!(asking.let_others_in());
        letting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    };
    let turn = Rc::new(Turn::new(Rc::default()));
    assert!(lets_in(turn.asked()));
    let waited = turn.asked();
    turn.have(|| {});
    assert!(!lets_in(waited));
    let many: Vec<_> = (0..2000).map(|_| turn.asked()).collect();
    assert!(!lets_in(turn.asked()), "it is one of a crowd");
    drop(many);
    assert!(lets_in(turn.asked()));
    assert_eq!(turn.turns.under_way.get(), 0);
}
