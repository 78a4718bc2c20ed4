//! Frames with forged senders, as a hostile container would send them.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet,
    Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use super::inside::Inside;
use crate::frame::Mac;

/// A station: who somebody is, or says to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station {
    /// Its MAC.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ip: Ipv4Addr,
}

/// Sends forged frames from the inside of `from`.
#[derive(Debug)]
pub(super) struct Forger(OwnedFd);

impl Forger {
    /// A forger in this container.
    ///
    /// # Errors
    /// When its socket cannot be made.
    pub(super) fn inside(from: &Inside) -> anyhow::Result<Self> {
        from.ethernet("eth0").map(Forger)
    }

    /// Sends `frame` this often.
    ///
    /// # Errors
    /// As `send(2)`.
    pub(super) fn send(&self, frame: &[u8], times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            while let Err(error) = send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                if error != Errno::ENOBUFS {
                    return Err(error).context("send a forged frame");
                }
            }
        }
        Ok(())
    }
}

/// An echo request that says to come from `from`.
pub(super) fn echo_request(from: Station, to: Station) -> Vec<u8> {
    let icmp = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 1, data: b"forged" };
    let ip = Ipv4Repr {
        src_addr: from.ip,
        dst_addr: to.ip,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = ethernet(from.mac, to.mac, EthernetProtocol::Ipv4, ip.buffer_len() + icmp.buffer_len());
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    icmp.emit(&mut Icmpv4Packet::new_unchecked(packet.payload_mut()), &ChecksumCapabilities::default());
    bytes
}

/// An ARP reply that tells `to` that `claimed` is at the MAC of `from`: cache poisoning.
pub(super) fn arp_claim(from: Station, claimed: Ipv4Addr, to: Station) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(from.mac.octets()),
        source_protocol_addr: claimed,
        target_hardware_addr: EthernetAddress(to.mac.octets()),
        target_protocol_addr: to.ip,
    };
    let mut bytes = ethernet(from.mac, to.mac, EthernetProtocol::Arp, arp.buffer_len());
    arp.emit(&mut ArpPacket::new_unchecked(EthernetFrame::new_unchecked(&mut bytes).payload_mut()));
    bytes
}

/// A frame with an empty payload.
fn ethernet(from: Mac, to: Mac, ethertype: EthernetProtocol, payload: usize) -> Vec<u8> {
    let header =
        EthernetRepr { src_addr: EthernetAddress(from.octets()), dst_addr: EthernetAddress(to.octets()), ethertype };
    let mut bytes = vec![0; header.buffer_len() + payload];
    header.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Station = Station { mac: Mac::new([2, 0, 0, 0, 0, 1]), ip: Ipv4Addr::new(10, 0, 0, 2) };
    const DB: Station = Station { mac: Mac::new([2, 0, 0, 0, 0, 2]), ip: Ipv4Addr::new(10, 0, 0, 3) };

    #[test]
    fn a_forged_request_is_well_formed() {
        let bytes = echo_request(WEB, DB);
        let frame = EthernetFrame::new_checked(&bytes).unwrap();
        assert_eq!(frame.src_addr(), EthernetAddress(WEB.mac.octets()));
        let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
        assert!(packet.verify_checksum());
        assert!(Icmpv4Packet::new_checked(packet.payload()).unwrap().verify_checksum());
        assert_eq!(packet.src_addr(), WEB.ip);
    }

    #[test]
    fn a_claim_names_somebody_else_s_address() {
        let bytes = arp_claim(WEB, Ipv4Addr::new(10, 0, 0, 1), DB);
        let frame = EthernetFrame::new_checked(&bytes).unwrap();
        let arp = ArpPacket::new_checked(frame.payload()).unwrap();
        assert_eq!(arp.source_protocol_addr(), [10, 0, 0, 1]);
        assert_eq!(arp.source_hardware_addr(), WEB.mac.octets());
    }
}
