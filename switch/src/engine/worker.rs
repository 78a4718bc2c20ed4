//! A worker's ports and its turn: one round of reads, decisions and writes. The thread around it waits; a simulation
//! calls the turn by hand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::dispatch::Desk;
use super::rounds::Rounds;
use super::served::Served;
use super::{Activity, Changed, Forward, Local, Ready};
use crate::forwarding::{Instant, PortId};
use crate::port::RxPort;

/// Most frames of one burst, and of one round over all ports.
pub(super) const MOST_FRAMES: usize = 32;

/// So many small frames in one turn come faster than one by one.
const A_CROWD: usize = 4;

/// The busiest port has at most so many times the bytes of another that is busy.
const A_PART: u64 = 8;

/// What a read gave.
pub(super) enum Reading {
    /// This many bytes, offload header included.
    Frame(usize),
    /// Nothing to read.
    Empty,
    /// The device is gone.
    Gone,
}

impl Reading {
    #[inline]
    pub(super) fn of(result: io::Result<usize>) -> Self {
        match result {
            // No frame is empty: this is the end of something that is no TAP.
            Ok(0) => Reading::Gone,
            Ok(len) => Reading::Frame(len),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Reading::Empty
            }
            // EIO: the device is down; its owner may raise it again, and then there is an event.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Reading::Empty,
            Err(_) => Reading::Gone,
        }
    }
}

/// The read sides of one worker, by slot, and which of them to read in the next turn.
#[derive(Debug, Default)]
pub(super) struct Ports {
    slots: Vec<Option<Box<Served>>>,
    free: Vec<usize>,
    by_id: BTreeMap<PortId, usize>,
    /// Slots to read, in the order of their turns.
    active: Vec<usize>,
    /// Of `active`, those of which a read found nothing in this turn.
    empty: Vec<usize>,
    /// Of `active`, those that have sent as much as they may for now.
    spent: Vec<usize>,
    /// Slots of ports that are not read until then, for that reason.
    held: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Where the next rotation starts, so that no port is always first.
    start: usize,
    /// The last rotation was not gone through to its end.
    left_over: bool,
    gone: Vec<PortId>,
}

impl Ports {
    pub(super) fn insert(&mut self, served: Box<Served>) -> usize {
        let at = self.free.pop().unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.by_id.insert(served.rx.id(), at);
        self.slots[at] = Some(served);
        self.activate(at);
        at
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Box<Served>> {
        self.deactivate(at);
        let mut served = self.slots.get_mut(at)?.take()?;
        served.held = false;
        self.by_id.remove(&served.rx.id());
        self.empty.retain(|&slot| slot != at);
        self.held.retain(|Reverse((_, slot))| *slot != at);
        self.free.push(at);
        Some(served)
    }

    /// To be read in the next turn; one that is held is, once it may send again.
    pub(super) fn activate(&mut self, at: usize) {
        if let Some(Some(served)) = self.slots.get_mut(at)
            && served.active.is_none()
            && !served.held
            && !served.gone
        {
            served.active = Some(self.active.len());
            self.active.push(at);
        }
    }

    /// Where a port that is served here and whose frames come one by one is in the rotation, to be read in the next turn too.
    pub(super) fn activate_sparse(&mut self, id: PortId) -> Option<usize> {
        let slot = *self.by_id.get(&id)?;
        self.slots[slot].as_deref().filter(|served| served.is_sparse())?;
        self.activate(slot);
        self.slots[slot].as_deref()?.active
    }

    /// Not to be read until it is activated again. The last of the list takes its place.
    fn deactivate(&mut self, at: usize) {
        let Some(Some(served)) = self.slots.get_mut(at) else { return };
        let Some(place) = served.active.take() else { return };
        self.active.swap_remove(place);
        if let Some(&moved) = self.active.get(place)
            && let Some(moved) = &mut self.slots[moved]
        {
            moved.active = Some(place);
        }
    }

    /// The active ports in the order of this turn.
    pub(super) fn rotation(&mut self) -> impl Iterator<Item = usize> + Clone + use<> {
        let count = self.active.len();
        self.left_over = false;
        self.start = if count == 0 { 0 } else { (self.start + 1) % count };
        let start = self.start;
        (0..count).map(move |step| (start + step) % count)
    }

    /// The port at `at` of the rotation, unless it has no place in what is published or may not send more.
    pub(super) fn active(&mut self, at: usize) -> Option<&mut Served> {
        let slot = *self.active.get(at)?;
        self.slots[slot].as_deref_mut().filter(|served| served.place.is_some() && !served.gone && !served.held)
    }

    /// The port at `at` of the rotation had nothing to read.
    pub(super) fn found_empty(&mut self, at: usize) {
        let slot = self.active[at];
        if let Some(served) = self.slots[slot].as_deref_mut() {
            served.saw_nothing();
        }
        self.empty.push(slot);
    }

    /// The port at `at` of the rotation has sent as much as it may for now.
    pub(super) fn found_spent(&mut self, at: usize) {
        let slot = self.active[at];
        if let Some(served) = self.slots[slot].as_deref_mut() {
            served.held = true;
        }
        self.spent.push(slot);
    }

    /// Ports that may send again are read again.
    fn release(&mut self, now: Instant) {
        while let Some(&Reverse((due, slot))) = self.held.peek()
            && due <= now
        {
            self.held.pop();
            if let Some(served) = self.slots[slot].as_deref_mut() {
                served.held = false;
            }
            self.activate(slot);
        }
    }

    /// When the next port may send again.
    fn next_release(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse((due, _))| *due)
    }

