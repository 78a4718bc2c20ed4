//! The whole service, asked as workers ask it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use hickory_proto::op::{MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use super::super::zone::tests::zones;
use super::*;
use crate::forwarding::PortId;

fn asker() -> Asker {
    Asker { network: "default".into(), port: PortId(7) }
}

fn ends() -> (SocketAddr, SocketAddr) {
    ("10.1.0.2:4711".parse().unwrap(), "10.1.0.1:53".parse().unwrap())
}

/// A service on a thread of its own, with the names of `zones`; it asks nobody.
fn start() -> Names {
    start_with(Resolvers::new(&[], 1))
}

fn start_with(resolvers: Resolvers) -> Names {
    let (names, service) = service(resolvers);
    names.publish(zones());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(service.run()));
    names
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    question.to_vec().unwrap()
}

fn reply(link: &Link) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match link.reply() {
            Some(reply) => return reply,
            None => assert!(Instant::now() < deadline, "no answer"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_goes_back_to_who_asked() {
    let link = start().link();
    let (near, far) = ends();
    link.query(asker(), near, far, &question(5, "web.")).unwrap();
    let reply = reply(&link);
    assert_eq!((reply.port, reply.near, reply.far), (PortId(7), near, far));
    let answer = Message::from_vec(&reply.payload).unwrap();
    assert_eq!((answer.id, answer.answers.len()), (5, 1));
}

#[test]
fn where_nobody_can_be_asked_the_answer_is_a_failure() {
    let link = start().link();
    let (near, far) = ends();
    link.query(asker(), near, far, &question(5, "example.org.")).unwrap();
    let answer = Message::from_vec(&reply(&link).payload).unwrap();
    assert_eq!(answer.response_code, ResponseCode::ServFail);
}

#[test]
fn a_published_name_is_there_at_once_and_an_unknown_network_has_no_answers() {
    let names = start();
    let link = names.link();
    let (near, far) = ends();
    names.publish(Zones::default());
    link.query(asker(), near, far, &question(1, "web.")).unwrap();
    names.publish(zones());
    // Questions are answered in the order of their tasks: the first would have come before.
    link.query(asker(), near, far, &question(2, "web.")).unwrap();
    let first = Message::from_vec(&reply(&link).payload).unwrap();
    assert!(first.id == 2 || first.answers.len() == 1, "answered by what was not there any more");
}

fn connect(link: &Link) -> StdStream {
    let stream = StdStream::from(link.stream(asker()).unwrap());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn next(stream: &mut StdStream) -> Message {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut message).unwrap();
    Message::from_vec(&message).unwrap()
}

#[test]
fn a_connection_carries_many_questions_in_any_pieces_and_ends_after_the_last_answer() {
    let link = start().link();
    let mut stream = connect(&link);
    let all: Vec<u8> = (0..20).flat_map(|id| framed(&question(id, "web."))).collect();
    let (head, tail) = all.split_at(all.len() / 3);
    stream.write_all(head).unwrap();
    stream.write_all(tail).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut ids: Vec<u16> = (0..20).map(|_| next(&mut stream).id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it ends");
}

#[test]
fn a_connection_that_asks_no_more_counts_until_it_is_answered() {
    // A resolver that says nothing.
    let resolver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
    let link = start_with(Resolvers::new(&[&path], resolver.local_addr().unwrap().port())).link();
    let streams: Vec<_> = std::iter::from_fn(|| link.stream(asker()).ok()).take(20).collect();
    assert_eq!(streams.len(), 8, "the limit of one asker");
    for stream in streams.iter().map(|fd| StdStream::from(fd.try_clone().unwrap())) {
        stream.set_nonblocking(false).unwrap();
        (&stream).write_all(&framed(&question(1, "example.org."))).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut buffer = [0; 512];
    resolver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (0..8).for_each(|_| assert!(resolver.recv(&mut buffer).expect("it is asked") > 0));
    assert!(link.stream(asker()).is_err());
}

#[test]
fn whoever_has_the_most_connections_gives_his_oldest_for_another() {
    let link = start().link();
    let connect = |port| StdStream::from(link.stream(Asker { port: PortId(port), ..asker() }).unwrap());
    let is_served = |stream: &mut StdStream| {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 512];
        stream.write_all(&framed(&question(1, "web."))).is_ok() && stream.read(&mut buffer).is_ok_and(|len| len > 0)
    };
    let mut held: Vec<Vec<_>> = (0..16).map(|port| (0..8).map(|_| connect(port)).collect()).collect();
    let mut newcomer: Vec<_> = (0..7).map(|_| connect(99)).collect();
    assert!(newcomer.iter_mut().all(is_served));
    // Each of seven gave one; an eighth would only leave another with as few.
    let mut eighth = connect(99);
    assert!(!is_served(&mut eighth));
    let served: Vec<Vec<bool>> = held.iter_mut().map(|streams| streams.iter_mut().map(is_served).collect()).collect();
    let gave = served.iter().filter(|streams| **streams == [false, true, true, true, true, true, true, true]).count();
    let kept = served.iter().filter(|streams| **streams == [true; 8]).count();
    assert_eq!((gave, kept), (7, 9), "{served:?}");
}

#[test]
fn a_connection_with_a_giant_message_ends() {
    let link = start().link();
    let mut stream = connect(&link);
    stream.write_all(&[0xff, 0xff]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn without_its_service_a_link_is_nobody_s() {
    let (names, service) = service(Resolvers::new(&[], 1));
    drop(service);
    assert!(names.link().stream(asker()).is_err());
}
