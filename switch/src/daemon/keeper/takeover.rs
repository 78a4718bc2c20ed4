//! A new keeper takes the TAPs and sockets of a switch that outlived its keeper.
//!
//! The switch inherited the listener of `keeper.sock` and serves it only once its keeper is gone. It sends every
//! descriptor, waits for the word that they arrived, and ends; until that word it forwards on and may be asked again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::{Deserialize, Serialize};
use tapswitch_netns::{Tap, TapInfo, message};

use super::error::{Error, Result};
use super::listen::{accept, connect_seqpacket};
use super::message::{EndpointKey, SocketKey, ToSwitch};

/// How long either side waits for the other's next message.
const PATIENCE_SECONDS: i64 = 5;

/// From the new keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    TakeOver,
    /// All arrived: end.
    Taken,
}

/// What a switch handed over.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) taps: Vec<(EndpointKey, Tap)>,
    /// Of published ports.
    pub(super) sockets: Vec<(SocketKey, OwnedFd)>,
}

/// Takes every TAP and socket of the switch that listens at `path`, and waits for its end; `None` when there is no such
/// switch.
pub(super) fn take_over(path: &Path) -> Result<Option<Taken>> {
    let Some(socket) = connect_seqpacket(path)? else { return Ok(None) };
    receive(socket.as_fd()).map(Some).map_err(|error| Error::Takeover { why: error.to_string() })
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Taken> {
    set_patience(socket)?;
    message::send(socket, &Ask::TakeOver, None)?;
    let mut taken = Taken::default();
    loop {
        match message::recv(socket)? {
            Some((ToSwitch::Kept { endpoint, tap }, Some(fd))) => taken.taps.push((endpoint, Tap { fd, info: tap })),
            Some((ToSwitch::KeptSocket { socket }, Some(fd))) => taken.sockets.push((socket, fd)),
            Some((ToSwitch::KeptAll, _)) => break,
            Some(_) => return Err(io::Error::other("it sent something else")),
            None => return Err(io::Error::other("it closed the connection")),
        }
    }
    message::send(socket, &Ask::Taken, None)?;
    // The connection is closed by its end.
    match message::recv::<ToSwitch>(socket)? {
        None => Ok(taken),
        Some(_) => Err(io::Error::other("it sent something else")),
    }
}

/// Serves one connection to `keeper.sock`: hands `taps` and the `sockets` of published ports to a new keeper of the same
/// user or root.
///
/// Returns the connection once the TAPs arrived: the caller ends its process, and the connection with it, at once, for the
/// new keeper waits for that. `None`: nothing was taken, forward on.
///
/// # Errors
///
/// The peer broke off or broke the protocol; nothing was taken, forward on.
pub fn serve_takeover(
    listener: BorrowedFd<'_>,
    taps: &[(EndpointKey, TapInfo, BorrowedFd<'_>)],
    sockets: &[(SocketKey, BorrowedFd<'_>)],
) -> io::Result<Option<OwnedFd>> {
    let connection = accept(listener)?;
    let peer = getsockopt(&connection, sockopt::PeerCredentials)?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        tracing::warn!("takeover refused: pid {} is of user {}", peer.pid(), peer.uid());
        return Ok(None);
    }
    let socket = connection.as_fd();
    set_patience(socket)?;
    expect(socket, |ask| matches!(ask, Ask::TakeOver))?;
    for (endpoint, tap, fd) in taps {
        message::send(socket, &ToSwitch::Kept { endpoint: endpoint.clone(), tap: tap.clone() }, Some(*fd))?;
    }
    for (key, fd) in sockets {
        message::send(socket, &ToSwitch::KeptSocket { socket: *key }, Some(*fd))?;
    }
    message::send(socket, &ToSwitch::KeptAll, None)?;
    expect(socket, |ask| matches!(ask, Ask::Taken))?;
    Ok(Some(connection))
}

fn expect(socket: BorrowedFd<'_>, wanted: impl Fn(&Ask) -> bool) -> io::Result<()> {
    match message::recv::<Ask>(socket)? {
        Some((ask, None)) if wanted(&ask) => Ok(()),
        Some(_) => Err(io::Error::other("the new keeper sent something else")),
        None => Err(io::Error::other("the new keeper closed the connection")),
    }
}

fn set_patience(socket: BorrowedFd<'_>) -> io::Result<()> {
    let patience = TimeVal::seconds(PATIENCE_SECONDS);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    Ok(())
}
