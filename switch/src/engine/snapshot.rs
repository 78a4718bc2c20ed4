//! All that workers forward by: immutable, swapped between bursts.

use std::sync::Arc;

use super::{Forward, Local, Nobody, Place, Verdict};
use crate::forwarding::{Decision, DropReason, Instant, Limiter, Network, PortId, PortIndex, Rate, Scratch};
use crate::frame::offload::HEADER_LEN;
use crate::frame::{Frame, Offload, OffloadHeader};
use crate::port::TxPort;

/// A network and the write sides of its ports.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The decisions.
    pub network: Arc<Network>,
    /// The write sides, in the order of the network's [`PortIndex`].
    pub tx: Vec<Arc<TxPort>>,
}

/// Every network, and what those who serve at the gateway and the uplinks go by.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<P = ()> {
    networks: Vec<NetworkView>,
    /// Where each port stands, sorted by id.
    places: Vec<(PortId, Place)>,
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

impl<P> Snapshot<P> {
    /// Of these networks.
    ///
    /// # Panics
    /// When a view's write sides are not those of its network's ports, in order.
    pub fn new(networks: Vec<NetworkView>, plan: P) -> Self {
        let mut places = Vec::new();
        for (network, view) in (0u32..).zip(&networks) {
            let ports = &view.network.spec().ports;
            assert!(ports.iter().map(|p| p.id).eq(view.tx.iter().map(|t| t.id())), "one write side per port, in order");
            places.extend((0u32..).zip(ports).map(|(at, port)| (port.id, Place { network, port: PortIndex(at) })));
        }
        places.sort_unstable_by_key(|(id, _)| *id);
        Snapshot { networks, places, plan }
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

    fn place_of(&self, port: PortId) -> Option<Place> {
        let at = self.places.binary_search_by_key(&port, |(id, _)| *id).ok()?;
        Some(self.places[at].1)
    }

    fn flood_rate(&self, network: u32) -> Rate {
        self.networks[network as usize].network.spec().flood_rate
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
        let Ok(offload) = Offload::check(OffloadHeader::read(header), &frame, network.spec().mtu) else {
            return drop(DropReason::BadOffload);
        };
        let decision = network.ingress(from.port, limiter, &frame, &offload, now, scratch);
        offload.write(header);
        Verdict { decision, offload }
    }

    fn egress(&self) -> impl Iterator<Item = &[Arc<TxPort>]> {
        self.networks.iter().map(|view| view.tx.as_slice())
    }

    fn tx(&self, network: u32, port: PortIndex) -> &TxPort {
        &self.networks[network as usize].tx[port.get()]
    }
}
