//! icc: what passes from one container to another.
//!
//! With `icc` on this is never asked. With it off nothing passes, of any ethertype, unicast or flooded, except IP packets
//! that a rule opens, the replies of a flow that a rule opened, the ICMP errors that quote such a flow, and the later
//! fragments of a datagram whose first one passed. Neighbour discovery never passes: the switch answers it
//! ([`super::neighbour`]). A packet must be addressed to its receiver, so that nobody routes around the rules.
//!
//! Immutable, part of a published [`super::Network`]: any thread reads it. The rules of each opener stand sorted in an array; a
//! question is a look-up and a binary search or two, and established flows do not ask again until the generation changes.

use std::net::IpAddr;
use std::sync::Arc;

use super::flows::{Side, Way};
use super::{DropReason, Instant, PortId, PortSpec, Tables};
use crate::frame::{Fragment, Layer4, Packet, TcpFlags};
use crate::persistent::Map;

/// One `allow`: what `from` may open towards `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Who opens.
    pub from: PortId,
    /// Towards whom.
    pub to: PortId,
    /// What; `None` is any IP packet.
    pub port: Option<RulePort>,
}

/// The protocol and port of a [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RulePort {
    /// A TCP port of `to`.
    Tcp(u16),
    /// A UDP port of `to`.
    Udp(u16),
    /// Echo requests, IPv4 and IPv6.
    Icmp,
}

/// The rules of a published network.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    icc: bool,
    /// By who opens: sorted, each once.
    rules: Map<PortId, Arc<[Rule]>>,
    /// Who may open anything towards a port: sorted, each once.
    openers: Map<PortId, Arc<[PortId]>>,
    /// Flows carry the one that they passed under.
    pub(super) generation: u64,
}

impl Policy {
    /// Of these rules.
    pub(super) fn new(icc: bool, generation: u64, mut rules: Vec<Rule>) -> Self {
        rules.sort_unstable();
        rules.dedup();
        let mut policy = Policy { icc, rules: Map::default(), openers: Map::default(), generation };
        for of_one in rules.chunk_by(|a, b| a.from == b.from) {
            policy.rules.insert(of_one[0].from, of_one.into());
        }
        let mut openers: Vec<_> = rules.iter().map(|rule| (rule.to, rule.from)).collect();
        openers.sort_unstable();
        openers.dedup();
        for of_one in openers.chunk_by(|a, b| a.0 == b.0) {
            policy.openers.insert(of_one[0].0, of_one.iter().map(|(_, from)| *from).collect());
        }
        policy
    }

    /// Opens what `rule` says.
    pub(super) fn allow(&mut self, rule: Rule) {
        insert(&mut self.rules, rule.from, rule);
        insert(&mut self.openers, rule.to, rule.from);
    }

    /// Forgets the rules that name `port`.
    pub(super) fn forget(&mut self, port: PortId) {
        for rule in self.rules.remove(&port).iter().flat_map(|rules| rules.iter()) {
            retain(&mut self.openers, rule.to, |opener| *opener != port);
        }
        for opener in self.openers.remove(&port).iter().flat_map(|openers| openers.iter()) {
            retain(&mut self.rules, *opener, |rule| rule.to != port);
        }
    }

    /// Whether containers talk freely.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.icc
    }

    /// Whether anything at all may pass between the two, in either direction.
    pub(super) fn relates(&self, a: PortId, b: PortId) -> bool {
        self.icc || self.has_rule(a, b) || self.has_rule(b, a)
    }

    /// Whether a rule lets `from` open `service` towards `to`; without a `service` only a rule for any packet does.
    pub(super) fn opens(&self, from: PortId, to: PortId, service: Option<RulePort>) -> bool {
        let rules = self.of(from);
        let has = |port| rules.binary_search(&Rule { from, to, port }).is_ok();
        has(None) || service.is_some_and(|service| has(Some(service)))
    }

    /// Towards whom `from` may open anything; ascending.
    pub(super) fn targets(&self, from: PortId) -> impl Iterator<Item = PortId> {
        let mut last = None;
        self.of(from).iter().filter_map(move |rule| (last.replace(rule.to) != Some(rule.to)).then_some(rule.to))
    }

    /// Whether `packet`, addressed to the MAC of `to` alone, passes from `from`. Notes what it opens.
    pub(super) fn admit(
        &self,
        tables: &Tables,
        from: &PortSpec,
        to: &PortSpec,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        // Without the guard nobody knows what addresses are behind a port.
        if to.guard && !is_leased(to, packet.dst) {
            return Err(DropReason::Icc);
        }
        self.pass(tables, from.id, to.id, packet, now, |content| match content {
            Content::Way { way, may_open, flags } => tables.flows.pass(&way, may_open, flags, self, now),
            Content::Error(quoted) => tables.flows.quoted(&quoted, self, now),
            Content::Single => false,
        })
    }

    /// Whether `packet`, addressed to a group, passes from `from` to `to`: by a rule only, for a group has no replies.
    pub(super) fn admit_group(
        &self,
        tables: &Tables,
        from: PortId,
        to: PortId,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        self.pass(tables, from, to, packet, now, |content| match content {
            Content::Way { way, may_open, .. } => may_open && self.opens(from, to, way.service()),
            Content::Error(_) | Content::Single => false,
        })
    }

    /// What is common to both: neighbour discovery, rules for any packet, fragments. `ask` decides on the rest.
    fn pass(
        &self,
        tables: &Tables,
        from: PortId,
        to: PortId,
        packet: &Packet<'_>,
        now: Instant,
        ask: impl FnOnce(Content) -> bool,
    ) -> Result<(), DropReason> {
        if is_neighbour_discovery(packet) {
            return Err(DropReason::Icc);
        }
        if let Fragment::Later { id } = packet.fragment {
            let passes =
                self.opens(from, to, None) || tables.fragments.follows(from, to, packet, id, self.generation, now);
            return if passes { Ok(()) } else { Err(DropReason::Fragment) };
        }
        // Asked first, and whatever the rules say: it notes the flow, so that replies pass.
        let passes = ask(Content::of(packet, from, to)) || self.opens(from, to, None);
        if !passes {
            return Err(DropReason::Icc);
        }
        if let Fragment::First { id } = packet.fragment {
            tables.fragments.note(from, to, packet, id, self.generation, now);
        }
        Ok(())
    }

    fn has_rule(&self, from: PortId, to: PortId) -> bool {
        self.of(from).binary_search_by_key(&to, |rule| rule.to).is_ok()
    }

    /// What `from` may open; ascending.
    pub(super) fn of(&self, from: PortId) -> &[Rule] {
        self.rules.get(&from).map_or(&[], |rules| rules)
    }
}

