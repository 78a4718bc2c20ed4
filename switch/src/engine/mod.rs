//! Workers: wait, read a burst, decide, write in the same thread.

use std::io;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::forwarding::{Instant, Network, PortId};
use crate::port::{RxPort, TxPort};

/// How an engine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Forwarding threads; at least 1.
    pub workers: usize,
    /// How they read and write.
    pub io: IoChoice,
}

/// How workers read and write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring where the kernel grants it, else plain.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// `read` and `write`.
    Plain,
}

/// What workers tell control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// The port's device is gone: its namespace died, or somebody deleted it. Told once; control then detaches it.
    Gone(PortId),
}

/// A network and the write sides of its ports, in the order of its [`crate::forwarding::PortIndex`].
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The decisions.
    pub network: Arc<Network>,
    /// The write sides.
    pub tx: Vec<Arc<TxPort>>,
}

/// All that workers forward by: immutable, swapped between bursts.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every network.
    pub networks: Vec<NetworkView>,
}

/// The workers, as control sees them. All methods are called by control's one thread. Dropping it ends and joins them.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Starts the workers; `events` is told what happens to ports.
    ///
    /// # Errors
    /// When a thread, or a ring that was asked for, cannot be made.
    pub fn start(config: EngineConfig, forward: Snapshot, events: Sender<EngineEvent>) -> io::Result<Engine> {
        let _ = (config, events, forward);
        unimplemented!()
    }

    /// Swaps in `snapshot` and returns when every worker goes by it: nothing is forwarded by the old one any more.
    pub fn publish(&mut self, snapshot: Snapshot) {
        let _ = snapshot;
        unimplemented!()
    }

    /// Gives a read side to a worker. Its port is in the published snapshot already, else its frames are dropped as `detached`.
    pub fn attach(&mut self, port: RxPort) {
        let _ = port;
        unimplemented!()
    }

    /// The engine's clock, as the workers read it.
    pub fn now(&self) -> Instant {
        unimplemented!()
    }

    /// `io_uring` or `read/write`.
    pub fn io_name(&self) -> &'static str {
        unimplemented!()
    }
}
