//! Flows that a rule opened, so that their replies pass.

/// The flow table.
#[derive(Debug)]
pub(super) struct Flows;

impl Flows {
    pub(super) fn new() -> Self {
        Flows
    }
}
