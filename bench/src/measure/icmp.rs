//! Echo requests at a steady pace, whether answers come or not: a way that stalls is not asked less often for it, as `ping` would.
//!
//! An answer's time is the kernel's, taken when it arrived: how long this program waits for a processor is not in it.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvmsg, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Quantile;
use super::pingpong::micros;

/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(2);
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// RFC 792: echo and echo reply.
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// What the client's process prints.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) sent: usize,
    pub(super) lost: usize,
    /// Of those that were answered.
    pub(super) micros: Vec<(Quantile, f64)>,
}

/// The client's process: asks for a time, and prints its report.
pub(crate) fn echo(address: Ipv4Addr, time: Duration) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::Icmp)
        .context("open a raw socket")?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context("ask for times")?;
    let mut requests = Requests::new(std::process::id() as u16);
    let (start, to) = (Instant::now(), SockaddrIn::from(SocketAddrV4::new(address, 0)));
    let mut next = Duration::ZERO;
    while start.elapsed() < time {
        sendto(socket.as_raw_fd(), &requests.next(realtime()?), &to, MsgFlags::empty())
            .or_else(|error| if error == Errno::ENOBUFS { Ok(0) } else { Err(error) })
            .context("send an echo request")?;
        // What was missed while there was no processor is not made up for: a burst would be another measure.
        next = (next + INTERVAL).max(start.elapsed());
        take_answers(&socket, &mut requests, || next.saturating_sub(start.elapsed()))?;
    }
    let end = Instant::now();
    take_answers(&socket, &mut requests, || PATIENCE.saturating_sub(end.elapsed()))?;
    let report = requests.report();
    ensure!(!report.micros.is_empty(), "{} of {} pings were lost", report.lost, report.sent);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Until nothing is `left` of the time.
fn take_answers(socket: &OwnedFd, requests: &mut Requests, left: impl Fn() -> Duration) -> Result<()> {
    loop {
        while let Some((at, packet)) = receive(socket)? {
            requests.answered(&packet, at);
        }
        let left = left();
        if left.is_zero() {
            return Ok(());
        }
        // Rounded up: a wait of nothing would spin.
        let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(millis)).context("wait for an answer")?;
    }
}

/// An ICMP message, its IP header before it, and when it came; nothing where there is none.
fn receive(socket: &OwnedFd) -> Result<Option<(Duration, Vec<u8>)>> {
    let (mut space, mut control) = ([0; 256], nix::cmsg_space!(TimeSpec));
    let mut parts = [IoSliceMut::new(&mut space)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
    let (len, time) = match received {
        Err(Errno::EAGAIN) => return Ok(None),
        received => {
            let message = received.context("receive")?;
            let time = message.cmsgs().context("receive a time")?.find_map(|part| match part {
                ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                _ => None,
            });
            (message.bytes, time)
        }
    };
    Ok(Some((time.context("the kernel gives no times")?, space[..len].to_vec())))
}

/// The clock by which the kernel tells when a packet came.
fn realtime() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_REALTIME).context("read the clock")?.into())
}

/// What was asked, and what came back.
#[derive(Debug)]
struct Requests {
    identifier: u16,
    sent: usize,
    /// When the one with that number was sent, until it is answered; numbers come again after two minutes.
    waiting: Vec<Option<Duration>>,
    nanos: Vec<u64>,
}

impl Requests {
    fn new(identifier: u16) -> Self {
        Requests { identifier, sent: 0, waiting: vec![None; 1 << 16], nanos: Vec::new() }
    }

    /// The next one, to be sent at once.
    fn next(&mut self, now: Duration) -> [u8; 64] {
        let number = self.sent as u16;
        self.waiting[usize::from(number)] = Some(now);
        self.sent += 1;
        let mut message = [0; 64];
        message[0] = ECHO;
        message[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        message[6..8].copy_from_slice(&number.to_be_bytes());
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// Whatever came at a time: a raw socket sees all ICMP of its namespace.
    fn answered(&mut self, packet: &[u8], at: Duration) {
        let Some(header) = packet.first().map(|first| usize::from(first & 15) * 4) else { return };
        let Some(&[ECHO_REPLY, _, _, _, i0, i1, n0, n1]) = packet.get(header..).and_then(<[u8]>::first_chunk::<8>)
        else {
            return;
        };
        if u16::from_be_bytes([i0, i1]) != self.identifier {
            return;
        }
        let number = usize::from(u16::from_be_bytes([n0, n1]));
        if let Some(sent) = self.waiting[number].take() {
            self.nanos.push(u64::try_from(at.saturating_sub(sent).as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn report(mut self) -> Report {
        Report { sent: self.sent, lost: self.sent - self.nanos.len(), micros: micros(&mut self.nanos) }
    }
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a request, as a raw socket reads it.
    fn answer(request: &[u8; 64]) -> Vec<u8> {
        let mut packet = [&[0x45][..], &[0; 19], request].concat();
        packet[20] = ECHO_REPLY;
        packet
    }

    #[test]
    fn a_request_sums_to_nothing_and_is_numbered() {
        let mut requests = Requests::new(0x1234);
        requests.next(Duration::ZERO);
        let message = requests.next(Duration::ZERO);
        assert_eq!(checksum(&message), 0);
        assert_eq!(message[4..8], [0x12, 0x34, 0, 1]);
    }

    #[test]
    fn an_answer_counts_once_and_only_one_s_own() {
        let mut requests = Requests::new(7);
        let first = answer(&requests.next(Duration::from_micros(100)));
        let foreign = answer(&Requests::new(8).next(Duration::ZERO));
        let mut asked = first.clone();
        asked[20] = ECHO;
        for packet in [&foreign[..], &asked, &first[..20], &[], &first, &first] {
            requests.answered(packet, Duration::from_micros(130));
        }
        assert_eq!(requests.nanos, [30_000]);
    }

    #[test]
    fn what_was_not_answered_is_lost() {
        let mut requests = Requests::new(7);
        for at in 0..10 {
            let request = requests.next(Duration::from_micros(at));
            if at >= 3 {
                requests.answered(&answer(&request), Duration::from_micros(at + 50));
            }
        }
        let report = requests.report();
        assert_eq!((report.sent, report.lost, report.micros.last()), (10, 3, Some(&(Quantile::P50, 50.0))));
    }
}
