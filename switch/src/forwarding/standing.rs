//! Frames that wait without end for the limit of what their sender may send.
//!
//! They wait in the sender's device, and TCP, which fills whatever is there, would make that seconds. How many there are nobody tells,
//! only whether there is one when the next may pass. A burst ends; a queue that never does is told by a loss now and then, as
//! CoDel does (RFC 8289), but at an even pace: each takes a third of a window away, and what grows again until the next is a
//! queue of some ten milliseconds. Time is an argument.

use std::time::Duration;

use super::Instant;

/// How long there may always be one: CoDel's interval, a round trip over the world.
const PATIENCE: Duration = Duration::from_millis(100);

/// From one loss to the next. Measured with one TCP connection: a ping beside it waits for 10 ms in the mean at 100 Mbit/s and for
/// 22 ms at 10 Mbit/s, where it waited for 164 ms and a second without losses; the throughput is the same.
const PACE: Duration = Duration::from_millis(50);

/// Bytes of a frame that is never the one: a question, an acknowledgement or a ping does not make a queue long.
const SMALL: usize = 256;

/// Since when one waits. Owned by the worker that owns the port's read side.
#[derive(Debug, Default)]
pub struct Standing {
    /// When one is to be lost, unless none waited before.
    next_loss: Option<Instant>,
}

impl Standing {
    /// None waits.
    pub fn end(&mut self) {
        self.next_loss = None;
    }

    /// One of `bytes` waited; whether it is to be lost.
    pub fn loses(&mut self, bytes: usize, now: Instant) -> bool {
        let due = *self.next_loss.get_or_insert(now + PATIENCE);
        let loses = due <= now && bytes > SMALL;
        if loses {
            self.next_loss = Some(now + PACE);
        }
        loses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    #[test]
    fn a_burst_that_ends_in_time_loses_nothing() {
        let mut standing = Standing::default();
        for start in [0, 1000] {
            assert!((start..start + 100).all(|now| !standing.loses(1514, at(now))));
            standing.end();
        }
    }

    #[test]
    fn a_queue_that_stands_loses_one_frame_at_a_time() {
        let mut standing = Standing::default();
        let lost: Vec<u64> = (0..300).filter(|&now| standing.loses(1514, at(now))).collect();
        assert_eq!(lost, [100, 150, 200, 250]);
    }

    #[test]
    fn a_queue_that_ended_has_its_patience_again() {
        let mut standing = Standing::default();
        assert!(!standing.loses(1514, at(0)) && standing.loses(1514, at(100)));
        standing.end();
        assert!(!standing.loses(1514, at(150)) && !standing.loses(1514, at(249)) && standing.loses(1514, at(250)));
    }

    #[test]
    fn the_next_long_one_is_lost_instead_of_a_short_one() {
        let mut standing = Standing::default();
        assert!(!standing.loses(1514, at(0)) && !standing.loses(SMALL, at(100)));
        assert!(standing.loses(SMALL + 1, at(101)) && !standing.loses(1514, at(102)));
    }
}
