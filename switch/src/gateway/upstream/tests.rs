//! Resolvers that are threads of the test, on loopback: 127.0.0.1 and its neighbours, all at one port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket as StdUdp};
use std::path::PathBuf;
use std::thread;

use hickory_proto::op::{MessageType, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::forwarding::Permit;

/// How a resolver answers; `None` is silence.
type Play = fn(&Message) -> Option<Message>;

fn good(asked: &Message) -> Option<Message> {
    let mut told = code(asked, ResponseCode::NoError);
    let name = asked.queries[0].name.clone();
    told.add_answer(Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 1].into()))));
    Some(told)
}

fn code(asked: &Message, code: ResponseCode) -> Message {
    let mut told = Message::new(asked.id, MessageType::Response, OpCode::Query);
    told.metadata.response_code = code;
    told.queries = asked.queries.clone();
    told
}

fn silent(_: &Message) -> Option<Message> {
    None
}

fn failing(asked: &Message) -> Option<Message> {
    Some(code(asked, ResponseCode::ServFail))
}

fn cut(asked: &Message) -> Option<Message> {
    let mut told = code(asked, ResponseCode::NoError);
    told.metadata.truncation = true;
    Some(told)
}

/// The resolvers 127.0.0.1, 127.0.0.2, … that play so, and a resolv.conf that names them.
struct Fakes {
    port: u16,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Fakes {
    fn new(plays: &[Play]) -> Self {
        let (port, sockets) = bind(plays.len());
        for (socket, play) in sockets.into_iter().zip(plays.iter().copied()) {
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let told = play(&Message::from_vec(&buffer[..len]).unwrap());
                    told.into_iter().for_each(|told| drop(socket.send_to(&told.to_vec().unwrap(), from)));
                }
            });
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let lines = (1..=plays.len()).map(|host| format!("nameserver 127.0.0.{host}\n"));
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        Fakes { port, path, _dir: dir }
    }

    fn upstream(&self) -> Upstream {
        Upstream::new(Resolvers::new(&[&self.path], self.port))
    }
}

/// A port that is free on all of them, by both protocols.
fn bind(count: usize) -> (u16, Vec<StdUdp>) {
    for _ in 0..100 {
        let first = StdUdp::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let host = |host| Ipv4Addr::new(127, 0, 0, host);
        let others: Result<Vec<_>, _> =
            (2..=u8::try_from(count).unwrap()).map(|at| StdUdp::bind((host(at), port))).collect();
        if let Ok(others) = others {
            return (port, std::iter::once(first).chain(others).collect());
        }
    }
    panic!("no port is free on {count} loopback addresses");
}

fn question(name: &str) -> Question {
    Question {
        network: "default".into(),
        name: Name::from_ascii(name).unwrap(),
        kind: RecordType::A,
        dnssec_ok: false,
        checking_disabled: false,
    }
}

fn ask(upstream: &Upstream, name: &str) -> Option<Message> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(upstream.ask(PortId(1), question(name)))
}

#[test]
fn an_answer_comes_and_is_known_from_then_on() {
    let fakes = Fakes::new(&[good]);
    let upstream = fakes.upstream();
    assert_eq!(upstream.known(&question("a.example."), Instant::now()), None);
    assert_eq!(ask(&upstream, "a.example.").unwrap().answers.len(), 1);
    assert_eq!(upstream.known(&question("a.example."), Instant::now()).unwrap().answers.len(), 1);
    assert_eq!(upstream.known(&question("b.example."), Instant::now()), None);
}

#[test]
fn the_next_server_is_asked_when_one_is_silent_or_fails_and_then_first() {
    for bad in [silent as Play, failing] {
        let fakes = Fakes::new(&[bad, good]);
        let upstream = fakes.upstream();
        assert_eq!(ask(&upstream, "a.example.").unwrap().response_code, ResponseCode::NoError);
        let start = Instant::now();
        assert!(ask(&upstream, "b.example.").is_some());
        assert!(start.elapsed() < TRY, "the silent one was asked first again");
    }
}

#[test]
fn where_all_fail_their_failure_is_the_answer_and_where_all_are_gone_there_is_none() {
    assert_eq!(
        ask(&Fakes::new(&[failing, failing]).upstream(), "a.example.").unwrap().response_code,
        ResponseCode::ServFail
    );
    // Nobody is bound there: the kernel says so at once.
    let (port, sockets) = bind(1);
    drop(sockets);
    let start = Instant::now();
    assert_eq!(ask(&Upstream::new(Resolvers::new(&[], port)), "a.example."), None);
    assert!(start.elapsed() < TRY);
}

