//! Workers: wait, read a burst, decide, write in the same thread.
//!
//! ```text
//!  control ──Command──▶ worker 0 ┐ each: Poll ─▶ read ≤ 32 frames ─▶ Forward::forward ─▶ write
//!          ──Command──▶ worker 1 ┘        ▲ spin briefly, then sleep
//!          ◀─EngineEvent──
//! ```
//!
//! An [`RxPort`] belongs to one worker, by value; ports start together on the first worker, and a worker that has a whole core
//! and cannot keep up hands half of its busy ports to an idle one (`balance`). A [`Snapshot`] is immutable; [`Engine::publish`] gives each
//! worker the new one between two bursts and returns when all have taken it over, which is what makes attach, detach,
//! allow and deny take effect before they return.
//!
//! Two ways of reading and writing behave the same: [`plain`] makes one system call per frame, [`ring`] one per round of frames. A
//! port whose frames come one by one is served by plain calls even where there is a ring ([`served`]).
//! Nothing allocates per frame, and no queue lies between the reading of a frame and its writing.

mod backlog;
mod balance;
mod buffers;
mod clock;
mod dispatch;
mod forward;
mod local;
mod plain;
mod ring;
mod rounds;
mod served;
mod snapshot;
mod spin;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thread;
mod worker;

pub use backlog::Space;
pub use forward::{Changed, Forward, Place, Verdict};
pub use local::{Activity, Arrival, LOCAL_TOKENS, Local, Nobody, Out, Ready};
pub use snapshot::{NetworkView, Plan, Snapshot};
pub use worker::Worker;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

use crate::forwarding::{Instant, PortId};
use crate::port::RxPort;
use clock::Clock;
use thread::{Command, Mailbox};

/// How an engine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Forwarding threads; at least 1.
    pub workers: usize,
    /// How they read and write.
    pub io: IoChoice,
}

/// How workers read and write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoChoice {
    /// io_uring where the kernel grants it, else plain.
    #[default]
    Auto,
    /// io_uring, or an error.
    #[serde(rename = "io_uring")]
    Uring,
    /// `read` and `write`.
    Plain,
}

/// Whether the kernel grants the calling thread a ring as workers use it; where not, they read and write plainly.
///
/// # Errors
/// What the kernel said.
pub fn try_io_uring() -> io::Result<()> {
    ring::Ring::new().map(drop)
}

/// What workers tell control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// The port's device is gone: its namespace died, or somebody deleted it. Told once; control then withdraws it.
    Gone(PortId),
}

/// The workers, as control sees them. All methods are called by control's one thread. Dropping it ends and joins them.
#[derive(Debug)]
pub struct Engine<F: Forward = Snapshot> {
    mailboxes: Vec<Mailbox<F>>,
    threads: Vec<JoinHandle<()>>,
    clock: Clock,
    io_name: &'static str,
}

impl<F: Forward> Engine<F> {
    /// Starts the workers on `forward`; `events` is told what happens to ports, and `local` makes who takes, in each worker,
    /// what is addressed to the switch itself.
    ///
    /// # Errors
    /// When a thread, a poll, or a ring that was asked for, cannot be made.
    pub fn start(
        config: EngineConfig,
        forward: F,
        events: Sender<EngineEvent>,
        local: impl FnMut(usize) -> F::Local,
    ) -> io::Result<Engine<F>> {
        let clock = Clock::start();
        let forward = Arc::new(forward);
        let mut engine = Engine { mailboxes: Vec::new(), threads: Vec::new(), clock, io_name: "read/write" };
        let starts = thread::prepare(config, &forward, &events, clock, local)?;
        engine.mailboxes = starts.iter().map(|start| start.mailbox()).collect();
        for start in starts {
            engine.io_name = start.io_name();
            let peers = engine.mailboxes.clone();
            let name = format!("worker-{}", start.index());
            engine.threads.push(std::thread::Builder::new().name(name).spawn(move || start.run(peers))?);
        }
        Ok(engine)
    }

    /// Swaps in `forward`, which differs from the one before in what `changed` says, and returns when every worker goes by it:
    /// nothing is forwarded by the old one any more, and the read sides of ports that it does not name were dropped.
    pub fn publish(&mut self, forward: F, changed: Changed) {
        let forward = Arc::new(forward);
        let (adopted, all_adopted) = crossbeam_channel::bounded(0);
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Adopt(forward.clone(), changed.clone(), adopted.clone()));
        }
        drop(adopted);
        // Nothing is ever sent: each worker drops its sender once it goes by the new one, and the last drop ends this.
        let _ = all_adopted.recv();
    }

    /// Gives a read side to the workers. A port that the published snapshot does not name is dropped.
    pub fn attach(&mut self, port: RxPort) {
        let least = self.mailboxes.iter().min_by_key(|mailbox| mailbox.load()).expect("at least one worker");
        least.send(Command::Take(Box::new(served::Served::new(port, self.clock.now())), None));
    }

    /// The engine's clock, as the workers read it.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// `io_uring` or `read/write`.
    pub fn io_name(&self) -> &'static str {
        self.io_name
    }

    /// Forwarding threads.
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }
}

impl<F: Forward> Drop for Engine<F> {
    fn drop(&mut self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(Command::Stop));
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so on stderr already; the others still end.
            let _ = thread.join();
        }
    }
}
