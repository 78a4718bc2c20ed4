use super::super::Mac;
use super::super::testing::stations::{A, A4, A6, B, B4, B6};
use super::super::testing::{self, ACK};
use super::*;
use proptest::prelude::*;

const NOTHING: OffloadHeader =
    OffloadHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

fn tcp4(payload: usize) -> Vec<u8> {
    testing::tcp4(A, B, A4, B4, 4000, 80, ACK, &vec![7; payload])
}

fn tcp6(payload: usize) -> Vec<u8> {
    testing::tcp6(A, B, A6, B6, 4000, 80, ACK, &vec![7; payload])
}

fn udp4(payload: usize) -> Vec<u8> {
    testing::udp4(A, B, A4, B4, 4000, 53, &vec![7; payload])
}

fn check(frame: &[u8], header: OffloadHeader) -> Result<Offload, BadOffload> {
    Offload::check(header, &Frame::parse(frame).unwrap(), 1500)
}

/// The header of [`testing::gso`] with one thing changed.
fn check_with(frame: &[u8], size: u16, change: impl Fn(&mut OffloadHeader)) -> Result<Offload, BadOffload> {
    let (frame, mut header) = testing::gso(frame, size);
    change(&mut header);
    check(&frame, header)
}

#[test]
fn a_header_is_read_little_endian() {
    let header = OffloadHeader::read(&[1, 4, 0x36, 0, 0xdc, 5, 34, 0, 16, 0, 0xff]);
    let expected =
        OffloadHeader { flags: 1, gso_type: 4, hdr_len: 54, gso_size: 1500, csum_start: 34, csum_offset: 16 };
    assert_eq!(header, expected);
}

#[test]
fn what_is_written_is_ours_and_the_rest_is_zero() {
    let gso = Gso::Tcp { size: 1448, ecn: true, ipv6: false };
    let offload = Offload { needs_csum: true, gso, header_len: 66, csum_start: 34, csum_offset: 16 };
    let mut out = [0xff; 12];
    offload.write(&mut out);
    assert_eq!(out, [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    Offload::NONE.write(&mut out);
    assert_eq!(out, [0; 12]);
}

#[test]
fn rule_1_the_sum_goes_only_where_our_own_parse_found_its_field() {
    for (frame, start, offset) in [(tcp4(10), 34, 16), (tcp6(10), 54, 16), (udp4(10), 34, 6)] {
        let good = OffloadHeader { flags: 1, csum_start: start, csum_offset: offset, ..NOTHING };
        let offload = check(&frame, good).unwrap();
        assert!(offload.needs_csum);
        assert_eq!((offload.csum_start, offload.csum_offset, offload.gso), (start, offset, Gso::None));
        for (start, offset) in [
            (start - 1, offset),
            (start + 1, offset),
            (start - 8, offset + 8),
            (start, offset + 1),
            (start, 22 - offset),
            (0, 0),
            (14, 12),
            (0xffff, 0xffff),
        ] {
            let bad = OffloadHeader { csum_start: start, csum_offset: offset, ..good };
            assert_eq!(check(&frame, bad), Err(BadOffload), "{bad:?}");
        }
    }
}

#[test]
fn rule_1_only_tcp_and_udp_have_a_sum_to_make() {
    for frame in [
        testing::icmp_echo4(A, B, A4, B4, 1, &[0; 40]),
        testing::ip4(A, B, A4, B4, 132, &[0; 40]),
        testing::arp_request(A, A4, B4),
        testing::raw(A, B, 0x8100, &[0; 60]),
    ] {
        for csum_offset in [2, 6, 8, 16] {
            let header = OffloadHeader { flags: 1, csum_start: 34, csum_offset, ..NOTHING };
            assert_eq!(check(&frame, header), Err(BadOffload));
        }
    }
}

#[test]
fn rule_1_the_sum_of_a_packet_inside_a_tunnel_is_not_ours_to_let_pass() {
    // VXLAN: UDP, 8 bytes of its own, and a whole frame.
    let inner = tcp4(10);
    let frame = testing::udp4(A, B, A4, B4, 4000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..]].concat());
    let header = OffloadHeader { flags: 1, csum_start: 42 + 8 + 34, csum_offset: 16, ..NOTHING };
    assert_eq!(check(&frame, header), Err(BadOffload));
}

#[test]
fn rule_1_fragments_have_no_sum_to_make() {
    let udp = testing::udp(A4.into(), B4.into(), 1, 2, &[0; 32]);
    for place in [0x2000, 0x0002] {
        let frame = testing::ip4_at(A, B, A4, B4, 17, place, &udp);
        let header = OffloadHeader { flags: 1, csum_start: 34, csum_offset: 6, ..NOTHING };
        assert_eq!(check(&frame, header), Err(BadOffload));
    }
    let body = [&*testing::fragment_header(17, 0, true, 7), &udp].concat();
    let frame = testing::ip6(A, B, A6, B6, 44, &body);
    let header = OffloadHeader { flags: 1, csum_start: 62, csum_offset: 6, ..NOTHING };
    assert_eq!(check(&frame, header), Err(BadOffload));
}

#[test]
fn rule_2_the_kind_of_segmentation_is_that_of_the_packet() {
    let (tcp4, tcp6, udp4) = (tcp4(4000), tcp6(4000), udp4(4000));
    let udp6 = testing::udp6(A, B, A6, B6, 4000, 53, &[7; 4000]);
    for kind in 0..=255u8 {
        let accepts = |frame: &[u8]| check_with(frame, 1000, |h| h.gso_type = kind).is_ok();
        let expected =
            (matches!(kind, 0 | 1 | 0x81), matches!(kind, 0 | 4 | 0x84), matches!(kind, 0 | 5), matches!(kind, 0 | 5));
        assert_eq!((accepts(&tcp4), accepts(&tcp6), accepts(&udp4), accepts(&udp6)), expected, "{kind:#x}");
    }
    let offload = check_with(&tcp4, 1000, |h| h.gso_type = 0x81).unwrap();
    assert_eq!(offload.gso, Gso::Tcp { size: 1000, ecn: true, ipv6: false });
    let offload = check_with(&tcp6, 1000, |_| ()).unwrap();
    assert_eq!(offload.gso, Gso::Tcp { size: 1000, ecn: false, ipv6: true });
}

