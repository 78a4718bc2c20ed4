//! Connections to `api.sock`: who may, how many, for how long.
//!
//! A client costs a place among [`MAX_CONNECTIONS`] for [`CONNECTION`] at most; who finds none waits in the listener's
//! backlog. A request's head must be there within [`HEAD_WITHIN`], which ends idle connections too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::router::router;
use crate::daemon::control::Handle;

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head to arrive; also the longest time between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Longest life of a connection; the longest request, `down` of a thousand endpoints, takes some 20 s.
const CONNECTION: Duration = Duration::from_secs(150);
/// How long answers may take to leave when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after `accept` failed: the process has no descriptor left.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);
/// Longest request head, in bytes; the least that hyper takes.
const MAX_HEAD: usize = 8 * 1024;

/// Tells servers to finish what they do and end.
pub(crate) type Stop = watch::Receiver<bool>;

/// A stop, and who gives it.
pub(crate) fn stop_pair() -> (watch::Sender<bool>, Stop) {
    watch::channel(false)
}

/// Serves the API on `listener` until `stop`, then lets answers leave.
pub(crate) async fn serve(listener: UnixListener, control: Handle, mut stop: Stop) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = router(control);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, place)) if admitted(stream.peer_cred().map(|peer| peer.uid())) => {
                tokio::spawn(converse(stream, router.clone(), stop.clone(), place));
            }
            Ok(_) => tracing::warn!("api: refused another user's connection"),
            Err(error) => {
                tracing::warn!("api: accept: {error}");
                tokio::time::sleep(NO_DESCRIPTOR).await;
            }
        }
    }
    let all = u32::try_from(MAX_CONNECTIONS).expect("a small constant");
    // What has not left by then never will.
    let _ = tokio::time::timeout(FAREWELL, places.acquire_many(all)).await;
}

/// Whether a peer is the daemon's own user, or root.
pub(crate) fn admitted(uid: io::Result<u32>) -> bool {
    uid.is_ok_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw())
}

async fn accept(listener: &UnixListener, places: &Arc<Semaphore>) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One connection. Its place is free when this ends.
async fn converse(stream: UnixStream, router: axum::Router, mut stop: Stop, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match tokio::time::timeout(CONNECTION, conversation).await {
        Ok(Ok(())) => {}
        // A client that was cut off, or that broke off.
        Ok(Err(error)) => tracing::debug!("api: {error}"),
        Err(_) => tracing::debug!("api: a connection lasted too long"),
    }
}
