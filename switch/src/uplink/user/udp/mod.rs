//! UDP flows.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Registry;

use super::{Cx, Home, Incoming};
use crate::engine::{Activity, Ready};
use crate::forwarding::{DropReason, Instant, PortId};
use crate::uplink::Publication;

/// One worker's flows.
#[derive(Debug, Default)]
pub(crate) struct Udp {}

/// The flows of one port, on their way to another worker.
#[derive(Debug, Default)]
pub(crate) struct Baggage {}

impl Udp {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What is published has changed; `cx.homes` is renewed.
    pub(crate) fn adopt(&mut self, _cx: &mut Cx<'_>) {}

    /// The flows of a port that is served here from now on.
    pub(crate) fn unpack(&mut self, _cx: &mut Cx<'_>, _baggage: Baggage) {}

    /// Takes out the flows of a port that is not served here any more.
    pub(crate) fn pack(&mut self, _registry: &Registry, _port: PortId) -> Baggage {
        Baggage::default()
    }

    /// A packet of a container.
    pub(crate) fn deliver(&mut self, _cx: &mut Cx<'_>, _incoming: &Incoming<'_>) -> Result<(), DropReason> {
        Err(DropReason::NoService)
    }

    /// A client of a published port wrote from `client`, which the container at `near` sees as `far`.
    pub(crate) fn client(
        &mut self,
        _cx: &mut Cx<'_>,
        _home: &Home,
        _publication: &Arc<Publication>,
        _near: SocketAddr,
        _far: SocketAddr,
        _client: SocketAddr,
    ) -> Result<(), DropReason> {
        Ok(())
    }

    /// A flow's socket became ready.
    pub(crate) fn event(&mut self, _index: usize, _ready: Ready) {}

    /// What is due.
    pub(crate) fn turn(&mut self, _cx: &mut Cx<'_>) -> Activity {
        Activity::Idle
    }

    /// When the next timer is due, at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        None
    }
}
