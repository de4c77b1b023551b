//! The watch over the relay's own threads, for a service manager's watchdog (R11.4).
//!
//! It runs on the control runtime: where that hangs, it hangs too, and nobody is told. Invariant: whoever is told that all is
//! well is told after every data worker answered.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::net::pulse::{Asker, Heard};
use crate::net::worker::Stop;

/// Asks all workers each time that so much has passed, and tells when they answered within that time; until the end.
pub(super) async fn watch(
    workers: Vec<Asker>,
    every: Duration,
    stop: Stop,
    end: CancellationToken,
    tell: impl Fn() + Send,
) {
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = end.cancelled() => return,
        }
        let heard = join_all(workers.iter().map(|worker| worker.ask(every))).await;
        // A worker ends by itself only when it was told to.
        let stopping = stop.drain.is_cancelled() || stop.now.is_cancelled();
        let well = |heard: Heard| heard == Heard::Answer || heard == Heard::End && stopping;
        let silent: Vec<&str> = workers
            .iter()
            .zip(heard)
            .filter(|(_, heard)| !well(*heard))
            .map(|(worker, _)| worker.name())
            .collect();
        if silent.is_empty() {
            tell();
        } else {
            error!(workers = %silent.join(", "), "data workers do not answer: the service manager is not told that all is well");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::net::listen::{Transport, listen};
    use crate::net::places::Places;
    use crate::net::pulse::pulse;
    use crate::net::worker::{self, Door};

    const EVERY: Duration = Duration::from_millis(20);
    const WITHIN: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_stuck_worker_stops_the_notices_until_it_goes_on_r11_4() {
        let (asker, answerer) = pulse("data-0".into());
        let mut listener = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listener.address;
        let (stuck, is_stuck) = mpsc::channel();
        let (free, freed) = mpsc::channel::<()>();
        let stop = Stop::default();
        // Each connection blocks the worker's thread until it is freed.
        let freed = Arc::new(std::sync::Mutex::new(freed));
        let make = move || {
            move |_accepted| {
                stuck.send(()).unwrap();
                freed.lock().unwrap().recv_timeout(WITHIN).unwrap();
                async {}
            }
        };
        let places = Arc::new(Places::new(10, 1, Arc::default(), Arc::new(SystemClock::default())));
        let door = Door { places, worker: 0, limit: |_| 10 };
        let inlets = listener.take(Transport::Clear).into_iter().collect();
        let thread =
            worker::start("data-0".into(), inlets, door, stop.clone(), answerer, make).unwrap().thread;
        let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
        let end = CancellationToken::new();
        let watching = tokio::spawn(watch(vec![asker], EVERY, stop.clone(), end.clone(), move || {
            told.send(()).unwrap();
        }));
        telling.recv().await.unwrap();

        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        tokio::task::spawn_blocking(move || is_stuck.recv_timeout(WITHIN).unwrap()).await.unwrap();
        // A question answered before the worker was stuck may still be told of.
        while tokio::time::timeout(EVERY * 5, telling.recv()).await.is_ok() {}
        free.send(()).unwrap();
        tokio::time::timeout(WITHIN, telling.recv()).await.unwrap().unwrap();

        // A worker that was told to end is no reason for alarm.
        stop.drain.cancel();
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        while telling.try_recv().is_ok() {}
        for _ in 0..2 {
            tokio::time::timeout(WITHIN, telling.recv()).await.unwrap().unwrap();
        }
        end.cancel();
        tokio::time::timeout(WITHIN, watching).await.unwrap().unwrap();
    }
}
