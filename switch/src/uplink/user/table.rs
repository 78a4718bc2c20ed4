//! The flows of one worker: found by their ends, limited per port, ended when idle.
//!
//! A flow is an index, which is also its token's. Its end is queued once; use only notes the time, and the queue finds out when
//! the entry comes up (so a datagram costs no re-queueing). A port that has as many flows as it may have gives up the one
//! that ends next, if that was idle for a while; else it is refused. Nobody else's flow is touched. One worker owns it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Ends;
use crate::engine::Changed;
use crate::forwarding::{DropReason, Instant, PortId};

/// A flow that was used more recently than this is not given up for another of its port.
pub(crate) const BUSY: Duration = Duration::from_secs(1);
/// Entries that are looked at for one to give up; each look also brings the queue up to date.
const LOOKS: usize = 8;

/// Whose flow, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub port: PortId,
    pub ends: Ends,
}

#[derive(Debug)]
struct Entry<F> {
    key: Key,
    flow: F,
    used: Instant,
    timeout: Duration,
    /// When the queues look at it.
    queued: Instant,
}

impl<F> Entry<F> {
    fn end(&self) -> Instant {
        self.used + self.timeout
    }
}

/// Flows.
#[derive(Debug)]
pub(crate) struct Table<F> {
    slots: Vec<Option<Entry<F>>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    queue: BTreeSet<(Instant, usize)>,
    by_port: BTreeSet<(PortId, Instant, usize)>,
    counts: BTreeMap<PortId, usize>,
    /// Most flows of one port.
    limit: usize,
    /// Found last.
    recent: usize,
}

