//! What a container can make of a frame and its offload header: [`Frame::parse`], [`Offload::check`] and [`segment`] on
//! arbitrary bytes. Beside "no panic" it holds what the layers above rely on.
//!
//! Input: MTU (2 bytes, little endian), offload header (10), frame. See Cargo.toml for how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapswitch::frame::offload::HEADER_LEN;
use tapswitch::frame::segment::segment;
use tapswitch::frame::{Frame, Gso, Offload, OffloadHeader, Payload};

const ETHERNET_LEN: usize = 14;

fuzz_target!(|input: &[u8]| {
    let Some((mtu, input)) = input.split_first_chunk::<2>() else { return };
    let Some((header, bytes)) = input.split_first_chunk::<HEADER_LEN>() else { return };
    let mtu = u16::from_le_bytes(*mtu);
    let Ok(frame) = Frame::parse(bytes) else { return };
    offsets_stay_inside(&frame);
    let Ok(offload) = Offload::check(OffloadHeader::read(header), &frame, mtu.into()) else { return };
    a_rebuilt_header_passes_unchanged(&offload, &frame, mtu);
    segments_are_frames(&offload, bytes, mtu);
});

fn offsets_stay_inside(frame: &Frame<'_>) {
    if let Payload::Ip(packet) = &frame.payload {
        assert!(packet.l3_offset < packet.l4_offset && packet.l4_offset <= packet.end);
        assert!(packet.end <= frame.bytes().len());
    }
}

fn a_rebuilt_header_passes_unchanged(offload: &Offload, frame: &Frame<'_>, mtu: u16) {
    let mut out = [0xff; HEADER_LEN + 2];
    offload.write(&mut out);
    assert!(out[0] <= 1 && out[HEADER_LEN..] == [0, 0]);
    assert!(usize::from(offload.header_len) <= frame.bytes().len());
    assert_eq!(Offload::check(OffloadHeader::read(&out), frame, mtu.into()), Ok(*offload));
}

fn segments_are_frames(offload: &Offload, bytes: &[u8], mtu: u16) {
    let mut space = Vec::with_capacity(bytes.len());
    let capacity = space.capacity();
    let mut carried = 0;
    let count = segment(bytes, offload, &mut space, |part| {
        assert!(Frame::parse(part).is_ok());
        if offload.gso != Gso::None {
            assert!(part.len() - ETHERNET_LEN <= usize::from(mtu));
            carried += part.len() - usize::from(offload.header_len);
        }
        true
    });
    assert_eq!((count, space.capacity()), (offload.segments(bytes.len()), capacity));
    if offload.gso != Gso::None {
        assert_eq!(carried, bytes.len() - usize::from(offload.header_len));
    }
}
