//! The two ways of reading and writing, with one behaviour.

use std::io;

use super::dispatch::Desk;
use super::plain::Plain;
use super::ring::Ring;
use super::worker::Ports;
use super::{Changed, Forward, IoChoice};
use crate::forwarding::Instant;

/// How a worker reads and writes.
#[derive(Debug)]
pub(super) enum Rounds {
    Plain(Plain),
    Ring(Box<Ring>),
}

impl Rounds {
    pub(super) fn plain() -> Self {
        Rounds::Plain(Plain::new())
    }

    /// As asked for.
    ///
    /// # Errors
    /// When a ring was asked for and is not to be had.
    pub(super) fn choose(choice: IoChoice) -> io::Result<Self> {
        match choice {
            IoChoice::Plain => Ok(Self::plain()),
            IoChoice::Uring => Ok(Rounds::Ring(Box::new(Ring::new()?))),
            IoChoice::Auto => Ok(Ring::new().map_or_else(|_| Self::plain(), |ring| Rounds::Ring(Box::new(ring)))),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Rounds::Plain(_) => "read/write",
            Rounds::Ring(_) => "io_uring",
        }
    }

    /// Called by the thread that will make the rounds, before the first.
    pub(super) fn enable(&mut self) {
        if let Rounds::Ring(ring) = self
            && let Err(error) = ring.enable()
        {
            self.fall_back(&error);
        }
    }

    pub(super) fn adopt(&mut self, forward: &impl Forward, changed: &Changed) {
        if let Rounds::Ring(ring) = self
            && let Err(error) = ring.adopt(forward, changed)
        {
            self.fall_back(&error);
        }
    }

    /// Writes what is still queued; called before what it was decided by goes away.
    pub(super) fn flush(&mut self, forward: &impl Forward, worker: usize) {
        if let Rounds::Ring(ring) = self
            && let Err(error) = ring.flush(forward, worker)
        {
            self.fall_back(&error);
        }
    }

    /// One round; how many frames were read or written late, or 1 when it has to be made again.
    pub(super) fn turn<F: Forward>(
        &mut self,
        forward: &F,
        ports: &mut Ports,
        desk: &mut Desk<F>,
        now: Instant,
    ) -> usize {
        match self {
            Rounds::Plain(plain) => plain.turn(forward, ports, desk, now),
            Rounds::Ring(ring) => match ring.turn(forward, ports, desk, now) {
                Ok(frames) => frames,
                Err(error) => {
                    // What was decided upon is written, where the ring still does that.
                    self.flush(forward, desk.worker);
                    self.fall_back(&error);
                    // Ports have frames of which no event tells again.
                    1
                }
            },
        }
    }

    /// A ring that fails, as on a kernel before 6.4 whose TAPs cannot be read without waiting, is given up for good.
    fn fall_back(&mut self, error: &io::Error) {
        tracing::warn!(%error, "io_uring cannot serve these ports: going on with plain reads and writes");
        *self = Self::plain();
    }
}
