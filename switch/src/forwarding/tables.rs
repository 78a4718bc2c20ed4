//! What traffic teaches a network, and what outlives every publication of it.

use super::claims::Claims;
use super::flows::Flows;
use super::fragments::Fragments;
use super::{Fdb, FdbLimits, PortId};

/// The tables that all workers share. Thread-safety: each is its own; see there.
#[derive(Debug)]
pub struct Tables {
    /// Learned MACs.
    pub fdb: Fdb,
    /// Flows that a rule opened.
    pub(super) flows: Flows,
    /// First fragments that a rule let pass, or that published ports sent back.
    pub(super) fragments: Fragments,
    /// Link-local addresses claimed first-come.
    pub(super) claims: Claims,
}

impl Tables {
    /// Empty tables.
    pub fn new(limits: FdbLimits) -> Self {
        Tables { fdb: Fdb::new(limits), flows: Flows::new(), fragments: Fragments::new(), claims: Claims::new() }
    }

    /// Forgets what `port` taught and claimed; called by control when the port is gone. Its flows and fragments go unused
    /// and expire, for a [`PortId`] is never given again.
    pub fn forget_port(&self, port: PortId) {
        self.fdb.forget_port(port);
        self.claims.forget_port(port);
    }
}
