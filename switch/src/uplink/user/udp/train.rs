//! Datagrams of one flow that were read one after the other, brought to the container as one burst.
//!
//! Equal ones, of which the last may be shorter: what the kernel would have put together, had they come in one go. They stand
//! one behind the other at the start of the worker's space. Each write goes through the container's whole network stack, so
//! it is the writes that are to be few.

use super::super::socket::Received;

/// Most datagrams of one burst: UDP_MAX_SEGMENTS of the kernels that have the smaller one.
const MOST: usize = 64;

/// What is held back while more is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Train {
    /// Bytes at the start of the space.
    pub(super) len: usize,
    /// Of all but the last datagram; 0: it is no burst, and none joins it.
    size: usize,
    count: usize,
}

impl Train {
    /// Starts with what was read, which may be a burst already.
    pub(super) fn new(received: &Received) -> Self {
        match received.segment {
            Some(size) => Train { len: received.len, size: size.into(), count: MOST },
            None => Train { len: received.len, size: received.len, count: 1 },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What was read behind it becomes part of it; false if it cannot.
    pub(super) fn join(&mut self, received: &Received, most: usize) -> bool {
        let is_closed = self.count == 0 || self.count >= MOST || self.len < self.size * self.count;
        let fits = received.len > 0 && received.len <= self.size && self.len + received.len <= most;
        if is_closed || !fits || received.segment.is_some() {
            return false;
        }
        self.len += received.len;
        self.count += 1;
        true
    }

    /// The length of its datagrams, if it is more than one.
    pub(super) fn segment(&self) -> Option<u16> {
        u16::try_from(self.size).ok().filter(|&size| size > 0 && self.count > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(len: usize) -> Received {
        Received { len, segment: None, hop_limit: None, from: None }
    }

    fn train(first: usize, more: &[usize]) -> (Train, Vec<bool>) {
        let mut train = Train::new(&received(first));
        let joined = more.iter().map(|&len| train.join(&received(len), 10_000)).collect();
        (train, joined)
    }

    #[test]
    fn equal_datagrams_join_and_a_shorter_one_is_the_last() {
        let (train, joined) = train(1000, &[1000, 400, 1000, 400]);
        assert_eq!(joined, [true, true, false, false]);
        assert_eq!((train.len, train.segment()), (2400, Some(1000)));
    }

    #[test]
    fn a_longer_or_an_empty_one_does_not_join() {
        let (train, joined) = train(1000, &[1001, 0]);
        assert_eq!((joined, train.len, train.segment()), (vec![false, false], 1000, None));
        assert!(!Train::default().join(&received(1), 100));
    }

    #[test]
    fn a_burst_is_left_as_it_came() {
        let burst = Received { segment: Some(100), ..received(450) };
        let mut train = Train::new(&burst);
        assert!(!train.join(&received(100), 10_000));
        assert_eq!((train.len, train.segment()), (450, Some(100)));
        assert!(!Train::new(&received(100)).join(&burst, 10_000));
    }

    proptest! {
        #[test]
        fn it_is_cut_where_its_datagrams_were(lens in proptest::collection::vec(0usize..5, 1..200)) {
            let mut train = Train::new(&received(lens[0]));
            let mut inside = vec![lens[0]];
            for &len in &lens[1..] {
                if train.join(&received(len), 100) {
                    inside.push(len);
                }
            }
            prop_assert!(train.len <= 100 && inside.len() <= MOST);
            let bytes = vec![0; train.len];
            let cut: Vec<usize> = match train.segment() {
                Some(size) => bytes.chunks(size.into()).map(<[u8]>::len).collect(),
                None => vec![bytes.len()],
            };
            prop_assert_eq!(cut, inside);
        }
    }
}
