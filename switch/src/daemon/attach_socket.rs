//! `attach.sock`: SOCK_SEQPACKET, one message = an [`AttachRequest`] as JSON with one namespace's descriptor, answered
//! by one message = an [`AttachReply`]. Then the connection is over.
//!
//! The limits are those of `api.sock`: [`MAX_CONNECTIONS`], [`REQUEST_WITHIN`], 64 KiB, the daemon's own user or root. What is
//! passed is examined without being read, and is closed if it is anything but a network namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, accept4, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use tapswitch_netns::{Namespace, message};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api::client::{ClientError, no_daemon};
use super::api::types::{AttachReply, AttachRequest, EndpointInfo};
use super::api::{Stop, admitted};
use super::control::Handle;

/// Most connections at a time; the others wait in the backlog.
const MAX_CONNECTIONS: usize = 64;
/// For the request to arrive.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// For the client to take the answer. It fits the socket's buffer, so only a full one takes time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether a client that sends no more waits still.
const LOOK: Duration = Duration::from_millis(100);
/// Pause after `accept` failed: the process has no descriptor left.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);
/// How long a client waits: for hundreds of attaches ahead of its own, at 20 ms each.
const CLIENT_WAITS: i64 = 120;

/// Has the daemon behind `socket` attach `namespace` as `request` says.
///
/// # Errors
/// [`ClientError`]: the daemon's refusal, or why it could not be asked.
pub fn attach(socket: &Path, request: &AttachRequest, namespace: BorrowedFd<'_>) -> Result<EndpointInfo, ClientError> {
    let connection = dial(socket).map_err(|e| no_daemon(socket, &e))?;
    let broken = |e: io::Error| ClientError::Broken {
        method: hyper::Method::POST,
        path: socket.display().to_string(),
        why: e.to_string(),
    };
    message::send(connection.as_fd(), request, Some(namespace)).map_err(broken)?;
    match message::recv::<AttachReply>(connection.as_fd()).map_err(broken)? {
        Some((AttachReply::Attached(info), _)) => Ok(*info),
        Some((AttachReply::Error(error), _)) => Err(ClientError::Refused { status: 409, error }),
        None => Err(broken(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn dial(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(CLIENT_WAITS))?;
    Ok(fd)
}

/// Serves `listener` until `stop`.
///
/// # Errors
/// When the runtime cannot watch it.
pub(super) async fn serve(listener: OwnedFd, control: Handle, mut stop: Stop) -> io::Result<()> {
    set_nonblocking(&listener)?;
    let listener = watched(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        match accepted {
            Ok((connection, place)) => drop(tokio::spawn(converse(connection, control.clone(), place))),
            Err(error) => {
                tracing::warn!("attach.sock: accept: {error}");
                tokio::time::sleep(NO_DESCRIPTOR).await;
            }
        }
    }
}

async fn accept(
    listener: &AsyncFd<OwnedFd>,
    places: &Arc<Semaphore>,
) -> io::Result<(AsyncFd<OwnedFd>, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        let mut ready = listener.readable().await?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        match ready.try_io(|fd| accept4(fd.as_raw_fd(), flags).map_err(io::Error::from)) {
            Ok(Ok(raw)) => {
                // SAFETY: accept4 has just made this descriptor, and nobody else knows of it.
                let connection = unsafe { OwnedFd::from_raw_fd(raw) };
                return Ok((watched(connection)?, place));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

/// One connection. Its place is free when this ends.
async fn converse(connection: AsyncFd<OwnedFd>, control: Handle, _place: OwnedSemaphorePermit) {
    let peer = getsockopt(connection.get_ref(), sockopt::PeerCredentials).map(|peer| peer.uid());
    if !admitted(peer.map_err(io::Error::from)) {
        tracing::warn!("attach.sock: refused another user's connection");
        return;
    }
    let reply = match tokio::time::timeout(REQUEST_WITHIN, receive(&connection)).await {
        Ok(Ok(Some((request, fd)))) => tokio::select! {
            reply = answer(request, fd, &control) => reply,
            // Control is told by the answer that nobody awaits any more.
            () = hung_up(&connection) => return,
        },
        Ok(Ok(None)) => return,
        Ok(Err(error)) => AttachReply::Error(one_line(&format!("read the request: {error}"))),
        Err(_) => AttachReply::Error(format!("no request arrived within {} s", REQUEST_WITHIN.as_secs())),
    };
    match tokio::time::timeout(ANSWER_WITHIN, send(&connection, &reply)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("attach.sock: answer: {error}"),
        Err(_) => tracing::debug!("attach.sock: a client did not take its answer"),
    }
}

async fn answer(request: AttachRequest, fd: Option<OwnedFd>, control: &Handle) -> AttachReply {
    let Some(fd) = fd else {
        return AttachReply::Error("no namespace came with the request: pass its descriptor (SCM_RIGHTS)".into());
    };
    let namespace = match Namespace::from_fd(fd) {
        Ok(namespace) => namespace,
        Err(error) => return AttachReply::Error(one_line(&error.to_string())),
    };
    match control.ask(move |c, reply| c.attach(&request, namespace, reply)).await {
        Ok(info) => AttachReply::Attached(Box::new(fitting(info))),
        Err(refusal) => AttachReply::Error(one_line(&refusal.to_string())),
    }
}

/// `info` in one message: so many ports may be published that it is longer with them.
fn fitting(mut info: EndpointInfo) -> EndpointInfo {
    const ENVELOPE: usize = 64;
    if serde_json::to_vec(&info).is_ok_and(|text| text.len() + ENVELOPE > message::LIMIT) {
        info.published.clear();
    }
    info
}

/// Ends when the client has closed its end; one that only sends no more awaits its answer.
async fn hung_up(connection: &AsyncFd<OwnedFd>) {
    // Whatever comes first. That nothing more is sent stays readable for ever, so that the end after it is no event.
    let _ = connection.readable().await.map(|mut ready| ready.retain_ready());
    while !is_hung_up(connection.get_ref()) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the client has closed both directions.
fn is_hung_up(connection: &OwnedFd) -> bool {
    // Nothing is asked for: POLLHUP is told anyway.
    let mut ends = [PollFd::new(connection.as_fd(), PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|told| told > 0)
}

async fn receive(connection: &AsyncFd<OwnedFd>) -> io::Result<Option<(AttachRequest, Option<OwnedFd>)>> {
    loop {
        let mut ready = connection.readable().await?;
        if let Ok(received) = ready.try_io(|fd| message::recv(fd.as_fd())) {
            return received;
        }
    }
}

async fn send(connection: &AsyncFd<OwnedFd>, reply: &AttachReply) -> io::Result<()> {
    loop {
        let mut ready = connection.writable().await?;
        if let Ok(sent) = ready.try_io(|fd| message::send(fd.as_fd(), reply, None)) {
            return sent;
        }
    }
}

fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and the same until it is dropped, and the `AsyncFd` owns it.
    let watched = unsafe { AsyncFd::register(fd) };
    watched.map_err(|e| e.into_parts().1)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::daemon::api::types::PublicationInfo;
    use crate::uplink::Transport;

    #[test]
    fn a_client_that_sends_no_more_waits_and_one_that_closes_has_hung_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, ours) = UnixStream::pair().unwrap();
            let ours = watched(ours.into()).unwrap();
            set_nonblocking(ours.get_ref()).unwrap();
            let mut hung_up = std::pin::pin!(hung_up(&ours));
            client.shutdown(Shutdown::Write).unwrap();
            let moment = Duration::from_millis(50);
            tokio::time::timeout(moment, hung_up.as_mut()).await.unwrap_err();
            // What it waits for can still be sent.
            ours.writable().await.unwrap().retain_ready();
            drop(client);
            tokio::time::timeout(REQUEST_WITHIN, hung_up).await.unwrap();
        });
    }

    #[test]
    fn an_answer_with_more_published_ports_than_fit_goes_without_them() {
        let port = |host_port| PublicationInfo {
            protocol: Transport::Tcp,
            ip: "fd00:1111:2222:3333:4444:5555:6666:7777".parse().unwrap(),
            host_port,
            container_port: 65_535,
        };
        for (ports, told) in [(0, 0), (400, 400), (1024, 0)] {
            let info = EndpointInfo { published: (0..ports).map(port).collect(), ..endpoint() };
            let info = fitting(info);
            assert_eq!(info.published.len(), told);
            let (client, ours) = message::pair().unwrap();
            message::send(ours.as_fd(), &AttachReply::Attached(Box::new(info)), None).unwrap();
            assert!(matches!(message::recv(client.as_fd()).unwrap(), Some((AttachReply::Attached(_), None))));
        }
    }

    fn endpoint() -> EndpointInfo {
        let text = serde_json::json!({
            "name": "web", "network": "default", "aliases": [], "netns": "blue", "namespace": {"dev": 4, "ino": 7},
            "ifname": "eth0", "mac": "02:42:0a:01:00:02", "ipv4": "10.1.0.2", "ipv6": null, "port": 1, "state": "up",
            "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "drops": {}, "published": [],
        });
        serde_json::from_value(text).unwrap()
    }
}
