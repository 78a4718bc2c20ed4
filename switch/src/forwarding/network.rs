//! One broadcast domain as control last published it, and the way of a frame through it.
//!
//! The way: size, [guard](super::guard), learning, [neighbour answers](super::neighbour), then by destination. The gateway's
//! MAC: [the gateway itself](super::to_gateway), which is no way to another container. A group: everyone whom policy
//! permits. An assigned or learned MAC: that port, if policy permits. Any other: the ports behind which there may be MACs
//! that nobody assigned, or nobody. A flood is charged copies x bytes to its sender before it goes out.
//!
//! Thread-safety: a [`Network`] is immutable and shared by all workers; what changes is in [`Tables`], each of which
//! says how it is shared.

use std::sync::Arc;

use super::holders::{Holder, Holders};
use super::leases::Leases;
use super::policy::Policy;
use super::ports::Ports;
use super::{
    Decision, DropReason, Instant, Limiter, NetworkSettings, NetworkSpec, PortId, PortIndex, PortSpec, Ranges, Rule,
    Scratch, Tables, Uplink,
};
use crate::frame::{Frame, Gso, Mac, Offload, Payload};

/// A published network. What control changes is a copy, which shares with its original all but the way to what was changed:
/// a port comes and goes at the same cost however many there are.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) settings: NetworkSettings,
    pub(super) ports: Ports,
    pub(super) tables: Arc<Tables>,
    /// The assigned MACs, the gateway's among them.
    pub(super) macs: Holders<u64>,
    pub(super) leases: Leases,
    pub(super) policy: Policy,
    /// The subnets of all our networks: the host's routing must not lead from one to another.
    pub(super) ours: Arc<Ranges>,
    /// The host's port, where there is one.
    pub(super) host: Option<PortIndex>,
    /// The ports behind which there may be MACs that nobody assigned; ascending. Made anew when such a one comes or goes: each
    /// of them costs every unknown frame a copy.
    opaque: Arc<[PortIndex]>,
}

impl Network {
    /// Makes the look-up structures of `spec`, and the room in `tables` that it needs.
    ///
    /// # Panics
    /// As [`Network::attach`] does.
    pub fn new(spec: NetworkSpec, tables: Arc<Tables>) -> Self {
        let NetworkSpec { settings, rules, ports } = spec;
        let mut macs = Holders::default();
        macs.give(settings.gateway_mac.to_u64(), Holder::Gateway);
        let mut network = Network {
            ports: Ports::default(),
            macs,
            leases: Leases::new(&settings),
            policy: Policy::new(settings.icc, settings.policy_generation, Vec::new()),
            host: None,
            ours: Arc::default(),
            opaque: Arc::default(),
            settings,
            tables,
        };
        for port in ports {
            network.attach(port);
        }
        let (icc, generation) = (network.settings.icc, network.settings.policy_generation);
        network.change_policy(icc, generation, rules);
        network
    }

    /// Stands beside networks with these subnets, its own among them: nothing leaves for those by the host's routing.
    pub fn stand_beside(&mut self, ours: Arc<Ranges>) {
        self.ours = ours;
    }

    /// Adds a port, or changes the one with its id, which keeps its place and its rules.
    ///
    /// # Panics
    /// When its MAC is assigned already: control has checked that.
    pub fn attach(&mut self, port: PortSpec) -> PortIndex {
        if let Some(at) = self.index_of(port.id) {
            self.unlist(at, &self.ports.at(at).clone());
        }
        let is_host = self.is_host_port(&port);
        let at = self.ports.insert(port);
        let port = self.ports.at(at);
        if is_host {
            // It has the gateway's MAC, which stays the gateway's.
            self.host = Some(at);
        } else {
            assert!(self.macs.give(port.mac.to_u64(), Holder::Port(at)), "a MAC is assigned once in a network");
        }
        self.leases.give(port, Holder::Port(at));
        if !port.published.is_empty() && self.settings.uplink != Uplink::User {
            self.tables.fragments.prepare();
        }
        if port.is_opaque() {
            self.tables.fdb.prepare();
            let nth = self.opaque.partition_point(|other| *other < at);
            self.opaque = [&self.opaque[..nth], &[at], &self.opaque[nth..]].concat().into();
        }
        at
    }

    /// Takes a port out, with the rules that name it; its place, which the next one that comes may have.
    pub fn detach(&mut self, id: PortId) -> Option<PortIndex> {
        let (at, port) = self.ports.remove(id)?;
        self.unlist(at, &port);
        self.policy.forget(id);
        Some(at)
    }

    /// Takes from the port at `at` what it holds.
    fn unlist(&mut self, at: PortIndex, port: &PortSpec) {
        self.macs.take(port.mac.to_u64(), Holder::Port(at));
        self.leases.take(port, Holder::Port(at));
        self.host = self.host.filter(|host| *host != at);
        if port.is_opaque() {
            self.opaque = self.opaque.iter().copied().filter(|other| *other != at).collect();
        }
    }

