//! A TCP segment of a container: what of its header a flow goes by.

use etherparse::{TcpHeaderSlice, TcpOptionElement};

use super::super::Incoming;
use super::sequence::{Seq, distance};
use crate::forwarding::DropReason;
use crate::frame::checksum;

/// TCP's protocol number.
pub(super) const TCP: u8 = 6;

/// The largest window scale there is. RFC 7323 2.3.
const MAX_SCALE: u8 = 14;

/// A segment whose sum is right, or is still to be made because it never left the host.
#[derive(Clone, Debug)]
pub(super) struct Segment<'a> {
    pub(super) seq: Seq,
    /// What it acknowledges.
    pub(super) ack: Option<Seq>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// As in the header, not scaled.
    pub(super) window: u16,
    pub(super) payload: &'a [u8],
    header: TcpHeaderSlice<'a>,
}

/// The options of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SynOptions {
    /// Largest segment that the sender takes, in bytes of payload.
    pub(super) mss: Option<u16>,
    /// By how many bits its windows are shifted.
    pub(super) scale: Option<u8>,
    /// It understands selective acknowledgements.
    pub(super) sack: bool,
}

impl<'a> Segment<'a> {
    /// Reads the segment of a packet that was parsed as TCP.
    ///
    /// # Errors
    /// [`DropReason::BadChecksum`]: before bytes leave the switch's world they must be what the sender's application wrote.
    pub(super) fn read(incoming: &Incoming<'a>) -> Result<Self, DropReason> {
        let packet = incoming.packet;
        let bytes = &incoming.bytes[packet.l4_offset..packet.end];
        let header = TcpHeaderSlice::from_slice(bytes).map_err(|_| DropReason::Malformed)?;
        if !incoming.offload.needs_csum {
            let pseudo = checksum::pseudo_header(packet.src, packet.dst, TCP, distance(bytes.len()));
            if checksum::sum(bytes, pseudo.into()) != 0xffff {
                return Err(DropReason::BadChecksum);
            }
        }
        Ok(Segment {
            seq: Seq(header.sequence_number()),
            ack: header.ack().then(|| Seq(header.acknowledgment_number())),
            syn: header.syn(),
            fin: header.fin(),
            rst: header.rst(),
            window: header.window_size(),
            payload: &bytes[header.slice().len()..],
            header,
        })
    }

    /// Where the next segment starts.
    pub(super) fn end(&self) -> Seq {
        self.seq + distance(self.payload.len()) + u32::from(self.syn) + u32::from(self.fin)
    }

    /// Its options, if it is a SYN. A broken option ends the list, as in the kernel.
    pub(super) fn syn_options(&self) -> SynOptions {
        let mut found = SynOptions::default();
        for option in self.header.options_iterator().map_while(Result::ok) {
            match option {
                TcpOptionElement::MaximumSegmentSize(mss) => found.mss = Some(mss),
                TcpOptionElement::WindowScale(scale) => found.scale = Some(scale.min(MAX_SCALE)),
                TcpOptionElement::SelectiveAcknowledgementPermitted => found.sack = true,
                _ => {}
            }
        }
        found
    }

    /// The first byte behind what it acknowledges that the sender of it already has; nothing where it says none. RFC 2018. A
    /// block before the acknowledgement tells of what came twice (RFC 2883).
    pub(super) fn first_sacked(&self) -> Option<Seq> {
        let ack = self.ack.filter(|_| !self.header.options().is_empty())?;
        let mut first: Option<Seq> = None;
        for option in self.header.options_iterator().map_while(Result::ok) {
            if let TcpOptionElement::SelectiveAcknowledgement((start, _), more) = option {
                let starts = more.into_iter().flatten().map(|(start, _)| start).chain([start]).map(Seq);
                first = starts.filter(|start| ack.is_before(*start)).chain(first).reduce(Seq::earlier);
            }
        }
        first
    }
}
