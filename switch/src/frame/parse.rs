//! One look at a frame: [`Frame::parse`].
//!
//! Each length field is held against the bytes that are there, down to the upper-layer header; nothing behind that is
//! read. Sums are not verified: the receiver's kernel does so, and between containers with offload most are not even
//! made. `etherparse` reads the headers; what they mean together (which part of a datagram, where it ends) is decided
//! here and in [`super::ip`]. This runs for every frame: no branch is spent on what the switch does not ask for.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpHardwareId, ArpPacketSlice, Ethernet2HeaderSlice};

use super::{Mac, ip};

/// Length of an Ethernet header, in bytes.
pub(super) const ETHERNET_LEN: usize = 14;

/// An Ethernet type, host byte order. Values at or below 1500 are 802.3 lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

impl EtherType {
    /// ARP.
    pub const ARP: EtherType = EtherType(0x0806);
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// An 802.1Q tag.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// An 802.1ad tag.
    pub const QINQ: EtherType = EtherType(0x88a8);
    /// The tag that was used for stacking before 802.1ad.
    pub const OLD_QINQ: EtherType = EtherType(0x9100);
}

/// A frame whose headers were checked against its length.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// The outermost type.
    pub ethertype: EtherType,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a frame carries, as far as the switch looks.
#[derive(Clone, Debug)]
pub enum Payload<'a> {
    /// ARP for Ethernet and IPv4.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Packet<'a>),
    /// An 802.1Q or 802.1ad tag; what is behind it is not looked at.
    Vlan,
    /// Anything else.
    Other,
}

/// An ARP packet for Ethernet and IPv4 (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply; anything else is carried as it is.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address; 0.0.0.0 is a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The upper-layer protocol number, after all IPv6 extension headers; of a later fragment that of the first header
    /// that was cut, which can be an extension header.
    pub protocol: u8,
    /// Hop limit or time to live.
    pub hop_limit: u8,
    /// Whether and which part of a datagram this is.
    pub fragment: Fragment,
    /// Offset of the network header from the start of the frame.
    pub l3_offset: usize,
    /// Offset of the upper-layer header from the start of the frame.
    pub l4_offset: usize,
    /// End of the IP packet from the start of the frame; Ethernet padding may follow.
    pub end: usize,
    /// The upper-layer header.
    pub l4: Layer4<'a>,
}

/// A packet's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A whole datagram.
    Whole,
    /// The first part, which holds the whole upper-layer header.
    First {
        /// The datagram's identification; IPv4's 16 bits are widened.
        id: u32,
    },
    /// A later part: no upper-layer header.
    Later {
        /// The datagram's identification; IPv4's 16 bits are widened.
        id: u32,
    },
}

/// TCP flags that the switch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

/// The upper-layer header, as far as the switch looks.
#[derive(Clone, Debug)]
pub enum Layer4<'a> {
    /// TCP.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Its flags.
        flags: TcpFlags,
        /// Header length with options, in bytes.
        header_len: usize,
    },
    /// UDP.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// ICMP over IPv4.
    Icmp4 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// For an echo its identifier; else 0.
        id: u16,
        /// The packet that an error message quotes.
        quote: Option<IcmpQuote>,
    },
    /// ICMPv6; the body after the 4-byte ICMPv6 header, for neighbour discovery.
    Icmp6 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// For an echo its identifier; else 0.
        id: u16,
        /// The packet that an error message quotes.
        quote: Option<IcmpQuote>,
        /// The whole ICMPv6 message, its header included.
        message: &'a [u8],
    },
    /// Another protocol, or a later fragment.
    Other,
}

/// The head of the packet that an ICMP error quotes, as far as it identifies a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpQuote {
    /// Source of the quoted packet.
    pub src: IpAddr,
    /// Destination of the quoted packet.
    pub dst: IpAddr,
    /// Its upper-layer protocol.
    pub protocol: u8,
    /// Its source port (TCP, UDP) or echo identifier; 0 otherwise.
    pub src_port: u16,
    /// Its destination port (TCP, UDP) or echo identifier; 0 otherwise.
    pub dst_port: u16,
}

/// Why a frame could not be parsed; it is dropped and counted as `malformed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Frame<'a> {
    /// Checks the headers of `bytes`, an Ethernet frame without offload header and FCS.
    ///
    /// # Errors
    /// [`Malformed`] where a header does not fit its container, or a length field contradicts the frame.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let header = Ethernet2HeaderSlice::from_slice(bytes).map_err(|_| Malformed)?;
        let ethertype = EtherType(header.ether_type().0);
        let payload = match ethertype {
            EtherType::IPV4 => Payload::Ip(ip::parse4(bytes)?),
            EtherType::IPV6 => Payload::Ip(ip::parse6(bytes)?),
            EtherType::ARP => Payload::Arp(parse_arp(&bytes[ETHERNET_LEN..])?),
            EtherType::VLAN | EtherType::QINQ | EtherType::OLD_QINQ => Payload::Vlan,
            _ => Payload::Other,
        };
        let (dst, src) = (Mac::new(header.destination()), Mac::new(header.source()));
        Ok(Frame { bytes, dst, src, ethertype, payload })
    }

    /// The whole frame.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Length of what follows the Ethernet header, padding included, in bytes: what an MTU limits.
    #[inline]
    pub fn l3_len(&self) -> usize {
        self.bytes.len() - ETHERNET_LEN
    }
}

/// Only ARP for Ethernet and IPv4 exists on our networks; anything else that calls itself ARP is malformed, so that no
/// oddly sized one slips past the guard.
fn parse_arp(bytes: &[u8]) -> Result<Arp, Malformed> {
    let arp = ArpPacketSlice::from_slice(bytes).map_err(|_| Malformed)?;
    if arp.hw_addr_type() != ArpHardwareId::ETHERNET || arp.proto_addr_type().0 != EtherType::IPV4.0 {
        return Err(Malformed);
    }
    let mac = |octets: &[u8]| octets.try_into().map(Mac::new).map_err(|_| Malformed);
    let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).map_err(|_| Malformed);
    Ok(Arp {
        operation: arp.operation().0,
        sender_mac: mac(arp.sender_hw_addr())?,
        sender_ip: address(arp.sender_protocol_addr())?,
        target_mac: mac(arp.target_hw_addr())?,
        target_ip: address(arp.target_protocol_addr())?,
    })
}
