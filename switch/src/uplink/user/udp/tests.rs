//! UDP through a worker: frames of one container on one side, sockets of this host on the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::testing::*;
use super::*;
use crate::frame::testing::{self, UDP_L4};
use crate::frame::{Frame, Layer4, Packet, Payload, checksum};

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A socket of the far side.
fn far(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// A datagram of the container.
fn datagram(port: u16, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    match to.ip() {
        IpAddr::V4(v4) => testing::udp4(A, GATEWAY, A4, v4, port, to.port(), payload),
        IpAddr::V6(v6) => testing::udp6(A, GATEWAY, A6, v6, port, to.port(), payload),
    }
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    let Payload::Ip(packet) = Frame::parse(bytes).expect("well-formed").payload else { panic!("no IP packet") };
    packet
}

/// The ends and payload of a UDP frame, the sum of which is left to make.
fn read(bytes: &[u8]) -> (SocketAddr, SocketAddr, &[u8]) {
    let packet = packet(bytes);
    let Layer4::Udp { src_port, dst_port } = packet.l4 else { panic!("no UDP: {packet:?}") };
    let len = (packet.end - packet.l4_offset) as u32;
    let pseudo = checksum::pseudo_header(packet.src, packet.dst, 17, len);
    assert_eq!(bytes[packet.l4_offset + 6..][..2], pseudo.to_be_bytes(), "the pseudo-header's sum");
    let payload = &bytes[packet.l4_offset + 8..packet.end];
    (SocketAddr::new(packet.src, src_port), SocketAddr::new(packet.dst, dst_port), payload)
}

/// A flow that is there: the far side's socket, and where it sees the container come from.
fn flow(stage: &mut Stage, address: IpAddr) -> (UdpSocket, SocketAddr) {
    let far = far(address);
    stage.send(&datagram(4000, far.local_addr().unwrap(), b"hello"));
    let mut buffer = [0; 100];
    let (len, from) = far.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"hello");
    (far, from)
}

#[test]
fn a_datagram_leaves_and_its_answer_comes_back() {
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        let (far, from) = flow(&mut stage, address);
        for answer in [&b"world"[..], b"", b"!"] {
            far.send_to(answer, from).unwrap();
            let bytes = stage.receive();
            let expected = (far.local_addr().unwrap(), SocketAddr::new(near(address), 4000), answer);
            assert_eq!(read(&bytes), expected);
        }
    }
}

#[test]
fn one_port_speaks_with_many_and_each_answer_says_from_whom() {
    let mut stage = Stage::new();
    let fars: Vec<_> = (0..3).map(|_| flow(&mut stage, LOOPBACKS[0])).collect();
    for (far, from) in fars.iter().rev() {
        far.send_to(b"x", from).unwrap();
        let bytes = stage.receive();
        assert_eq!(read(&bytes).0, far.local_addr().unwrap());
    }
}

#[test]
fn a_burst_leaves_as_the_datagrams_that_it_is() {
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        let far = far(address);
        let payload: Vec<u8> = (0..3500u32).map(|n| n as u8).collect();
        let frame = testing::gso(&datagram(4000, far.local_addr().unwrap(), &payload), 1000);
        assert_eq!(frame.1.gso_type, UDP_L4);
        stage.send_offloaded(&frame);
        let mut buffer = [0; 4000];
        for expected in payload.chunks(1000) {
            let len = far.recv(&mut buffer).unwrap();
            assert!(&buffer[..len] == expected, "{len} bytes");
        }
        // A single one that is longer than the burst's were is not cut.
        stage.send(&datagram(4000, far.local_addr().unwrap(), &payload[..1400]));
        assert_eq!(far.recv(&mut buffer).unwrap(), 1400);
    }
}

#[test]
fn what_the_far_side_sends_as_a_burst_comes_as_one_frame() {
    use nix::sys::socket::{setsockopt, sockopt};
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        let (far, from) = flow(&mut stage, address);
        setsockopt(&far, sockopt::UdpGsoSegment, &1000).unwrap();
        let payload: Vec<u8> = (0..3500u32).map(|n| n as u8).collect();
        far.send_to(&payload, from).unwrap();
        let (header, bytes) = stage.receive_offloaded();
        assert_eq!((header.gso_type, header.gso_size), (UDP_L4, 1000));
        assert_eq!(read(&bytes).2, payload);
    }
}

