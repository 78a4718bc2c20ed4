//! Connections to `api.sock`, and to Docker's socket: who may, how many, for how long.
//!
//! A client costs a place among [`MAX_CONNECTIONS`] for [`CONNECTION`] at most; who finds none waits in the listener's
//! backlog. A request's head must be there within [`HEAD_WITHIN`], which ends idle connections too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

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

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its process when it connected; 0 where that is not to be seen from here.
    pub pid: i32,
}

/// Answers with `router` on `listener` until `stop`, then lets answers leave. Requests carry their [`Peer`].
pub(crate) async fn serve(listener: UnixListener, router: Router, mut stop: Stop) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, place)) if admitted(stream.peer_cred().map(|peer| peer.uid())) => {
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0);
                let router = router.clone().layer(Extension(Peer { pid }));
                tokio::spawn(converse(stream, router, stop.clone(), place));
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
async fn converse(stream: UnixStream, router: Router, mut stop: Stop, _place: OwnedSemaphorePermit) {
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::path::Path;

    use super::*;
    use crate::daemon::api::client::Client;
    use crate::daemon::api::router::router;
    use crate::daemon::control::testing::{Daemon, dir};

    /// Does `work` with a daemon and the path of its API.
    fn served<T>(work: impl FnOnce(&Daemon, &Path) -> T) -> T {
        let dir = dir();
        let daemon = Daemon::new(dir.path());
        let path = dir.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = stop_pair();
        let handle = daemon.handle.clone();
        let served = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serve(UnixListener::from_std(listener).unwrap(), router(handle), stopped).await });
        });
        let done = work(&daemon, &path);
        stop.send(true).unwrap();
        served.join().unwrap();
        daemon.stop();
        done
    }

    /// Sends `request` to a served API and reads until the server closes.
    fn exchange(request: &[u8]) -> String {
        let answer = served(|_, path| {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(request).unwrap();
            let mut answer = Vec::new();
            // A server that refuses a body may reset what is under way.
            let _ = stream.read_to_end(&mut answer);
            answer
        });
        String::from_utf8(answer).unwrap()
    }

    fn request(line: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes()
    }

    #[test]
    fn every_failure_is_an_error_of_one_line_with_its_status() {
        for (line, body, status, needle) in [
            ("GET /v1/nothing", "", "404", "no such path"),
            ("PUT /v1/status", "", "405", "does not go with"),
            ("POST /v1/networks", "{", "400", "JSON"),
            ("POST /v1/networks", r#"{"nam":"x"}"#, "400", "nam"),
            ("GET /v1/networks/blue", "", "404", "no network blue"),
            ("GET /v1/fdb?what=1", "", "400", "what"),
            ("DELETE /v1/endpoints/web", "", "404", "no endpoint web"),
            ("PATCH /v1/networks/default", r#"{"mtu":1}"#, "422", "mtu 1"),
        ] {
            let answer = exchange(&request(line, body));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
            let (_, error) = answer.split_once("\r\n\r\n").unwrap();
            let error: super::super::types::ApiError = serde_json::from_str(error).unwrap();
            assert!(error.error.contains(needle) && !error.error.contains('\n'), "{line}: {error:?}");
        }
    }

    #[test]
    fn a_client_detaches_the_endpoint_that_it_means_and_none_that_got_its_name_since() {
        served(|daemon, path| {
            let client = Client::new(path);
            let first = daemon.attach("web", "eth0").unwrap();
            client.detach(&first).unwrap();
            let second = daemon.attach("web", "eth0").unwrap();
            client.detach(&first).expect("it is gone");
            assert_eq!(daemon.list().len(), 1, "the second one's was detached");
            client.detach(&second).unwrap();
            assert_eq!(daemon.list(), []);
        });
    }

    #[test]
    fn a_gigabyte_is_refused_before_it_is_read_and_a_slow_head_is_cut_off() {
        let head = b"POST /v1/networks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1073741824\r\n\r\n{";
        assert!(exchange(head).starts_with("HTTP/1.1 413 "));
        let answer = exchange(b"GET /v1/st");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}
