//! The host numbers that can be leased without asking for one: which are free, and which were released just now.
//!
//! Free ones are kept as spans, not one by one, so a /8 costs no more than a /24 and the lowest is found in O(log
//! n). A released one cools first: peers may still hold its old owner's MAC in their ARP caches, or send to it.
//! Cooling ones are given only when nothing is free, the one that has cooled longest first. Owned by
//! [`Leases`](crate::Leases).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Host numbers to lease. One that is neither free nor cooling is reserved or leased.
#[derive(Clone, Debug)]
pub(crate) struct Free {
    /// First to last of each span. They neither overlap nor touch.
    spans: BTreeMap<u32, u32>,
    /// When each cooling one was released. In no span.
    cooling: BTreeMap<u32, Duration>,
    /// The same, oldest first.
    by_age: BTreeSet<(Duration, u32)>,
    /// How long they cool.
    cools: Duration,
}

impl Free {
    /// All of these free.
    pub(crate) fn new(hosts: RangeInclusive<u32>, cools: Duration) -> Self {
        let spans = BTreeMap::from([hosts.into_inner()]);
        Free { spans, cooling: BTreeMap::new(), by_age: BTreeSet::new(), cools }
    }

    /// The one to lease next: the lowest free one, or else the one released longest ago. It stays where it is
    /// until taken.
    pub(crate) fn next(&mut self, now: Duration) -> Option<u32> {
        self.thaw(now);
        let lowest = self.spans.first_key_value().map(|(first, _)| *first);
        lowest.or_else(|| self.by_age.first().map(|(_, host)| *host))
    }

    /// The highest free one, or else the one released longest ago. It stays where it is until taken.
    pub(crate) fn last(&mut self, now: Duration) -> Option<u32> {
        self.thaw(now);
        let highest = self.spans.last_key_value().map(|(_, last)| *last);
        highest.or_else(|| self.by_age.first().map(|(_, host)| *host))
    }

    /// Takes it out, whether free, cooling or neither.
    pub(crate) fn take(&mut self, host: u32) {
        if let Some(released) = self.cooling.remove(&host) {
            self.by_age.remove(&(released, host));
            return;
        }
        let Some((&first, &last)) = self.spans.range(..=host).next_back().filter(|(_, last)| **last >= host) else {
            return;
        };
        self.spans.remove(&first);
        if first < host {
            self.spans.insert(first, host - 1);
        }
        if host < last {
            self.spans.insert(host + 1, last);
        }
    }

    /// Puts a taken one back, to cool from `now` on.
    pub(crate) fn cool(&mut self, host: u32, now: Duration) {
        self.cooling.insert(host, now);
        self.by_age.insert((now, host));
    }

    /// Frees what has cooled long enough.
    fn thaw(&mut self, now: Duration) {
        while let Some(&(released, host)) = self.by_age.first() {
            if now.saturating_sub(released) < self.cools {
                return;
            }
            self.by_age.pop_first();
            self.cooling.remove(&host);
            self.insert(host);
        }
    }

    /// Into the spans, joined with the ones it touches.
    fn insert(&mut self, host: u32) {
        let before =
            self.spans.range(..host).next_back().filter(|(_, last)| **last + 1 == host).map(|(first, _)| *first);
        let after = host.checked_add(1).and_then(|next| self.spans.remove(&next));
        self.spans.insert(before.unwrap_or(host), after.unwrap_or(host));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Takes what is next until nothing is.
    fn drain(free: &mut Free, now: Duration) -> Vec<u32> {
        std::iter::from_fn(|| free.next(now).inspect(|host| free.take(*host))).collect()
    }

    #[test]
    fn the_lowest_is_next() {
        assert_eq!(drain(&mut Free::new(3..=6, MINUTE), at(0)), [3, 4, 5, 6]);
    }

    #[test]
    fn the_highest_is_last_and_a_cooling_one_only_when_nothing_else_is_left() {
        let mut free = Free::new(3..=5, MINUTE);
        free.take(5);
        free.cool(5, at(0));
        for host in [4, 3, 5] {
            assert_eq!(free.last(at(1)), Some(host));
            free.take(host);
        }
        assert_eq!(free.last(at(1)), None);
    }

    #[test]
    fn what_was_taken_from_the_middle_is_passed_over() {
        let mut free = Free::new(0..=5, MINUTE);
        for host in [0, 3, 5, 9] {
            free.take(host);
        }
        assert_eq!(drain(&mut free, at(0)), [1, 2, 4]);
    }

    #[test]
    fn cooling_ones_come_last_and_oldest_first() {
        let mut free = Free::new(0..=3, MINUTE);
        for (host, released) in [(0, 30), (1, 10), (2, 20)] {
            free.take(host);
            free.cool(host, at(released));
        }
        assert_eq!(drain(&mut free, at(40)), [3, 1, 2, 0]);
    }

    #[test]
    fn after_a_minute_it_is_free_again_and_its_span_whole() {
        let mut free = Free::new(0..=9, MINUTE);
        for host in [4, 5, 6] {
            free.take(host);
            free.cool(host, at(100));
        }
        assert_eq!(free.next(at(159)), Some(0));
        assert_eq!(free.spans.len(), 2);
        assert_eq!(free.next(at(160)), Some(0));
        assert_eq!(free.spans, BTreeMap::from([(0, 9)]));
    }

    #[test]
    fn the_ends_of_the_number_space_can_be_taken_and_freed() {
        let mut free = Free::new(0..=u32::MAX, MINUTE);
        for host in [0, u32::MAX] {
            free.take(host);
            free.cool(host, at(0));
        }
        assert_eq!(free.next(at(60)), Some(0));
        assert_eq!(free.spans, BTreeMap::from([(0, u32::MAX)]));
    }
}