#[test]
fn datagrams_that_wait_together_come_together_and_none_is_lost_or_joined() {
    let mut stage = Stage::new();
    let (far, from) = flow(&mut stage, LOOPBACKS[0]);
    let lens = [1000, 1000, 300, 1200, 8000, 0, 50, 50];
    for (n, len) in lens.iter().enumerate() {
        far.send_to(&vec![n as u8; *len], from).unwrap();
    }
    let mut seen = Vec::new();
    let mut fragments = crate::uplink::user::fragments::Fragments::default();
    let mut whole = Vec::new();
    while seen.len() < lens.len() {
        let (header, bytes) = stage.receive_offloaded();
        let packet = packet(&bytes);
        if packet.fragment != crate::frame::Fragment::Whole {
            if fragments.add(PORT, &bytes, &packet, stage.now, &mut whole).unwrap() {
                seen.push(whole[42..].to_vec());
            }
            continue;
        }
        let payload = read(&bytes).2;
        match header.gso_type {
            UDP_L4 => seen.extend(payload.chunks(header.gso_size.into()).map(<[u8]>::to_vec)),
            _ => seen.push(payload.to_vec()),
        }
    }
    for (n, (len, payload)) in lens.iter().zip(&seen).enumerate() {
        assert!(*payload == vec![n as u8; *len], "datagram {n}: {} bytes", payload.len());
    }
}

#[test]
fn a_large_datagram_comes_in_fragments_with_a_right_sum() {
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        let (far, from) = flow(&mut stage, address);
        let payload: Vec<u8> = (0..8192u32).map(|n| (n % 251) as u8).collect();
        far.send_to(&payload, from).unwrap();
        let mut fragments = crate::uplink::user::fragments::Fragments::default();
        let mut whole = Vec::new();
        loop {
            let bytes = stage.receive();
            assert!(bytes.len() <= 1514);
            if fragments.add(PORT, &bytes, &packet(&bytes), stage.now, &mut whole).unwrap() {
                break;
            }
        }
        let packet = packet(&whole);
        let message = &whole[packet.l4_offset..packet.end];
        let pseudo = checksum::pseudo_header(packet.src, packet.dst, 17, message.len() as u32);
        assert_eq!(checksum::sum(message, pseudo.into()), 0xffff);
        assert_eq!(&message[8..], payload);
    }
}

#[test]
fn a_containers_fragments_leave_as_one_datagram() {
    let mut stage = Stage::new();
    let far = far(LOOPBACKS[0]);
    let IpAddr::V4(to) = LOOPBACKS[0] else { unreachable!() };
    let payload: Vec<u8> = (0..4000u32).map(|n| n as u8).collect();
    let message = testing::udp(A4.into(), to.into(), 4000, far.local_addr().unwrap().port(), &payload);
    for (at, part) in message.chunks(1480).enumerate().rev() {
        let place = (at * 1480 / 8) as u16 | if at < 2 { 0x2000 } else { 0 };
        stage.send(&testing::ip4_at(A, GATEWAY, A4, to, 17, place, part));
    }
    let mut buffer = [0; 5000];
    let len = far.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], payload);
}

#[test]
fn a_damaged_datagram_does_not_leave() {
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        let far = far(address);
        let mut frame = datagram(4000, far.local_addr().unwrap(), b"hello");
        *frame.last_mut().unwrap() ^= 1;
        stage.send(&frame);
        assert_eq!(stage.drops(DropReason::Malformed), 1);
        // No sum: legal over IPv4 alone.
        let at = if address.is_ipv4() { 40 } else { 60 };
        frame[at..at + 2].fill(0);
        stage.send(&frame);
        assert_eq!(stage.drops(DropReason::Malformed), if address.is_ipv4() { 1 } else { 2 });
    }
}

