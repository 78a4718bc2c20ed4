//! What comes from a flow's far side: datagrams, bursts of them, and ICMP errors.

use std::net::IpAddr;

use nix::errno::Errno;

use super::super::datagram::{self, Datagram};
use super::super::errors;
use super::super::quote::Quote;
use super::super::ready::Pending;
use super::super::socket::{Socket, Space};
use super::super::{Cx, Ends, Home};
use super::send_datagram;
use super::train::Train;
use crate::forwarding::EgressDrop;

/// Datagrams or bursts, and errors, read from one flow before the others get their turn.
const MOST_READS: usize = 32;

/// Where it is read into; one worker's.
#[derive(Debug)]
pub(super) struct Inbound {
    space: Space,
    /// A kernel before Linux 6.2 does not take bursts: its refusal is remembered.
    sends_bursts: bool,
}

impl Default for Inbound {
    fn default() -> Self {
        Inbound { space: Space::default(), sends_bursts: true }
    }
}

impl Inbound {
    /// Brings the container what the socket has; how many bytes, and how often there was anything.
    pub(super) fn read(
        &mut self,
        cx: &mut Cx<'_>,
        home: &Home,
        ends: Ends,
        socket: &Socket,
        pending: &mut Pending,
    ) -> (usize, usize) {
        let (mut bytes, mut count, mut held) = (0, 0, Train::default());
        while pending.data && count < MOST_READS {
            match socket.receive(&mut self.space, held.len) {
                Ok(received) => {
                    bytes += received.len;
                    count += 1;
                    if !held.join(&received, datagram::MOST_PAYLOAD4) {
                        self.bring(cx, home, ends, held);
                        self.space.bytes.copy_within(held.len..held.len + received.len, 0);
                        held = Train::new(&received);
                    }
                }
                Err(Errno::EAGAIN) => pending.data = false,
                // An ICMP error, of which the queue knows more.
                Err(_) => {
                    pending.errors = true;
                    count += 1;
                }
            }
        }
        self.bring(cx, home, ends, held);
        (bytes, count)
    }

    /// What was read, if anything. What the container's queue has no room for is lost, as on any way; it is counted.
    fn bring(&mut self, cx: &mut Cx<'_>, home: &Home, Ends { near, far }: Ends, train: Train) {
        if train.is_empty() {
            return;
        }
        let payload = &self.space.bytes[..train.len];
        let Some(size) = train.segment().filter(|&size| train.len > size.into()) else {
            let _ = send_datagram(cx, home, near, far, payload);
            return;
        };
        let burst = Datagram::udp(far, near, payload.len().min(datagram::MOST_PAYLOAD));
        if self.sends_bursts && datagram::is_burst(home, &burst, payload, size) {
            match datagram::send_burst(cx, home, &burst, payload, size) {
                Err(EgressDrop::Refused) => self.sends_bursts = false,
                _ => return,
            }
        }
        for datagram in payload.chunks(size.into()) {
            let _ = send_datagram(cx, home, near, far, datagram);
        }
    }

    /// Tells the container what somebody on the way to `real`, which it sees as its far end, said of its datagrams.
    pub(super) fn hear(
        &mut self,
        cx: &mut Cx<'_>,
        home: &Home,
        Ends { near, far }: Ends,
        socket: &Socket,
        real: IpAddr,
        pending: &mut Pending,
    ) {
        for _ in 0..MOST_READS {
            if !pending.errors {
                break;
            }
            let Some(refused) = socket.refused(&mut self.space) else {
                pending.errors = false;
                break;
            };
            let payload = &self.space.bytes[..refused.len.min(datagram::MOST_PAYLOAD)];
            let Datagram { header, protocol, .. } = Datagram::udp(near, far, payload.len());
            let quote = Quote::new(near.ip(), far.ip(), protocol, header, payload);
            let by = if refused.by == real { far.ip() } else { refused.by };
            errors::relay(cx, home, by, quote.packet(), refused.message);
        }
    }
}
