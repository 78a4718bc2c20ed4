//! The far end's stream on its way to the container: which bytes to send, and which again.
//!
//! Nothing is kept here: bytes stay in the socket until the container has acknowledged them, and are looked up there by
//! their distance from the first that it has not. Frames to one TAP keep their order, so whatever the container has behind a
//! hole says that the hole was lost: it is sent again at the first such word. Without SACK three equal acknowledgements
//! say so, and all is sent again, as after a timeout. There is no congestion window: between us and the container is a queue in memory,
//! and its own window is the measure. Pure: time and acknowledgements come as arguments.
//!
//! A frame may be longer than 64 KB, which the container's TCP takes as one, and acknowledges as one. But a container that
//! hands it on, to one inside of it, has its kernel cut all of it into segments, where it would let a shorter one through whole
//! (`gso_max_size` of the device behind). What is then acknowledged lies within what was sent: that shows it.

use std::time::Duration;

use super::sequence::Seq;
use crate::forwarding::Instant;

/// The first timeout; as Linux's least. The way is microseconds long, so this only waits for a container that does not run.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The longest.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeouts without a word of the container after which it is given up: about 15 minutes, as with Linux (tcp_retries2).
const MAX_UNANSWERED: u32 = 22;

/// After the first write that failed: soon, for memory comes back.
const AGAIN: Duration = Duration::from_millis(5);

/// Bytes of payload that no frame of up to 64 KB has.
const LONG: u32 = 64 * 1024;

/// Equal acknowledgements that mean a loss. RFC 5681 3.2.
const DUPLICATES: u32 = 3;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// At most `len` bytes from `seq` on, which were not sent before.
    New { seq: Seq, len: u32 },
    /// `len` bytes from `seq` on, once more.
    Again { seq: Seq, len: u32 },
    /// The end of the stream, at `seq`.
    Fin { seq: Seq },
}

/// What a timeout means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// All that is not acknowledged is sent again.
    Resend,
    /// The window is closed: ask whether it still is.
    Probe,
    /// The container is given up.
    GiveUp,
}

#[derive(Debug, Default)]
pub(super) struct Download {
    /// The first byte that the container has not acknowledged.
    una: Seq,
    /// The next to send.
    next: Seq,
    /// Behind the last that was ever sent.
    max: Seq,
    /// The right edge of the container's window.
    edge: Seq,
    /// By how many bits its windows are shifted.
    scale: u8,
    /// It understands SACK.
    has_sack: bool,
    duplicates: u32,
    /// A loss is being made good, until all up to here is acknowledged.
    recovery: Option<Seq>,
    /// Up to here holes were filled in this recovery.
    refilled: Seq,
    /// To send again.
    hole: Option<(Seq, Seq)>,
    /// Where the stream ends, once that is known.
    fin: Option<Seq>,
    /// Timeouts since something went forward, by which they get longer.
    retries: u32,
    /// Timeouts since the container was heard.
    unanswered: u32,
    due: Option<Instant>,
    /// Bytes of payload acknowledged, and still in the socket.
    acked: usize,
    /// One of the long frames that are on their way for the first time.
    long: Option<(Seq, Seq)>,
    /// No more of these: some of one was acknowledged without the rest, or one could not be sent.
    is_short: bool,
}

impl Download {
    /// With a SYN of sequence number `first`.
    pub(super) fn new(first: Seq) -> Self {
        let next = first + 1;
        Download { una: first, next, max: next, edge: next, ..Download::default() }
    }

    /// The container's SYN said so.
    pub(super) fn agree(&mut self, scale: u8, has_sack: bool) {
        (self.scale, self.has_sack) = (scale, has_sack);
    }

    /// The SYN is acknowledged; `window` is that of a SYN, and not scaled, or of a later segment.
    pub(super) fn open(&mut self, window: u16, is_syn: bool) {
        // A SYN that was sent again has set the next back.
        (self.una, self.next) = (self.max, self.max);
        self.recovery = None;
        self.edge = self.una + (u32::from(window) << if is_syn { 0 } else { self.scale });
        (self.due, self.retries, self.unanswered) = (None, 0, 0);
    }

    /// Timeouts in a row.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// The SYN was sent.
    pub(super) fn arm(&mut self, now: Instant) {
        self.due = self.due.or(Some(now + self.timeout()));
    }

    pub(super) fn una(&self) -> Seq {
        self.una
    }

    pub(super) fn next(&self) -> Seq {
        self.next
    }

