//! The admin listener's connections: so many at a time, each with a deadline for its request's head and a bound for its size.
//!
//! Never lets anybody in: it says of each request where it came from, and what certificate was shown. Invariant: no request is without.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::{debug, warn};

use crate::admin::access::{Peer, Wire};
use crate::base::address::normalised;
use crate::base::clock::Clock;
use crate::net::tls::Tls;
use crate::policy::identity::Validity;

/// Connections at a time: people, scrapers and scripts need a handful; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// For a request's head to arrive, and for an idle connection to ask again.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// A request's head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(50);

/// Serves routes on a listener until the relay stops; requests under way are answered. With TLS where there is something to show.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    clock: Arc<dyn Clock>,
    routes: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let open = TaskTracker::new();
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, slot))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(((stream, address), slot)) => {
                let (tls, clock, routes, stop) = (tls.clone(), clock.clone(), routes.clone(), stop.clone());
                open.spawn(async move {
                    let address = normalised(address.ip());
                    match tls {
                        None => {
                            let peer = Peer { address, transport: Wire::Clear, names: Arc::default() };
                            serve_connection(stream, peer, routes, stop).await;
                        }
                        Some(tls) => serve_tls(stream, address, &tls, &*clock, routes, stop).await,
                    }
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

async fn serve_tls(
    stream: TcpStream,
    address: IpAddr,
    tls: &Tls,
    clock: &dyn Clock,
    routes: Router,
    stop: CancellationToken,
) {
    let shaken = stop.run_until_cancelled(timeout(HEAD_TIMEOUT, tls.acceptor().accept(stream))).await;
    let stream = match shaken {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => return debug!(%address, %error, "a TLS handshake of an administrator failed"),
        Some(Err(_)) | None => return,
    };
    let shown = tls.certificate_of(stream.get_ref().1, clock.wall());
    let names = shown.filter(|shown| shown.validity == Validity::Valid).map(|shown| shown.names.into());
    let peer = Peer { address, transport: Wire::Tls, names: names.unwrap_or_default() };
    serve_connection(stream, peer, routes, stop).await;
}

async fn serve_connection<S>(stream: S, peer: Peer, routes: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.clone().call(request)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
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
