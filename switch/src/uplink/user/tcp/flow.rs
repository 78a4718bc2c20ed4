//! One connection: the container's TCP on one side, a socket on the other.
//!
//! ```text
//!  Connecting ──socket connected──▶ Answering ──ACK of our SYN──▶ Open      (the container calls)
//!  Calling ──────────────────────────SYN+ACK of the container───▶ Open      (a client of a published port calls)
//! ```
//!
//! The container's SYN is answered only when the far end has answered, so that it sees refused what is refused. In Open
//! each direction ends by itself: a FIN here is a shutdown there, and the other way round; a reset is a reset. The
//! flow is over when the container has acknowledged the far end's end, and the socket has taken the container's. A container that
//! is not there any more when it has ended its own direction has no more part in that, see [`Flow::leave`].
//!
//! What is to be done at once when a frame comes is done in [`Flow::receive`]; reading the socket, which is shared among flows
//! fairly, waits for [`Flow::run`].

mod handshake;
mod relay;

use std::io;

use super::super::{Ends, Home};
use super::account::{Account, Epoch};
use super::download::{Download, Expired};
use super::farewells::Farewell;
use super::headers::{ACK, Fields, RST, Template};
use super::options::Options;
use super::pool::Pool;
use super::segment::{Segment, SynOptions};
use super::sequence::{Seq, distance};
use super::socket::FarSocket;
use super::upload::{Answer, Upload};
use crate::engine::{Out, Ready};
use crate::forwarding::{EgressDrop, Instant};
use crate::uplink::View;
use handshake::DEFAULT_MSS;

/// Payload taken for which an acknowledgement is due at once.
const ACK_BYTES: u32 = 128 * 1024;

/// Timeouts after which a container does not answer a call: 25 s.
const MAX_CALLS: u32 = 7;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The container's SYN waits for the socket.
    Connecting,
    /// Our SYN+ACK waits for the container.
    Answering,
    /// Our SYN waits for the container.
    Calling,
    /// Both ends are there.
    Open,
}

/// Why a flow is over.
#[derive(Debug)]
pub(super) enum End {
    /// Both sides have ended it.
    Done,
    /// The far end has broken it, or it cannot go on: the container gets a reset, and so does the far end.
    Reset,
    /// The container has broken it, or is not there: the far end gets a reset.
    Abandoned,
    /// The container has refused a client's call.
    Refused,
    /// The far end was not reached.
    Failed(io::Error),
}

/// What a flow works with.
#[derive(Debug)]
pub(super) struct Work<'a, 'o> {
    pub(super) out: Out<'o, View>,
    pub(super) account: &'a mut Account,
    pub(super) pool: &'a mut Pool,
    /// Where bytes of sockets are put before they are sent.
    pub(super) space: &'a mut [u8],
    pub(super) now: Instant,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) ends: Ends,
    pub(super) home: Home,
    pub(super) stage: Stage,
    socket: FarSocket,
    template: Template,
    up: Upload,
    down: Download,
    /// The sequence number of the container's SYN.
    pub(super) first: Seq,
    /// Largest payload of a segment for the container.
    mss: u16,
    /// What it said in its SYN.
    said: SynOptions,
    /// What the socket was told to have; cleared when it turns out not to.
    ready: Ready,
    /// The socket was told that nothing more comes.
    is_shut: bool,
    /// The far end takes nothing more: when what it said before is read, the flow is over.
    is_broken: bool,
    /// What its client called, by its id; none where the container called.
    pub(super) publication: Option<u64>,
    /// Mean payload of the container's frames, in bytes.
    mean: u32,
    epoch: Epoch,
    /// Bytes counted to the account.
    pub(super) held: usize,
    /// When to look whether there is room for what waits in the socket.
    again: Option<Instant>,
    /// When the container was last heard, or the far end read or took what waited for it.
    pub(super) active: Instant,
    pub(super) slot: Slot,
}

/// The table's notes on a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// It is in the list of those to run.
    pub(super) is_queued: bool,
    /// It is in the list of those that owe an acknowledgement.
    pub(super) is_owing: bool,
    /// It owes one.
    pub(super) owes: bool,
    /// It should run.
    pub(super) is_runnable: bool,
    /// The turn in which payload came last, and when.
    pub(super) fed: u64,
    pub(super) fed_at: Instant,
    /// Its entry among the timers.
    pub(super) scheduled: Option<Instant>,
}

impl Flow {
    /// Of a container that sent `syn`; `socket` is connecting. `first` will be our own sequence number.
    pub(super) fn outbound(
        ends: Ends,
        home: Home,
        socket: FarSocket,
        syn: &Segment<'_>,
        first: Seq,
        now: Instant,
    ) -> Self {
        let mut flow = Flow::new(Stage::Connecting, ends, home, socket, first, now);
        flow.heard_syn(syn);
        flow
    }