    /// Behind the last byte that was ever sent.
    pub(super) fn max(&self) -> Seq {
        self.max
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The far end will send no more than was fetched.
    pub(super) fn end(&mut self) {
        self.fin = self.fin.or(Some(self.max));
    }

    /// The container takes no more: for it the stream ends with what it has.
    pub(super) fn cut(&mut self) {
        self.end();
        let end = self.fin.expect("it has just ended") + 1;
        (self.una, self.next, self.max) = (end, end, end);
        (self.hole, self.recovery, self.due) = (None, None, None);
    }

    /// Whether the end is known.
    pub(super) fn has_ended(&self) -> bool {
        self.fin.is_some()
    }

    /// The container has all of the stream, and its end.
    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.una == fin + 1)
    }

    /// Something is on its way.
    pub(super) fn is_in_flight(&self) -> bool {
        self.una != self.max
    }

    /// Whether frames may be long, for all that is known of the container.
    pub(super) fn may_be_long(&self) -> bool {
        !self.is_short
    }

    /// A long frame could not be sent: no more of them.
    pub(super) fn shorten(&mut self) {
        self.is_short = true;
    }

    /// Whether the socket keeps bytes that it need not keep any more.
    pub(super) fn has_acked(&self) -> bool {
        self.acked > 0
    }

    /// How many bytes the socket need not keep any more; asked once.
    pub(super) fn take_acked(&mut self) -> usize {
        std::mem::take(&mut self.acked)
    }

    /// An acknowledgement; `is_bare` when its segment carries nothing else. False: it is for what was never sent.
    pub(super) fn acknowledge(
        &mut self,
        ack: Seq,
        window: u16,
        first_sacked: Option<Seq>,
        is_bare: bool,
        now: Instant,
    ) -> bool {
        if self.max.is_before(ack) {
            return false;
        }
        if ack.is_before(self.una) {
            return true;
        }
        self.unanswered = 0;
        let edge = ack + (u32::from(window) << self.scale);
        if ack != self.una {
            self.advance(ack, first_sacked, now);
        } else if is_bare && self.is_in_flight() {
            self.repeat(first_sacked, edge);
        }
        self.edge = edge;
        true
    }

    fn advance(&mut self, ack: Seq, first_sacked: Option<Seq>, now: Instant) {
        let is_fin = self.fin.is_some_and(|fin| ack == fin + 1);
        if let Some((_, end)) = self.long.take_if(|(start, _)| start.is_before(ack)) {
            self.is_short |= ack.is_before(end);
        }
        self.acked += ack.since(self.una) as usize - usize::from(is_fin);
        self.una = ack;
        self.next = self.next.later(ack);
        (self.retries, self.duplicates) = (0, 0);
        self.due = self.is_in_flight().then(|| now + TIMEOUT);
        self.hole = None;
        match self.recovery {
            Some(until) if ack.is_before(until) => self.find_hole(first_sacked),
            _ => self.recovery = None,
        }
    }

    fn repeat(&mut self, first_sacked: Option<Seq>, edge: Seq) {
        if self.recovery.is_some() {
            return;
        }
        if self.has_sack {
            if first_sacked.is_some() {
                self.recovery = Some(self.max);
                self.refilled = self.una;
                // What is sent again is put into frames anew.
                self.long = None;
                self.find_hole(first_sacked);
            }
        } else if edge == self.edge {
            self.duplicates += 1;
            if self.duplicates == DUPLICATES {
                self.go_back();
            }
        }
    }

    /// What is missing before `first_sacked`, unless it is being sent anyway.
    fn find_hole(&mut self, first_sacked: Option<Seq>) {
        let from = self.una.later(self.refilled);
        if let Some(to) = first_sacked.filter(|to| from.is_before(*to) && self.next == self.max) {
            self.hole = Some((from, to.earlier(self.max)));
        }
    }

    fn go_back(&mut self) {
        self.recovery = Some(self.max);
        // All of it is sent again: no hole needs more.
        self.refilled = self.max;
        self.next = self.una;
        (self.hole, self.long) = (None, None);
    }

    /// What to send next, at most `most` bytes; `mss` are in one segment.
    pub(super) fn want(&self, most: u32, mss: u16) -> Option<Want> {
        if let Some((from, to)) = self.hole {
            return Some(Want::Again { seq: from, len: to.since(from).min(most) });
        }
        let seq = self.next;
        if self.fin.is_some_and(|fin| !seq.is_before(fin)) {
            return (self.fin == Some(seq)).then_some(Want::Fin { seq });
        }
        if !self.is_open() {
            return None;
        }
        let open = self.edge.since(seq);
        let len = open.min(most);
        if seq.is_before(self.max) {
            let sent = self.fin.unwrap_or(self.max).earlier(self.max);
            return Some(Want::Again { seq, len: len.min(sent.since(seq)) });
        }
        // Small pieces of a window wait until it is larger, which what is in flight will tell. RFC 9293 3.8.6.2.1.
        if open < mss.into() && self.is_in_flight() {
            return None;
        }
        let whole = len - len % u32::from(mss);
        Some(Want::New { seq, len: if whole > 0 { whole } else { len } })
    }

    /// Sent, in one frame, up to `end`.
    pub(super) fn sent(&mut self, end: Seq, now: Instant) {
        let (start, is_new) = (self.next, self.hole.is_none() && self.next == self.max);
        if is_new && end.since(start) > LONG && self.long.is_none() {
            self.long = Some((start, end));
        }
        match self.hole {
            Some((_, to)) => {
                self.refilled = end;
                self.hole = (end.is_before(to)).then_some((end, to));
            }
            None => self.next = end,
        }
        self.max = self.max.later(self.next);
        self.due = self.due.or(Some(now + TIMEOUT));
    }

    /// A write failed. It is tried again soon, but once: a device that is down for a moment must not use up all timeouts.
    pub(super) fn failed(&mut self, now: Instant) {
        self.due = if self.retries == 0 { Some(now + AGAIN) } else { self.due.or(Some(now + self.timeout())) };
    }

    /// There is something to send, and no window for it.
    pub(super) fn blocked(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some(now + self.timeout());
        }
    }

    /// Whether the window lets the next byte be sent.
    pub(super) fn is_open(&self) -> bool {
        self.next.is_before(self.edge)
    }

    fn timeout(&self) -> Duration {
        (TIMEOUT * (1 << self.retries.min(16))).min(MAX_TIMEOUT)
    }

    /// Its time has come.
    pub(super) fn expire(&mut self, now: Instant) -> Expired {
        self.retries += 1;
        self.unanswered += 1;
        self.due = Some(now + self.timeout());
        if self.unanswered > MAX_UNANSWERED {
            return Expired::GiveUp;
        }
        if self.is_in_flight() {
            self.go_back();
        } else {
            self.due = None;
        }
        // The end needs no window.
        if self.is_open() || self.fin == Some(self.next) { Expired::Resend } else { Expired::Probe }
    }
}

#[cfg(test)]
mod tests;