impl<F> Table<F> {
    /// An empty one, in which a port has at most `limit` flows.
    pub(crate) fn new(limit: usize) -> Self {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            queue: BTreeSet::new(),
            by_port: BTreeSet::new(),
            counts: BTreeMap::new(),
            limit,
            recent: 0,
        }
    }

    /// The flow's index.
    pub(crate) fn find(&mut self, key: &Key) -> Option<usize> {
        if let Some(Some(entry)) = self.slots.get(self.recent)
            && entry.key == *key
        {
            return Some(self.recent);
        }
        self.recent = *self.by_key.get(key)?;
        Some(self.recent)
    }

    /// The flow at `index`.
    pub(crate) fn at(&mut self, index: usize) -> Option<(Key, &mut F)> {
        let entry = self.slots.get_mut(index)?.as_mut()?;
        Some((entry.key, &mut entry.flow))
    }

    /// Makes sure that `port` may have one more flow, giving one up where it must.
    ///
    /// # Errors
    /// It has as many as it may have, and all are in use.
    pub(crate) fn admit(&mut self, port: PortId, now: Instant) -> Result<(), DropReason> {
        if self.counts.get(&port).is_none_or(|&count| count < self.limit) {
            return Ok(());
        }
        self.give_up_one(port, now)
    }

    /// Gives up the flow of `port` that ends next, if it was idle for a while.
    ///
    /// # Errors
    /// None was.
    pub(crate) fn give_up_one(&mut self, port: PortId, now: Instant) -> Result<(), DropReason> {
        self.give_up(port, BUSY, now, |_| true)
    }

    /// Gives up, of the flows of `port` that `may` names, the one that ends next, if it was idle for `idle`.
    ///
    /// # Errors
    /// There is none, or it was not.
    pub(crate) fn give_up(
        &mut self,
        port: PortId,
        idle: Duration,
        now: Instant,
        may: impl Fn(&F) -> bool,
    ) -> Result<(), DropReason> {
        for _ in 0..LOOKS {
            let first = self.of(port).find(|&index| may(&self.entry(index).flow));
            let index = first.ok_or(DropReason::FlowLimit)?;
            let queued = self.entry(index).queued;
            let entry = self.entry(index);
            if entry.end() > queued {
                let end = entry.end();
                self.requeue(index, end);
            } else if now.since(entry.used) >= idle {
                self.remove(index);
                return Ok(());
            } else {
                break;
            }
        }
        Err(DropReason::FlowLimit)
    }

    /// Adds a flow that ends when it is not used for `timeout`; its index.
    ///
    /// # Panics
    /// When there is one with this key.
    pub(crate) fn insert(&mut self, key: Key, flow: F, timeout: Duration, now: Instant) -> usize {
        let index = self.free.pop().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(None);
        }
        let queued = now + timeout;
        self.slots[index] = Some(Entry { key, flow, used: now, timeout, queued });
        assert!(self.by_key.insert(key, index).is_none(), "who inserts has looked for it");
        self.queue.insert((queued, index));
        self.by_port.insert((key.port, queued, index));
        *self.counts.entry(key.port).or_default() += 1;
        self.recent = index;
        index
    }

    /// The flow is in use, and ends when it is not used for `timeout` from now on.
    pub(crate) fn touch(&mut self, index: usize, timeout: Duration, now: Instant) {
        let entry = self.slots[index].as_mut().expect("who touches a flow has found it");
        entry.used = now;
        entry.timeout = timeout;
        let end = entry.end();
        if end < entry.queued {
            self.requeue(index, end);
        }
    }

    /// Takes a flow out.
    pub(crate) fn remove(&mut self, index: usize) -> Option<(Key, F)> {
        let entry = self.slots.get_mut(index)?.take()?;
        self.by_key.remove(&entry.key);
        self.queue.remove(&(entry.queued, index));
        self.by_port.remove(&(entry.key.port, entry.queued, index));
        if let Some(count) = self.counts.get_mut(&entry.key.port) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.key.port);
            }
        }
        self.free.push(index);
        Some((entry.key, entry.flow))
    }

    /// Ends what was not used for as long as it may.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(queued, index)) = self.queue.first()
            && queued <= now
        {
            let end = self.entry(index).end();
            if end <= now {
                self.remove(index);
            } else {
                self.requeue(index, end);
            }
        }
    }

    /// When [`Table::expire`] has something to do, at the earliest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.first().map(|(queued, _)| *queued)
    }

    /// Takes out all flows of `port`.
    pub(crate) fn take_port(&mut self, port: PortId) -> Vec<(Key, F)> {
        let indices: Vec<usize> = self.of(port).collect();
        indices.into_iter().filter_map(|index| self.remove(index)).collect()
    }

    /// Ends the flows of ports that `changed` names for which `keep` is false.
    pub(crate) fn retain(&mut self, changed: &Changed, mut keep: impl FnMut(&Key, &F) -> bool) {
        let concerned: Vec<usize> = match changed {
            Changed::All => (0..self.slots.len()).collect(),
            Changed::Ports(ports) => ports.iter().flat_map(|port| self.of(*port)).collect(),
        };
        for index in concerned {
            if let Some(entry) = &self.slots[index]
                && !keep(&entry.key, &entry.flow)
            {
                self.remove(index);
            }
        }
    }

    fn of(&self, port: PortId) -> impl Iterator<Item = usize> + '_ {
        let from_its_first = self.by_port.range((port, Instant(0), 0)..);
        from_its_first.take_while(move |(owner, ..)| *owner == port).map(|(.., index)| *index)
    }

    fn entry(&self, index: usize) -> &Entry<F> {
        self.slots[index].as_ref().expect("what is queued is there")
    }

    fn requeue(&mut self, index: usize, at: Instant) {
        let entry = self.slots[index].as_mut().expect("what is queued is there");
        self.queue.remove(&(entry.queued, index));
        self.by_port.remove(&(entry.key.port, entry.queued, index));
        entry.queued = at;
        self.queue.insert((at, index));
        self.by_port.insert((entry.key.port, at, index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const A: PortId = PortId(1);
    const B: PortId = PortId(2);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn key(port: PortId, near: u16) -> Key {
        let address = |port| (Ipv4Addr::LOCALHOST, port).into();
        Key { port, ends: Ends { near: address(near), far: address(1) } }
    }

    #[test]
    fn a_flow_is_found_by_its_ends_and_its_port() {
        let mut table = Table::new(8);
        let index = table.insert(key(A, 1), "a", seconds(30), at(0));
        assert_eq!(table.find(&key(A, 1)), Some(index));
        assert_eq!((table.find(&key(B, 1)), table.find(&key(A, 2))), (None, None));
        assert_eq!(table.remove(index), Some((key(A, 1), "a")));
        assert_eq!((table.find(&key(A, 1)), table.deadline()), (None, None));
    }

    #[test]
    fn an_idle_flow_ends_and_a_used_one_does_not() {
        let mut table = Table::new(8);
        let idle = table.insert(key(A, 1), (), seconds(30), at(0));
        let used = table.insert(key(A, 2), (), seconds(30), at(0));
        table.touch(used, seconds(30), at(20));
        table.expire(at(30));
        assert!(table.at(idle).is_none() && table.at(used).is_some());
        assert_eq!(table.deadline(), Some(at(50)));
        table.expire(at(50));
        assert_eq!((table.find(&key(A, 2)), table.deadline()), (None, None));
    }

    #[test]
    fn a_shorter_timeout_holds_at_once() {
        let mut table = Table::new(8);
        let index = table.insert(key(A, 1), (), seconds(180), at(0));
        table.touch(index, seconds(10), at(1));
        assert_eq!(table.deadline(), Some(at(11)));
    }

    #[test]
    fn at_its_limit_a_port_gives_up_its_own_idlest_flow() {
        let mut table = Table::new(2);
        table.insert(key(B, 1), (), seconds(5), at(0));
        let first = table.insert(key(A, 1), (), seconds(30), at(0));
        let second = table.insert(key(A, 2), (), seconds(30), at(1));
        table.touch(first, seconds(30), at(2));
        assert_eq!(table.admit(A, at(3)), Ok(()));
        assert!(table.at(first).is_some() && table.at(second).is_none(), "the one that was used is kept");
        assert!(table.find(&key(B, 1)).is_some(), "another's is kept");
    }

    #[test]
    fn at_its_limit_a_port_whose_flows_are_in_use_is_refused() {
        let mut table = Table::new(2);
        for near in 1..=2 {
            table.insert(key(A, near), (), seconds(30), at(10));
        }
        assert_eq!(table.admit(A, at(10)), Err(DropReason::FlowLimit));
        assert_eq!(table.admit(B, at(10)), Ok(()));
    }

    #[test]
    fn of_those_that_may_be_the_one_that_ends_next_is_given_up_in_use_too() {
        let mut table = Table::new(8);
        let [other, first, second] =
            [1, 2, 3].map(|near| table.insert(key(A, near), near, seconds(30), at(near.into())));
        table.touch(first, seconds(30), at(4));
        assert_eq!(table.give_up(A, BUSY, at(3), |near| *near > 1), Err(DropReason::FlowLimit), "in use");
        assert_eq!(table.give_up(A, Duration::ZERO, at(4), |near| *near > 1), Ok(()));
        assert!(table.at(other).is_some() && table.at(first).is_some() && table.at(second).is_none());
        assert_eq!(table.give_up(B, Duration::ZERO, at(4), |_| true), Err(DropReason::FlowLimit));
    }

    #[test]
    fn a_port_takes_its_flows_and_nobody_elses() {
        let mut table = Table::new(8);
        for near in 1..=3 {
            table.insert(key(A, near), near, seconds(30), at(0));
            table.insert(key(B, near), near, seconds(30), at(0));
        }
        let mut taken: Vec<_> = table.take_port(A).into_iter().map(|(key, _)| key).collect();
        taken.sort();
        assert_eq!(taken, [1, 2, 3].map(|near| key(A, near)));
        assert!(table.find(&key(A, 1)).is_none() && table.find(&key(B, 1)).is_some());
    }

    proptest! {
        /// Against a list that is looked through each time.
        #[test]
        fn a_flow_lives_until_its_timeout_after_its_last_use(
            steps in proptest::collection::vec((0u16..12, 1u64..40, 0u64..20), 1..200),
        ) {
            let mut table = Table::new(100);
            let mut naive: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
            let mut now = 0;
            for (near, timeout, passed) in steps {
                now += passed;
                table.expire(at(now));
                naive.retain(|_, (used, timeout)| *used + *timeout > now);
                match table.find(&key(A, near)) {
                    Some(index) => table.touch(index, seconds(timeout), at(now)),
                    None => drop(table.insert(key(A, near), (), seconds(timeout), at(now))),
                }
                naive.insert(near, (now, timeout));
                for near in 0..12 {
                    prop_assert_eq!(table.find(&key(A, near)).is_some(), naive.contains_key(&near));
                }
                let first = naive.values().map(|(used, timeout)| used + timeout).min();
                prop_assert!(table.deadline() <= first.map(at), "never late");
            }
            prop_assert_eq!(table.take_port(A).len(), naive.len());
            prop_assert!(table.queue.is_empty() && table.by_port.is_empty() && table.counts.is_empty());
        }
    }
}
