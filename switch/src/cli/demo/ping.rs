//! Echo requests over a raw socket, as `ping` sends them.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn, connect, recv, send, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Ipv4Packet};

use super::inside::Inside;

/// Identifies our requests; alone in its namespace, any number does.
const IDENT: u16 = 0x7a95;
const PAYLOAD: &[u8] = b"tapswitch demo: fifty-six bytes of payload, as ping(8)..";
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The best round trip of `count` requests to `target`, or `None` where one of them was not answered in a second.
///
/// # Errors
/// When a socket fails.
pub(super) fn ping(from: &Inside, target: Ipv4Addr, count: u16) -> anyhow::Result<Option<Duration>> {
    let socket = from.icmp()?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(target, 0)))?;
    let mut best: Option<Duration> = None;
    for sequence in 0..count {
        let Some(time) = round_trip(&socket, sequence).with_context(|| format!("ping {target}"))? else {
            return Ok(None);
        };
        best = Some(best.map_or(time, |b| b.min(time)));
    }
    Ok(best)
}

fn round_trip(socket: &OwnedFd, sequence: u16) -> anyhow::Result<Option<Duration>> {
    let start = Instant::now();
    match send(socket.as_raw_fd(), &request(sequence), MsgFlags::empty()) {
        // What no neighbour answers for ends here, from the second request on.
        Err(Errno::EHOSTUNREACH) => return Ok(None),
        sent => sent.context("send")?,
    };
    let mut buffer = [0; 2048];
    while start.elapsed() < PATIENCE {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) if is_reply(&buffer[..length], sequence) => return Ok(Some(start.elapsed())),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::EHOSTUNREACH) => return Ok(None),
            Err(error) => bail!("receive: {error}"),
        }
    }
    Ok(None)
}

fn request(sequence: u16) -> Vec<u8> {
    let request = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: sequence, data: PAYLOAD };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
    bytes
}

/// Whether a packet, with its IP header, answers that request.
fn is_reply(packet: &[u8], sequence: u16) -> bool {
    let Ok(ip) = Ipv4Packet::new_checked(packet) else { return false };
    let Ok(icmp) = Icmpv4Packet::new_checked(ip.payload()) else { return false };
    matches!(
        Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()),
        Ok(Icmpv4Repr::EchoReply { ident: IDENT, seq_no, data }) if seq_no == sequence && data == PAYLOAD
    )
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{IpProtocol, Ipv4Repr};

    use super::*;

    fn packet(icmp: &Icmpv4Repr<'_>) -> Vec<u8> {
        let ip = Ipv4Repr {
            src_addr: Ipv4Addr::new(10, 0, 0, 1),
            dst_addr: Ipv4Addr::new(10, 0, 0, 2),
            next_header: IpProtocol::Icmp,
            payload_len: icmp.buffer_len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; ip.buffer_len() + icmp.buffer_len()];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
        ip.emit(&mut packet, &ChecksumCapabilities::default());
        icmp.emit(&mut Icmpv4Packet::new_unchecked(packet.payload_mut()), &ChecksumCapabilities::default());
        bytes
    }

    #[test]
    fn only_the_answer_to_this_request_is_one() {
        let reply = packet(&Icmpv4Repr::EchoReply { ident: IDENT, seq_no: 3, data: PAYLOAD });
        assert!(is_reply(&reply, 3));
        assert!(!is_reply(&reply, 4));
        assert!(!is_reply(&packet(&Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: 3, data: PAYLOAD }), 3));
        assert!(!is_reply(&packet(&Icmpv4Repr::EchoReply { ident: 1, seq_no: 3, data: PAYLOAD }), 3));
        assert!(!is_reply(&reply[..20], 3));
    }
}
