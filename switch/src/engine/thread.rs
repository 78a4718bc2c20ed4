//! A worker's thread: commands between turns, and waiting when there is nothing to read.
//!
//! Waiting is adaptive. While frames come, turns follow each other; the poll is only looked at now and then for ports that
//! became readable, and after many small frames the core is offered to their receivers. When a turn finds nothing, the poll
//! is looked at again and again for a while after a small frame (`spin`); after a bulk frame there is no spinning, which would
//! take the core from the receiver. Then the thread sleeps in the poll until a timer of its [`Local`] is due; without one it has
//! no timeout: an idle switch costs nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::os::fd::AsRawFd;

use super::balance::Saturation;
use super::clock::Clock;
use super::rounds::Rounds;
use super::served::Served;
use super::spin::Spin;
use super::worker::Baggage;
use super::{Changed, EngineConfig, EngineEvent, Forward, LOCAL_TOKENS, Local, Ready, Worker};
use crate::forwarding::Instant;

/// How often a busy thread looks for other ports that became readable.
const LOOK: Duration = Duration::from_micros(100);

/// Commands that may wait for one worker; control waits when there are more.
const MAX_COMMANDS: usize = 256;

/// Events taken from the poll at once.
const MAX_EVENTS: usize = 256;

const WAKE: Token = Token(usize::MAX);

/// From control, or from another worker.
pub(super) enum Command<F: Forward> {
    /// Go by this, which is new in so much; drop the sender when nothing is forwarded by the old one any more.
    Adopt(Arc<F>, Changed, Sender<()>),
    /// Serve this port, with what belongs to it.
    Take(Box<Served>, Option<Baggage<F>>),
    /// End.
    Stop,
}

/// How others see a worker's load.
#[derive(Debug, Default)]
struct Load {
    ports: AtomicUsize,
    saturated: AtomicBool,
    asleep: AtomicBool,
}

/// Where a worker is reached.
pub(super) struct Mailbox<F: Forward> {
    commands: Sender<Command<F>>,
    waker: Arc<Waker>,
    load: Arc<Load>,
}

impl<F: Forward> std::fmt::Debug for Mailbox<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("load", &self.load).finish_non_exhaustive()
    }
}

impl<F: Forward> Clone for Mailbox<F> {
    fn clone(&self) -> Self {
        Mailbox { commands: self.commands.clone(), waker: self.waker.clone(), load: self.load.clone() }
    }
}

impl<F: Forward> Mailbox<F> {
    /// Sends, waiting while the mailbox is full. A worker that has ended takes nothing, and needs nothing.
    pub(super) fn send(&self, command: Command<F>) {
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }

    /// Gives a port to a worker that sleeps; a full mailbox gives it back.
    fn offer(&self, served: Box<Served>, baggage: Option<Baggage<F>>) -> Result<(), Given<F>> {
        match self.commands.try_send(Command::Take(served, baggage)) {
            Ok(()) => {
                self.wake();
                Ok(())
            }
            Err(error) => match error.into_inner() {
                Command::Take(served, baggage) => Err((served, baggage)),
                Command::Adopt(..) | Command::Stop => unreachable!("the command was a port"),
            },
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    /// Smaller is better for a new port: ports gather on the first worker that is not saturated.
    pub(super) fn load(&self) -> usize {
        // Relaxed: a hint; a stale one only places a port less well.
        if self.load.saturated.load(Ordering::Relaxed) { 1 + self.load.ports.load(Ordering::Relaxed) } else { 0 }
    }

    fn is_asleep(&self) -> bool {
        self.load.asleep.load(Ordering::Relaxed)
    }
}

/// All that a worker's thread starts with, made by control's thread so that errors are control's.
pub(super) struct Start<F: Forward> {
    index: usize,
    worker: Worker<F>,
    io_name: &'static str,
    poll: Poll,
    mailbox: Mailbox<F>,
    commands: Receiver<Command<F>>,
    events: Sender<EngineEvent>,
    clock: Clock,
}

/// A port and what belongs to it, on its way.
type Given<F> = (Box<Served>, Option<Baggage<F>>);

/// Makes what the threads of `config` start with.
pub(super) fn prepare<F: Forward>(
    config: EngineConfig,
    forward: &Arc<F>,
    events: &Sender<EngineEvent>,
    clock: Clock,
    mut local: impl FnMut(usize) -> F::Local,
) -> io::Result<Vec<Start<F>>> {
    (0..config.workers.max(1))
        .map(|index| {
            let rounds = Rounds::choose(config.io)?;
            let io_name = rounds.name();
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
            let (sender, commands) = crossbeam_channel::bounded(MAX_COMMANDS);
            let mut local = local(index);
            local.start(poll.registry().try_clone()?, waker.clone());
            let worker = Worker::new(index, forward.clone(), rounds, local);
            let mailbox = Mailbox { commands: sender, waker, load: Arc::default() };
            let events = events.clone();
            Ok(Start { index, worker, io_name, poll, mailbox, commands, events, clock })
        })
        .collect()
}

impl<F: Forward> Start<F> {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn io_name(&self) -> &'static str {
        self.io_name
    }

    pub(super) fn mailbox(&self) -> Mailbox<F> {
        self.mailbox.clone()
    }

    /// The thread's life. `peers` are the mailboxes of all workers.
    pub(super) fn run(mut self, peers: Vec<Mailbox<F>>) {
        self.worker.enable();
        let mut events = Events::with_capacity(MAX_EVENTS);
        let mut now = self.clock.now();
        let mut looked = now;
        let mut saturation = Saturation::new(now);
        let mut spin = Spin::new();
        while self.obey(now) {
            let frames = self.worker.turn(now);
            if frames > 0 {
                spin.found();
            }
            self.report_gone();
            if self.worker.may_flood(frames) {
                std::thread::yield_now();
            }
            if frames == 0 && self.worker.ports.all_were_read() {
                looked = self.wait(&mut events, now, &mut spin, &mut saturation);
            } else if now.since(looked) > LOOK {
                self.look(&mut events, Some(Duration::ZERO));
                looked = now;
            }
            now = self.clock.now();
            if let Some(saturated) = saturation.check(now) {
                self.mailbox.load.saturated.store(saturated, Ordering::Relaxed);
                let busy = self.worker.ports.every_second_busy();
                if saturated {
                    self.share(busy, &peers);
                }
            }
        }
    }

    /// Carries out what was sent; false: end.
    fn obey(&mut self, now: Instant) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Adopt(forward, changed, adopted) => {
                    for slot in self.worker.adopt(forward, &changed, now) {
                        self.let_go(slot);
                    }
                    drop(adopted);
                }
                Command::Take(served, baggage) => self.serve(served, baggage, now),
                Command::Stop => return false,
            }
        }
        true
    }

    fn serve(&mut self, served: Box<Served>, baggage: Option<Baggage<F>>, now: Instant) {
        let Some(slot) = self.worker.take_served(served, baggage, now) else { return };
        self.mailbox.load.ports.fetch_add(1, Ordering::Relaxed);
        let Some(fd) = self.worker.ports.served(slot).and_then(|served| served.rx.fd()) else { return };
        let raw = fd.as_raw_fd();
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&raw), Token(slot), Interest::READABLE) {
            tracing::error!(%error, "a port cannot be waited on: it is withdrawn");
            let id = self.worker.ports.served(slot).map(|served| served.rx.id());
            self.let_go(slot);
            id.map(|id| self.events.send(EngineEvent::Gone(id)));
        }
    }

    /// Takes the port out of the poll and hands it over.
    fn let_go(&mut self, slot: usize) -> Option<Given<F>> {
        let (served, baggage) = self.worker.let_go(slot)?;
        if let Some(fd) = served.rx.fd() {
            let raw = fd.as_raw_fd();
            // A device that is gone may have left the poll already.
            let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
        }
        self.mailbox.load.ports.fetch_sub(1, Ordering::Relaxed);
        Some((served, baggage))
    }

    fn report_gone(&mut self) {
        for id in self.worker.drain_gone() {
            // Control ends before its workers only when the process ends.
            let _ = self.events.send(EngineEvent::Gone(id));
        }
    }

    /// Until something comes. Every port was read empty, so that each has an event when it has a frame: it is enough to look
    /// at the poll. Returns when it last looked.
    fn wait(&mut self, events: &mut Events, mut now: Instant, spin: &mut Spin, saturation: &mut Saturation) -> Instant {
        while self.worker.answer_due(now).is_some_and(|ago| spin.look_on(ago)) {
            if self.look(events, Some(Duration::ZERO)) {
                return now;
            }
            // Who was woken by our last write may wait for this very core.
            std::thread::yield_now();
            now = self.clock.now();
        }
        self.sleep(events, now, saturation);
        now
    }

    fn sleep(&mut self, events: &mut Events, since: Instant, saturation: &mut Saturation) {
        self.mailbox.load.asleep.store(true, Ordering::Relaxed);
        let timeout = self.worker.deadline().map(|due| due.since(since));
        self.look(events, timeout);
        self.mailbox.load.asleep.store(false, Ordering::Relaxed);
        saturation.slept(self.clock.now().since(since));
    }

    /// Notes which ports became readable; whether there was any event.
    fn look(&mut self, events: &mut Events, timeout: Option<Duration>) -> bool {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return false,
            Err(error) => panic!("a worker cannot wait: {error}"),
        }
        for event in events.iter().filter(|event| event.token() != WAKE) {
            match event.token().0 {
                local @ LOCAL_TOKENS.. => self.worker.event(local, Ready::from(event)),
                port => self.worker.ports.activate(port),
            }
        }
        !events.is_empty()
    }

    /// Gives the ports in `slots` to a worker that sleeps.
    fn share(&mut self, slots: Vec<usize>, peers: &[Mailbox<F>]) {
        let mut sleepers =
            peers.iter().enumerate().filter(|(at, peer)| *at != self.index && peer.is_asleep()).map(|(_, peer)| peer);
        let Some(peer) = sleepers.next() else { return };
        for slot in slots {
            let Some((served, baggage)) = self.let_go(slot) else { continue };
            if let Err((served, baggage)) = peer.offer(served, baggage) {
                self.serve(served, baggage, self.clock.now());
                return;
            }
        }
    }
}