    /// Opens what `rule` says while icc is false, between ports that are there.
    pub fn allow(&mut self, rule: Rule) {
        self.policy.allow(rule);
        self.prepare_policy();
    }

    /// Goes by another policy: what [`NetworkSettings`] says of the first two, and rules between ports that are there.
    pub fn change_policy(&mut self, icc: bool, generation: u64, rules: Vec<Rule>) {
        let any = !rules.is_empty();
        (self.settings.icc, self.settings.policy_generation) = (icc, generation);
        self.policy = Policy::new(icc, generation, rules);
        if any {
            self.prepare_policy();
        }
    }

    fn prepare_policy(&self) {
        if !self.settings.icc {
            self.tables.flows.prepare();
            self.tables.fragments.prepare();
        }
    }

    /// What is common to all of it.
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// What traffic taught it.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The port at `at`.
    pub fn port(&self, at: PortIndex) -> Option<&PortSpec> {
        self.ports.get(at)
    }

    /// All ports, by place.
    pub fn ports(&self) -> impl Iterator<Item = (PortIndex, &PortSpec)> {
        self.ports.iter()
    }

    /// All rules, by the place of who opens.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.ports.iter().flat_map(|(_, port)| self.policy.of(port.id))
    }

    /// How many ports there are.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// Whether MACs are learned behind some port.
    pub fn learns(&self) -> bool {
        !self.opaque.is_empty()
    }

    /// The place of `id`: the same in each publication in which it is.
    pub fn index_of(&self, id: PortId) -> Option<PortIndex> {
        self.ports.index_of(id)
    }

    /// Decides what becomes of `frame`, read from `from` with the checked `offload`. `limiter` is that port's own.
    pub fn ingress(
        &self,
        from: PortIndex,
        limiter: &mut Limiter,
        frame: &Frame<'_>,
        offload: &Offload,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Decision {
        let Some(port) = self.ports.get(from) else { return Decision::Drop(DropReason::Detached) };
        let arrival = Arrival { from, port, frame, offload, now };
        self.decide(&arrival, limiter, scratch).unwrap_or_else(Decision::Drop)
    }

    fn decide(
        &self,
        arrival: &Arrival<'_>,
        limiter: &mut Limiter,
        scratch: &mut Scratch,
    ) -> Result<Decision, DropReason> {
        let Arrival { from, port, frame, offload, now } = *arrival;
        self.check_size(frame, offload)?;
        let message = self.guard(port, frame)?;
        if port.is_opaque() {
            self.learn(port, frame.src, now);
        }
        let answer = match (&frame.payload, &message) {
            (Payload::Arp(arp), _) => self.answer_arp(from, arp, scratch),
            (_, Some(message)) => self.answer_neighbour(from, frame, message, scratch),
            _ => None,
        };
        if let Some(decision) = answer {
            return Ok(decision);
        }
        if frame.dst.is_group() {
            return self.group(arrival, limiter, scratch);
        }
        match self.macs.lookup(frame.dst.to_u64()) {
            Some(Holder::Port(to)) => self.unicast(arrival, to),
            Some(Holder::Gateway) => self.to_gateway(port, frame, now, scratch),
            None => match self.learned(frame.dst, now) {
                Some(to) => self.unicast(arrival, to),
                None => self.unknown(arrival, limiter, scratch),
            },
        }
    }

    /// A packet that the sender's kernel shall cut is checked by [`Offload::check`] instead. What follows the packet in its
    /// frame is padding; it must not smuggle more than the network carries.
    #[inline]
    fn check_size(&self, frame: &Frame<'_>, offload: &Offload) -> Result<(), DropReason> {
        if offload.gso != Gso::None {
            return Ok(());
        }
        let mtu = self.settings.mtu as usize;
        let fits = match &frame.payload {
            Payload::Ip(packet) => packet.end - packet.l3_offset <= mtu,
            Payload::Arp(_) | Payload::Vlan | Payload::Other => true,
        };
        if fits && frame.bytes().len() <= mtu + FRAME_OVERHEAD { Ok(()) } else { Err(DropReason::TooBig) }
    }

    /// Notes an address that nobody assigned; zero is no station's (it marks an unknown one in ARP).
    fn learn(&self, port: &PortSpec, mac: Mac, now: Instant) {
        if mac.to_u64() != 0 && self.macs.lookup(mac.to_u64()).is_none() {
            self.tables.fdb.learn(mac, port.id, now);
        }
    }

    /// The port behind which `mac` was seen, if it still learns.
    fn learned(&self, mac: Mac, now: Instant) -> Option<PortIndex> {
        if self.opaque.is_empty() {
            return None;
        }
        let at = self.index_of(self.tables.fdb.lookup(mac, now)?)?;
        self.ports.at(at).is_opaque().then_some(at)
    }

    #[inline]
    fn unicast(&self, arrival: &Arrival<'_>, to: PortIndex) -> Result<Decision, DropReason> {
        if to == arrival.from {
            return Err(DropReason::SamePort);
        }
        if !self.policy.is_open() && self.host != Some(arrival.from) {
            let Payload::Ip(packet) = &arrival.frame.payload else { return Err(DropReason::Icc) };
            self.policy.admit(&self.tables, arrival.port, self.ports.at(to), packet, arrival.now)?;
        }
        Ok(Decision::Unicast(to))
    }

    /// To everyone who may have it, except for what only routers listen to.
    fn group(
        &self,
        arrival: &Arrival<'_>,
        limiter: &mut Limiter,
        scratch: &mut Scratch,
    ) -> Result<Decision, DropReason> {
        if self.is_for_gateway_only(arrival.frame) {
            return Err(DropReason::NoService);
        }
        if self.ports.len() == 1 {
            return Err(DropReason::NoListener);
        }
        scratch.recipients.clear();
        if self.policy.is_open() || self.host == Some(arrival.from) {
            self.check_budget(arrival, limiter)?;
            scratch.recipients.extend(self.ports.iter().map(|(at, _)| at).filter(|&to| to != arrival.from));
        } else {
            let permitted = self.permitted(arrival, scratch);
            self.add_host(arrival.from, scratch);
            if scratch.recipients.is_empty() {
                permitted?;
            }
        }
        self.flood(arrival, limiter, scratch)
    }

    /// Those towards whom a rule lets this group packet pass.
    fn permitted(&self, arrival: &Arrival<'_>, scratch: &mut Scratch) -> Result<(), DropReason> {
        let Payload::Ip(packet) = &arrival.frame.payload else { return Err(DropReason::Icc) };
        let from = arrival.port.id;
        let mut denied = DropReason::Icc;
        for id in self.policy.targets(from) {
            let Some(to) = self.index_of(id).filter(|&to| to != arrival.from) else { continue };
            match self.policy.admit_group(&self.tables, from, id, packet, arrival.now) {
                Ok(()) => scratch.recipients.push(to),
                Err(reason) => denied = reason,
            }
        }
        if scratch.recipients.is_empty() { Err(denied) } else { Ok(()) }
    }

    /// A MAC that nobody has: it can only be behind a port where nobody knows the MACs.
    fn unknown(
        &self,
        arrival: &Arrival<'_>,
        limiter: &mut Limiter,
        scratch: &mut Scratch,
    ) -> Result<Decision, DropReason> {
        scratch.recipients.clear();
        let mut denied = DropReason::UnknownUnicast;
        let mut others = self.opaque.iter().copied().filter(|&to| to != arrival.from).peekable();
        if self.policy.is_open() || self.host == Some(arrival.from) {
            others.peek().ok_or(denied)?;
            self.check_budget(arrival, limiter)?;
            scratch.recipients.extend(others);
        } else {
            for to in others {
                match self.unicast(arrival, to) {
                    Ok(_) => scratch.recipients.push(to),
                    Err(reason) => denied = reason,
                }
            }
        }
        if scratch.recipients.is_empty() {
            return Err(denied);
        }
        self.flood(arrival, limiter, scratch)
    }

    /// Whether the sender may flood at all. Asked before the ports are gone through, so that a flood beyond the budget costs
    /// little.
    fn check_budget(&self, arrival: &Arrival<'_>, limiter: &mut Limiter) -> Result<(), DropReason> {
        if limiter.has_any(self.settings.flood_rate, arrival.now) { Ok(()) } else { Err(DropReason::FloodLimit) }
    }

    /// Charges the copies to the sender, and floods if they are paid.
    fn flood(
        &self,
        arrival: &Arrival<'_>,
        limiter: &mut Limiter,
        scratch: &mut Scratch,
    ) -> Result<Decision, DropReason> {
        let bytes = (scratch.recipients.len() as u64).saturating_mul(arrival.bytes());
        if limiter.take(bytes, self.settings.flood_rate, arrival.now) {
            Ok(Decision::Flood)
        } else {
            Err(DropReason::FloodLimit)
        }
    }
}

/// The Ethernet header, and a tag that the kernel may have left in the frame.
const FRAME_OVERHEAD: usize = 14 + 4;

/// A frame, and where and when it came in.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    from: PortIndex,
    port: &'a PortSpec,
    frame: &'a Frame<'a>,
    offload: &'a Offload,
    now: Instant,
}

impl Arrival<'_> {
    /// What a copy costs.
    fn bytes(&self) -> u64 {
        self.offload.bytes(self.frame.bytes().len())
    }
}

#[cfg(test)]
mod tests;