#[test]
fn rule_2_segmentation_needs_the_sum() {
    for flags in [0, 2, 4, 0xfe] {
        assert_eq!(check_with(&tcp4(4000), 1000, |h| h.flags = flags), Err(BadOffload));
    }
}

#[test]
fn rule_2_tcp_to_a_group_is_not_segmented() {
    for group in [Mac::BROADCAST, Mac::new([1, 0, 0x5e, 1, 1, 1]), Mac::new([0x33, 0x33, 0, 0, 0, 1])] {
        let to_group = |mut frame: Vec<u8>| {
            frame[..6].copy_from_slice(&group.octets());
            frame
        };
        for tcp in [tcp4(60_000), tcp6(60_000)] {
            assert!(check_with(&tcp, 48, |_| ()).is_ok());
            assert_eq!(check_with(&to_group(tcp), 48, |_| ()), Err(BadOffload), "{group}");
        }
        assert!(check_with(&to_group(udp4(4000)), 1000, |_| ()).is_ok(), "{group}");
    }
}

#[test]
fn rule_2_the_frame_ends_with_the_packet() {
    let (mut frame, header) = testing::gso(&tcp4(4000), 1000);
    frame.push(0);
    assert_eq!(check(&frame, header), Err(BadOffload));
}

#[test]
fn rule_3_segments_are_neither_tiny_nor_beyond_the_mtu() {
    for (frame, size, is_good) in [
        (tcp4(4000), 0, false),
        (tcp4(4000), 47, false),
        (tcp4(4000), 48, true),
        (tcp4(4000), 1460, true),
        (tcp4(4000), 1461, false),
        (tcp4(4000), 0xffff, false),
        (tcp6(4000), 1440, true),
        (tcp6(4000), 1441, false),
        (udp4(100), 0, false),
        (udp4(100), 1, true),
        (udp4(128), 1, true),
        (udp4(129), 1, false),
        (udp4(256), 2, true),
        (udp4(257), 2, false),
        (udp4(4000), 1472, true),
        (udp4(4000), 1473, false),
        (udp4(4000), 0xffff, false),
    ] {
        assert_eq!(check_with(&frame, size, |_| ()).is_ok(), is_good, "{} bytes by {size}", frame.len());
    }
}

#[test]
fn one_segment_is_no_segmentation() {
    for (payload, expected) in [(0, Gso::None), (1000, Gso::None), (1001, Gso::Udp { size: 1000 })] {
        let offload = check_with(&udp4(payload), 1000, |_| ()).unwrap();
        assert_eq!((offload.gso, offload.needs_csum), (expected, true));
    }
}

#[test]
fn rule_4_data_valid_and_unknown_flags_are_forgotten() {
    for flags in [2, 4, 6, 0xfe] {
        let header = OffloadHeader { flags, csum_start: 7, csum_offset: 9, gso_size: 3, hdr_len: 1, ..NOTHING };
        let offload = check(&tcp4(10), header).unwrap();
        assert_eq!(offload, Offload { header_len: 54, ..Offload::NONE });
    }
}

#[test]
fn rule_4_the_length_of_the_headers_is_recomputed() {
    let neighbour = testing::ns(A, A6, B6);
    for (frame, expected) in [
        (tcp4(10), 54),
        (tcp6(10), 74),
        (udp4(10), 42),
        (neighbour, 54),
        (testing::arp_request(A, A4, B4), 14),
        (testing::raw(A, B, 0x88b5, b""), 14),
    ] {
        let header = OffloadHeader { hdr_len: 0xffff, ..NOTHING };
        assert_eq!(check(&frame, header).unwrap().header_len, expected);
    }
    assert_eq!(check_with(&tcp4(4000), 1000, |h| h.hdr_len = 14).unwrap().header_len, 54);
}

#[test]
fn segments_are_counted() {
    for (payload, expected) in [(1000, 1), (1001, 2), (2000, 2), (2001, 3)] {
        let frame = udp4(payload);
        assert_eq!(check_with(&frame, 1000, |_| ()).unwrap().segments(frame.len()), expected);
    }
    assert_eq!(Offload::NONE.segments(60), 1);
}

fn arbitrary_header() -> impl Strategy<Value = OffloadHeader> {
    let near = |values: &'static [u16]| prop_oneof![3 => proptest::sample::select(values), 1 => any::<u16>()];
    let kinds = proptest::sample::select(&[0u8, 1, 4, 5, 0x81, 0x84][..]);
    (0u8..8, kinds, any::<u16>(), near(&[1, 48, 536, 1448]), near(&[34, 54]), near(&[6, 16])).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| OffloadHeader {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        },
    )
}

proptest! {
    #[test]
    fn a_rebuilt_header_passes_the_check_unchanged(which in 0usize..3, payload in 0usize..3000, header in arbitrary_header()) {
        let frame = [tcp4, tcp6, udp4][which](payload);
        if let Ok(offload) = check(&frame, header) {
            let mut out = [0xff; 12];
            offload.write(&mut out);
            prop_assert_eq!(check(&frame, OffloadHeader::read(&out)), Ok(offload));
            prop_assert!(out[0] <= 1 && out[10..] == [0, 0]);
        }
    }
}
