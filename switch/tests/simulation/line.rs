//! A host's end of a cable, as a device of smoltcp: it loses, doubles and swaps frames by chance, and speaks the offload header
//! where the cable has one.
//!
//! A host with the header leaves its TCP and UDP sums to the receiver, as Linux does, so that a host without it shows whether
//! the switch makes them.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::frame::{Fragment, Frame, Layer4, Offload, OffloadHeader, Payload};
use tapswitch::port::Plug;

use crate::rng::Rng;

pub(crate) const MTU: usize = 1500;

/// How often something happens to a frame, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) swapped: u32,
}

/// What came and went, before faults on the way in and after faults on the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    pub(crate) arrived_bytes: u64,
}

pub(crate) struct Line {
    plug: Plug,
    header_len: usize,
    faults: Faults,
    rng: Rng,
    incoming: VecDeque<Vec<u8>>,
    /// A frame that the next one overtakes.
    held: Option<Vec<u8>>,
    pub(crate) traffic: Traffic,
}

impl Line {
    pub(crate) fn new(plug: Plug, header_len: usize, faults: Faults, rng: Rng) -> Self {
        Line { plug, header_len, faults, rng, incoming: VecDeque::new(), held: None, traffic: Traffic::default() }
    }

    /// Sends exactly this, offload header first where the cable has one. A full cable loses it.
    pub(crate) fn inject(&mut self, bytes: &[u8]) {
        self.traffic.sent += u64::from(self.plug.send(&[bytes]));
    }

    /// Sends a whole frame, through the faults.
    pub(crate) fn send(&mut self, frame: Vec<u8>) {
        let bytes = if self.header_len == 0 { frame } else { left_to_the_receiver(frame) };
        if self.rng.permille(self.faults.lost) {
            return;
        }
        if self.rng.permille(self.faults.doubled) {
            self.inject(&bytes);
        }
        if self.held.is_none() && self.rng.permille(self.faults.swapped) {
            self.held = Some(bytes);
            return;
        }
        self.inject(&bytes);
        self.flush();
    }

    /// Sends what waits to be overtaken.
    pub(crate) fn flush(&mut self) {
        if let Some(held) = self.held.take() {
            self.inject(&held);
        }
    }

    /// Takes in what arrived, through the faults; how many frames.
    pub(crate) fn take_in(&mut self) -> usize {
        let mut space = vec![0; HEADER_LEN + 65_549];
        let mut frames = 0;
        while let Some(len) = self.plug.receive(&mut space) {
            frames += 1;
            self.traffic.arrived += 1;
            self.traffic.arrived_bytes += (len - self.header_len) as u64;
            let frame = self.finished(&space[..len]);
            if self.rng.permille(self.faults.lost) {
                continue;
            }
            if self.rng.permille(self.faults.doubled) {
                self.incoming.push_back(frame.clone());
            }
            self.incoming.push_back(frame);
            let last = self.incoming.len() - 1;
            if last > 0 && self.rng.permille(self.faults.swapped) {
                self.incoming.swap(last - 1, last);
            }
        }
        frames
    }

    /// The frame with its sum made, as a kernel treats it: whatever the switch asks for must be there.
    fn finished(&self, bytes: &[u8]) -> Vec<u8> {
        let (header, frame) = bytes.split_at(self.header_len);
        let mut frame = frame.to_vec();
        if self.header_len == 0 {
            return frame;
        }
        let header = OffloadHeader::read(header);
        assert!(header.flags <= 1, "a flag that is nobody's to give: {header:?}");
        if header.gso_type != 0 {
            assert!(header.flags == 1 && header.gso_size > 0, "segments without a sum: {header:?}");
            assert!(usize::from(header.hdr_len) < frame.len(), "{header:?} of {} bytes", frame.len());
        }
        if header.flags == 1 {
            let start = usize::from(header.csum_start);
            let at = start + usize::from(header.csum_offset);
            assert!(at + 2 <= frame.len(), "{header:?} in {} bytes", frame.len());
            let end = ip_end(&frame);
            let sum = match !ones_sum(&frame[start..end]) {
                0 => 0xffff,
                sum => sum,
            };
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }
}

/// The frame behind a header that leaves its TCP or UDP sum to the receiver.
fn left_to_the_receiver(mut frame: Vec<u8>) -> Vec<u8> {
    let mut header = [0; HEADER_LEN];
    let found = match Frame::parse(&frame).map(|frame| frame.payload) {
        Ok(Payload::Ip(packet)) if packet.fragment == Fragment::Whole => match packet.l4 {
            Layer4::Tcp { .. } => Some((packet, 16)),
            Layer4::Udp { .. } => Some((packet, 6)),
            _ => None,
        },
        _ => None,
    };
    if let Some((packet, offset)) = found {
        let (from, to) = (IpAddress::from(packet.src), IpAddress::from(packet.dst));
        let mut pseudo = Vec::new();
        for address in [from, to] {
            match address {
                IpAddress::Ipv4(v4) => pseudo.extend(v4.octets()),
                IpAddress::Ipv6(v6) => pseudo.extend(v6.octets()),
            }
        }
        pseudo.extend([0, packet.protocol]);
        pseudo.extend(u16::try_from(packet.end - packet.l4_offset).expect("an IP packet").to_be_bytes());
        let start = packet.l4_offset;
        frame[start + offset..start + offset + 2].copy_from_slice(&ones_sum(&pseudo).to_be_bytes());
        let narrow = |n| u16::try_from(n).expect("headers are short");
        Offload { needs_csum: true, csum_start: narrow(start), csum_offset: narrow(offset), ..Offload::NONE }
            .write(&mut header);
    }
    [&header[..], &frame].concat()
}

fn ip_end(frame: &[u8]) -> usize {
    match Frame::parse(frame).expect("the switch passes only what it could read").payload {
        Payload::Ip(packet) => packet.end,
        other => panic!("a sum for {other:?}"),
    }
}

/// RFC 1071.
fn ones_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Sending<'a>(&'a mut Line);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.send(frame);
        result
    }
}

impl Device for Line {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}
