//! The Internet checksum (RFC 1071).
//!
//! Ones' complement addition is commutative, associative and indifferent to byte order, so words of 32 bits are
//! added as this machine reads them into 64-bit lanes, and the result is folded and turned to network order once.

use std::net::IpAddr;

/// Bytes added per round: four 32-bit lanes, which the compiler turns into vector additions.
const ROUND: usize = 16;

/// The ones' complement sum of `bytes`, folded to 16 bits, not complemented, added to `start`.
///
/// An odd last byte is the high half of a word. A sum over parts is right when each part but the last has an
/// even length. At most 64 GiB, or the lanes would overflow.
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut lanes = [0u64; ROUND / 4];
    let mut rounds = bytes.chunks_exact(ROUND);
    for round in &mut rounds {
        for (lane, word) in lanes.iter_mut().zip(round.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, odd) = rounds.remainder().as_chunks::<2>();
    for word in words {
        total += u64::from(u16::from_ne_bytes(*word));
    }
    if let [last] = odd {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    fold(u64::from(u16::from_be(fold(total))) + u64::from(start))
}

/// The sum of the pseudo-header of TCP, UDP or ICMPv6 (RFC 793 3.1, RFC 8200 8.1), not complemented.
///
/// `length` is that of the upper-layer header and payload.
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, length: u32) -> u16 {
    let rest = u32::from(protocol) + (length >> 16) + (length & 0xffff);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&dst.octets(), sum(&src.octets(), rest).into()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&dst.octets(), sum(&src.octets(), rest).into()),
        _ => unreachable!("both addresses of a packet are of one family"),
    }
}

/// Folds the carries of `total` back in until 16 bits are left.
fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// One word after the other, as RFC 1071 4.1 writes it.
    fn naive(bytes: &[u8], start: u32) -> u16 {
        let mut total = u64::from(start);
        for word in bytes.chunks(2) {
            total += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
        }
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..300), start: u32) {
            prop_assert_eq!(sum(&bytes, start), naive(&bytes, start));
        }

        #[test]
        fn a_sum_over_even_parts_is_the_sum_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in 0usize..150,
        ) {
            let (head, tail) = bytes.split_at((at * 2).min(bytes.len() & !1));
            prop_assert_eq!(sum(tail, sum(head, 0).into()), sum(&bytes, 0));
        }
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0), 0xddf2);
    }

    #[test]
    fn the_largest_frame_of_ones_does_not_overflow() {
        assert_eq!(sum(&vec![0xff; 65_535 + 14], u32::MAX), naive(&vec![0xff; 65_535 + 14], u32::MAX));
    }

    #[test]
    fn the_pseudo_header_sums_addresses_protocol_and_length() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(pseudo_header(a.into(), b.into(), 17, 8), naive(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 8], 0));
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let bytes = [&a.octets()[..], &b.octets(), &[0, 1, 0, 8, 0, 0, 0, 6]].concat();
        assert_eq!(pseudo_header(a.into(), b.into(), 6, 0x1_0008), naive(&bytes, 0));
    }
}
