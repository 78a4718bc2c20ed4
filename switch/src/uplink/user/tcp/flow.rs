//! One connection: the container's TCP on one side, a socket on the other.
//!
//! ```text
//!  Connecting ──socket connected──▶ Answering ──ACK of our SYN──▶ Open      (the container calls)
//!  Calling ──────────────────────────SYN+ACK of the container───▶ Open      (a client of a published port calls)
//! ```
//!
//! The container's SYN is answered only when the far end has answered, so that it sees refused what is refused. In Open
//! each direction ends by itself: a FIN here is a shutdown there, and the other way round; a reset is a reset. The
//! flow is over when the container has acknowledged the far end's end, and the socket has taken the container's.
//!
//! What is to be done at once when a frame comes is done in [`Flow::receive`]; reading the socket, which is shared among flows
//! fairly, waits for [`Flow::run`].

use std::io;

use super::super::{Ends, Home};
use super::account::{Account, Epoch};
use super::download::{Download, Expired, Want};
use super::farewells::Farewell;
use super::headers::{ACK, FIN, Fields, PSH, RST, SYN, Template, overhead};
use super::options::Options;
use super::pool::Pool;
use super::segment::{Segment, SynOptions};
use super::sequence::{Seq, distance};
use super::socket::FarSocket;
use super::upload::{Answer, Upload};
use crate::engine::{Activity, Out, Ready};
use crate::forwarding::{EgressDrop, Instant};
use crate::uplink::View;

/// Our windows are shifted by so many bits: 16 MB can be said, more than is ever given.
const SCALE: u8 = 8;

/// Payload taken for which an acknowledgement is due at once.
const ACK_BYTES: u32 = 128 * 1024;

/// More than this moved at once is part of a bulk transfer.
const BULK_BYTES: usize = 32 * 1024;

/// Timeouts after which a container does not answer a call: 25 s.
const MAX_CALLS: u32 = 7;

/// The least segment size that is gone by; TCP_MIN_SND_MSS of Linux.
const MIN_MSS: u16 = 48;

