//! A container: smoltcp on a line.

use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr,
};
use tapswitch::forwarding::PortId;
use tapswitch::frame::Mac;

use crate::line::Line;

const UDP_PORT: u16 = 5353;

pub(crate) struct Host {
    pub(crate) port: PortId,
    pub(crate) mac: Mac,
    pub(crate) ip4: Ipv4Addr,
    pub(crate) ip6: Ipv6Addr,
    pub(crate) line: Line,
    iface: Interface,
    sockets: SocketSet<'static>,
    ping: SocketHandle,
    datagrams: SocketHandle,
}

impl Host {
    pub(crate) fn new(port: PortId, ip4: Ipv4Addr, ip6: Ipv6Addr, mut line: Line, seed: u64) -> Self {
        let mac = Mac::of_ipv4(ip4);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.octets())));
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut line, Instant::ZERO);
        iface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(ip4.into(), 24)).expect("room");
            addresses.push(IpCidr::new(ip6.into(), 64)).expect("room");
        });
        let mut sockets = SocketSet::new(Vec::new());
        let icmp_buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 2048]);
        let mut ping = icmp::Socket::new(icmp_buffer(), icmp_buffer());
        ping.bind(icmp::Endpoint::Ident(echo_id(port))).expect("bind");
        let udp_buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65_536]);
        let mut datagrams = udp::Socket::new(udp_buffer(), udp_buffer());
        datagrams.bind(UDP_PORT).expect("bind");
        let (ping, datagrams) = (sockets.add(ping), sockets.add(datagrams));
        Host { port, mac, ip4, ip6, line, iface, sockets, ping, datagrams }
    }

    /// Takes in frames, and lets the stack work; how many came.
    pub(crate) fn poll(&mut self, now: Instant) -> usize {
        let frames = self.line.take_in();
        self.iface.poll(now, &mut self.line, &mut self.sockets);
        self.line.flush();
        frames
    }

    /// When the stack next has something to do by itself.
    pub(crate) fn wants(&mut self, now: Instant) -> Option<Instant> {
        self.iface.poll_at(now, &self.sockets)
    }

    pub(crate) fn address(&self, v6: bool) -> IpAddress {
        if v6 { self.ip6.into() } else { self.ip4.into() }
    }

    pub(crate) fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = stream_socket();
        socket.listen(port).expect("listen");
        self.sockets.add(socket)
    }

    pub(crate) fn connect(&mut self, to: IpAddress, port: u16, local: u16) -> SocketHandle {
        let handle = self.sockets.add(stream_socket());
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.iface.context(), (to, port), local).expect("connect");
        handle
    }

    pub(crate) fn stream(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn send_datagram(&mut self, to: IpAddress, payload: &[u8]) {
        // A full buffer loses a datagram, as UDP does.
        let _ = self.sockets.get_mut::<udp::Socket>(self.datagrams).send_slice(payload, (to, UDP_PORT));
    }

    pub(crate) fn receive_datagram(&mut self) -> Option<Vec<u8>> {
        let (payload, _) = self.sockets.get_mut::<udp::Socket>(self.datagrams).recv().ok()?;
        Some(payload.to_vec())
    }

    /// Sends an echo request with 56 bytes.
    pub(crate) fn ping(&mut self, to: IpAddress, seq_no: u16) {
        let source = self.address(matches!(to, IpAddress::Ipv6(_)));
        let socket = self.sockets.get_mut::<icmp::Socket>(self.ping);
        let (ident, data, sums) = (echo_id(self.port), &[0x55; 56][..], ChecksumCapabilities::default());
        match (source, to) {
            (IpAddress::Ipv4(_), _) => {
                let echo = Icmpv4Repr::EchoRequest { ident, seq_no, data };
                let Ok(space) = socket.send(echo.buffer_len(), to) else { return };
                echo.emit(&mut Icmpv4Packet::new_unchecked(space), &sums);
            }
            (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) => {
                let echo = Icmpv6Repr::EchoRequest { ident, seq_no, data };
                let Ok(space) = socket.send(echo.buffer_len(), to.into()) else { return };
                echo.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(space), &sums);
            }
            _ => unreachable!("the source is of the destination's family"),
        }
    }

    /// Sequence number and sender of a reply that came.
    pub(crate) fn pong(&mut self) -> Option<(u16, IpAddress)> {
        let (message, from) = self.sockets.get_mut::<icmp::Socket>(self.ping).recv().ok()?;
        // Type, code, sum, identifier, sequence number: the same in both families. 0 and 129 are replies.
        assert!(matches!(message[0], 0 | 129), "smoltcp answers requests itself");
        assert_eq!(message[8..], [0x55; 56]);
        Some((u16::from_be_bytes([message[6], message[7]]), from))
    }
}

/// One for each host: smoltcp gives a socket the requests that carry its identifier, too.
fn echo_id(port: PortId) -> u16 {
    7000 + port.0 as u16
}

fn stream_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 32_768]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket
}
