//! Counters of a port.
//!
//! Thread-safety: each counter has one writer, the worker that owns it, or control for what it announces, which loads and stores without a locked
//! instruction; anybody may read. Relaxed everywhere: a counter orders nothing but itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::forwarding::{Decision, DropReason, EgressDrop};

/// Adds to a counter of which the caller is the only writer.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Of the read side: written by the worker that owns it.
#[derive(Debug)]
pub struct RxCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
    unicast: AtomicU64,
    flooded: AtomicU64,
    answered: AtomicU64,
    local: AtomicU64,
    drops: [AtomicU64; DropReason::COUNT],
}

impl Default for RxCounters {
    fn default() -> Self {
        RxCounters {
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            unicast: AtomicU64::new(0),
            flooded: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            local: AtomicU64::new(0),
            drops: [const { AtomicU64::new(0) }; DropReason::COUNT],
        }
    }
}

impl RxCounters {
    /// A frame of `bytes` was read, and this became of it.
    pub(crate) fn count(&self, bytes: usize, decision: &Decision) {
        bump(&self.frames, 1);
        bump(&self.bytes, bytes as u64);
        bump(
            match decision {
                Decision::Unicast(_) => &self.unicast,
                Decision::Flood => &self.flooded,
                Decision::Answer => &self.answered,
                Decision::Local => &self.local,
                Decision::Drop(reason) => &self.drops[reason.index()],
            },
            1,
        );
    }

    pub(super) fn add_to(&self, counts: &mut PortCounts) {
        counts.rx_frames += read(&self.frames);
        counts.rx_bytes += read(&self.bytes);
        counts.unicast += read(&self.unicast);
        counts.flooded += read(&self.flooded);
        counts.answered += read(&self.answered);
        counts.local += read(&self.local);
        for (sum, counter) in counts.rx_drops.iter_mut().zip(&self.drops) {
            *sum += read(counter);
        }
    }
}

/// Of the write side, one set per worker and one of control. On cache lines of its own, or two workers that write one port would
/// slow each other.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct TxCounters {
    decided: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    drops: [AtomicU64; EgressDrop::COUNT],
}

impl Default for TxCounters {
    fn default() -> Self {
        TxCounters {
            decided: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            drops: [const { AtomicU64::new(0) }; EgressDrop::COUNT],
        }
    }
}

impl TxCounters {
    pub(super) fn count(&self, bytes: usize, outcome: Result<(), EgressDrop>) {
        bump(&self.decided, 1);
        match outcome {
            Ok(()) => {
                bump(&self.frames, 1);
                bump(&self.bytes, bytes as u64);
            }
            Err(reason) => bump(&self.drops[reason.index()], 1),
        }
    }

    pub(super) fn add_to(&self, counts: &mut PortCounts) {
        counts.tx_decided += read(&self.decided);
        counts.tx_frames += read(&self.frames);
        counts.tx_bytes += read(&self.bytes);
        for (sum, counter) in counts.tx_drops.iter_mut().zip(&self.drops) {
            *sum += read(counter);
        }
    }
}

/// A reading of both sides. Byte counts are of Ethernet frames, without offload headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCounts {
    /// Frames read.
    pub rx_frames: u64,
    /// Bytes read.
    pub rx_bytes: u64,
    /// Of the frames read: sent to one port.
    pub unicast: u64,
    /// Flooded.
    pub flooded: u64,
    /// Answered by the switch.
    pub answered: u64,
    /// Taken by a service at the gateway or by the uplink.
    pub local: u64,
    /// Dropped, by [`DropReason::index`].
    pub rx_drops: [u64; DropReason::COUNT],
    /// Copies decided for this port.
    pub tx_decided: u64,
    /// Written.
    pub tx_frames: u64,
    /// Bytes written.
    pub tx_bytes: u64,
    /// Not written, by [`EgressDrop::index`].
    pub tx_drops: [u64; EgressDrop::COUNT],
}

/// By hand: the standard library has it for arrays of up to 32.
impl Default for PortCounts {
    fn default() -> Self {
        PortCounts {
            rx_frames: 0,
            rx_bytes: 0,
            unicast: 0,
            flooded: 0,
            answered: 0,
            local: 0,
            rx_drops: [0; DropReason::COUNT],
            tx_decided: 0,
            tx_frames: 0,
            tx_bytes: 0,
            tx_drops: [0; EgressDrop::COUNT],
        }
    }
}

impl PortCounts {
    /// The first law of conservation: every frame read became exactly one thing.
    pub fn ingress_is_conserved(&self) -> bool {
        let drops = self.rx_drops.iter().sum::<u64>();
        self.rx_frames == self.unicast + self.flooded + self.answered + self.local + drops
    }

    /// The second: every copy decided was sent or dropped by reason.
    pub fn egress_is_conserved(&self) -> bool {
        self.tx_decided == self.tx_frames + self.tx_drops.iter().sum::<u64>()
    }
}

impl std::ops::AddAssign<&PortCounts> for PortCounts {
    fn add_assign(&mut self, other: &PortCounts) {
        self.rx_frames += other.rx_frames;
        self.rx_bytes += other.rx_bytes;
        self.unicast += other.unicast;
        self.flooded += other.flooded;
        self.answered += other.answered;
        self.local += other.local;
        self.tx_decided += other.tx_decided;
        self.tx_frames += other.tx_frames;
        self.tx_bytes += other.tx_bytes;
        self.rx_drops.iter_mut().zip(&other.rx_drops).for_each(|(sum, n)| *sum += n);
        self.tx_drops.iter_mut().zip(&other.tx_drops).for_each(|(sum, n)| *sum += n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarding::PortIndex;

    #[test]
    fn each_frame_is_counted_under_one_outcome() {
        let rx = RxCounters::default();
        for decision in
            [Decision::Unicast(PortIndex(1)), Decision::Flood, Decision::Answer, Decision::Drop(DropReason::Icc)]
        {
            rx.count(60, &decision);
        }
        let mut counts = PortCounts::default();
        rx.add_to(&mut counts);
        assert_eq!((counts.rx_frames, counts.rx_bytes), (4, 240));
        assert_eq!(counts.rx_drops[DropReason::Icc.index()], 1);
        assert!(counts.ingress_is_conserved());
    }

    #[test]
    fn a_copy_is_sent_or_dropped() {
        let tx = TxCounters::default();
        tx.count(60, Ok(()));
        tx.count(60, Err(EgressDrop::Down));
        let mut counts = PortCounts::default();
        tx.add_to(&mut counts);
        assert_eq!((counts.tx_decided, counts.tx_frames, counts.tx_bytes), (2, 1, 60));
        assert!(counts.egress_is_conserved());
    }
}
