//! First fragments that a rule let pass, or that published ports sent back, so that the later ones may follow.
//!
//! A later fragment says nothing but its datagram: source, destination, protocol and identification. It passes while an
//! entry for that, made by an allowed first fragment between the same two ports, lives: [`LIFETIME`], as long as a
//! receiver waits for the rest. One that comes before its first is dropped; the sender's stack sends them in order. An
//! entry counts under the policy generation that made it only: a rule change costs at most the datagrams
//! in flight, and nothing denied slips through. Fragments of published ports are noted as from a port to itself
//! ([`super::to_gateway`]).
//!
//! Limits: [`CAPACITY`] datagrams per network. Thread-safety: that of [`Expiring`].

use std::net::IpAddr;
use std::time::Duration;

use super::expiring::{Entry, Expiring};
use super::{Instant, PortId};
use crate::frame::Packet;
use crate::persistent::{Key, Seed};

/// Most datagrams in parts at once: at 64 KiB each, more than the receivers' own reassembly holds (4 MiB in Linux).
const CAPACITY: usize = 4096;
/// Linux's `ipfrag_time`: after it the receiver has given the datagram up.
const LIFETIME: Duration = Duration::from_secs(30);

/// One datagram from one port to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    from: PortId,
    to: PortId,
    src: IpAddr,
    dst: IpAddr,
    /// RFC 791: part of an IPv4 datagram's identity. Of an IPv6 one (RFC 8200 4.5) it is not: 0.
    protocol: u8,
    id: u32,
}

impl Key for Datagram {
    fn hash(&self, seed: Seed) -> u64 {
        let address = |before, address| match address {
            IpAddr::V4(v4) => seed.extend(before, v4.to_bits().into()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                seed.extend(seed.extend(before, (bits >> 64) as u64), bits as u64)
            }
        };
        let ports = seed.hash(u64::from(self.from.0) << 32 | u64::from(self.to.0));
        let addresses = address(address(ports, self.src), self.dst);
        seed.extend(addresses, u64::from(self.protocol) << 32 | u64::from(self.id))
    }
}

impl Datagram {
    fn of(from: PortId, to: PortId, packet: &Packet<'_>, id: u32) -> Self {
        let protocol = if packet.src.is_ipv4() { packet.protocol } else { 0 };
        Datagram { from, to, src: packet.src, dst: packet.dst, protocol, id }
    }
}

/// The fragment table. An entry's value is the policy generation that made it.
#[derive(Debug)]
pub(super) struct Fragments(Expiring<Datagram, u64>);

impl Fragments {
    /// An empty one.
    pub(super) fn new() -> Self {
        Fragments(Expiring::with_capacity(CAPACITY))
    }

    /// Makes its room; before that nothing is noted.
    pub(super) fn prepare(&self) {
        self.0.prepare();
    }

    /// Notes that `packet`, the first fragment of datagram `id`, passed under `generation`.
    pub(super) fn note(&self, from: PortId, to: PortId, packet: &Packet<'_>, id: u32, generation: u64, now: Instant) {
        let key = Datagram::of(from, to, packet, id);
        let entry = Entry { key, value: generation, owner: from, expires: now + LIFETIME };
        self.0.with(&key, |mut set| set.insert(entry, now));
    }

    /// Whether `packet`, a later fragment of datagram `id`, follows one that passed under `generation`.
    pub(super) fn follows(
        &self,
        from: PortId,
        to: PortId,
        packet: &Packet<'_>,
        id: u32,
        generation: u64,
        now: Instant,
    ) -> bool {
        let key = Datagram::of(from, to, packet, id);
        let follows = self.0.with(&key, |mut set| set.find(&key, now).is_some_and(|entry| entry.value == generation));
        follows.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests;