#[test]
fn a_port_where_nobody_listens_comes_back_as_the_error_that_it_is() {
    for address in LOOPBACKS {
        let mut stage = Stage::new();
        // It hears one who is not there, and so nobody; nobody else gets its port.
        let far = far(address);
        far.connect((address, 9)).unwrap();
        let to = far.local_addr().unwrap();
        let frame = datagram(4000, to, b"hello");
        stage.send(&frame);
        let error = stage.receive();
        let packet = packet(&error);
        assert_eq!((packet.src, packet.dst), (address, near(address)));
        let (Layer4::Icmp4 { kind, code, quote, .. } | Layer4::Icmp6 { kind, code, quote, .. }) = packet.l4 else {
            panic!("no ICMP: {packet:?}")
        };
        assert_eq!((kind, code), if address.is_ipv4() { (3, 3) } else { (1, 4) });
        let quote = quote.expect("the datagram");
        assert_eq!((quote.src, quote.src_port), (near(address), 4000));
        assert_eq!((quote.dst, quote.dst_port), (address, to.port()));
        assert!(error.ends_with(b"hello"));
        // The flow goes on: somebody may listen later.
        stage.send(&frame);
        stage.receive();
    }
}

#[test]
fn a_hop_limit_that_ends_here_is_answered_by_the_gateway() {
    let mut stage = Stage::new();
    let far = far(LOOPBACKS[0]);
    let mut frame = datagram(4000, far.local_addr().unwrap(), b"hello");
    frame[22] = 1;
    stage.send(&frame);
    let error = stage.receive();
    assert_eq!(packet(&error).src, IpAddr::V4(GATEWAY4));
    assert!(matches!(packet(&error).l4, Layer4::Icmp4 { kind: 11, code: 0, quote: Some(_), .. }));
    assert_eq!(stage.drops(DropReason::HopLimit), 1);
}

#[test]
fn without_a_way_out_the_sender_is_told_and_its_flows_end() {
    let mut stage = Stage::new();
    let (far, from) = flow(&mut stage, LOOPBACKS[0]);
    stage.publish(false, Vec::new());
    far.send_to(b"late", from).ok();
    assert!(stage.is_silent());
    stage.send(&datagram(4000, far.local_addr().unwrap(), b"hello"));
    assert!(matches!(packet(&stage.receive()).l4, Layer4::Icmp4 { kind: 3, code: 13, .. }));
    assert_eq!(stage.drops(DropReason::NoUplink), 1);
}

#[test]
fn a_flow_nobody_answers_ends_after_half_a_minute_and_an_answered_one_later() {
    for (is_answered, lives) in [(false, 30), (true, 180)] {
        let mut stage = Stage::new();
        let (far, from) = flow(&mut stage, LOOPBACKS[0]);
        if is_answered {
            far.send_to(b"x", from).unwrap();
            stage.receive();
        }
        stage.wait(lives - 1);
        stage.turn();
        far.send_to(b"x", from).unwrap();
        stage.receive();
        stage.wait(181);
        stage.turn();
        let _ = far.send_to(b"x", from);
        assert!(stage.is_silent());
    }
}

#[test]
fn a_container_with_too_many_flows_is_refused_until_some_were_idle() {
    let mut stage = Stage::new();
    let far = far(LOOPBACKS[0]);
    let to = far.local_addr().unwrap();
    // Descriptors of the process that runs all tests.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(most > 2 * MOST_FLOWS as u64, "ulimit -Hn is {most}: raise it above {}", 2 * MOST_FLOWS);
    for port in 0..MOST_FLOWS as u16 {
        stage.send(&datagram(20_000 + port, to, b""));
    }
    stage.send(&datagram(10_000, to, b""));
    assert_eq!(stage.drops(DropReason::FlowLimit), 1);
    stage.wait(2);
    stage.send(&datagram(10_000, to, b""));
    assert_eq!(stage.drops(DropReason::FlowLimit), 1);
}