fn insert<T: Copy + Ord>(map: &mut Map<PortId, Arc<[T]>>, at: PortId, one: T) {
    let before = map.get(&at).map_or(&[][..], |list| list);
    if let Err(nth) = before.binary_search(&one) {
        let list = [&before[..nth], &[one], &before[nth..]].concat();
        map.insert(at, list.into());
    }
}

fn retain<T: Copy>(map: &mut Map<PortId, Arc<[T]>>, at: PortId, keep: impl Fn(&T) -> bool) {
    let Some(before) = map.get(&at) else { return };
    let list: Arc<[T]> = before.iter().copied().filter(keep).collect();
    if list.is_empty() {
        map.remove(&at)
    } else {
        map.insert(at, list)
    };
}

fn is_leased(port: &PortSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => port.ipv4 == Some(v4),
        IpAddr::V6(v6) => port.ipv6 == Some(v6),
    }
}

/// Router and neighbour solicitations and advertisements, and redirects. RFC 4861 4.
fn is_neighbour_discovery(packet: &Packet<'_>) -> bool {
    matches!(packet.l4, Layer4::Icmp6 { kind: 133..=137, .. })
}

/// What a packet with an upper-layer header is to the flow table.
enum Content {
    /// A packet of a flow.
    Way {
        /// Its ends, in its direction.
        way: Way,
        /// The first packet of a flow may be like this.
        may_open: bool,
        /// If it is TCP.
        flags: Option<TcpFlags>,
    },
    /// An ICMP error about a packet that went this way.
    Error(Way),
    /// Of no flow.
    Single,
}

impl Content {
    #[inline(always)]
    fn of(packet: &Packet<'_>, from: PortId, to: PortId) -> Content {
        let way = |src, dst| Way {
            from: Side::new(from, packet.src, src),
            to: Side::new(to, packet.dst, dst),
            protocol: packet.protocol,
        };
        match packet.l4 {
            Layer4::Tcp { src_port, dst_port, flags, .. } => {
                Content::Way { way: way(src_port.into(), dst_port.into()), may_open: true, flags: Some(flags) }
            }
            Layer4::Udp { src_port, dst_port } => {
                Content::Way { way: way(src_port.into(), dst_port.into()), may_open: true, flags: None }
            }
            Layer4::Icmp4 { kind: 8, id, .. } | Layer4::Icmp6 { kind: 128, id, .. } => {
                Content::Way { way: way(Side::echo(id), 0), may_open: true, flags: None }
            }
            Layer4::Icmp4 { kind: 0, id, .. } | Layer4::Icmp6 { kind: 129, id, .. } => {
                Content::Way { way: way(0, Side::echo(id)), may_open: false, flags: None }
            }
            Layer4::Icmp4 { quote: Some(quote), .. } | Layer4::Icmp6 { quote: Some(quote), .. } => {
                // The quoted packet was sent by whom the error goes to, and to whom it comes from.
                if quote.src != packet.dst || quote.dst != packet.src {
                    return Content::Single;
                }
                let (src, dst) = match quote.protocol {
                    1 | 58 => (Side::echo(quote.src_port), 0),
                    _ => (quote.src_port.into(), quote.dst_port.into()),
                };
                Content::Error(Way {
                    from: Side::new(to, quote.src, src),
                    to: Side::new(from, quote.dst, dst),
                    protocol: quote.protocol,
                })
            }
            Layer4::Icmp4 { .. } | Layer4::Icmp6 { .. } => Content::Single,
            Layer4::Other => Content::Way { way: way(0, 0), may_open: true, flags: None },
        }
    }
}

#[cfg(test)]
mod tests;
