//! All of it, in one thread: a container on a cable that loses frames, a worker whose turns are called by hand, and real
//! sockets of this host.

mod container;
mod ends;
mod lab;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use smoltcp::socket::tcp::State;

use super::account::MAX_BYTES;
use crate::forwarding::{DropReason, EgressDrop, Rate};
use crate::frame::MAX_FRAME;
use crate::port::Limits;
use lab::{Lab, MTU, stream};

/// Accepts one client after the other, and has each served by a thread.
fn serve(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on loopback");
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, serve) = (client.expect("a client"), serve.clone());
            thread::spawn(move || serve(client));
        }
    });
    address
}

fn echo(mut client: TcpStream) {
    let mut space = [0; 4096];
    while let Ok(len @ 1..) = client.read(&mut space) {
        if client.write_all(&space[..len]).is_err() {
            return;
        }
    }
}

/// Reads to the end, then sends all of it back.
fn mirror(mut client: TcpStream) {
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("read");
    client.write_all(&all).expect("write");
}

#[test]
fn bytes_go_both_ways_whole_and_in_order_and_both_ends_end() {
    let mut lab = Lab::new(0);
    let sent = stream(3_000_000);
    assert!(lab.exchange(serve(mirror), &sent) == sent);
    lab.run("the flow ends", |lab| lab.flows() == 0);
}

#[test]
fn bytes_arrive_whole_over_a_cable_that_loses_frames() {
    let mut lab = Lab::new(20);
    let sent = stream(600_000);
    assert!(lab.exchange(serve(mirror), &sent) == sent);
    lab.run("the flow ends", |lab| lab.flows() == 0);
}

#[test]
fn a_download_goes_at_the_limit_of_the_container_s_rate_and_loses_nothing() {
    let limit = Rate { bytes_per_second: 1_000_000, burst: 65_536 };
    let mut lab = Lab::limited(0, MTU, Limits { rx: None, tx: Some(limit) });
    let sent = stream(500_000);
    let start = Instant::now();
    assert!(lab.exchange(serve(mirror), &sent) == sent);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(434), "500 kB in {took:?}");
    assert_eq!(lab.counts().tx_drops, [0; EgressDrop::COUNT]);
    lab.run("the flow ends", |lab| lab.flows() == 0);
}

#[test]
fn a_segment_that_is_longer_than_the_limit_of_the_rate_lets_wait_comes_alone() {
    let limit = Rate { bytes_per_second: 1_250_000, burst: 65_536 };
    let mut lab = Lab::limited(0, 65_520, Limits { rx: None, tx: Some(limit) });
    for len in [5, 300_000] {
        let sent = stream(len);
        assert!(lab.exchange(serve(mirror), &sent) == sent);
    }
    assert_eq!(lab.counts().tx_drops, [0; EgressDrop::COUNT]);
}

#[test]
fn a_container_that_hands_on_what_it_gets_in_segments_gets_no_long_frames_any_more() {
    let mut lab = Lab::big();
    let sent = stream(6_000_000);
    let whole = sent.clone();
    let server = serve(move |mut client| client.write_all(&whole).expect("write"));
    let socket = lab.connect(server);
    assert!(lab.read_to_end(socket) == sent);
    let came = lab.came();
    let last_long = came.iter().rposition(|len| *len > MAX_FRAME).expect("at first it is not known");
    let late: usize = came[last_long + 1..].iter().sum();
    assert!(late > sent.len() / 2, "{late} bytes in frames of up to 64 KB");
}

#[test]
fn what_there_is_no_memory_for_in_one_piece_comes_in_short_frames_at_once() {
    let mut lab = Lab::big();
    lab.lack_memory();
    let sent = stream(6_000_000);
    let whole = sent.clone();
    let socket = lab.connect(serve(move |mut client| client.write_all(&whole).expect("write")));
    assert!(lab.read_to_end(socket) == sent);
    let came: usize = lab.came().iter().sum();
    assert!(lab.came().iter().all(|len| *len <= MAX_FRAME));
    assert!(came < sent.len() + sent.len() / 8, "{came} bytes: nothing was sent again");
    assert_eq!(lab.counts().tx_drops[EgressDrop::NoMemory.index()], 1, "a long one is tried once");
}

#[test]
fn a_refused_connection_is_refused() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let mut lab = Lab::new(0);
    let socket = lab.connect(nobody);
    lab.run("refused", |lab| lab.socket(socket).state() == State::Closed);
    assert_eq!(lab.flows(), 0);
}

