//! A number of permits, of whatever there is not enough of, that ports share fairly.
//!
//! Who has as many permits as are free gets no more. So of any number of ports that take what they get, each has in the end as
//! many as they all leave free, and who comes late finds some. What a port took while more were free it keeps, unless its
//! worker takes them from it when told ([`Permits::over`]). Where there are more ports than permits, some have none.
//!
//! Thread-safety: one lock guards the counts, for some look-ups at a time. Whether anybody has too many stands beside it, so that
//! who asks each turn only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::PortId;

/// The permits, and who has them.
#[derive(Debug)]
pub struct Permits {
    most: usize,
    counts: Mutex<Counts>,
    is_any_over: AtomicBool,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    port: PortId,
}

#[derive(Debug, Default)]
struct Counts {
    taken: usize,
    of: BTreeMap<PortId, usize>,
    /// The other way round.
    by_count: BTreeSet<(usize, PortId)>,
}

impl Counts {
    fn of(&self, port: PortId) -> usize {
        self.of.get(&port).copied().unwrap_or(0)
    }

    fn set(&mut self, port: PortId, count: usize) {
        let before = self.of.insert(port, count).unwrap_or(0);
        self.by_count.remove(&(before, port));
        self.taken = self.taken - before + count;
        if count == 0 {
            self.of.remove(&port);
        } else {
            self.by_count.insert((count, port));
        }
    }
}

impl Permits {
    /// So many, all free.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Permits { most, counts: Mutex::default(), is_any_over: AtomicBool::new(false) })
    }

    /// One more for `port`; `None` where it has as many as are free.
    pub fn take(self: &Arc<Self>, port: PortId) -> Option<Permit> {
        let mut counts = self.counts.lock();
        let mine = counts.of(port);
        if mine >= self.most - counts.taken {
            return None;
        }
        counts.set(port, mine + 1);
        self.note(&counts);
        Some(Permit { permits: self.clone(), port })
    }

    /// Of the ports that `is_mine` names the one with the most permits, if those are more than it would be given now.
    pub fn over(&self, is_mine: impl Fn(PortId) -> bool) -> Option<PortId> {
        // Relaxed: whoever misses it now is told the next time.
        if !self.is_any_over.load(Ordering::Relaxed) {
            return None;
        }
        let counts = self.counts.lock();
        let share = self.share(&counts);
        let over = counts.by_count.iter().rev().take_while(|(count, _)| *count > share);
        over.map(|(_, port)| *port).find(|port| is_mine(*port))
    }

    /// The most that a port can have just been given.
    fn share(&self, counts: &Counts) -> usize {
        self.most - counts.taken + 1
    }

    fn note(&self, counts: &Counts) {
        let is_any_over = counts.by_count.last().is_some_and(|(count, _)| *count > self.share(counts));
        // Relaxed: what it is about is behind the lock.
        self.is_any_over.store(is_any_over, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.permits.counts.lock();
        let mine = counts.of(self.port);
        counts.set(self.port, mine - 1);
        self.permits.note(&counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that this port gets.
    fn all(permits: &Arc<Permits>, port: u32) -> Vec<Permit> {
        std::iter::from_fn(|| permits.take(PortId(port))).collect()
    }

    #[test]
    fn whoever_takes_all_he_gets_leaves_others_some() {
        let permits = Permits::new(256);
        let held = [7, 8, 9].map(|port| all(&permits, port));
        assert_eq!(held.each_ref().map(Vec::len), [128, 64, 32]);
        drop(held);
        assert_eq!(all(&permits, 9).len(), 128, "permits come back");
        assert!(permits.counts.lock().of.is_empty() && permits.counts.lock().by_count.is_empty());
    }

    #[test]
    fn those_who_take_all_they_get_come_to_equal_shares() {
        let permits = Permits::new(256);
        let (mut first, mut second) = (all(&permits, 7), all(&permits, 8));
        // One of each ends, and both take what they get.
        for _ in 0..256 {
            first.pop();
            second.pop();
            first.extend(all(&permits, 7));
            second.extend(all(&permits, 8));
        }
        let shares = [first.len(), second.len()];
        assert!(shares.iter().all(|share| share.abs_diff(256 / 3) <= 1), "{shares:?}");
    }

    #[test]
    fn who_took_more_than_he_would_get_now_is_told_of_and_nobody_else() {
        let permits = Permits::new(9);
        let mut first = all(&permits, 7);
        assert_eq!((first.len(), permits.over(|_| true)), (5, None), "nobody is over what he was just given");
        let second = all(&permits, 8);
        assert_eq!((second.len(), permits.over(|_| true)), (2, Some(PortId(7))));
        assert_eq!(permits.over(|port| port == PortId(8)), None);
        first.pop();
        assert_eq!(permits.over(|_| true), None);
    }

    proptest! {
        /// However many take what they get: where those give back who are over, nobody who has none is refused while another
        /// has two more than he would have.
        #[test]
        fn who_comes_last_finds_a_place(most in 1usize..300, ports in 1u32..40) {
            let permits = Permits::new(most);
            let mut held = BTreeMap::<PortId, Vec<Permit>>::new();
            for _ in 0..2 {
                for port in (0..ports).map(PortId) {
                    loop {
                        while let Some(over) = permits.over(|_| true) {
                            held.get_mut(&over).expect("who is over has some").pop();
                        }
                        let Some(permit) = permits.take(port) else { break };
                        held.entry(port).or_default().push(permit);
                    }
                }
            }
            let counts: Vec<usize> = (0..ports).map(|port| permits.counts.lock().of(PortId(port))).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), permits.counts.lock().taken);
            let (least, largest) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(largest - least <= 1, "{counts:?}");
        }
    }
}
