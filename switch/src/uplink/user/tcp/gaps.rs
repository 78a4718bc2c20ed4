//! What came out of order: copies of payload behind a hole, until the hole is filled.
//!
//! Pieces never overlap and stand in order; those that touch are one block to whoever is told of them. The flow's window
//! bounds their bytes, and [`MAX_PIECES`] their number.

use super::sequence::{Seq, distance};

/// Pieces kept at most. Each is a frame of up to 64 KB, and a flow's window is 1 MB; more pieces are of small frames, of which
/// the later ones are simply sent again.
const MAX_PIECES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Gaps {
    pieces: Vec<Piece>,
    bytes: usize,
    /// Where the piece that came last starts.
    latest: Seq,
}

#[derive(Debug)]
struct Piece {
    start: Seq,
    payload: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> Seq {
        self.start + distance(self.payload.len())
    }
}

impl Gaps {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps what of `payload`, which starts at `start`, is new, at most `room` bytes of it.
    pub(super) fn keep(&mut self, mut start: Seq, mut payload: &[u8], mut room: usize) {
        self.latest = start;
        let mut at = self.pieces.partition_point(|piece| !start.is_before(piece.end()));
        while !payload.is_empty() {
            // Up to the next piece, then over it.
            let (free, over) = match self.pieces.get(at) {
                Some(next) if next.start.is_before(start + distance(payload.len())) => {
                    let free = if start.is_before(next.start) { next.start.since(start) } else { 0 };
                    (free as usize, Some(next.end()))
                }
                _ => (payload.len(), None),
            };
            if free > 0 {
                if free > room || self.pieces.len() == MAX_PIECES {
                    return;
                }
                self.pieces.insert(at, Piece { start, payload: payload[..free].into() });
                self.bytes += free;
                room -= free;
                at += 1;
            }
            let Some(over) = over.filter(|over| over.is_before(start + distance(payload.len()))) else { return };
            payload = &payload[over.since(start) as usize..];
            start = over;
            at += 1;
        }
    }

    /// The payload that continues at `next`, if it is here.
    pub(super) fn take(&mut self, next: Seq) -> Option<Box<[u8]>> {
        while let Some(first) = self.pieces.first() {
            if next.is_before(first.start) {
                return None;
            }
            let piece = self.pieces.remove(0);
            self.bytes -= piece.payload.len();
            let known = next.since(piece.start) as usize;
            if known == 0 {
                return Some(piece.payload);
            }
            if known < piece.payload.len() {
                return Some(piece.payload[known..].into());
            }
        }
        None
    }

    /// What is here, as blocks; the one that the last piece is in comes first. RFC 2018 4.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let has_latest = |block: &(Seq, Seq)| !self.latest.is_before(block.0) && self.latest.is_before(block.1);
        let first = self.in_order().find(has_latest);
        first.into_iter().chain(self.in_order().filter(move |block| Some(*block) != first))
    }

    fn in_order(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.pieces.chunk_by(|a, b| a.end() == b.start).map(|chunk| {
            let last = chunk.last().expect("a chunk is not empty");
            (chunk[0].start, last.end())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Seq = Seq(0xffff_ff00);

    #[test]
    fn the_newest_block_is_told_first() {
        let mut gaps = Gaps::default();
        for at in [10, 30, 15, 50] {
            gaps.keep(BASE + at, &[0; 5], 100);
        }
        gaps.keep(BASE + 32, &[0; 2], 100);
        let at = |n| BASE + n;
        let wanted = [(at(30), at(35)), (at(10), at(20)), (at(50), at(55))];
        assert_eq!(gaps.blocks().collect::<Vec<_>>(), wanted);
        assert_eq!(gaps.bytes(), 20);
    }

    #[test]
    fn no_more_than_the_room_is_kept() {
        let mut gaps = Gaps::default();
        gaps.keep(BASE, &[1; 50], 49);
        assert!(gaps.is_empty());
        gaps.keep(BASE, &[1; 49], 49);
        assert_eq!(gaps.bytes(), 49);
    }

    proptest! {
        /// Any pieces of a stream, in any order, again and again: what is taken is the stream, and never a byte twice.
        #[test]
        fn what_is_taken_is_the_stream(pieces in proptest::collection::vec((0_usize..400, 0_usize..60), 0..60)) {
            let stream: Vec<u8> = (0..512_u32).map(|n| (n * 7 % 251) as u8).collect();
            let (mut gaps, mut here) = (Gaps::default(), vec![false; stream.len()]);
            for &(start, len) in &pieces {
                gaps.keep(BASE + start as u32, &stream[start..start + len], usize::MAX);
                here[start..start + len].fill(true);
            }
            prop_assert_eq!(gaps.bytes(), here.iter().filter(|known| **known).count());
            for block in gaps.blocks() {
                let (from, to) = (block.0.since(BASE) as usize, block.1.since(BASE) as usize);
                prop_assert!(here[from..to].iter().all(|known| *known) && from < to);
            }
            let mut at = 0;
            while at < stream.len() {
                match gaps.take(BASE + at as u32) {
                    Some(payload) => {
                        prop_assert_eq!(&payload[..], &stream[at..at + payload.len()]);
                        prop_assert!(here[at..at + payload.len()].iter().all(|known| *known));
                        at += payload.len();
                    }
                    None => {
                        prop_assert!(!here[at]);
                        at += 1;
                    }
                }
            }
            prop_assert!(gaps.is_empty() && gaps.bytes() == 0);
        }
    }
}
