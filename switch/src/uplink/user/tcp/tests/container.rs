//! A container: smoltcp on a cable that loses frames by chance. Frames that it gets are cut and summed as its kernel would.

use std::net::Ipv4Addr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use crate::frame::offload::HEADER_LEN;
use crate::frame::segment::segment;
use crate::frame::{Frame, MAX_FRAME, Mac, Offload, OffloadHeader, checksum};
use crate::port::{BIG_TCP, Plug};

/// Bytes of a socket's buffers, if nothing else is said.
const BUFFER: usize = 65_535;

pub(super) struct Container {
    /// Bytes of each buffer of the sockets that it makes.
    pub(super) buffer: usize,
    iface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) line: Line,
    next_port: u16,
}

/// Its end of the cable.
pub(super) struct Line {
    plug: Plug,
    mtu: u32,
    /// Frames lost of a thousand, each way.
    loss: u64,
    pub(super) breaks_sums: bool,
    random: u64,
    incoming: std::collections::VecDeque<Vec<u8>>,
    /// Most segments between two acknowledgements.
    pub(super) most: usize,
    taken: usize,
    /// Bytes of each frame that came, before it was cut.
    pub(super) came: Vec<usize>,
}

impl Container {
    pub(super) fn new(plug: Plug, mac: Mac, address: Ipv4Addr, gateway: Ipv4Addr, mtu: u32, loss: u64) -> Self {
        let mut line = Line {
            plug,
            mtu,
            loss,
            breaks_sums: false,
            random: 1,
            incoming: Default::default(),
            most: usize::MAX,
            taken: 0,
            came: Vec::new(),
        };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.octets())));
        config.random_seed = 7;
        let mut iface = Interface::new(config, &mut line, Instant::ZERO);
        iface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(address.into(), 24)).expect("room"));
        iface.routes_mut().add_default_ipv4_route(gateway).expect("room");
        Container { buffer: BUFFER, iface, sockets: SocketSet::new(Vec::new()), line, next_port: 40_000 }
    }

    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let had_frames = self.line.take_in() || !self.line.incoming.is_empty();
        self.line.taken = 0;
        self.iface.poll(now, &mut self.line, &mut self.sockets);
        had_frames
    }

    pub(super) fn connect(&mut self, to: std::net::SocketAddr) -> SocketHandle {
        let handle = self.sockets.add(socket(self.buffer));
        self.next_port += 1;
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.iface.context(), (to.ip(), to.port()), self.next_port).expect("connect");
        handle
    }

    pub(super) fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = socket(self.buffer);
        socket.listen(port).expect("listen");
        self.sockets.add(socket)
    }
}

fn socket(len: usize) -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; len]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket
}

impl Line {
    /// There is no memory for frames of more than 64 KB.
    pub(super) fn lack_memory(&self) {
        self.plug.refuse_longer(HEADER_LEN + MAX_FRAME);
    }

    /// SplitMix64.
    fn is_lost(&mut self) -> bool {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1000 < self.loss
    }

    fn take_in(&mut self) -> bool {
        let mut space = vec![0; HEADER_LEN + BIG_TCP];
        let mut had_frames = false;
        while let Some(len) = self.plug.receive(&mut space) {
            had_frames = true;
            let (header, frame) = space[..len].split_at(HEADER_LEN);
            self.came.push(frame.len());
            let header = OffloadHeader::read(header);
            if frame.len() <= MAX_FRAME {
                self.cut(header, frame);
            } else {
                shorter(header, frame).for_each(|part| self.cut(header, &part));
            }
        }
        had_frames
    }

    /// As the kernel of a container that hands on what it gets.
    fn cut(&mut self, header: OffloadHeader, frame: &[u8]) {
        let parsed = Frame::parse(frame).expect("the switch sends what it can read");
        let offload = Offload::check(header, &parsed, self.mtu).expect("a right offload header");
        assert!(offload.segments(frame.len()) > 1 || parsed.l3_len() <= self.mtu as usize, "longer than the MTU");
        segment(frame, &offload, &mut Vec::new(), |finished| {
            if !self.is_lost() {
                self.incoming.push_back(finished.to_vec());
            }
            true
        });
    }

    fn send(&mut self, mut frame: Vec<u8>) {
        let is_tcp = frame[12..14] == [8, 0] && frame[23] == 6;
        if self.breaks_sums && is_tcp {
            frame[50] ^= 1;
        }
        if !self.is_lost() {
            self.plug.send(&[&[0; HEADER_LEN], &frame]);
        }
    }
}

/// What a frame that is longer than its length field can say is in frames that are not.
fn shorter(header: OffloadHeader, frame: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let (headers, payload) = frame.split_at(header.hdr_len.into());
    let sum = |ip: &[u8], tcp_len: usize| {
        let [from, to] = [12, 16].map(|at| Ipv4Addr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap()));
        checksum::pseudo_header(from.into(), to.into(), 6, tcp_len as u32).to_be_bytes()
    };
    assert_eq!((&headers[12..14], &headers[16..18]), (&[8, 0][..], &[0, 0][..]), "IPv4 that does not say its length");
    assert_eq!(headers[50..52], sum(&headers[14..], frame.len() - 34));
    payload.chunks(40 * usize::from(header.gso_size)).scan(0, move |at, part| {
        let mut frame = [headers, part].concat();
        let len = frame.len() as u16;
        frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
        frame[24..26].fill(0);
        let ip_sum = !checksum::sum(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&ip_sum.to_be_bytes());
        let seq = u32::from_be_bytes(headers[38..42].try_into().unwrap()).wrapping_add(*at);
        frame[38..42].copy_from_slice(&seq.to_be_bytes());
        let tcp_sum = sum(&headers[14..], usize::from(len) - 34);
        frame[50..52].copy_from_slice(&tcp_sum);
        *at += part.len() as u32;
        Some(frame)
    })
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Sending<'a>(&'a mut Line);

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
        if self.taken == self.most {
            return None;
        }
        let frame = self.incoming.pop_front()?;
        self.taken += 1;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu as usize + 14;
        capabilities
    }
}
