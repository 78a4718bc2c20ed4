//! The packet that an ICMP error is about, put together again: the kernel's error queue keeps only what it carried.
//!
//! The container's kernel finds the socket by addresses, protocol, and ports or echo id; the rest is made up.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr};
use std::net::IpAddr;

use super::datagram::HEADER_LEN;

/// More than an ICMP error may quote.
const MOST: usize = 1280;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// A packet of `near` to `far`, as much of it as an ICMP error may quote.
#[derive(Debug)]
pub(crate) struct Quote {
    bytes: [u8; MOST],
    len: usize,
}

impl Quote {
    /// With this header behind that of IP, and the start of its payload.
    ///
    /// # Panics
    /// When the addresses are not of one family.
    pub(crate) fn new(near: IpAddr, far: IpAddr, protocol: u8, header: [u8; HEADER_LEN], payload: &[u8]) -> Self {
        let mut bytes = [0; MOST];
        let ip_len = if near.is_ipv4() { IPV4_LEN } else { IPV6_LEN };
        let start = ip_len + HEADER_LEN;
        let len = MOST.min(start + payload.len());
        let (payload_len, hop_limit, next_header) = (len - ip_len, 1, IpProtocol::from(protocol));
        match (near, far) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
                header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
                header.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[..]));
            }
            _ => panic!("{near} sends to {far}"),
        }
        bytes[ip_len..start].copy_from_slice(&header);
        bytes[start..len].copy_from_slice(&payload[..len - start]);
        Quote { bytes, len }
    }

    /// The packet.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{self, stations::*};
    use crate::frame::{Frame, IcmpQuote, Layer4, Payload};

    /// What our own reader finds in an ICMP error that quotes it.
    fn read(error: &[u8]) -> Option<IcmpQuote> {
        let Payload::Ip(packet) = Frame::parse(error).unwrap().payload else { panic!("no IP packet") };
        match packet.l4 {
            Layer4::Icmp4 { quote, .. } | Layer4::Icmp6 { quote, .. } => quote,
            _ => None,
        }
    }

    #[test]
    fn it_names_the_flow_for_any_payload() {
        let header = [0x0f, 0xa0, 0, 53, 0, 13, 0, 0];
        for len in [0, 5, 65_000] {
            let quote = Quote::new(A4.into(), B4.into(), 17, header, &vec![7; len]);
            assert_eq!(quote.packet().len(), (28 + len).min(1280));
            let frame = [&[0; 14], quote.packet()].concat();
            let expected = IcmpQuote { src: A4.into(), dst: B4.into(), protocol: 17, src_port: 4000, dst_port: 53 };
            assert_eq!(read(&testing::icmp_error4(B, A, B4, A4, 3, 3, &frame)), Some(expected));
            let quote = Quote::new(A6.into(), B6.into(), 17, header, &vec![7; len]);
            let frame = [&[0; 14], quote.packet()].concat();
            let expected = IcmpQuote { src: A6.into(), dst: B6.into(), protocol: 17, src_port: 4000, dst_port: 53 };
            assert_eq!(read(&testing::icmp_error6(B, A, B6, A6, 1, 4, &frame)), Some(expected));
        }
    }
}