    /// To a container, by what `publication` is the id of; `socket` is connected.
    pub(super) fn inbound(
        ends: Ends,
        home: Home,
        publication: u64,
        socket: FarSocket,
        first: Seq,
        now: Instant,
    ) -> Self {
        let mut flow = Flow::new(Stage::Calling, ends, home, socket, first, now);
        flow.publication = Some(publication);
        flow.socket.set_up();
        flow
    }

    fn new(stage: Stage, ends: Ends, home: Home, socket: FarSocket, first: Seq, now: Instant) -> Self {
        Flow {
            template: Template::new(&home, &ends),
            ends,
            home,
            stage,
            socket,
            up: Upload::default(),
            down: Download::new(first),
            first: Seq(0),
            mss: DEFAULT_MSS,
            said: SynOptions::default(),
            ready: Ready::default(),
            is_shut: false,
            is_broken: false,
            publication: None,
            mean: u32::from(u16::MAX),
            epoch: Epoch::default(),
            held: 0,
            again: None,
            active: now,
            slot: Slot::default(),
        }
    }

    /// The container is elsewhere, or has another MTU.
    pub(super) fn move_to(&mut self, home: Home) {
        self.home = home;
        self.template = Template::new(&home, &self.ends);
        self.mss = self.bounded_mss();
    }

    pub(super) fn socket(&self) -> &FarSocket {
        &self.socket
    }

    /// The container is not there any more: the flow ends for `end`. But where it had ended its direction itself, all of that was
    /// acknowledged to it and still goes to the far end, as from a socket that was closed. When the socket has it all, we close it
    /// too, and how long its rest is tried is the kernel's affair.
    pub(super) fn leave(&mut self, end: End) -> Result<(), End> {
        if !self.up.is_finished() {
            return Err(end);
        }
        self.down.cut();
        self.slot.is_runnable = true;
        Ok(())
    }

    /// The container has no more part in it: what is left is for the far end to take.
    pub(super) fn is_left(&self) -> bool {
        self.up.is_finished() && self.down.is_finished()
    }

    pub(super) fn into_socket(self) -> FarSocket {
        self.socket
    }

