//! What traffic teaches a network, and what outlives every publication of it.

use super::claims::Claims;
use super::flows::Flows;
use super::fragments::Fragments;
use super::{Fdb, FdbLimits};

/// The tables that all workers share. Thread-safety: each is its own; see there.
#[derive(Debug)]
pub struct Tables {
    /// Learned MACs.
    pub fdb: Fdb,
    /// Flows that a rule opened.
    pub(super) flows: Flows,
    /// First fragments that a rule let pass.
    pub(super) fragments: Fragments,
    /// Link-local addresses claimed first-come.
    pub(super) claims: Claims,
}

impl Tables {
    /// Empty tables.
    pub fn new(limits: FdbLimits) -> Self {
        Tables { fdb: Fdb::new(limits), flows: Flows::new(), fragments: Fragments::new(), claims: Claims::new() }
    }
}
