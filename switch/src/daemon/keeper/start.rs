//! What the keeper starts with, and what it hands to the switch.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// What the keeper is told.
#[derive(Debug)]
pub struct Config {
    /// Holds the sockets, the lock and what dies with the machine. Made 0700.
    pub run_dir: PathBuf,
    /// Holds what survives. Made 0700.
    pub state_dir: PathBuf,
    /// The control API's socket; `attach.sock` is made beside it.
    pub api_socket: PathBuf,
    /// Docker's socket, where it is served. Its directory is made 0755 where it is missing: dockerd's own is in it.
    pub docker_socket: Option<PathBuf>,
    /// Where stderr goes once the directories are this daemon's: until then there may be another whose log it is.
    pub log: Option<PathBuf>,
    /// Who waits for `up -d` holds the other end of this pipe: one line, `ok` or the error, when it is known.
    pub ready: Option<OwnedFd>,
}

/// What the switch process starts with.
#[derive(Debug)]
pub struct SwitchStart {
    /// To the keeper: [`ToKeeper`](super::message::ToKeeper) one way, [`ToSwitch`](super::message::ToSwitch) the other.
    /// Blocking. End of file: the keeper is gone; forward on and wait at `takeover`.
    pub keeper: OwnedFd,
    /// The control API's listener. The same through every restart: a client that connects meanwhile waits.
    pub api: UnixListener,
    /// The SOCK_SEQPACKET listener of `attach.sock`.
    pub attach: OwnedFd,
    /// Docker's.
    pub docker: Option<UnixListener>,
    /// The SOCK_SEQPACKET listener of `keeper.sock`, to be served only once the keeper is gone
    /// ([`serve_takeover`](super::serve_takeover)).
    pub takeover: OwnedFd,
    /// How often a switch of this keeper died before.
    pub restarts: u32,
    /// As in [`Config`].
    pub run_dir: PathBuf,
    /// As in [`Config`].
    pub state_dir: PathBuf,
}

impl Config {
    /// Where clients pass namespaces.
    pub fn attach_socket(&self) -> PathBuf {
        self.api_socket.with_file_name("attach.sock")
    }

    /// Where the next keeper takes over.
    pub(super) fn takeover_socket(&self) -> PathBuf {
        self.run_dir.join("keeper.sock")
    }
}