    /// When it wants to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.down.due(), self.again].into_iter().flatten().min()
    }

    /// One direction has ended, and the other not.
    pub(super) fn is_half_closed(&self) -> bool {
        self.up.is_finished() || self.down.has_ended()
    }

    /// What became of the socket.
    pub(super) fn event(&mut self, ready: Ready) {
        self.ready.readable |= ready.readable || ready.read_closed || ready.error;
        self.ready.writable |= (ready.writable || ready.error) && !self.is_broken;
        self.ready.read_closed |= ready.read_closed;
        self.ready.urgent |= ready.urgent;
        self.ready.error |= ready.error;
        self.slot.is_runnable = true;
    }

    /// The far end has broken the connection. What it said before is still in the socket, and no event will tell of it.
    fn break_off(&mut self) {
        self.is_broken = true;
        (self.ready.readable, self.ready.read_closed, self.ready.writable) = (true, true, false);
        self.slot.is_runnable = true;
    }

    /// What the flow may keep, by which its window goes.
    fn limit(&self, account: &Account) -> u32 {
        let limit = account.window(self.mean);
        if self.said.scale.is_some() { limit } else { limit.min(u16::MAX.into()) }
    }

    fn emit(&self, out: &mut Out<'_, View>, fields: &Fields, payload: &[u8]) -> bool {
        let headers = self.template.make(fields, payload.len(), self.mss);
        let payload: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
        let outcome = out.send(self.home.place, &headers.offload, headers.as_bytes(), payload);
        // Refused frames would be refused again: only a lost one counts as not sent.
        !matches!(outcome, Err(EgressDrop::NoMemory | EgressDrop::RateLimit | EgressDrop::Down | EgressDrop::Gone))
    }

    /// An acknowledgement, with what is behind holes.
    pub(super) fn acknowledge(&mut self, work: &mut Work<'_, '_>) {
        self.acknowledge_from(self.down.next(), work);
    }

    fn acknowledge_from(&mut self, seq: Seq, work: &mut Work<'_, '_>) {
        self.slot.owes = false;
        let window = self.up.announce(self.limit(work.account), false);
        let options = if self.said.sack { Options::sack(self.up.blocks()) } else { Options::NONE };
        let fields = Fields { seq, ack: self.up.next(), flags: ACK, window, options };
        self.emit(&mut work.out, &fields, &[]);
    }

    pub(super) fn unacked(&self) -> u32 {
        self.up.unacked()
    }

    /// What is left to say when it is over.
    pub(super) fn farewell(&self) -> Farewell {
        Farewell { seq: self.down.max(), ack: self.up.next() }
    }

    /// Tells the container that the flow is over.
    pub(super) fn reset(&mut self, out: &mut Out<'_, View>) {
        let (seq, ack) = match self.stage {
            // Not answered yet, so there is no number of ours. RFC 9293 3.5.2.
            Stage::Connecting => (Seq(0), self.first + 1),
            _ => (self.down.max(), self.up.next()),
        };
        let flags = if self.stage == Stage::Calling { RST } else { RST | ACK };
        let fields = Fields { seq, ack, flags, window: 0, options: Options::NONE };
        self.emit(out, &fields, &[]);
    }

    /// A segment of the container.
    pub(super) fn receive(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
        self.active = work.now;
        match self.stage {
            Stage::Connecting => {
                if segment.rst && !segment.syn {
                    Err(End::Abandoned)
                } else {
                    Ok(())
                }
            }
            Stage::Calling => self.receive_call(segment, work),
            Stage::Answering => self.receive_answer(segment, work),
            Stage::Open => self.receive_open(segment, work),
        }
    }

    fn receive_open(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
        if segment.rst {
            let is_inside = !segment.seq.is_before(self.up.next()) && !self.up.edge().is_before(segment.seq);
            return if is_inside { self.leave(End::Abandoned) } else { Ok(()) };
        }
        let Some(ack) = segment.ack.filter(|_| !segment.syn) else {
            self.acknowledge(work);
            return Ok(());
        };
        let is_bare = segment.payload.is_empty() && !segment.fin;
        if !self.down.acknowledge(ack, segment.window, segment.first_sacked(), is_bare, work.now) {
            self.acknowledge(work);
            return Ok(());
        }
        self.slot.is_runnable |= is_bare || self.down.has_acked() || self.down.is_finished() || self.is_broken;
        let answer = self.take(segment, work);
        if answer == Answer::Now || self.up.unacked() >= ACK_BYTES {
            self.acknowledge(work);
        } else if answer == Answer::Soon {
            self.slot.owes = true;
        }
        Ok(())
    }

    /// The payload of a segment, and its FIN.
    fn take(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Answer {
        if !segment.payload.is_empty() {
            self.mean = self.mean - self.mean / 8 + distance(segment.payload.len()) / 8;
            work.account.count_busy(&mut self.epoch, work.now);
        }
        let room = work.account.room(self.up.held());
        let (seq, payload, fin) = (segment.seq, segment.payload, segment.fin);
        let taken = self.up.take(seq, payload, fin, room, work.pool, &mut sink(&self.socket, &mut self.ready));
        self.settle(work.account);
        self.slot.is_runnable |= self.up.is_finished() && !self.is_shut;
        taken.unwrap_or_else(|_| {
            self.break_off();
            Answer::None
        })
    }

    /// Counts what is kept.
    fn settle(&mut self, account: &mut Account) {
        let held = self.up.held() + self.socket.held();
        account.change(self.held, held);
        self.held = held;
    }

    /// Its time has come.
    pub(super) fn expire(&mut self, work: &mut Work<'_, '_>) -> Result<(), End> {
        if self.again.take_if(|again| *again <= work.now).is_some() {
            self.slot.is_runnable = true;
        }
        if self.down.due().is_none_or(|due| due > work.now) {
            return Ok(());
        }
        match (self.down.expire(work.now), self.stage) {
            (_, Stage::Connecting) => {}
            (Expired::GiveUp, _) => return self.leave(End::Reset),
            (_, Stage::Calling) if self.down.unanswered() > MAX_CALLS => return Err(End::Abandoned),
            (_, Stage::Calling) => self.call(work),
            (_, Stage::Answering) => self.answer(work),
            (Expired::Resend, Stage::Open) => self.slot.is_runnable = true,
            (Expired::Probe, Stage::Open) => {
                self.probe(work);
                self.down.blocked(work.now);
            }
        }
        Ok(())
    }

    /// Asks the container whether it is there: what stands before what it expects, it answers. RFC 9293 3.8.4.
    pub(super) fn probe(&mut self, work: &mut Work<'_, '_>) {
        self.acknowledge_from(Seq(self.down.una().0.wrapping_sub(1)), work);
    }
}

/// The socket as a taker of bytes, which is not asked again before it says that it has room.
fn sink<'a>(socket: &'a FarSocket, ready: &'a mut Ready) -> impl FnMut(&[u8]) -> io::Result<usize> + use<'a> {
    |bytes| {
        if !ready.writable {
            return Ok(0);
        }
        let sent = socket.send(bytes)?;
        ready.writable = sent == bytes.len();
        Ok(sent)
    }
}