#[test]
fn a_reset_of_the_far_end_is_a_reset_inside() {
    let address = serve(|mut client| {
        client.read_exact(&mut [0; 1]).unwrap();
        let now = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&client, sockopt::Linger, &now).unwrap();
    });
    let mut lab = Lab::new(0);
    let socket = lab.connect(address);
    lab.run("connected", |lab| lab.socket(socket).may_send());
    lab.socket(socket).send_slice(b"x").unwrap();
    lab.run("reset", |lab| lab.socket(socket).state() == State::Closed);
    assert_eq!(lab.flows(), 0);
}

#[test]
fn a_reset_of_the_container_is_a_reset_outside() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut lab = Lab::new(0);
    let socket = lab.connect(listener.local_addr().unwrap());
    lab.run("connected", |lab| lab.socket(socket).may_send());
    let mut far = listener.accept().unwrap().0;
    lab.socket(socket).abort();
    lab.run("ended", |lab| lab.flows() == 0);
    assert_eq!(far.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_thousand_connections_at_once_are_all_served_and_none_is_left() {
    let mut lab = Lab::new(0);
    let address = serve(echo);
    let sockets: Vec<_> = (0..1000).map(|_| lab.connect(address)).collect();
    for &socket in &sockets {
        lab.run("connected", |lab| lab.socket(socket).may_send());
        lab.socket(socket).send_slice(b"hello").unwrap();
    }
    assert_eq!(lab.flows(), 1000);
    for &socket in &sockets {
        lab.run("answered", |lab| lab.socket(socket).recv_queue() == 5);
        lab.socket(socket).close();
    }
    lab.run("all ended", |lab| lab.flows() == 0);
}

#[test]
fn a_far_end_that_does_not_read_stops_its_own_flow_only() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut lab = Lab::new(0);
    let stuck = lab.connect(listener.local_addr().unwrap());
    let mut taken = 0;
    let mut idle = 0;
    lab.run("nothing more is taken", |lab| {
        let sent = lab.socket(stuck).send_slice(&[0; 65_536]).unwrap_or(0);
        taken += sent;
        idle = if sent > 0 { 0 } else { idle + 1 };
        idle > 500 && taken > 0
    });
    let sent = stream(100_000);
    assert!(lab.exchange(serve(mirror), &sent) == sent);
    let mut far = listener.accept().unwrap().0;
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let reader = thread::spawn(move || {
        let mut got = vec![0; taken];
        far.read_exact(&mut got).map(|()| taken)
    });
    lab.run("the rest arrives", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap().unwrap(), taken);
}

#[test]
fn a_container_that_does_not_read_is_asked_and_gets_all_in_the_end() {
    let sent = stream(1_000_000);
    let from = sent.clone();
    let address = serve(move |mut client| client.write_all(&from).unwrap());
    let mut lab = Lab::new(0);
    let socket = lab.connect(address);
    lab.run("its buffer is full", |lab| lab.socket(socket).recv_queue() == lab.socket(socket).recv_capacity());
    lab.run_for(Duration::from_millis(500));
    assert!(lab.read_to_end(socket) == sent);
}

#[test]
fn what_cannot_stay_in_its_socket_is_kept_within_the_container_s_limit() {
    let mut lab = Lab::new(0);
    let socket = lab.listen(80);
    let (near, mut far) = UnixStream::pair().unwrap();
    lab.accept(near.into(), 80);
    lab.run("connected", |lab| lab.socket(socket).may_send());
    lab.account().change(0, MAX_BYTES - 10);
    let sent = stream(1000);
    far.write_all(&sent).unwrap();
    lab.run("all of it comes", |lab| {
        assert!(lab.account().bytes() <= MAX_BYTES);
        lab.socket(socket).recv_queue() == sent.len()
    });
    drop(far);
    assert!(lab.read_to_end(socket) == sent);
}

#[test]
fn an_urgent_byte_stands_at_its_place_in_the_stream() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut lab = Lab::new(0);
    let socket = lab.connect(listener.local_addr().unwrap());
    lab.run("connected", |lab| lab.socket(socket).may_send());
    let far = listener.accept().unwrap().0;
    far.set_nodelay(true).unwrap();
    for (bytes, flags) in [("AB", MsgFlags::empty()), ("U", MsgFlags::MSG_OOB), ("CD", MsgFlags::empty())] {
        send(far.as_raw_fd(), bytes.as_bytes(), flags).unwrap();
    }
    lab.run("all of it comes", |lab| lab.socket(socket).recv_queue() == 5);
    drop(far);
    assert_eq!(lab.read_to_end(socket), b"ABUCD");
}

