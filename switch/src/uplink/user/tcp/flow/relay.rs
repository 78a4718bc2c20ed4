//! A flow that is open: what its socket, and what was heard since, lets it do.

use std::time::Duration;

use super::super::download::Want;
use super::super::headers::{ACK, FIN, Fields, PSH};
use super::super::options::Options;
use super::super::sequence::{Seq, distance};
use super::{End, Flow, Stage, Work, sink};
use crate::engine::Activity;
use crate::frame::MAX_FRAME;

/// More than this moved at once is part of a bulk transfer.
const BULK_BYTES: usize = 32 * 1024;

/// How soon to look whether there is room again for what goes to the container, unless it is heard before.
const ROOM_AGAIN: Duration = Duration::from_millis(2);

/// The same for what is kept for it, of which it has much that it does not acknowledge.
const KEEP_AGAIN: Duration = Duration::from_millis(100);

impl Flow {
    /// What the socket, and what was heard since, lets it do; how much that was.
    pub(in super::super) fn run(&mut self, work: &mut Work<'_, '_>) -> Result<Activity, End> {
        self.slot.is_runnable = false;
        match self.stage {
            Stage::Connecting if self.socket.is_connected().map_err(End::Failed)? => {
                self.socket.set_up();
                self.stage = Stage::Answering;
                self.answer(work);
                Ok(Activity::Small)
            }
            Stage::Open => self.relay(work),
            _ if self.ready.error => self.socket.error().map(|()| Activity::Idle).map_err(|_| End::Reset),
            _ => Ok(Activity::Idle),
        }
    }

    fn relay(&mut self, work: &mut Work<'_, '_>) -> Result<Activity, End> {
        let mut moved = 0;
        if self.ready.writable && !self.up.is_drained() {
            let drained = self.up.drain(work.pool, &mut sink(&self.socket, &mut self.ready));
            match drained {
                Ok(0) => {}
                Ok(drained) => (moved, self.active) = (drained, work.now),
                Err(_) => self.break_off(),
            }
        }
        if self.up.is_finished() && self.up.is_drained() && !self.is_shut {
            self.is_shut = true;
            if self.socket.finish().is_err() {
                self.break_off();
            }
        }
        moved += self.pump(work)?;
        self.settle(work.account);
        if std::mem::take(&mut self.ready.error) && self.socket.error().is_err() {
            self.break_off();
        }
        if self.is_shut && self.down.is_finished() {
            self.socket.discard_rest();
            return Err(End::Done);
        }
        // A container that waits for us to take more before it reads on would wait for ever.
        let is_stuck = !self.up.is_drained() && !self.down.is_open() && !self.down.is_in_flight();
        if self.is_broken && (self.down.has_ended() || is_stuck) {
            return Err(End::Reset);
        }
        if self.up.has_opened(self.limit(work.account)) {
            self.acknowledge(work);
        }
        Ok(match moved {
            0 => Activity::Idle,
            1..=BULK_BYTES => Activity::Small,
            _ => Activity::Bulk,
        })
    }

    /// From the socket to the container: at most as much as there is space for, so that other flows have their turn; how much.
    fn pump(&mut self, work: &mut Work<'_, '_>) -> Result<usize, End> {
        let acked = self.down.take_acked();
        if acked > 0 {
            self.socket.discard(acked).map_err(|_| End::Reset)?;
        }
        let mut moved = 0;
        while let Some(want) = self.down.want(distance(work.space.len()), self.mss) {
            let (seq, len, is_new) = match want {
                Want::Fin { seq } => {
                    self.send_fin(seq, work);
                    break;
                }
                Want::New { seq, len } => (seq, len as usize, true),
                Want::Again { seq, len } => (seq, len as usize, false),
            };
            if is_new && !(self.ready.readable && self.socket.has_room()) {
                return Ok(moved);
            }
            let offset = seq.since(self.down.una());
            let kept = if is_new { self.socket.room(offset, work.account.room(0)) } else { len };
            let len = self.fitting(len.min(kept), work);
            if len == 0 {
                self.again = Some(work.now + if kept == 0 { KEEP_AGAIN } else { ROOM_AGAIN });
                return Ok(moved);
            }
            let got = match self.socket.fetch(offset, &mut work.space[..len]).map_err(|_| End::Reset)? {
                Some(got) if got > 0 => got,
                // That it was broken was told already, so now it looks like an end.
                _ if self.is_broken => return Err(End::Reset),
                Some(_) if is_new => {
                    self.down.end();
                    continue;
                }
                _ => {
                    self.ready.readable &= !is_new;
                    return Ok(moved);
                }
            };
            // Less than was asked for is all there is; what comes later is an event. An end that was told of is not, and a read ends
            // before an urgent byte, too.
            let is_all = got < len && !self.ready.read_closed && !self.ready.urgent;
            self.ready.readable &= !(is_new && is_all);
            self.active = work.now;
            moved += got;
            if !self.send_bytes(seq, got, work) {
                // No event will tell of what stays in the socket for that.
                self.ready.readable |= is_new;
                return Ok(moved);
            }
            if is_new {
                self.slot.is_runnable |= self.ready.readable;
                return Ok(moved);
            }
        }
        if self.ready.readable && !self.down.has_ended() && !self.down.is_in_flight() && !self.down.is_open() {
            self.down.blocked(work.now);
        }
        Ok(moved)
    }

    /// Of `len` bytes, those for which there is room: what the limit of the container's rate has none for stays in the socket,
    /// which slows the far end down.
    fn fitting(&self, len: usize, work: &Work<'_, '_>) -> usize {
        let mss = usize::from(self.mss);
        let room = work.out.room(self.home.place, mss);
        if len <= room { len } else { room - room % mss }
    }

    /// Sends the first `len` bytes of the space from `seq` on; false: not all of it could be written.
    fn send_bytes(&mut self, seq: Seq, len: usize, work: &mut Work<'_, '_>) -> bool {
        let limit = self.limit(work.account);
        let longest = if self.down.may_be_long() { work.out.longest(self.home.place) } else { MAX_FRAME };
        let mut most = self.template.most_payload(self.mss, longest);
        let (mut at, mut rest) = (seq, &work.space[..len]);
        while !rest.is_empty() {
            let (payload, after) = rest.split_at(most.min(rest.len()));
            let flags = if after.is_empty() { ACK | PSH } else { ACK };
            let window = self.up.announce(limit, false);
            let fields = Fields { seq: at, ack: self.up.next(), flags, window, options: Options::NONE };
            if self.emit(&mut work.out, &fields, payload) {
                (at, rest) = (at + distance(payload.len()), after);
                self.down.sent(at, work.now);
                continue;
            }
            let short = self.template.most_payload(self.mss, MAX_FRAME);
            if payload.len() <= short {
                self.down.failed(work.now);
                return false;
            }
            // The kernel's memory may be in pieces too small for so long a frame.
            self.down.shorten();
            most = short;
        }
        // A hole of ours is told of by itself; else the acknowledgement went along.
        self.slot.owes = false;
        true
    }

    fn send_fin(&mut self, seq: Seq, work: &mut Work<'_, '_>) {
        let window = self.up.announce(self.limit(work.account), false);
        let fields = Fields { seq, ack: self.up.next(), flags: FIN | ACK, window, options: Options::NONE };
        if self.emit(&mut work.out, &fields, &[]) {
            self.down.sent(seq + 1, work.now);
            self.slot.owes = false;
        } else {
            self.down.failed(work.now);
        }
    }
}
