//! Flows that a rule opened, so that their replies pass.
//!
//! An entry is made, or brought up to date, by any packet that a rule lets `from` send to `to`, not only by a SYN, so that a
//! restart of the switch cuts nothing. It is found by both directions under one key, and lets both pass until it
//! goes idle. It carries the policy generation that it passed under; a packet that finds an older one asks the rules
//! again, and where they say no the flow is gone. Sequence numbers are not looked at: both ends hold the
//! connection, the switch only says who may have one with whom.
//!
//! Limits: [`CAPACITY`] flows per network; [`super::expiring`] says who loses his when it is full. A flow lost early comes
//! back with the next packet of its opener. Thread-safety: that of [`Expiring`].

use std::net::IpAddr;
use std::time::Duration;

use super::expiring::{Entry, Expiring};
use super::policy::{Policy, RulePort};
use super::{Instant, PortId};
use crate::frame::TcpFlags;
use crate::persistent::{Key, Seed};

/// Most flows of a network: two containers' whole ephemeral port ranges; 6 MiB, and only where rules are.
const CAPACITY: usize = 65_536;

/// RFC 5382 REQ-5: an established connection is kept for 2 hours 4 minutes at least.
const TCP_ESTABLISHED: Duration = Duration::from_secs(7440);
/// RFC 5382 REQ-5: one that is being opened is kept for 4 minutes at least.
const TCP_OPENING: Duration = Duration::from_secs(240);
/// Both ends closed: Linux's TIME-WAIT (`TCP_TIMEWAIT_LEN`), in which the last acknowledgement may be asked for again.
const TCP_CLOSED: Duration = Duration::from_secs(60);
/// One end aborted: long enough for what is in flight. A reset that its receiver refuses is followed by data, which revives.
const TCP_RESET: Duration = Duration::from_secs(10);
/// RFC 4787 REQ-5: 5 minutes are recommended.
const UDP: Duration = Duration::from_secs(300);
/// RFC 5508 REQ-2: an echo is kept for 60 s at least.
const ICMP: Duration = Duration::from_secs(60);
/// No rule of an RFC; as UDP.
const OTHER: Duration = Duration::from_secs(300);

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    port: PortId,
    /// IPv4 addresses in their mapped form; in two words, which align better than one of 128 bits.
    address: [u64; 2],
    /// TCP or UDP port; [`Side::echo`] at the asking end of an echo; else 0.
    l4: u32,
}

impl Side {
    pub(super) fn new(port: PortId, address: IpAddr, l4: u32) -> Self {
        let address = match address {
            // RFC 4291 2.5.5.2. Put together from the word: through the sixteen octets it takes fifty instructions more.
            IpAddr::V4(v4) => [0, 0xffff << 32 | u64::from(v4.to_bits())],
            IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
        };
        Side { port, address, l4 }
    }

    /// Marks the end that asks for echoes with identifier `id`, so that a request in the other direction, which may carry
    /// the same identifier, is another flow.
    pub(super) fn echo(id: u16) -> u32 {
        0x1_0000 | u32::from(id)
    }
}

/// The ends of a flow in the direction of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) from: Side,
    pub(super) to: Side,
    pub(super) protocol: u8,
}

impl Way {
    /// What of `to` this asks for, in the words of a rule.
    pub(super) fn service(&self) -> Option<RulePort> {
        let port = self.to.l4 as u16;
        match self.protocol {
            6 => Some(RulePort::Tcp(port)),
            17 => Some(RulePort::Udp(port)),
            1 | 58 if self.from.l4 != 0 => Some(RulePort::Icmp),
            _ => None,
        }
    }

    fn reversed(self) -> Way {
        Way { from: self.to, to: self.from, protocol: self.protocol }
    }

    /// The same for both directions.
    fn key(&self) -> FlowKey {
        let (low, high) = if self.is_from_low() { (self.from, self.to) } else { (self.to, self.from) };
        FlowKey { low, high, protocol: self.protocol }
    }

