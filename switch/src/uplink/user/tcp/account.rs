//! What one container's flows take together, and how much each may: only the container that is at its limit is refused.

use std::time::Duration;

use crate::forwarding::Instant;

/// Flows of one container. A busy crawler or proxy has some thousands; each costs a descriptor of the switch, of which a
/// service usually has 524,288.
pub(super) const MAX_FLOWS: usize = 8192;

/// Bytes kept for one container: what sockets did not take, what came out of order, and what cannot be left in its socket. Enough for
/// 64 flows whose far ends do not read at all; flows that go keep nearly nothing.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// The largest window that a flow of a container is given. More gained nothing.
const MAX_WINDOW: u32 = 1 << 20;

/// The smallest: one frame.
const MIN_WINDOW: u32 = 64 * 1024;

/// Frames that the flows of a container may have on their way to us together: half of its device's queue, which drops what
/// does not fit (`tx_queue_len`, 1,000 for a TAP).
const QUEUE_FRAMES: u32 = 500;

/// How long a flow counts as busy.
const EPOCH: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Account {
    flows: usize,
    bytes: usize,
    epoch: u32,
    began: Instant,
    /// Flows that sent payload in this epoch, and in the one before.
    busy: u32,
    busy_before: u32,
}

/// By which a flow knows whether it was counted already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch(u32);

impl Account {
    /// One flow more; false: it is refused.
    pub(super) fn add_flow(&mut self) -> bool {
        let has_room = self.flows < MAX_FLOWS;
        self.flows += usize::from(has_room);
        has_room
    }

    /// One flow less, and what was kept for it.
    pub(super) fn remove_flow(&mut self, held: usize) {
        self.flows -= 1;
        self.bytes -= held;
    }

    pub(super) fn is_unused(&self) -> bool {
        self.flows == 0
    }

    /// How many bytes a flow that keeps `held` may keep.
    pub(super) fn room(&self, held: usize) -> usize {
        held + MAX_BYTES.saturating_sub(self.bytes)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A flow keeps `after` bytes where it kept `before`.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes - before + after;
    }

    /// A flow sent payload.
    pub(super) fn count_busy(&mut self, seen: &mut Epoch, now: Instant) {
        if now.since(self.began) > EPOCH {
            let is_next = now.since(self.began) < 2 * EPOCH;
            self.busy_before = if is_next { self.busy } else { 0 };
            (self.epoch, self.began, self.busy) = (self.epoch.wrapping_add(1), now, 0);
        }
        if seen.0 != self.epoch {
            seen.0 = self.epoch;
            self.busy += 1;
        }
    }

    /// The window of a flow whose frames carry `mean` bytes.
    pub(super) fn window(&self, mean: u32) -> u32 {
        let flows = self.busy.max(self.busy_before).max(1);
        let share = u64::from(QUEUE_FRAMES / flows) * u64::from(mean);
        u32::try_from(share).unwrap_or(MAX_WINDOW).clamp(MIN_WINDOW, MAX_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_flows_with_small_frames_share_the_queue() {
        let (mut account, now) = (Account::default(), Instant(1_000_000_000));
        let mut seen = [Epoch::default(); 8];
        assert_eq!(account.window(65_000), MAX_WINDOW);
        account.count_busy(&mut seen[0], now);
        assert_eq!(account.window(1448), 500 * 1448);
        seen.iter_mut().for_each(|flow| account.count_busy(flow, now));
        seen.iter_mut().for_each(|flow| account.count_busy(flow, now));
        assert_eq!(account.window(1448), 62 * 1448);
        assert_eq!(account.window(65_000), MAX_WINDOW);
        let later = now + Duration::from_millis(200);
        account.count_busy(&mut seen[0], later);
        assert_eq!(account.window(1448), 500 * 1448);
    }

    #[test]
    fn a_container_at_its_limit_is_refused() {
        let mut account = Account::default();
        assert!((0..MAX_FLOWS).all(|_| account.add_flow()));
        assert!(!account.add_flow());
        account.remove_flow(0);
        assert!(account.add_flow());
        account.change(0, MAX_BYTES - 10);
        assert_eq!((account.room(0), account.room(100)), (10, 110));
    }
}
