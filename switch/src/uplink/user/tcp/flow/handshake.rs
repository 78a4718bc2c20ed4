//! The beginning of a flow: who calls, who answers, and what both agree upon.

use super::super::headers::{ACK, Fields, RST, SYN, overhead};
use super::super::options::Options;
use super::super::segment::Segment;
use super::super::sequence::Seq;
use super::super::upload::Upload;
use super::{End, Flow, Stage, Work};

/// Our windows are shifted by so many bits: 16 MB can be said, more than is ever given.
const SCALE: u8 = 8;

/// The least segment size that is gone by; TCP_MIN_SND_MSS of Linux.
const MIN_MSS: u16 = 48;

/// The segment size of who names none. RFC 9293 3.7.1.
pub(super) const DEFAULT_MSS: u16 = 536;
const DEFAULT_MSS_IPV6: u16 = 1220;

impl Flow {
    pub(super) fn heard_syn(&mut self, syn: &Segment<'_>) {
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

    pub(super) fn bounded_mss(&self) -> u16 {
        let smallest = if self.ends.near.is_ipv4() { DEFAULT_MSS } else { DEFAULT_MSS_IPV6 };
        self.said.mss.unwrap_or(smallest).min(self.our_mss()).max(MIN_MSS)
    }

    /// Calls the container.
    pub(in super::super) fn call(&mut self, work: &mut Work<'_, '_>) {
        let options = Options::syn(self.our_mss(), Some(SCALE), true);
        let fields = Fields { seq: self.down.una(), ack: Seq(0), flags: SYN, window: u16::MAX, options };
        self.emit(&mut work.out, &fields, &[]);
        self.down.arm(work.now);
    }

    /// Answers the container's call.
    pub(super) fn answer(&mut self, work: &mut Work<'_, '_>) {
        let scale = self.said.scale.map(|_| SCALE);
        let options = Options::syn(self.our_mss(), scale, self.said.sack);
        let window = self.up.announce(self.limit(work.account).min(u16::MAX.into()), true);
        let fields = Fields { seq: self.down.una(), ack: self.up.next(), flags: SYN | ACK, window, options };
        self.emit(&mut work.out, &fields, &[]);
        self.down.arm(work.now);
    }

    /// RFC 9293 3.10.7.3.
    pub(super) fn receive_call(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
        let is_ours = segment.ack == Some(self.down.max());
        match (segment.ack, is_ours) {
            (_, true) if segment.rst => Err(End::Refused),
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

    pub(super) fn receive_answer(&mut self, segment: &Segment<'_>, work: &mut Work<'_, '_>) -> Result<(), End> {
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
}
