//! Tells who waits for the daemon that it serves, or why not: the pipe of `up -d`, and the service manager.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who waits. Told once.
#[derive(Debug)]
pub(super) struct Ready {
    pipe: Option<File>,
    told: bool,
}

impl Ready {
    /// `pipe` as in [`Config`](super::Config).
    pub(super) fn new(pipe: Option<OwnedFd>) -> Ready {
        Ready { pipe: pipe.map(File::from), told: false }
    }

    /// The daemon serves.
    pub(super) fn serves(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.write("ok");
        if let Err(error) = notify(b"READY=1") {
            tracing::warn!("tell the service manager: {error}");
        }
    }

    /// It does not, and will not.
    pub(super) fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            self.write(why);
        }
    }

    fn write(&mut self, line: &str) {
        if let Some(mut pipe) = self.pipe.take() {
            // Who waited may have been interrupted; the daemon serves all the same.
            let _ = writeln!(pipe, "{}", line.replace('\n', " "));
        }
    }
}

/// sd_notify(3): one datagram to $NOTIFY_SOCKET, if there is one; `@` is the abstract name space.
fn notify(state: &[u8]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state, &address).map(drop)
}
