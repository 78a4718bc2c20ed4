//! Flows by index: an index is a flow's token and its name in lists, and is used again after it.

use super::flow::Flow;

#[derive(Debug, Default)]
pub(super) struct Slab {
    flows: Vec<Option<Box<Flow>>>,
    free: Vec<usize>,
}

impl Slab {
    pub(super) fn insert(&mut self, flow: Box<Flow>) -> usize {
        let at = self.free.pop().unwrap_or(self.flows.len());
        if at == self.flows.len() {
            self.flows.push(None);
        }
        self.flows[at] = Some(flow);
        at
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Box<Flow>> {
        let flow = self.flows.get_mut(at)?.take()?;
        self.free.push(at);
        Some(flow)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Flow> {
        self.flows.get_mut(at)?.as_deref_mut()
    }

    /// The indices there are, taken or not.
    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.flows.len()
    }
}
