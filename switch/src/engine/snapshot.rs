//! All that workers forward by: immutable, swapped between bursts, and sharing with the one before what is the same.

use std::sync::Arc;

use super::{Forward, Local, Nobody, Place, Verdict};
use crate::forwarding::{
    Decision, DropReason, Instant, Limiter, Network, PortId, PortIndex, PortSpec, Ranges, Rate, Rule, Scratch,
};
use crate::frame::offload::HEADER_LEN;
use crate::frame::{Frame, Offload, OffloadHeader};
use crate::persistent::Vector;
use crate::port::TxPort;

/// A network and the write sides of its ports. A copy shares what is the same, so that a port comes and goes at the same cost
/// however many there are.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The decisions.
    network: Arc<Network>,
    /// The write sides, by the network's [`PortIndex`].
    tx: Vector<Option<Arc<TxPort>>>,
}

/// Every network, and what those who serve at the gateway and the uplinks go by.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<P = ()> {
    networks: Vec<NetworkView>,
    plan: P,
}

/// What a worker's [`Local`] goes by; the engine only carries it.
pub trait Plan: Send + Sync + 'static {
    /// Who goes by it.
    type Local: Local<Snapshot<Self>>
    where
        Self: Sized;
}

impl Plan for () {
    type Local = Nobody;
}

impl NetworkView {
    /// Of `network` and the write sides of its ports, in any order.
    ///
    /// # Panics
    /// When a port has none, or a write side is of no port.
    pub fn new(network: impl Into<Arc<Network>>, tx: impl IntoIterator<Item = Arc<TxPort>>) -> Self {
        let mut view = NetworkView { network: network.into(), tx: Vector::default() };
        let mut sides = 0;
        for tx in tx {
            let at = view.network.index_of(tx.id()).expect("a write side is of a port of the network");
            *view.tx.get_mut(at.get()) = Some(tx);
            sides += 1;
        }
        assert_eq!(sides, view.network.port_count(), "one write side per port");
        view
    }

    /// The decisions.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Adds a port, as [`Network::attach`] does.
    ///
    /// # Panics
    /// When `tx` is another port's, and as [`Network::attach`].
    pub fn attach(&mut self, port: PortSpec, tx: Arc<TxPort>) {
        assert_eq!(port.id, tx.id(), "the write side of the same port");
        let at = Arc::make_mut(&mut self.network).attach(port);
        *self.tx.get_mut(at.get()) = Some(tx);
    }

    /// Takes a port out, as [`Network::detach`] does; whether it was there.
    pub fn detach(&mut self, port: PortId) -> bool {
        let gone = self.network.index_of(port).is_some();
        if let Some(at) = gone.then(|| Arc::make_mut(&mut self.network).detach(port)).flatten() {
            *self.tx.get_mut(at.get()) = None;
        }
        gone
    }

    /// Opens what `rule` says, as [`Network::allow`] does.
    pub fn allow(&mut self, rule: Rule) {
        Arc::make_mut(&mut self.network).allow(rule);
    }

    /// Goes by another policy, as [`Network::change_policy`] says.
    pub fn change_policy(&mut self, icc: bool, generation: u64, rules: Vec<Rule>) {
        Arc::make_mut(&mut self.network).change_policy(icc, generation, rules);
    }

    /// Stands beside other networks, as [`Network::stand_beside`] says.
    pub fn stand_beside(&mut self, ours: Arc<Ranges>) {
        Arc::make_mut(&mut self.network).stand_beside(ours);
    }
}

impl<P> Snapshot<P> {
    /// Of these networks.
    pub fn new(networks: Vec<NetworkView>, plan: P) -> Self {
        Snapshot { networks, plan }
    }

    /// What the uplinks go by.
    pub fn plan(&self) -> &P {
        &self.plan
    }

    /// The network at a place.
    pub fn network(&self, place: Place) -> &Network {
        &self.networks[place.network as usize].network
    }
}

impl<P: Plan> Forward for Snapshot<P> {
    type Local = P::Local;

    /// Looks into one network after the other: asked when a port comes, goes or changes workers, not for a frame.
    fn place_of(&self, port: PortId) -> Option<Place> {
        (0u32..).zip(&self.networks).find_map(|(network, view)| {
            let port = view.network.index_of(port)?;
            Some(Place { network, port })
        })
    }

    fn flood_rate(&self, network: u32) -> Rate {
        self.networks[network as usize].network.settings().flood_rate
    }

    fn forward(
        &self,
        from: Place,
        limiter: &mut Limiter,
        buffer: &mut [u8],
        now: Instant,
        scratch: &mut Scratch,
    ) -> Verdict {
        let drop = |reason| Verdict { decision: Decision::Drop(reason), offload: Offload::NONE };
        let network = &self.networks[from.network as usize].network;
        let (header, bytes) = buffer.split_at_mut(HEADER_LEN);
        let Ok(frame) = Frame::parse(bytes) else {
            return drop(DropReason::Malformed);
        };
        let Ok(offload) = Offload::check(OffloadHeader::read(header), &frame, network.settings().mtu) else {
            return drop(DropReason::BadOffload);
        };
        let decision = network.ingress(from.port, limiter, &frame, &offload, now, scratch);
        offload.write(header);
        Verdict { decision, offload }
    }

    fn egress(&self) -> impl Iterator<Item = (Place, &Arc<TxPort>)> {
        (0u32..).zip(&self.networks).flat_map(|(network, view)| {
            let sides = (0u32..).zip(view.tx.iter());
            sides.filter_map(move |(at, tx)| Some((Place { network, port: PortIndex(at) }, tx.as_ref()?)))
        })
    }

    fn most_ports(&self) -> usize {
        self.networks.iter().map(|view| view.network.port_count()).max().unwrap_or(0)
    }

    fn tx(&self, network: u32, port: PortIndex) -> &TxPort {
        let tx = self.networks[network as usize].tx.get(port.get());
        tx.and_then(Option::as_deref).expect("a port that was decided on is there")
    }
}
