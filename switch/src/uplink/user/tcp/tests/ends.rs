//! Ends that come late, or from one side: what was taken from one is still for the other.

use std::io::Write;

use smoltcp::iface::SocketHandle;

use super::*;

/// Longer than a container remembers what it closed, and than a far end is waited for that takes nothing.
const FORGOTTEN: Duration = Duration::from_secs(120);
const GIVEN_UP: Duration = Duration::from_secs(240);

/// A container's connection to a far end.
fn connected() -> (Lab, SocketHandle, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut lab = Lab::new(0);
    let socket = lab.connect(listener.local_addr().unwrap());
    lab.run("connected", |lab| lab.socket(socket).may_send());
    (lab, socket, listener.accept().unwrap().0)
}

/// What a far end reads that begins only now, to the end.
fn read_all(lab: &mut Lab, mut far: impl Read + Send + 'static) -> std::io::Result<Vec<u8>> {
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        far.read_to_end(&mut got).map(|_| got)
    });
    lab.run("the far end has read", |_| reader.is_finished());
    reader.join().unwrap()
}

#[test]
fn an_upload_that_drains_outlives_what_the_container_remembers_of_it() {
    for said in [&b""[..], b"what nobody is there to read"] {
        let (mut lab, socket, mut far) = connected();
        let sent = stream(1_000_000);
        lab.write_to_end(socket, &sent);
        lab.run("the end is acknowledged", |lab| lab.socket(socket).state() == State::FinWait2);
        lab.forget(socket);
        far.write_all(said).unwrap();
        lab.skip(FORGOTTEN);
        assert!(read_all(&mut lab, far).expect("no reset") == sent);
        lab.run("the flow ends", |lab| lab.flows() == 0);
    }
}

#[test]
fn a_container_that_waits_for_us_before_it_reads_on_hears_of_a_far_end_that_broke_off() {
    let (mut lab, socket, mut far) = connected();
    far.set_nonblocking(true).unwrap();
    let bytes = stream(100_000);
    lab.run("neither reads", |lab| {
        let sent = lab.socket(socket).can_send() && lab.socket(socket).send_slice(&bytes).is_ok_and(|sent| sent > 0);
        let said = far.write(&bytes).is_ok();
        !sent && !said && lab.socket(socket).recv_queue() > 0
    });
    drop(far);
    lab.run("reset, though it goes on writing", |lab| {
        let _ = lab.socket(socket).send_slice(&bytes);
        lab.socket(socket).state() == State::Closed
    });
    assert_eq!(lab.flows(), 0);
}

/// The far end of a flow that the container has ended and forgotten, and nothing was read of what it `sent`.
fn left(lab: &mut Lab, sent: &[u8]) -> UnixStream {
    let socket = lab.listen(80);
    let (near, far) = UnixStream::pair().unwrap();
    lab.accept(near.into(), 80);
    lab.run("connected", |lab| lab.socket(socket).may_send());
    lab.write_to_end(socket, sent);
    lab.run("the end is acknowledged", |lab| lab.socket(socket).state() == State::FinWait2);
    lab.forget(socket);
    lab.skip(FORGOTTEN);
    far
}

#[test]
fn what_the_socket_has_no_room_for_outlives_it_too() {
    let mut lab = Lab::new(0);
    let sent = stream(600_000);
    let far = left(&mut lab, &sent);
    assert!(read_all(&mut lab, far).expect("no reset") == sent);
    lab.run("the flow ends", |lab| lab.flows() == 0);
}

#[test]
fn a_far_end_that_takes_nothing_is_not_waited_for_for_ever() {
    let mut lab = Lab::new(0);
    let mut far = left(&mut lab, &stream(600_000));
    assert_eq!(lab.flows(), 1);
    far.write_all(b"what the container is not there for").unwrap();
    lab.skip(GIVEN_UP);
    lab.run("the flow ends", |lab| lab.flows() == 0);
}

#[test]
fn what_a_far_end_said_before_it_broke_an_upload_is_read() {
    let (mut lab, socket, mut far) = connected();
    far.set_nonblocking(true).unwrap();
    lab.socket(socket).send_slice(b"what nobody reads").unwrap();
    lab.run("some of it has come", |_| far.peek(&mut [0]).is_ok());
    let said = stream(1000);
    far.write_all(&said).unwrap();
    drop(far);
    // The segment comes before the turn in which the socket would be read.
    lab.socket(socket).send_slice(b"more of it").unwrap();
    assert!(lab.read_to_end(socket) == said);
    lab.run("reset", |lab| lab.socket(socket).state() == State::Closed);
    assert_eq!(lab.flows(), 0);
}