#[test]
fn what_could_not_be_written_comes_when_it_can() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut lab = Lab::new(0);
    let socket = lab.connect(listener.local_addr().unwrap());
    lab.run("connected", |lab| lab.socket(socket).may_send());
    let mut far = listener.accept().unwrap().0;
    lab.go_away(true);
    let sent = stream(1000);
    far.write_all(&sent).unwrap();
    lab.run_for(Duration::from_millis(300));
    lab.go_away(false);
    lab.run("all of it comes", |lab| lab.socket(socket).recv_queue() == sent.len());
    drop(far);
    assert!(lab.read_to_end(socket) == sent);
}

#[test]
fn a_client_of_a_published_port_is_served_by_the_container() {
    for loss in [0, 20] {
        let mut lab = Lab::new(loss);
        let socket = lab.listen(80);
        let (near, far) = UnixStream::pair().unwrap();
        lab.accept(near.into(), 80);
        let sent = stream(300_000);
        let from = sent.clone();
        let client = thread::spawn(move || {
            let mut far = far;
            let mut got = Vec::new();
            far.write_all(&from).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            far.read_to_end(&mut got).map(|_| got)
        });
        let got = lab.read_to_end(socket);
        assert!(got == sent);
        lab.write_to_end(socket, &got);
        lab.run("the client has it", |_| client.is_finished());
        assert!(client.join().unwrap().unwrap() == sent);
        lab.run("the flow ends", |lab| lab.flows() == 0);
    }
}

#[test]
fn clients_of_what_is_not_published_any_more_end_though_another_leads_to_the_same_port() {
    let mut lab = Lab::new(0);
    let socket = lab.listen(80);
    let (near, mut far) = UnixStream::pair().unwrap();
    lab.accept(near.into(), 80);
    lab.run("connected", |lab| lab.socket(socket).may_send());
    lab.publish(&[1, 2], 80);
    assert_eq!(lab.flows(), 1);
    lab.publish(&[2], 80);
    assert_eq!(lab.flows(), 0);
    assert!(!matches!(far.read(&mut [0; 8]), Ok(1..)));
}

#[test]
fn a_container_that_refuses_a_call_closes_the_client() {
    let mut lab = Lab::new(0);
    let (near, mut far) = UnixStream::pair().unwrap();
    lab.accept(near.into(), 81);
    lab.run("refused", |lab| lab.flows() == 0);
    assert_eq!(far.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn flows_go_on_when_their_port_changes_workers() {
    let mut lab = Lab::new(0);
    let socket = lab.connect(serve(mirror));
    lab.run("connected", |lab| lab.socket(socket).may_send());
    let sent = stream(200_000);
    let (first, rest) = sent.split_at(50_000);
    let mut at = 0;
    lab.run("some is sent", |lab| {
        at += lab.socket(socket).send_slice(&first[at..]).unwrap();
        at == first.len()
    });
    lab.change_workers();
    assert_eq!(lab.flows(), 1);
    lab.write_to_end(socket, rest);
    assert!(lab.read_to_end(socket) == sent);
}

#[test]
fn flows_of_a_port_that_is_withdrawn_end_outside() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut lab = Lab::new(0);
    let socket = lab.connect(listener.local_addr().unwrap());
    lab.run("connected", |lab| lab.socket(socket).may_send());
    let mut far = listener.accept().unwrap().0;
    lab.withdraw();
    assert_eq!(lab.flows(), 0);
    assert!(!matches!(far.read(&mut [0; 8]), Ok(1..)));
}

#[test]
fn segments_of_no_flow_are_reset_and_counted() {
    let mut lab = Lab::new(0);
    let socket = lab.connect(serve(echo));
    lab.run("connected", |lab| lab.socket(socket).may_send());
    lab.forget_flows();
    lab.socket(socket).send_slice(b"still there?").unwrap();
    lab.run("reset", |lab| lab.socket(socket).state() == State::Closed);
    assert_eq!(lab.dropped(DropReason::NoFlow), 1);
}

#[test]
fn what_has_a_wrong_sum_is_dropped() {
    let mut lab = Lab::new(0);
    lab.break_sums();
    lab.connect(serve(echo));
    lab.run("dropped", |lab| lab.dropped(DropReason::BadChecksum) > 0);
    assert_eq!(lab.flows(), 0);
}
