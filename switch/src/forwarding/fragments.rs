//! First fragments that a rule let pass, so that the later ones may follow.

/// The fragment table.
#[derive(Debug)]
pub(super) struct Fragments;

impl Fragments {
    pub(super) fn new() -> Self {
        Fragments
    }
}
