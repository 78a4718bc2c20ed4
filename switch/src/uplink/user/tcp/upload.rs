//! The container's stream on its way to the socket: what is in order goes straight there.
//!
//! What the socket does not take waits in the overflow and makes the window smaller; what is behind a hole waits in
//! [`Gaps`]. The right edge of the window, once promised, is never taken back, and all up to it is accepted, so both together are
//! bounded by the window, and by the room that the container's account has left: what is beyond that is not acknowledged, and
//! comes again.

use std::collections::VecDeque;
use std::io;

use super::gaps::Gaps;
use super::pool::Pool;
use super::sequence::{Seq, distance};

/// A window grows by at least so much, or not yet: RFC 9293 3.8.6.2.2.
const LEAST_GROWTH: u32 = 4096;

/// When to acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// There is nothing to acknowledge.
    None,
    /// With what is sent next, or soon.
    Soon,
    /// At once: something was not as it should be, or ended.
    Now,
}

#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The next byte that is expected.
    next: Seq,
    /// The right edge of the window, as it was promised.
    edge: Seq,
    /// By how many bits our windows are shifted.
    scale: u8,
    overflow: VecDeque<u8>,
    gaps: Gaps,
    /// Where the stream ends, once that is known.
    fin: Option<Seq>,
    is_finished: bool,
    /// Bytes taken since the last acknowledgement.
    unacked: u32,
}

impl Upload {
    /// From `next` on; nothing is promised yet.
    pub(super) fn new(next: Seq, scale: u8) -> Self {
        Upload { next, edge: next, scale, ..Upload::default() }
    }

    /// What an acknowledgement says.
    pub(super) fn next(&self) -> Seq {
        self.next
    }

    /// Where the window ends.
    pub(super) fn edge(&self) -> Seq {
        self.edge
    }

    /// All of the stream has come, and its end.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Nothing waits for the socket.
    pub(super) fn is_drained(&self) -> bool {
        self.overflow.is_empty()
    }

    /// Bytes kept.
    pub(super) fn held(&self) -> usize {
        self.overflow.len() + self.gaps.bytes()
    }

    pub(super) fn unacked(&self) -> u32 {
        self.unacked
    }

    /// What is here behind holes.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.gaps.blocks()
    }

    /// The window field of a segment that acknowledges all that came, when the flow may keep `limit` bytes; a SYN's is not
    /// scaled.
    pub(super) fn announce(&mut self, limit: u32, is_syn: bool) -> u16 {
        let scale = if is_syn { 0 } else { self.scale };
        let wanted = self.next + self.ready_for(limit);
        let grows = self.edge.is_before(wanted) && wanted.since(self.edge) >= LEAST_GROWTH.min(limit);
        let edge = if grows { wanted } else { self.edge };
        // Rounding down would take back what was promised.
        let field = (edge.since(self.next)).div_ceil(1 << scale).min(u16::MAX.into());
        self.edge = self.edge.later(self.next + (field << scale));
        self.unacked = 0;
        field as u16
    }

    /// Whether the container should hear of its window: it was small and is not any more.
    pub(super) fn has_opened(&self, limit: u32) -> bool {
        let wanted = self.next + self.ready_for(limit);
        !self.is_finished && self.edge.is_before(wanted) && wanted.since(self.edge) >= limit / 4
    }

    fn ready_for(&self, limit: u32) -> u32 {
        limit.saturating_sub(distance(self.overflow.len()))
    }

    /// Takes `payload`, which starts at `seq` and with `fin` ends the stream. `room` is how many bytes may be kept in all. `sink` is the
    /// socket: it says how many bytes it takes.
    ///
    /// # Errors
    /// Of `sink`.
    pub(super) fn take(
        &mut self,
        seq: Seq,
        payload: &[u8],
        fin: bool,
        room: usize,
        pool: &mut Pool,
        sink: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Answer> {
        if payload.is_empty() && !fin {
            // A probe stands before what is expected, and wants an answer.
            return Ok(if seq == self.next { Answer::None } else { Answer::Now });
        }
        let end = seq + distance(payload.len());
        if fin && self.fin.is_none() && !self.edge.is_before(end) {
            self.fin = Some(end);
        }
        let known = if seq.is_before(self.next) { self.next.since(seq) as usize } else { 0 };
        let start = seq.later(self.next);
        let open = if self.edge.is_before(start) { 0 } else { self.edge.since(start) as usize };
        let fresh = payload.get(known..).unwrap_or_default();
        let fresh = &fresh[..fresh.len().min(open)];
        let mut answer = if fresh.len() == payload.len() && start == self.next { Answer::Soon } else { Answer::Now };
        if start != self.next {
            self.gaps.keep(start, fresh, room.saturating_sub(self.held()));
        } else if !fresh.is_empty() {
            let had_gaps = !self.gaps.is_empty();
            let is_whole = self.pass(fresh, room, pool, sink)?;
            if had_gaps || !is_whole {
                self.pass_gaps(room, pool, sink)?;
                answer = Answer::Now;
            }
        }
        if self.fin == Some(self.next) && !self.is_finished {
            self.is_finished = true;
            self.next = self.next + 1;
            self.edge = self.edge.later(self.next);
            answer = Answer::Now;
        }
        Ok(answer)
    }

    /// Passes on what is in order; false: there was no room for all of it.
    fn pass(
        &mut self,
        payload: &[u8],
        room: usize,
        pool: &mut Pool,
        sink: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let sent = if self.overflow.is_empty() { sink(payload)? } else { 0 };
        let rest = &payload[sent..];
        let kept = rest.len().min(room.saturating_sub(self.held()));
        if kept > 0 {
            if self.overflow.capacity() == 0 {
                self.overflow = pool.take();
            }
            self.overflow.extend(&rest[..kept]);
        }
        self.next = self.next + distance(sent + kept);
        self.unacked += distance(sent + kept);
        Ok(kept == rest.len())
    }

    fn pass_gaps(
        &mut self,
        room: usize,
        pool: &mut Pool,
        sink: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(payload) = self.gaps.take(self.next) {
            if !self.pass(&payload, room, pool, sink)? {
                break;
            }
        }
        Ok(())
    }

    /// Gives the socket what waits for it; how many bytes it took.
    ///
    /// # Errors
    /// Of `sink`.
    pub(super) fn drain(
        &mut self,
        pool: &mut Pool,
        sink: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut drained = 0;
        while !self.overflow.is_empty() {
            let front = self.overflow.as_slices().0;
            let (len, sent) = (front.len(), sink(front)?);
            self.overflow.drain(..sent);
            drained += sent;
            if sent < len {
                return Ok(drained);
            }
        }
        if self.overflow.capacity() > 0 {
            pool.put(std::mem::take(&mut self.overflow));
        }
        Ok(drained)
    }
}

#[cfg(test)]
mod tests;