#[test]
fn of_the_ports_that_all_share_a_container_leaves_others_some_and_gives_its_oldest_up_for_them() {
    const OTHER: PortId = PortId(99);
    let permits = Permits::new(9);
    let mut stage = Stage::with(permits.clone());
    let fars: Vec<_> = (0..6).map(|_| far(LOOPBACKS[0])).collect();
    for far in &fars {
        stage.send(&datagram(4000, far.local_addr().unwrap(), b""));
    }
    assert_eq!(stage.drops(DropReason::FlowLimit), 1, "it has five, and four are free");
    let others = || std::iter::from_fn(|| permits.take(OTHER)).collect::<Vec<_>>();
    let mut held = others();
    assert_eq!(held.len(), 2);
    for _ in 0..4 {
        stage.turn();
        held.extend(others());
    }
    assert_eq!(held.len(), 3, "each has what they leave free");
    // Of its flows the two oldest ended, though they were in use; it gets no other meanwhile.
    let mut buffer = [0; 10];
    let froms: Vec<_> = fars[..5].iter().map(|far| far.recv_from(&mut buffer).unwrap().1).collect();
    fars.iter().zip(&froms).for_each(|(far, from)| drop(far.send_to(b"x", from)));
    let mut heard: Vec<_> = (0..3).map(|_| read(&stage.receive()).0).collect();
    heard.sort();
    let mut expected: Vec<_> = fars[2..5].iter().map(|far| far.local_addr().unwrap()).collect();
    expected.sort();
    assert_eq!(heard, expected);
    assert!(stage.is_silent());
    stage.send(&datagram(4000, fars[5].local_addr().unwrap(), b""));
    assert_eq!(stage.drops(DropReason::FlowLimit), 2);
    // Once idle, one is given up for another of its own.
    stage.wait(2);
    stage.send(&datagram(4000, fars[5].local_addr().unwrap(), b""));
    assert_eq!(stage.drops(DropReason::FlowLimit), 2);
    drop(held);
    drop(stage);
    assert_eq!(others().len(), 5, "all permits came back");
}

#[test]
fn what_the_container_sends_to_a_client_leaves_by_the_published_port() {
    let mut stage = Stage::new();
    let (host, client) = (far(LOOPBACKS[0]), far(LOOPBACKS[0]));
    host.set_nonblocking(true).unwrap();
    let publication = Arc::new(Publication {
        id: 1,
        port: PORT,
        transport: Transport::Udp,
        host: host.local_addr().unwrap(),
        container: 53,
        socket: host.try_clone().unwrap().into(),
    });
    stage.publish(true, vec![publication.clone()]);
    let near = SocketAddr::new(A4.into(), 53);
    // A client on loopback is shown as the gateway.
    let shown = SocketAddr::new(GATEWAY4.into(), 4000);
    stage.client(&publication, near, shown, client.local_addr().unwrap(), b"question");
    assert_eq!(read(&stage.receive()), (shown, near, &b"question"[..]));
    let payload = [&[1; 1000][..], &[2; 1000], &[3; 500]].concat();
    stage.send(&datagram(53, shown, b"answer"));
    stage.send_offloaded(&testing::gso(&datagram(53, shown, &payload), 1000));
    let mut buffer = [0; 4000];
    for expected in [&b"answer"[..], &payload[..1000], &payload[1000..2000], &payload[2000..]] {
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert!(&buffer[..len] == expected && from == publication.host, "{len} bytes from {from}");
    }
    // Unpublished: the gateway has no such service.
    stage.publish(true, Vec::new());
    stage.send(&datagram(53, shown, b"late"));
    assert_eq!(stage.drops(DropReason::NoService), 1);
}

#[test]
fn flows_move_to_another_worker_with_their_sockets() {
    use crate::engine::Local;
    let mut stage = Stage::new();
    let (far, from) = flow(&mut stage, LOOPBACKS[0]);
    let baggage = stage.worker.local().let_go(PORT);
    far.send_to(b"under way", from).unwrap();
    assert!(stage.is_silent());
    stage.take(baggage);
    assert_eq!(read(&stage.receive()).2, b"under way");
    far.send_to(b"later", from).unwrap();
    assert_eq!(read(&stage.receive()).2, b"later");
}
