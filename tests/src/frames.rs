//! Frames as bytes, for containers that send what no stack would.

use std::net::Ipv4Addr;

/// ff:ff:ff:ff:ff:ff
pub const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
/// The ethertype for local experiments, IEEE 802 9.2.3.
pub const EXPERIMENTAL: u16 = 0x88b5;

/// An Ethernet frame.
///
/// # Panics
/// When a MAC is not six hexadecimal bytes.
pub fn ethernet(to: &str, from: &str, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [mac(to), mac(from)].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The same with an 802.1Q tag.
pub fn tagged(vlan: u16, to: &str, from: &str, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let inner = [&vlan.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat();
    ethernet(to, from, 0x8100, &inner)
}

/// An ARP packet; `operation` 1 asks, 2 answers. `mark` follows as padding.
pub fn arp(operation: u16, sender: (&str, Ipv4Addr), target: (&str, Ipv4Addr), mark: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (hardware, address) in [sender, target] {
        packet.extend(mac(hardware));
        packet.extend(address.octets());
    }
    packet.extend(mark);
    packet
}

/// A UDP datagram in IPv4, the checksum of UDP left out as RFC 768 allows.
pub fn udp4(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(28 + payload.len()).expect("a test datagram is short");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// An IPv6 packet of the next header 59, "no next header" (RFC 8200 4.7), whose payload nobody reads.
pub fn ipv6_nothing(from: std::net::Ipv6Addr, to: std::net::Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a test packet is short");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([59, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

fn mac(text: &str) -> Vec<u8> {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    assert_eq!(bytes.len(), 6, "{text} is no MAC");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_header_with_its_checksum_is_zero() {
        let packet = udp4((Ipv4Addr::new(10, 0, 0, 1), 1), (Ipv4Addr::new(10, 0, 0, 2), 2), b"x");
        assert_eq!(checksum(&packet[..20]), 0);
    }

    #[test]
    fn short_frames_are_padded_to_60_bytes() {
        assert_eq!(ethernet(BROADCAST, "02:00:00:00:00:01", EXPERIMENTAL, b"x").len(), 60);
    }
}
