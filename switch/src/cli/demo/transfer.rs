//! A TCP transfer from one container to another, as fast as it goes.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::socket::{Backlog, SockaddrIn, bind, connect, listen, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::inside::Inside;
use crate::cli::output;

/// Port of the receiver: PostgreSQL's, as the rule in every example names it.
pub(super) const PORT: u16 = 5432;
/// One write, and one read: some full frames of 64 KB.
const CHUNK: usize = 512 * 1024;
/// How long a connection may take; a blocked one takes all of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A receiver: it takes what comes and throws it away.
#[derive(Debug)]
pub(super) struct Receiver(TcpListener);

/// What went through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transferred {
    /// Bytes.
    pub bytes: u64,
    /// In how long.
    pub time: Duration,
}

impl Transferred {
    /// Gigabits a second.
    pub(super) fn gigabits(self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64() / 1e9
    }
}

impl Receiver {
    /// Listens inside `at`.
    ///
    /// # Errors
    /// When a socket fails.
    pub(super) fn listen(at: &Inside, address: Ipv4Addr) -> anyhow::Result<Self> {
        let socket = at.tcp()?;
        prefer_cubic(&socket);
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, PORT))).context("bind")?;
        listen(&socket, Backlog::new(4)?).context("listen")?;
        Ok(Receiver(TcpListener::from(socket)))
    }

    /// Takes one connection, which was made already, and drains it to its end in a thread of its own.
    fn drain(&self) -> anyhow::Result<JoinHandle<()>> {
        let (mut stream, _) = self.0.accept().context("accept")?;
        Ok(thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
        }))
    }
}

/// A connection from `from` to `to`; `None` where none came to be in a second.
///
/// # Errors
/// When a socket fails otherwise.
pub(super) fn connection(from: &Inside, to: Ipv4Addr) -> anyhow::Result<Option<TcpStream>> {
    let socket = from.tcp()?;
    prefer_cubic(&socket);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(PATIENCE.as_secs() as i64, 0))?;
    match connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to, PORT))) {
        Ok(()) => Ok(Some(TcpStream::from(socket))),
        // What SO_SNDTIMEO makes of a connection that does not come to be, and what a missing neighbour does.
        Err(nix::Error::EINPROGRESS | nix::Error::ETIMEDOUT | nix::Error::EHOSTUNREACH) => Ok(None),
        Err(error) => Err(error).context("connect"),
    }
}

/// Sends over `stream` to `receiver` for `time`, with a progress bar on a terminal; `interrupted` is asked now and then.
///
/// # Errors
/// When the connection breaks, stands still for a second, or `interrupted` says so.
pub(super) fn transfer(
    mut stream: TcpStream,
    receiver: &Receiver,
    time: Duration,
    interrupted: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Transferred> {
    let drain = receiver.drain()?;
    let bar = progress_bar(time);
    let sent = send(&mut stream, time, &bar, interrupted);
    bar.finish_and_clear();
    // Ends the other side too, so that the thread is gone before anybody forks again.
    drop(stream);
    drain.join().map_err(|_| anyhow::anyhow!("the receiver failed"))?;
    sent
}

fn send(
    stream: &mut TcpStream,
    time: Duration,
    bar: &ProgressBar,
    interrupted: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Transferred> {
    let chunk = vec![0x5a; CHUNK];
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        match stream.write(&chunk) {
            Ok(count) => bytes += count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("send"),
        }
        let so_far = Transferred { bytes, time: start.elapsed() };
        if so_far.time >= time {
            return Ok(so_far);
        }
        interrupted()?;
        bar.set_position(so_far.time.as_millis() as u64);
        bar.set_message(format!("{} {:.1} Gbit/s", output::bytes(bytes), so_far.gigabits()));
    }
}

/// On stderr, and only where that is a terminal.
fn progress_bar(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:40} {msg}").expect("the template is well-formed");
    ProgressBar::new(time.as_millis() as u64).with_style(style)
}

/// The kernel's usual congestion control. Some machines default to another whose pacing hides the switch; where it is not
/// to be had, the machine's own does.
fn prefer_cubic(socket: &OwnedFd) {
    let _ = setsockopt(socket, sockopt::TcpCongestion, &OsString::from("cubic"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bits_a_second() {
        let transferred = Transferred { bytes: 2_500_000_000, time: Duration::from_secs(2) };
        assert!((transferred.gigabits() - 10.0).abs() < 1e-9);
    }
}
