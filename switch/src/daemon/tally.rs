//! Counters of ports, summed and named.

use std::collections::BTreeMap;

use super::api::types::PortStats;
use crate::forwarding::{DropReason, EgressDrop};
use crate::port::PortCounts;

/// `counts` as `stats` shows them: reasons by name, zeros left out.
pub(crate) fn stats(counts: &PortCounts) -> PortStats {
    PortStats {
        rx_frames: counts.rx_frames,
        rx_bytes: counts.rx_bytes,
        unicast: counts.unicast,
        flooded: counts.flooded,
        answered: counts.answered,
        local: counts.local,
        rx_drops: named(DropReason::ALL.iter().map(|r| (r.name(), counts.rx_drops[r.index()]))),
        tx_decided: counts.tx_decided,
        tx_frames: counts.tx_frames,
        tx_bytes: counts.tx_bytes,
        tx_drops: named(EgressDrop::ALL.iter().map(|r| (r.name(), counts.tx_drops[r.index()]))),
    }
}

/// Adds `more` to `sum`.
pub(crate) fn add(sum: &mut PortStats, more: &PortStats) {
    for (to, from) in [
        (&mut sum.rx_frames, more.rx_frames),
        (&mut sum.rx_bytes, more.rx_bytes),
        (&mut sum.unicast, more.unicast),
        (&mut sum.flooded, more.flooded),
        (&mut sum.answered, more.answered),
        (&mut sum.local, more.local),
        (&mut sum.tx_decided, more.tx_decided),
        (&mut sum.tx_frames, more.tx_frames),
        (&mut sum.tx_bytes, more.tx_bytes),
    ] {
        *to += from;
    }
    for (to, from) in [(&mut sum.rx_drops, &more.rx_drops), (&mut sum.tx_drops, &more.tx_drops)] {
        for (reason, count) in from {
            *to.entry(reason.clone()).or_default() += count;
        }
    }
}

fn named(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_both_laws_of_conservation() {
        let mut counts =
            PortCounts { rx_frames: 5, unicast: 2, answered: 1, tx_decided: 4, tx_frames: 3, ..PortCounts::default() };
        counts.rx_drops[DropReason::Icc.index()] = 2;
        counts.tx_drops[EgressDrop::Down.index()] = 1;
        let mut sum = PortStats::default();
        for _ in 0..3 {
            add(&mut sum, &stats(&counts));
        }
        assert_eq!(sum.rx_frames, sum.unicast + sum.flooded + sum.answered + sum.rx_drops.values().sum::<u64>());
        assert_eq!(sum.tx_decided, sum.tx_frames + sum.tx_drops.values().sum::<u64>());
        assert_eq!(sum.rx_drops, BTreeMap::from([("icc".to_owned(), 6)]));
    }
}