    /// The device of the port at `at` of the rotation is gone.
    pub(super) fn found_gone(&mut self, at: usize) {
        let slot = self.active[at];
        if let Some(served) = self.slots[slot].as_deref_mut() {
            served.gone = true;
            self.gone.push(served.rx.id());
        }
        self.empty.push(slot);
    }

    /// Lets go of ports that had nothing to read, and not lately either, and of those that may not send more.
    fn quieten(&mut self, now: Instant) {
        while let Some(slot) = self.spent.pop() {
            let Some(due) = self.slots[slot].as_deref().map(|served| served.due(now)) else { continue };
            self.deactivate(slot);
            self.held.push(Reverse((due.unwrap_or(now), slot)));
        }
        if self.empty.is_empty() {
            return;
        }
        let beside_dense = (0..self.active.len()).any(|at| self.active(at).is_some_and(|served| !served.is_sparse()));
        while let Some(slot) = self.empty.pop() {
            let Some(served) = self.slots[slot].as_deref_mut() else { continue };
            if !served.lingers(beside_dense, now) {
                self.deactivate(slot);
            }
        }
    }

    /// A turn had no room for more reads, and active ports are left.
    pub(super) fn found_no_room(&mut self) {
        self.left_over = true;
    }

    /// Whether the last turn read every active port, so that one without a frame means that there is none.
    pub(super) fn all_were_read(&self) -> bool {
        !self.left_over
    }

    /// Slots of every second busy port: what a saturated worker gives away. Busy is an active port that brought at least
    /// [`A_PART`] of the busiest one's bytes since the last call; one with acknowledgements alone is not.
    pub(super) fn every_second_busy(&mut self) -> Vec<usize> {
        let bytes: Vec<u64> =
            self.slots.iter_mut().map(|slot| slot.as_mut().map_or(0, |served| served.take_bytes())).collect();
        let most = self.active.iter().map(|&slot| bytes[slot]).max().unwrap_or(0);
        let busy = self.active.iter().filter(|&&slot| bytes[slot] >= most / A_PART);
        busy.skip(1).step_by(2).copied().collect()
    }

    pub(super) fn served(&self, at: usize) -> Option<&Served> {
        self.slots.get(at)?.as_deref()
    }

    /// Slots of those that `changed` may concern.
    fn concerned(&self, changed: &Changed) -> Vec<usize> {
        match changed {
            Changed::All => self.by_id.values().copied().collect(),
            Changed::Ports(ports) => ports.iter().filter_map(|port| self.by_id.get(port).copied()).collect(),
        }
    }
}

pub(super) type Baggage<F> = <<F as Forward>::Local as Local<F>>::Baggage;

/// What one worker does, without the waiting.
pub struct Worker<F: Forward> {
    forward: Arc<F>,
    pub(super) ports: Ports,
    desk: Desk<F>,
    rounds: Rounds,
    /// The local side was told of an event since the last turn.
    heard: bool,
}

impl<F: Forward> Worker<F> {
    /// A worker whose turns are called by hand, for simulations on cables: plain reads and writes. It is number
    /// `index`. Who starts `local`, and tells it of events, is the caller.
    pub fn by_hand(index: usize, forward: Arc<F>, local: F::Local) -> Self {
        Self::new(index, forward, Rounds::plain(), local)
    }

    pub(super) fn new(index: usize, forward: Arc<F>, rounds: Rounds, local: F::Local) -> Self {
        Worker { forward, ports: Ports::default(), desk: Desk::new(index, local), rounds, heard: false }
    }

    /// Who takes what is addressed to the switch itself.
    pub fn local(&mut self) -> &mut F::Local {
        &mut self.desk.local
    }

    /// By the thread that makes the turns, before the first.
    pub(super) fn enable(&mut self) {
        self.rounds.enable();
        self.rounds.adopt(&*self.forward, &Changed::All);
    }

