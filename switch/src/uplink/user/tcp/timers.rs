//! When flows want to be looked at. An entry that is no longer the flow's own is left to come out in its time: a flow that is
//! busy moves its timeout with every acknowledgement, and must not pay for it. So a flow has an entry at its next
//! timeout or earlier, an idle one has none, and there are hardly more entries than flows with something in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::forwarding::Instant;

#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    /// Has `flow` looked at when `due`, if that is earlier than `scheduled`, its entry so far; its entry then.
    pub(super) fn schedule(&mut self, flow: usize, due: Instant, scheduled: Option<Instant>) -> Instant {
        match scheduled {
            Some(at) if at <= due => at,
            _ => {
                self.entries.push(Reverse((due, flow)));
                due
            }
        }
    }

    /// The next flow whose entry is due, and its time.
    pub(super) fn expired(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let Reverse((at, flow)) = *self.entries.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.entries.pop();
        Some((flow, at))
    }

    /// When the next entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_timeout_costs_no_entry() {
        let mut timers = Timers::default();
        let first = timers.schedule(7, Instant(100), None);
        assert_eq!(timers.schedule(7, Instant(200), Some(first)), first);
        assert_eq!(timers.expired(Instant(99)), None);
        assert_eq!(timers.expired(Instant(100)), Some((7, Instant(100))));
        assert_eq!((timers.expired(Instant(500)), timers.next()), (None, None));
    }

    #[test]
    fn an_earlier_timeout_comes_first() {
        let mut timers = Timers::default();
        let late = timers.schedule(1, Instant(100), None);
        assert_eq!(timers.schedule(1, Instant(50), Some(late)), Instant(50));
        assert_eq!(timers.next(), Some(Instant(50)));
    }
}