#[test]
fn an_answer_to_another_question_is_not_believed() {
    fn lying(asked: &Message) -> Option<Message> {
        let mut told = good(asked)?;
        told.queries[0].name = Name::from_ascii("bank.example.").unwrap();
        Some(told)
    }
    fn misnumbered(asked: &Message) -> Option<Message> {
        let mut told = good(asked)?;
        told.metadata.id = told.id.wrapping_add(1);
        Some(told)
    }
    for liar in [lying as Play, misnumbered] {
        let told = ask(&Fakes::new(&[liar, failing]).upstream(), "a.example.").unwrap();
        assert_eq!(told.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    let fakes = Fakes::new(&[cut]);
    let listener = TcpListener::bind(("127.0.0.1", fakes.port)).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut asked = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut asked).unwrap();
        let asked = Message::from_vec(&asked).unwrap();
        let mut told = good(&asked).unwrap();
        told.answers = vec![told.answers[0].clone(); 201];
        let told = told.to_vec().unwrap();
        stream.write_all(&u16::try_from(told.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&told).unwrap();
    });
    assert_eq!(ask(&fakes.upstream(), "a.example.").unwrap().answers.len(), 201);
}

#[test]
fn the_next_server_is_asked_when_one_is_silent_over_tcp() {
    let fakes = Fakes::new(&[cut, good]);
    // The kernel takes the connection, and nobody serves it.
    let _silent = TcpListener::bind(("127.0.0.1", fakes.port)).unwrap();
    assert_eq!(ask(&fakes.upstream(), "a.example.").unwrap().answers.len(), 1);
}

#[test]
fn a_server_that_does_not_know_edns_is_asked_without() {
    fn old(asked: &Message) -> Option<Message> {
        if asked.edns.is_some() {
            let mut told = code(asked, ResponseCode::FormErr);
            told.queries.clear();
            return Some(told);
        }
        good(asked)
    }
    assert_eq!(ask(&Fakes::new(&[old]).upstream(), "a.example.").unwrap().answers.len(), 1);
}

#[test]
fn what_the_servers_told_is_forgotten_when_they_change() {
    let fakes = Fakes::new(&[good, good]);
    let upstream = fakes.upstream();
    ask(&upstream, "a.example.").unwrap();
    std::fs::write(&fakes.path, "nameserver 127.0.0.2\n").unwrap();
    assert_eq!(upstream.known(&question("a.example."), Instant::now() + Duration::from_secs(2)), None);
}

#[test]
fn a_late_answer_of_a_server_that_was_replaced_puts_no_other_first() {
    let fakes = Fakes::new(&[silent, good, good]);
    let upstream = fakes.upstream();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let replaced = async {
            std::fs::write(&fakes.path, "nameserver 127.0.0.3\nnameserver 127.0.0.1\n").unwrap();
            upstream.known(&question("a.example."), Instant::now() + Duration::from_secs(2));
        };
        let (told, ()) = tokio::join!(upstream.ask(PortId(1), question("a.example.")), replaced);
        assert!(told.is_some(), "the second of the former servers answers");
    });
    let start = Instant::now();
    assert!(ask(&upstream, "b.example.").is_some());
    assert!(start.elapsed() < TRY, "the silent one is second now, and was asked first");
}

/// All permits that this asker gets.
fn permits(upstream: &Upstream, asker: u32) -> Vec<Permit> {
    std::iter::from_fn(|| upstream.asking.take(PortId(asker))).collect()
}

#[test]
fn whoever_takes_all_places_he_gets_leaves_others_some() {
    let fakes = Fakes::new(&[good]);
    let upstream = fakes.upstream();
    let hostile = [permits(&upstream, 7), permits(&upstream, 8)];
    assert_eq!(hostile.each_ref().map(Vec::len), [MAX_ASKING / 2, MAX_ASKING / 4]);
    assert!(ask(&upstream, "a.example.").is_some());
    drop(hostile);
    assert_eq!(permits(&upstream, 9).len(), MAX_ASKING / 2, "permits come back");
}

#[test]
fn more_than_the_limit_is_not_asked() {
    let upstream = Fakes::new(&[good]).upstream();
    let _all: Vec<_> = (100..200).map(|asker| permits(&upstream, asker)).collect();
    assert_eq!(ask(&upstream, "a.example."), None);
}