    /// Takes over a read side.
    pub fn take(&mut self, port: RxPort, now: Instant) {
        self.take_served(Box::new(Served::new(port, now)), None, now);
    }

    /// As [`Worker::take`]; its slot, unless what is published does not name it.
    pub(super) fn take_served(
        &mut self,
        mut served: Box<Served>,
        baggage: Option<Baggage<F>>,
        now: Instant,
    ) -> Option<usize> {
        served.settle(&*self.forward, now);
        served.place?;
        let (local, out) = self.desk.local(&self.forward, now);
        local.take(served.rx.id(), baggage, out, now);
        Some(self.ports.insert(served))
    }

    /// Goes by `forward` from now on, which is new in what `changed` says, and drops the ports that it does not name, returning
    /// their slots.
    pub fn adopt(&mut self, forward: Arc<F>, changed: &Changed, now: Instant) -> Vec<usize> {
        self.rounds.flush(&*self.forward, self.desk.worker);
        self.desk.space.adopt(&*self.forward, &*forward, self.desk.worker);
        let mut dropped = Vec::new();
        for at in self.ports.concerned(changed) {
            let Some(served) = &mut self.ports.slots[at] else { continue };
            served.settle(&*forward, now);
            if served.place.is_none() {
                dropped.push(at);
            }
        }
        self.desk.scratch.reserve_ports(forward.most_ports());
        self.rounds.adopt(&*forward, changed);
        self.forward = forward;
        let (local, out) = self.desk.local(&self.forward, now);
        local.adopt(changed, out, now);
        dropped
    }

    /// Drops the port in slot `at`.
    pub fn drop_port(&mut self, at: usize) {
        self.let_go(at);
    }

    /// Takes the port in slot `at` out, with what belongs to it; all that was read of it is written.
    pub(super) fn let_go(&mut self, at: usize) -> Option<(Box<Served>, Option<Baggage<F>>)> {
        // Another worker may read the port's next frames before this one has its next turn.
        self.rounds.flush(&*self.forward, self.desk.worker);
        let served = self.ports.remove(at)?;
        let baggage = self.desk.local.let_go(served.rx.id());
        Some((served, baggage))
    }

    /// One round over the active ports, at most [`MOST_FRAMES`] of them through a ring, and what is due of the switch's own; how
    /// many frames were read or things done. Anything but 0 means: call again at once, or frames that were decided upon
    /// stay unwritten.
    pub fn turn(&mut self, now: Instant) -> usize {
        self.desk.saw_bulk = false;
        // What a socket brought goes out before a system call is spent on looking at the ports.
        let early = std::mem::take(&mut self.heard) && self.local_turn(now);
        self.ports.release(now);
        let frames = self.rounds.turn(&*self.forward, &mut self.ports, &mut self.desk, now);
        self.ports.quieten(now);
        let late = self.desk.space.take_out(&*self.forward, self.desk.worker, now);
        frames + late + usize::from(early) + usize::from(self.local_turn(now))
    }

    /// Whether a turn that read `frames` may have written more than receivers take in meanwhile. Small frames come from senders whom
    /// nothing holds up: a receiver that waits for this core loses in its socket what is written on.
    pub(super) fn may_flood(&self, frames: usize) -> bool {
        frames >= A_CROWD && !self.desk.saw_bulk
    }

    /// What is due of the switch's own; whether that was anything.
    fn local_turn(&mut self, now: Instant) -> bool {
        let (local, out) = self.desk.local(&self.forward, now);
        let activity = local.turn(out, now);
        if activity != Activity::Idle {
            self.desk.last_frame = now;
            self.desk.last_was_bulk = activity == Activity::Bulk;
        }
        activity != Activity::Idle
    }

    /// What became of a descriptor of the local side.
    pub(super) fn event(&mut self, token: usize, ready: Ready) {
        self.heard = true;
        self.desk.local.event(token, ready);
    }

    /// When the next timer is due, at the latest, or what waits for a limit of a rate.
    pub fn deadline(&self) -> Option<Instant> {
        let (released, due) = (self.ports.next_release(), self.desk.space.next_due());
        [self.desk.local.deadline(), released, due].into_iter().flatten().min()
    }

    /// How long ago the last frame was read, if it is one that may be answered soon: a small one.
    pub(super) fn answer_due(&self, now: Instant) -> Option<Duration> {
        (!self.desk.last_was_bulk).then(|| now.since(self.desk.last_frame))
    }

    /// Ports whose device was found gone since the last call.
    pub fn drain_gone(&mut self) -> impl Iterator<Item = PortId> + '_ {
        self.ports.gone.drain(..)
    }
}
