//! A keeper died, and the next one asks for the devices: this process hands them over and ends, and the next keeper's
//! switch process goes on with them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Control, Ending};
use crate::daemon::keeper::message::SocketKey;
use crate::daemon::keeper::serve_takeover;

impl Control {
    /// Waits from now on for the next keeper.
    pub(super) fn await_next_keeper(&mut self) {
        match knocks(&self.takeover) {
            Ok(knocks) => self.knocks = knocks,
            Err(error) => self.warn(format!("no keeper can take over: {error}")),
        }
    }

    /// Somebody is at `keeper.sock`. The workers forward on meanwhile.
    pub(super) fn hand_over(&mut self) {
        let ports =
            self.networks.values().flat_map(|n| n.endpoints.values()).filter_map(|e| Some((e.key(), e.port()?)));
        let taps: Vec<_> = ports.filter_map(|(key, port)| Some((key, port.info.clone(), port.tx.fd()?))).collect();
        let published = self.networks.values().flat_map(|n| n.endpoints.values()).flat_map(|e| &e.publications);
        let sockets: Vec<_> =
            published.map(|p| (SocketKey { transport: p.transport, address: p.host }, p.socket.as_fd())).collect();
        match serve_takeover(self.takeover.as_fd(), &taps, &sockets) {
            Ok(Some(connection)) => {
                // The next keeper waits for its end, which is this process's.
                std::mem::forget(connection);
                self.ending = Some(Ending::TakenOver);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::warn!("hand over to the next keeper: {error}"),
        }
    }
}

/// Tells when somebody connects to `listener`, each time after the last was heard.
fn knocks(listener: &OwnedFd) -> io::Result<Receiver<()>> {
    let listener = listener.try_clone()?;
    // Who knocked may be gone when the door is opened.
    let flags = OFlag::from_bits_truncate(fcntl(&listener, FcntlArg::F_GETFL)?);
    fcntl(&listener, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let (sender, receiver) = bounded(0);
    thread::Builder::new().name("takeover".into()).spawn(move || watch(&listener, &sender))?;
    Ok(receiver)
}

fn watch(listener: &OwnedFd, to: &Sender<()>) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if to.send(()).is_err() => return,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return tracing::error!("wait for the next keeper: {error}"),
        }
    }
}
