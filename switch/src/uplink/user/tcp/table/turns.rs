//! The turn: timers, flows that have something to do, and acknowledgements that waited long enough.

use std::time::Duration;

use super::super::super::Cx;
use super::super::flow::{End, Flow, Stage};
use super::Tcp;
use crate::engine::Activity;
use crate::forwarding::Instant;

/// How long an acknowledgement of little waits for an answer that takes it along.
const PATIENCE: Duration = Duration::from_millis(1);

/// Payload of which an acknowledgement waits no longer than until the next turn: the sender is not asking, but sending.
const LITTLE: u32 = 2 * 1460;

/// How often idle flows are looked for.
const SWEEP: Duration = Duration::from_secs(30);

/// Idle time after which the container is asked whether it still knows of a flow; as Linux's keepalive.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// The same for a flow that one side has ended: a container forgets those it closed after 60 s (tcp_fin_timeout).
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(60);

/// How long it may take to answer. And how much longer a far end may take nothing of what a container left for it: then three
/// minutes together, after which the kernel too gives up a closed socket whose peer's window stays closed (tcp_orphan_retries).
const SILENCE: Duration = Duration::from_secs(120);

impl Tcp {
    /// What is due.
    pub(crate) fn turn(&mut self, cx: &mut Cx<'_>) -> Activity {
        while let Some((at, entry)) = self.timers.expired(cx.now) {
            self.expire(cx, at, entry);
        }
        if cx.now.since(self.swept) >= SWEEP {
            self.sweep(cx);
        }
        let mut activity = Activity::Idle;
        let mut list = std::mem::replace(&mut self.runnable, std::mem::take(&mut self.spare));
        for at in list.drain(..) {
            let Some(flow) = self.flows.get_mut(at) else { continue };
            flow.slot.is_queued = false;
            let mut moved = Activity::Idle;
            let outcome = self.with(cx, at, |flow, work| flow.run(work).map(|activity| moved = activity));
            activity = activity.max(moved);
            self.conclude(cx, at, outcome);
        }
        self.spare = list;
        let owed = self.acknowledge(cx);
        self.turn += 1;
        activity.max(owed)
    }

    /// When the next timer is due, at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let sweep = (!self.index.is_empty()).then(|| self.swept + SWEEP);
        [self.timers.next(), self.patience, sweep].into_iter().flatten().min()
    }

    /// Acknowledgements that waited long enough.
    fn acknowledge(&mut self, cx: &mut Cx<'_>) -> Activity {
        let mut activity = Activity::Idle;
        let mut list = std::mem::replace(&mut self.owing, std::mem::take(&mut self.spare));
        self.patience = None;
        for at in list.drain(..) {
            let Some(flow) = self.flows.get_mut(at) else { continue };
            flow.slot.is_owing = false;
            if !flow.slot.owes {
                continue;
            }
            let due = flow.slot.fed_at + PATIENCE;
            let is_asking = flow.unacked() <= LITTLE && cx.now < due;
            if flow.slot.fed == self.turn || is_asking {
                flow.slot.is_owing = true;
                self.owing.push(at);
                self.patience = self.patience.into_iter().chain([due]).min();
                continue;
            }
            activity = Activity::Bulk;
            let outcome = self.with(cx, at, |flow, work| {
                flow.acknowledge(work);
                Ok(())
            });
            self.conclude(cx, at, outcome);
        }
        self.spare = list;
        activity
    }

    fn expire(&mut self, cx: &mut Cx<'_>, at: usize, entry: Instant) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        if flow.slot.scheduled != Some(entry) {
            return;
        }
        flow.slot.scheduled = None;
        let is_due = flow.due().is_some_and(|due| due <= cx.now);
        let outcome = if is_due { self.with(cx, at, Flow::expire) } else { Ok(()) };
        self.conclude(cx, at, outcome);
    }

    /// Asks containers whether they still know of flows that are idle, and ends those of which they do not say so. Who has left is
    /// not asked.
    fn sweep(&mut self, cx: &mut Cx<'_>) {
        self.swept = cx.now;
        for at in self.flows.indices() {
            let Some(flow) = self.flows.get_mut(at).filter(|flow| flow.stage == Stage::Open) else { continue };
            let idle = cx.now.since(flow.active);
            let most = if flow.is_half_closed() { HALF_CLOSED_IDLE } else { IDLE };
            if idle <= most {
                continue;
            }
            let outcome = self.with(cx, at, |flow, work| {
                let is_over = idle > most + SILENCE;
                if flow.is_left() {
                    return if is_over { Err(End::Abandoned) } else { Ok(()) };
                }
                flow.probe(work);
                if is_over { flow.leave(End::Reset) } else { Ok(()) }
            });
            self.conclude(cx, at, outcome);
        }
    }
}