    /// A flow is between two ports: nothing goes back to where it came from.
    fn is_from_low(&self) -> bool {
        self.from.port < self.to.port
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlowKey {
    low: Side,
    high: Side,
    protocol: u8,
}

impl Key for FlowKey {
    /// Three words: the ends' ports and what they ask for, and their addresses folded into one. Whoever can choose its
    /// addresses, an unguarded port, can crowd a bucket with its own flows so, and nothing else.
    fn hash(&self, seed: Seed) -> u64 {
        let end = |side: Side| u64::from(side.port.0) << 32 | u64::from(side.l4);
        let [a, b] = self.low.address;
        let [c, d] = self.high.address;
        let addresses = a ^ b.rotate_left(16) ^ c.rotate_left(32) ^ d.rotate_left(48);
        let low = seed.hash(end(self.low) ^ u64::from(self.protocol) << 24);
        seed.extend(seed.extend(low, end(self.high)), addresses)
    }
}

/// What is known of a flow.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// The lower end opened it.
    is_opener_low: bool,
    /// The policy that it passed under.
    generation: u64,
    tcp: TcpState,
}

/// How far a TCP connection is.
#[derive(Clone, Copy, Debug, Default)]
struct TcpState {
    answered: bool,
    opener_closed: bool,
    other_closed: bool,
    reset: bool,
}

impl TcpState {
    fn note(&mut self, flags: TcpFlags, by_opener: bool) {
        if by_opener && is_first(Some(flags)) {
            *self = TcpState::default();
        }
        self.answered |= !by_opener;
        self.reset = flags.rst || (self.reset && !by_opener);
        match by_opener {
            true => self.opener_closed |= flags.fin,
            false => self.other_closed |= flags.fin,
        }
    }

    fn idle_limit(self) -> Duration {
        match self {
            TcpState { reset: true, .. } => TCP_RESET,
            TcpState { opener_closed: true, other_closed: true, .. } => TCP_CLOSED,
            TcpState { answered: false, .. } => TCP_OPENING,
            _ => TCP_ESTABLISHED,
        }
    }
}

impl Flow {
    /// One that a packet of `way` opens.
    fn new(way: &Way, policy: &Policy) -> Self {
        Flow { is_opener_low: way.is_from_low(), generation: policy.generation, tcp: TcpState::default() }
    }

    fn is_by_opener(&self, way: &Way) -> bool {
        self.is_opener_low == way.is_from_low()
    }

    /// Notes a packet of `way`; the time until which the flow now lives.
    #[inline]
    fn note(&mut self, way: &Way, flags: Option<TcpFlags>, now: Instant) -> Instant {
        if let Some(flags) = flags {
            self.tcp.note(flags, self.is_by_opener(way));
        }
        now + match way.protocol {
            6 => self.tcp.idle_limit(),
            17 => UDP,
            1 | 58 => ICMP,
            _ => OTHER,
        }
    }

    /// Whether `policy` lets it live on; `way` is any of its directions. The answer is kept for this generation.
    fn is_allowed(&mut self, way: &Way, policy: &Policy) -> bool {
        if self.generation == policy.generation {
            return true;
        }
        self.generation = policy.generation;
        opens(policy, &if self.is_by_opener(way) { *way } else { way.reversed() })
    }
}

/// Whether these are the flags that begin a connection.
fn is_first(flags: Option<TcpFlags>) -> bool {
    flags.is_some_and(|flags| flags.syn && !flags.ack)
}

fn opens(policy: &Policy, way: &Way) -> bool {
    policy.opens(way.from.port, way.to.port, way.service())
}

/// The flow table.
#[derive(Debug)]
pub(super) struct Flows(Expiring<FlowKey, Flow>);

impl Flows {
    /// An empty one.
    pub(super) fn new() -> Self {
        Flows(Expiring::with_capacity(CAPACITY))
    }

    /// Makes its room; before that no flow is kept.
    pub(super) fn prepare(&self) {
        self.0.prepare();
    }

    /// Whether a packet of `way` passes: as part of a live flow, or because a rule lets it open one, if it is of a kind that
    /// may.
    pub(super) fn pass(
        &self,
        way: &Way,
        may_open: bool,
        flags: Option<TcpFlags>,
        policy: &Policy,
        now: Instant,
    ) -> bool {
        let key = way.key();
        let passes = self.0.with(&key, |mut set| {
            let may_open = || may_open && opens(policy, way);
            if let Some(entry) = set.find(&key, now)
                && entry.value.is_allowed(way, policy)
                // A SYN of the other end, if it may, begins a connection of its own.
                && (entry.value.is_by_opener(way) || !is_first(flags) || !may_open())
            {
                entry.expires = entry.value.note(way, flags, now);
                return true;
            }
            if may_open() {
                let mut flow = Flow::new(way, policy);
                let expires = flow.note(way, flags, now);
                set.insert(Entry { key, value: flow, owner: way.from.port, expires }, now);
                return true;
            }
            set.remove(&key);
            false
        });
        passes.unwrap_or(false)
    }

    /// Whether `way`, which an ICMP error quotes, is a direction of a live flow. An error keeps no flow alive.
    pub(super) fn quoted(&self, way: &Way, policy: &Policy, now: Instant) -> bool {
        let key = way.key();
        let passes = self.0.with(&key, |mut set| {
            let allowed = set.find(&key, now).map(|entry| entry.value.is_allowed(way, policy));
            if allowed == Some(false) {
                set.remove(&key);
            }
            allowed.unwrap_or(false)
        });
        passes.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests;
