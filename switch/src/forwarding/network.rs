//! One broadcast domain as control last published it, and the way of a frame through it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Decision, Instant, Limiter, PortId, PortIndex, Rate, Rule, Scratch, Tables};
use crate::frame::{Frame, Mac, Offload};

/// What control publishes of a network; checked by control, trusted here.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// The switch's own MAC on this network.
    pub gateway_mac: Mac,
    /// The gateway's IPv4 address.
    pub gateway4: Ipv4Addr,
    /// The gateway's IPv6 address, where the network has IPv6. Its link-local one follows from `gateway_mac`.
    pub gateway6: Option<Ipv6Addr>,
    /// The IPv4 subnet.
    pub subnet4: ipnet::Ipv4Net,
    /// The IPv6 subnet.
    pub subnet6: Option<ipnet::Ipv6Net>,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether containers talk freely to each other.
    pub icc: bool,
    /// What is open while `icc` is false.
    pub rules: Vec<Rule>,
    /// Rises with every change of `icc` or `rules`; flows that an older one let pass are looked at again.
    pub policy_generation: u64,
    /// Each port's flood budget.
    pub flood_rate: Rate,
    /// The ports; their order gives the [`PortIndex`]. Sorted by id.
    pub ports: Vec<PortSpec>,
}

/// One port of a [`NetworkSpec`].
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Its id.
    pub id: PortId,
    /// The MAC assigned to it: static in the FDB.
    pub mac: Mac,
    /// Leased to it.
    pub ipv4: Option<Ipv4Addr>,
    /// Leased to it.
    pub ipv6: Option<Ipv6Addr>,
    /// The source guard is on. Off only for nested switches.
    pub guard: bool,
    /// MACs behind it are learned.
    pub learn: bool,
}

/// A published network.
#[derive(Debug)]
pub struct Network {
    spec: NetworkSpec,
    tables: Arc<Tables>,
}

impl Network {
    /// Makes the look-up structures of `spec`.
    ///
    /// # Panics
    /// When `spec.ports` is not sorted by id or assigns a MAC twice: control has checked both.
    pub fn new(spec: NetworkSpec, tables: Arc<Tables>) -> Self {
        Network { spec, tables }
    }

    /// What it was made of.
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// What traffic taught it.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The place of `id` in this publication.
    pub fn index_of(&self, id: PortId) -> Option<PortIndex> {
        let at = self.spec.ports.binary_search_by_key(&id, |p| p.id).ok()?;
        Some(PortIndex(u32::try_from(at).expect("fewer than 2^32 ports")))
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
        let _ = (from, limiter, frame, offload, now, scratch, Mac::BROADCAST);
        unimplemented!()
    }
}
