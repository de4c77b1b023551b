//! The admin listener's connections: so many at a time, each with a deadline for its request's head and a bound for its size.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Connections at a time: people, scrapers and scripts need a handful; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// For a request's head to arrive, and for an idle connection to ask again.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// A request's head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(50);

/// Serves routes on a listener until the relay stops; requests under way are answered.
pub(super) async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let open = TaskTracker::new();
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, slot))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, slot)) => {
                let (routes, stop) = (routes.clone(), stop.clone());
                open.spawn(async move {
                    serve_connection(stream, routes, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "no connection of an administrator can be accepted for the moment");
                tokio::time::sleep(REST).await;
            }
        }
    }
    open.close();
    open.wait().await;
    Ok(())
}

async fn serve_connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "an administrator's connection ended");
    }
}
