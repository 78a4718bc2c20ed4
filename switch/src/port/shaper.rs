//! The limit of what is sent to a port: a token bucket, and a short queue of what has to wait for it.
//!
//! A frame for which something is left in the bucket passes at once; behind one that waits, all wait. The queue is as long as what
//! passes in [`LATENCY`]; what finds it full is dropped, by which TCP learns its rate. Without the queue it would not: between
//! two containers a window of two segments is still hundreds of megabits a second, and only waiting makes a connection slower.
//! Who sends through the uplink asks for room beforehand, and loses nothing.
//!
//! Whoever makes a frame wait where none waited is from then on the one who takes frames out, until none is left: a worker,
//! which no other has to wake. Frames are written by the taker outside the lock, and others make theirs wait meanwhile, so that
//! order holds.
//!
//! Thread-safety: one lock guards bucket and queue. It is held for some arithmetic and the move of a pointer: frames are copied,
//! written and freed outside of it, and the queue's room is there from the beginning. A port without a limit has no shaper.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::forwarding::{Instant, Limiter, Rate};
use crate::frame::Offload;

/// How long a frame waits at most, about: of the order of the reference plugin's 25 ms, and several times the millisecond to
/// which workers sleep.
const LATENCY: Duration = Duration::from_millis(50);

/// Bytes that may wait, at least: some full segments. Alone, a frame of any length may.
const LEAST_BYTES: u64 = 16 * 1024;

/// The same at most.
const MOST_BYTES: u64 = 2 * 1024 * 1024;

/// What costs no more is let in while a quarter more waits: acknowledgements, questions and pings find room where somebody's bulk
/// keeps the queue full.
const SMALL: u64 = 256;

/// Most frames that wait; the length of a TAP's ring (`tx_queue_len`).
const MOST_FRAMES: usize = 1000;

/// A frame that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// What is left to do to it.
    pub(crate) offload: Offload,
    /// Its offload header of [`crate::frame::offload::HEADER_LEN`] bytes, and itself.
    pub(crate) bytes: Vec<u8>,
    /// What it takes from the bucket.
    pub(crate) cost: u64,
}

/// Whether a frame may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Now: it is paid for.
    Pass,
    /// It has to wait: see [`Shaper::wait`].
    Wait,
    /// No more may wait.
    Full,
}

/// What the one who takes frames out is to do.
#[derive(Debug)]
pub(crate) enum Next {
    /// To send this, which is paid for.
    Send(Waiting),
    /// To come again then.
    Later(Instant),
    /// Nothing more: the next who makes a frame wait takes it out.
    Done,
}

#[derive(Debug)]
pub(crate) struct Shaper {
    rate: Rate,
    /// Most that wait.
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limiter: Limiter,
    frames: VecDeque<Waiting>,
    /// What these take from the bucket.
    bytes: u64,
    /// Somebody takes frames out.
    has_taker: bool,
}

impl Shaper {
    /// With a full bucket.
    pub(super) fn new(rate: Rate) -> Self {
        let most = u128::from(rate.bytes_per_second) * LATENCY.as_nanos() / 1_000_000_000;
        Shaper {
            rate,
            bytes: u64::try_from(most).unwrap_or(u64::MAX).clamp(LEAST_BYTES, MOST_BYTES),
            state: Mutex::new(State {
                limiter: Limiter::new(rate, Instant::default()),
                frames: VecDeque::with_capacity(MOST_FRAMES),
                bytes: 0,
                has_taker: false,
            }),
        }
    }

    /// Whether a frame that takes `cost` from the bucket may be sent.
    pub(crate) fn admit(&self, cost: u64, now: Instant) -> Admission {
        let mut state = self.state.lock();
        if !state.has_taker && state.limiter.take(cost, self.rate, now) {
            Admission::Pass
        } else if self.has_room(&state, cost) {
            Admission::Wait
        } else {
            Admission::Full
        }
    }