/// The segment size of who names none. RFC 9293 3.7.1.
const DEFAULT_MSS: u16 = 536;

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
    /// Mean payload of the container's frames, in bytes.
    mean: u32,
    epoch: Epoch,
    /// Bytes counted to the account.
    pub(super) held: usize,
    /// When the container was last heard, or the far end read.
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

    /// To a container; `socket` is connected.
    pub(super) fn inbound(ends: Ends, home: Home, socket: FarSocket, first: Seq, now: Instant) -> Self {
        let mut flow = Flow::new(Stage::Calling, ends, home, socket, first, now);
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
            mean: u32::from(u16::MAX),
            epoch: Epoch::default(),
            held: 0,
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

    pub(super) fn into_socket(self) -> FarSocket {
        self.socket
    }

    /// When it wants to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.down.due()
    }

    /// One direction has ended, and the other not.
    pub(super) fn is_half_closed(&self) -> bool {
        self.up.is_finished() || self.down.has_ended()
    }

    /// What became of the socket.
    pub(super) fn event(&mut self, ready: Ready) {
        self.ready.readable |= ready.readable || ready.read_closed || ready.error;
        self.ready.writable |= ready.writable || ready.error;
        self.ready.read_closed |= ready.read_closed;
        self.ready.error |= ready.error;
        self.slot.is_runnable = true;
    }

    fn heard_syn(&mut self, syn: &Segment<'_>) {
        self.first = syn.seq;
        self.said = syn.syn_options();
        let scale = if self.said.scale.is_some() { SCALE } else { 0 };
        self.up = Upload::new(syn.seq + 1, scale);
        self.down.agree(self.said.scale.unwrap_or(0), self.said.sack);
        self.mss = self.bounded_mss();
    }

    fn our_mss(&self) -> u16 {
        u16::try_from(self.home.mtu - overhead(self.ends.near)).unwrap_or(u16::MAX)
    }

    fn bounded_mss(&self) -> u16 {
        let smallest = if self.ends.near.is_ipv4() { DEFAULT_MSS } else { 1220 };
        self.said.mss.unwrap_or(smallest).min(self.our_mss()).max(MIN_MSS)
    }

    /// Calls the container.
    pub(super) fn call(&mut self, work: &mut Work<'_, '_>) {
        let options = Options::syn(self.our_mss(), Some(SCALE), true);
        let fields = Fields { seq: self.down.una(), ack: Seq(0), flags: SYN, window: u16::MAX, options };
        self.emit(&mut work.out, &fields, &[]);
        self.down.arm(work.now);
    }

    /// Answers the container's call.
    fn answer(&mut self, work: &mut Work<'_, '_>) {
        let scale = self.said.scale.map(|_| SCALE);
        let options = Options::syn(self.our_mss(), scale, self.said.sack);
        let window = self.up.announce(self.limit(work.account).min(u16::MAX.into()), true);
        let fields = Fields { seq: self.down.una(), ack: self.up.next(), flags: SYN | ACK, window, options };
        self.emit(&mut work.out, &fields, &[]);
        self.down.arm(work.now);
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
        !matches!(outcome, Err(EgressDrop::NoMemory | EgressDrop::Down | EgressDrop::Gone))
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

    /// RFC 9293 3.10.7.3.
    fn receive_call(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
        let is_ours = segment.ack == Some(self.down.max());
        match (segment.ack, is_ours) {
            (_, true) if segment.rst => Err(End::Abandoned),
            (_, true) if segment.syn => {
                self.heard_syn(segment);
                self.open(segment, work);
                self.acknowledge(work);
                Ok(())
            }
            (Some(ack), false) if !segment.rst => {
                // Of a connection before: it ends, and the call is made anew at its time.
                let fields = Fields { seq: ack, ack: Seq(0), flags: RST, window: 0, options: Options::NONE };
                self.emit(&mut work.out, &fields, &[]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn receive_answer(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
        if segment.rst {
            return if segment.seq == self.up.next() { Err(End::Abandoned) } else { Ok(()) };
        }
        if segment.syn {
            self.answer(work);
            return Ok(());
        }
        if segment.ack != Some(self.down.max()) {
            return Ok(());
        }
        self.open(segment, work);
        self.receive_open(segment, work)
    }

    fn open(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) {
        self.stage = Stage::Open;
        self.down.open(segment.window, segment.syn);
        self.active = work.now;
        // The socket's own events tell what it does not have.
        (self.ready.readable, self.ready.writable) = (true, true);
        self.slot.is_runnable = true;
    }

    fn receive_open(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
        if segment.rst {
            let is_inside = !segment.seq.is_before(self.up.next()) && !self.up.edge().is_before(segment.seq);
            return if is_inside { Err(End::Abandoned) } else { Ok(()) };
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
        self.slot.is_runnable |= is_bare || self.down.has_acked() || self.down.is_finished();
        let answer = self.take(segment, work)?;
        if answer == Answer::Now || self.up.unacked() >= ACK_BYTES {
            self.acknowledge(work);
        } else if answer == Answer::Soon {
            self.slot.owes = true;
        }
        Ok(())
    }

    /// The payload of a segment, and its FIN.
    fn take(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<Answer, End> {
        if !segment.payload.is_empty() {
            self.mean = self.mean - self.mean / 8 + distance(segment.payload.len()) / 8;
            work.account.count_busy(&mut self.epoch, work.now);
        }
        let room = work.account.room(self.up.held());
        let (seq, payload, fin) = (segment.seq, segment.payload, segment.fin);
        let taken = self.up.take(seq, payload, fin, room, work.pool, &mut sink(&self.socket, &mut self.ready));
        self.settle(work.account);
        self.slot.is_runnable |= self.up.is_finished() && !self.is_shut;
        taken.map_err(|_| End::Reset)
    }

    /// Counts what is kept.
    fn settle(&mut self, account: &mut Account) {
        let held = self.up.held() + self.socket.held();
        account.change(self.held, held);
        self.held = held;
    }

    /// Its time has come.
    pub(super) fn expire(&mut self, work: &mut Work<'_, '_>) -> Result<(), End> {
        match (self.down.expire(work.now), self.stage) {
            (_, Stage::Connecting) => {}
            (Expired::GiveUp, _) => return Err(End::Reset),
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

    /// What the socket, and what was heard since, lets it do; how much that was.
    pub(super) fn run(&mut self, work: &mut Work<'_, '_>) -> Result<Activity, End> {
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
            moved += self.up.drain(work.pool, &mut sink(&self.socket, &mut self.ready)).map_err(|_| End::Reset)?;
        }
        if self.up.is_finished() && self.up.is_drained() && !self.is_shut {
            self.is_shut = true;
            self.socket.finish().map_err(|_| End::Reset)?;
        }
        moved += self.pump(work)?;
        self.settle(work.account);
        if std::mem::take(&mut self.ready.error) {
            self.socket.error().map_err(|_| End::Reset)?;
        }
        if self.is_shut && self.down.is_finished() {
            return Err(End::Done);
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
            let got = match self.socket.fetch(offset, &mut work.space[..len]).map_err(|_| End::Reset)? {
                Some(0) if is_new => {
                    self.down.end();
                    continue;
                }
                Some(got) if got > 0 => got,
                _ => {
                    self.ready.readable &= !is_new;
                    return Ok(moved);
                }
            };
            // Less than was asked for is all there is; what comes later is an event. An end that was told of is not.
            self.ready.readable &= !is_new || got == len || self.ready.read_closed;
            self.active = work.now;
            moved += got;
            if !self.send_bytes(seq, got, work) {
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

    /// Sends the first `len` bytes of the space from `seq` on; false: not all of it could be written.
    fn send_bytes(&mut self, seq: Seq, len: usize, work: &mut Work<'_, '_>) -> bool {
        let limit = self.limit(work.account);
        let most = self.template.most_payload(self.mss);
        let (mut at, mut sent) = (seq, 0);
        for payload in work.space[..len].chunks(most) {
            sent += payload.len();
            let flags = if sent == len { ACK | PSH } else { ACK };
            let window = self.up.announce(limit, false);
            let fields = Fields { seq: at, ack: self.up.next(), flags, window, options: Options::NONE };
            if !self.emit(&mut work.out, &fields, payload) {
                self.down.failed(work.now);
                return false;
            }
            at = at + distance(payload.len());
            self.down.sent(at, work.now);
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
