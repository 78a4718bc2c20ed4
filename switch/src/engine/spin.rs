//! Whether to look for an answer for a while before sleeping.
//!
//! After a small frame its answer may be near, and waking up costs more than the answer: where the receiver runs on another
//! core, looking for [`SPIN`] saves both wake-ups. Where it waits for our core, looking keeps it waiting, though the core is
//! offered to others between two looks. Which of the two it is shows: looks that find nothing come in a row, and then the
//! thread sleeps at once for a number of times, which doubles as long as trying again finds nothing.

use std::time::Duration;

/// How long after a small frame to look for its answer. Measured: 20 us is often just too short for two wake-ups of a virtual
/// machine's cores; with 50 us they now and then take longer, and a round trip then takes half as long again until the rest is over;
/// 200 us gains no more.
const SPIN: Duration = Duration::from_micros(100);

/// So many times of looking in vain in a row mean that it does not pay. Measured: with 8 of them instead, the slowest
/// hundredth of round trips takes 1.3 times as long.
const MISSES: u32 = 2;

/// Times to sleep at once, at first and at most.
const REST: u32 = 64;
const MAX_REST: u32 = 4096;

#[derive(Debug)]
pub(super) struct Spin {
    misses: u32,
    /// Times left to sleep at once.
    resting: u32,
    next_rest: u32,
    /// Looking, and nothing found yet.
    looking: bool,
}

impl Spin {
    pub(super) fn new() -> Self {
        Spin { misses: 0, resting: 0, next_rest: REST, looking: false }
    }

    /// Nothing was read; the last frame, a small one, came `ago`. True: look once more; false: sleep.
    pub(super) fn look_on(&mut self, ago: Duration) -> bool {
        if self.resting == 0 && ago < SPIN {
            self.looking = true;
            return true;
        }
        self.gave_up();
        false
    }

    /// Frames were read.
    pub(super) fn found(&mut self) {
        if self.looking {
            *self = Spin::new();
        }
    }

    fn gave_up(&mut self) {
        if self.resting > 0 {
            self.resting -= 1;
        } else if self.looking {
            self.looking = false;
            self.misses += 1;
            if self.misses >= MISSES {
                self.misses = 0;
                self.resting = self.next_rest;
                self.next_rest = (self.next_rest * 2).min(MAX_REST);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Duration = Duration::from_micros(1);

    /// One small frame, and looking for its answer in vain.
    fn miss(spin: &mut Spin) -> bool {
        let looked = spin.look_on(NEAR);
        assert!(!spin.look_on(SPIN));
        looked
    }

    #[test]
    fn an_answer_is_looked_for_for_a_while() {
        let mut spin = Spin::new();
        assert!(spin.look_on(NEAR));
        assert!(!spin.look_on(SPIN));
    }

    #[test]
    fn looking_in_vain_ends_for_longer_each_time() {
        let mut spin = Spin::new();
        for rest in [REST, 2 * REST] {
            assert!((0..MISSES).all(|_| miss(&mut spin)));
            assert!((0..rest).all(|_| !spin.look_on(NEAR)));
        }
        assert!(spin.look_on(NEAR));
    }

    #[test]
    fn an_answer_that_was_found_begins_anew() {
        let mut spin = Spin::new();
        assert!((1..MISSES).all(|_| miss(&mut spin)));
        assert!(spin.look_on(NEAR));
        spin.found();
        assert!((0..MISSES).all(|_| miss(&mut spin)));
        assert!(!spin.look_on(NEAR));
    }
}