    /// Whether a frame that takes `cost` from the bucket may wait behind the others.
    fn has_room(&self, state: &State, cost: u64) -> bool {
        let most = if cost <= SMALL { self.bytes + self.bytes / 4 } else { self.bytes };
        state.frames.is_empty() || (state.bytes + cost <= most && state.frames.len() < MOST_FRAMES)
    }

    /// Has a frame wait that was told to. When the first is due, where the caller is now the one to take frames out. `Err`: others
    /// were faster, and no more may wait.
    pub(crate) fn wait(&self, frame: Waiting, now: Instant) -> Result<Option<Instant>, ()> {
        let mut state = self.state.lock();
        // Workers that were told to wait at the same time may pass the limit of bytes by a frame each, and not this one.
        if state.frames.len() == MOST_FRAMES {
            drop(state);
            return Err(());
        }
        state.bytes += frame.cost;
        state.frames.push_back(frame);
        let takes = !std::mem::replace(&mut state.has_taker, true);
        Ok(takes.then(|| state.limiter.due(self.rate, now).unwrap_or(now)))
    }

    /// For the one who takes frames out.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let mut state = self.state.lock();
        let Some(cost) = state.frames.front().map(|frame| frame.cost) else {
            state.has_taker = false;
            return Next::Done;
        };
        if !state.limiter.take(cost, self.rate, now) {
            return Next::Later(state.limiter.due(self.rate, now).unwrap_or(now));
        }
        let frame = state.frames.pop_front().expect("looked at");
        state.bytes -= frame.cost;
        Next::Send(frame)
    }

    /// For the one who takes frames out, of a port that is gone: all of them.
    pub(crate) fn clear(&self) -> Vec<Waiting> {
        let mut frames = Vec::with_capacity(MOST_FRAMES);
        let mut state = self.state.lock();
        frames.extend(state.frames.drain(..));
        (state.bytes, state.has_taker) = (0, false);
        frames
    }

    /// Bytes that may be sent without a loss, headers left out, unless others send at the same time; where nothing waits at least
    /// one frame of `least`.
    pub(crate) fn room(&self, least: usize) -> usize {
        let state = self.state.lock();
        if state.frames.len() == MOST_FRAMES {
            return 0;
        }
        // An eighth for headers: of segments of 500 bytes.
        let room = usize::try_from(self.bytes.saturating_sub(state.bytes) / 8 * 7).unwrap_or(usize::MAX);
        if state.frames.is_empty() { room.max(least) } else { room }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A thousand bytes a second and at once.
    const RATE: Rate = Rate { bytes_per_second: 1000, burst: 1000 };

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    fn frame(len: usize, mark: u8) -> Waiting {
        Waiting { offload: Offload::NONE, bytes: vec![mark; len], cost: len as u64 }
    }

    fn taken(next: Next) -> u8 {
        match next {
            Next::Send(frame) => frame.bytes[0],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_bucket_holds_passes_and_the_rest_waits_in_order() {
        let shaper = Shaper::new(RATE);
        assert_eq!(shaper.admit(1000, at(0)), Admission::Pass);
        assert_eq!(shaper.admit(100, at(0)), Admission::Wait);
        let due = shaper.wait(frame(100, 1), at(0)).unwrap().expect("the first of them takes them out");
        assert_eq!(due, Instant(1));
        // Something is left again, but one waits already.
        assert_eq!(shaper.admit(100, at(50)), Admission::Wait);
        assert_eq!(shaper.wait(frame(100, 2), at(50)), Ok(None));
        assert_eq!(taken(shaper.next(at(50))), 1);
        let Next::Later(due) = shaper.next(at(50)) else { panic!("it owes 50 bytes") };
        assert_eq!(due, Instant(100_000_001));
        assert_eq!(taken(shaper.next(due)), 2);
        // Until it was told that none is left, others wait, for the last may not be written yet.
        assert_eq!(shaper.admit(1, at(9000)), Admission::Wait);
        assert!(matches!(shaper.next(at(9000)), Next::Done));
        assert_eq!(shaper.admit(1, at(9000)), Admission::Pass);
    }

    #[test]
    fn no_more_waits_than_the_limits_say() {
        const LEAST: usize = LEAST_BYTES as usize;
        let shaper = Shaper::new(RATE);
        assert_eq!((shaper.admit(9999, at(0)), shaper.room(1)), (Admission::Pass, LEAST / 8 * 7));
        assert_eq!(shaper.room(LEAST), LEAST);
        shaper.wait(frame(LEAST - 1000, 1), at(0)).unwrap();
        assert_eq!((shaper.admit(1001, at(0)), shaper.admit(1000, at(0))), (Admission::Full, Admission::Wait));
        assert_eq!(shaper.room(LEAST), 875);
        shaper.wait(frame(1000, 2), at(0)).unwrap();
        assert_eq!((shaper.admit(SMALL + 1, at(0)), shaper.room(LEAST)), (Admission::Full, 0));
        assert_eq!(shaper.admit(SMALL, at(0)), Admission::Wait);
        shaper.wait(frame(LEAST / 4, 3), at(0)).unwrap();
        assert_eq!(shaper.admit(1, at(0)), Admission::Full);
        assert_eq!(shaper.clear().len(), 3);
        for _ in 0..MOST_FRAMES {
            assert_eq!(shaper.admit(1, at(0)), Admission::Wait);
            shaper.wait(frame(1, 1), at(0)).unwrap();
        }
        assert_eq!((shaper.admit(1, at(0)), shaper.room(LEAST)), (Admission::Full, 0));
        assert_eq!(shaper.wait(frame(1, 1), at(0)), Err(()));
        shaper.clear();
        assert_eq!(shaper.admit(70_000, at(0)), Admission::Wait, "alone, a frame of any length may");
    }

    proptest! {
        /// Senders who send at any time, and a taker who comes when it was told to: all that was let in goes out, in order, and
        /// never more than the rate allows.
        #[test]
        fn order_and_rate_hold(sends in proptest::collection::vec((0_u64..200, 1_usize..3000), 1..100)) {
            let shaper = Shaper::new(RATE);
            let (mut due, mut sent, mut now) = (None::<Instant>, Vec::new(), 0);
            let take = |due: &mut Option<Instant>, until: Instant, sent: &mut Vec<(Instant, usize, u8)>| {
                while let Some(now) = due.filter(|due| *due <= until) {
                    match shaper.next(now) {
                        Next::Send(frame) => sent.push((now, frame.bytes.len(), frame.bytes[0])),
                        Next::Later(later) => *due = Some(later),
                        Next::Done => *due = None,
                    }
                }
            };
            let mut admitted = Vec::new();
            for (nth, (gap, len)) in sends.into_iter().enumerate() {
                let mark = u8::try_from(nth).unwrap();
                now += gap;
                take(&mut due, at(now), &mut sent);
                match shaper.admit(len as u64, at(now)) {
                    Admission::Pass => sent.push((at(now), len, mark)),
                    Admission::Wait => {
                        let told = shaper.wait(frame(len, mark), at(now)).unwrap();
                        prop_assert_eq!(told.is_some(), due.is_none());
                        due = due.or(told);
                    }
                    Admission::Full => continue,
                }
                admitted.push(mark);
            }
            take(&mut due, Instant(u64::MAX), &mut sent);
            prop_assert_eq!(sent.iter().map(|sent| sent.2).collect::<Vec<_>>(), admitted);
            let mut bytes = 0;
            for (when, len, _) in sent {
                let allowed = u128::from(when.0) * u128::from(RATE.bytes_per_second) / 1_000_000_000 + u128::from(RATE.burst);
                prop_assert!(bytes < allowed + 1, "{bytes} before {when:?}");
                bytes += len as u128;
            }
        }
    }
}
