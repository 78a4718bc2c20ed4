//! One look at a frame: [`Frame::parse`].

use std::net::{IpAddr, Ipv4Addr};

use super::Mac;

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
    /// The upper-layer protocol number, after all IPv6 extension headers.
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
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let _ = bytes;
        unimplemented!()
    }

    /// The whole frame.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
