//! Devices that an engine takes to its containers itself: born down, followed, and the sockets for their containers' names.
//!
//! Needs root, iproute2, util-linux and /dev/net/tun.

#[allow(dead_code)]
mod lab;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use tapswitch_netns::{
    Child, DeviceSpec, Error, NameSockets, NameUpstream, Namespace, NamespaceId, Tap, birth_down, follow, in_child,
};

use lab::{Container, LIMIT, Netns, become_user, is_up, run, spec, take_back, take_in, until};

/// Where names are asked of when nobody else knows them.
const GATEWAY: &str = "172.17.0.1:53";
const RESOLVER: &str = "127.0.0.11:53";

fn device() -> DeviceSpec {
    DeviceSpec { ifname: "tsd0".into(), ..spec() }
}

fn born(engine: &Namespace) -> Result<Tap, Error> {
    let (info, fd) = in_child("attach", &[engine.as_fd()], LIMIT, || {
        let tap = birth_down(engine, &device())?;
        Ok((tap.info, Some(tap.fd)))
    })?;
    Ok(Tap { fd: fd.unwrap(), info })
}

type Found = (NamespaceId, String, Result<Option<NameUpstream>, Error>);

/// One that looks where the device is.
fn follower(tap: &Tap, engine: NamespaceId, wait: bool) -> Child<Found> {
    let gateway: IpAddr = GATEWAY.parse::<SocketAddr>().unwrap().ip();
    Child::spawn_with("follow", &[tap.as_fd()], LIMIT, || {
        let found = follow(tap.as_fd(), engine, wait, gateway)?;
        let (names, fds) = match found.names {
            Ok(Some(sockets)) => {
                let (upstream, fds) = sockets.into_parts();
                (Ok(Some(upstream)), fds)
            }
            Ok(None) => (Ok(None), vec![]),
            Err(error) => (Err(error), vec![]),
        };
        Ok(((found.namespace, found.ifname, names), fds))
    })
    .unwrap()
}

fn found(child: Child<Found>) -> Result<(NamespaceId, String, Option<NameSockets>), Error> {
    let mut fds = [PollFd::new(child.socket(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()), Ok(1), "the follower never ends");
    let ((namespace, ifname, names), fds) = child.finish_with()?;
    let sockets = names?.map(|upstream| NameSockets::from_parts(upstream, fds).expect("four descriptors"));
    Ok((namespace, ifname, sockets))
}

fn look(tap: &Tap, engine: &Netns) -> (NamespaceId, String, Option<NameSockets>) {
    found(follower(tap, engine.open().id(), false)).unwrap()
}

/// An engine with a device that its container has, with the loopback up.
fn taken_in() -> (Netns, Netns, Tap) {
    let (engine, container) = (Netns::new(), Netns::new());
    let tap = born(&engine.open()).unwrap();
    run(&["ip", "-n", &container.0, "link", "set", "lo", "up"]);
    take_in(&engine, "tsd0", &container, "eth0");
    (engine, container, tap)
}

/// What is made in a namespace and used from anywhere.
fn inside<T: Send>(netns: &Netns, make: impl FnOnce() -> T + Send) -> T {
    let namespace = netns.open();
    let make = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        make()
    };
    std::thread::scope(|scope| scope.spawn(make).join().unwrap())
}

#[test]
fn a_device_for_an_engine_is_down_and_says_nothing() {
    let engine = Netns::new();
    let _tap = born(&engine.open()).unwrap();
    let link = engine.link("tsd0");
    assert_eq!(link["address"], "02:42:ac:11:00:02");
    assert_eq!(link["mtu"], 1400);
    assert!(!is_up(&link));
    assert_eq!(link["addr_info"].as_array().unwrap().len(), 0);
    for key in ["disable_ipv6", "addr_gen_mode"] {
        assert_eq!(engine.exec(&format!("cat /proc/sys/net/ipv6/conf/tsd0/{key}")).trim(), "1", "{key}");
    }
    run(&["ip", "-n", &engine.0, "link", "set", "tsd0", "up"]);
    assert_eq!(engine.link("tsd0")["addr_info"].as_array().unwrap().len(), 0, "not even a link-local one");
}

#[test]
fn a_name_that_the_engine_has_already_is_refused() {
    let engine = Netns::new();
    run(&["ip", "-n", &engine.0, "tuntap", "add", "tsd0", "mode", "tap"]);
    let before = engine.ip("link").to_string();
    assert_eq!(born(&engine.open()).unwrap_err(), Error::NameTaken { ifname: "tsd0".into() });
    assert_eq!(engine.ip("link").to_string(), before);
}

#[test]
fn a_device_is_told_of_once_its_engine_has_brought_it_up_and_by_its_last_name() {
    let (engine, container) = (Netns::new(), Netns::new());
    let tap = born(&engine.open()).unwrap();
    // Up, but with no container yet.
    run(&["ip", "-n", &engine.0, "link", "set", "tsd0", "up"]);
    let child = follower(&tap, engine.open().id(), true);
    // What happens to others wakes it, and means nothing.
    run(&["ip", "-n", &engine.0, "link", "set", "lo", "up"]);
    take_in(&engine, "tsd0", &container, "eth0");
    let (namespace, ifname, names) = found(child).unwrap();
    assert_eq!((namespace, ifname.as_str()), (container.open().id(), "eth0"));
    assert!(names.is_none(), "without a loopback nobody asks there");
    // And one that is asked afterwards sees it at once.
    assert_eq!(found(follower(&tap, engine.open().id(), true)).unwrap().0, container.open().id());
}

#[test]
fn a_look_tells_of_any_place_and_state() {
    let (engine, container) = (Netns::new(), Netns::new());
    let tap = born(&engine.open()).unwrap();
    let place = || {
        let (namespace, ifname, names) = look(&tap, &engine);
        assert!(names.is_none(), "{ifname} is not up in a container");
        (namespace, ifname)
    };
    assert_eq!(place(), (engine.open().id(), "tsd0".into()));
    run(&["ip", "-n", &engine.0, "link", "set", "tsd0", "netns", &container.0]);
    assert_eq!(place(), (container.open().id(), "tsd0".into()));
    run(&["ip", "-n", &container.0, "link", "set", "lo", "up"]);
    run(&["ip", "-n", &container.0, "link", "set", "tsd0", "name", "eth7"]);
    assert_eq!(place(), (container.open().id(), "eth7".into()));
    take_back(&container, "eth7", &engine, "tsd0");
    assert_eq!(place(), (engine.open().id(), "tsd0".into()));
}

#[test]
fn nothing_is_made_for_names_where_the_engine_itself_is() {
    let engine = Netns::new();
    let tap = born(&engine.open()).unwrap();
    for device in ["lo", "tsd0"] {
        run(&["ip", "-n", &engine.0, "link", "set", device, "up"]);
    }
    assert!(look(&tap, &engine).2.is_none());
}

#[test]
fn the_death_of_the_container_shows() {
    let (engine, container, tap) = taken_in();
    run(&["ip", "netns", "del", &container.0]);
    let mut frame = [0; 2048];
    until("the descriptor shows it", || {
        let mut fds = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()), Ok(1), "the namespace is pinned");
        let dead = fds[0].revents().unwrap().contains(PollFlags::POLLERR);
        // A frame, or EBADFD: the next poll says.
        let _ = nix::unistd::read(&tap.fd, &mut frame);
        dead
    });
    let error = found(follower(&tap, engine.open().id(), true)).unwrap_err().to_string();
    assert!(error.starts_with("namespace of the device: file descriptor in bad state"), "{error}");
    tap.destroy().unwrap();
}

#[test]
fn names_go_to_the_gateway_where_nobody_answers_them() {
    let (engine, container, tap) = taken_in();
    let sockets = look(&tap, &engine).2.expect("nobody answers names");
    let gateway: SocketAddr = GATEWAY.parse().unwrap();
    assert_eq!(sockets.upstream, NameUpstream { udp: gateway, tcp: gateway });
    for fd in [&sockets.queries, &sockets.listener, &sockets.relay, &sockets.stream] {
        let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(nix::fcntl::OFlag::from_bits_truncate(flags).contains(nix::fcntl::OFlag::O_NONBLOCK));
    }
    assert_eq!(UdpSocket::from(sockets.relay).peer_addr().unwrap(), gateway);

    let (queries, listener) = (UdpSocket::from(sockets.queries), TcpListener::from(sockets.listener));
    let (asks, _connection) = inside(&container, || {
        let asks = UdpSocket::bind("127.0.0.1:0").unwrap();
        asks.send_to(b"who is web", RESOLVER).unwrap();
        (asks, TcpStream::connect(RESOLVER).unwrap())
    });
    let mut bytes = [0; 512];
    let (length, from) = queries.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&b"who is web"[..], asks.local_addr().unwrap()));
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    assert!(look(&tap, &engine).2.is_none(), "somebody answers by now");
}

/// A resolver as Docker's, at ports of its own.
fn resolver(container: &Netns) -> (UdpSocket, TcpListener) {
    inside(container, || (UdpSocket::bind("127.0.0.11:0").unwrap(), TcpListener::bind("127.0.0.11:0").unwrap()))
}

#[test]
fn names_go_to_the_engines_own_resolver_where_it_answers() {
    let (engine, container, tap) = taken_in();
    let (udp, tcp) = resolver(&container);
    let upstream = NameUpstream { udp: udp.local_addr().unwrap(), tcp: tcp.local_addr().unwrap() };
    udp.set_read_timeout(Some(LIMIT)).unwrap();
    let server = std::thread::spawn(move || {
        let (_, from) = udp.recv_from(&mut [0; 512]).unwrap();
        udp.send_to(b"format error", from).unwrap();
        udp
    });
    let sockets = look(&tap, &engine).2.expect("nobody is at port 53");
    assert_eq!(sockets.upstream, upstream);
    // It is heard by the one, and reached by the other once somebody connects it.
    let udp = server.join().unwrap();
    let relay = UdpSocket::from(sockets.relay);
    relay.send(b"who is web").unwrap();
    let (_, from) = udp.recv_from(&mut [0; 512]).unwrap();
    assert_eq!(from, relay.local_addr().unwrap());
    connect(&sockets.stream, upstream.tcp);
    tcp.accept().unwrap();
}

/// Non-blocking: on the loopback it is under way at once.
fn connect(socket: &OwnedFd, to: SocketAddr) {
    let to = nix::sys::socket::SockaddrStorage::from(to);
    let connected = nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(socket), &to);
    assert!(matches!(connected, Ok(()) | Err(nix::errno::Errno::EINPROGRESS)), "{connected:?}");
}

#[test]
fn a_resolver_that_nobody_serves_is_none() {
    let (engine, container, tap) = taken_in();
    let _left_open = resolver(&container);
    let sockets = look(&tap, &engine).2.expect("nobody is at port 53");
    assert_eq!(sockets.upstream.udp, GATEWAY.parse().unwrap());
}

#[test]
fn who_has_the_port_keeps_it() {
    let (engine, container, tap) = taken_in();
    let tcp = inside(&container, || TcpListener::bind(RESOLVER).unwrap());
    assert!(look(&tap, &engine).2.is_none(), "it is answered already");
    drop(tcp);
    let udp = inside(&container, || UdpSocket::bind("0.0.0.0:53").unwrap());
    assert!(look(&tap, &engine).2.is_none(), "a server of the container's own");
    drop(udp);
    assert!(look(&tap, &engine).2.is_some());
}

#[test]
fn a_user_follows_what_its_engine_takes_to_a_container_of_its_own() {
    in_child("as a user", &[], 3 * LIMIT, || {
        become_user();
        let engine = Container::start();
        let container = engine.start_inside();
        let home = Namespace::of_pid(engine.pid())?;
        let tap = born(&home)?;
        tap.persist(nix::unistd::getuid().as_raw())?;
        let child = follower(&tap, home.id(), true);
        engine.exec(&format!("ip link set tsd0 netns {}", container.pid()));
        container.exec("ip link set lo up");
        container.exec("ip link set tsd0 name eth0");
        container.exec("ip addr add 172.17.0.2/16 dev eth0");
        container.exec("ip link set eth0 up");
        let (namespace, ifname, names) = found(child)?;
        assert_eq!((namespace, ifname.as_str()), (Namespace::of_pid(container.pid())?.id(), "eth0"));
        assert_eq!(names.unwrap().upstream.udp, GATEWAY.parse().unwrap());
        tap.destroy()?;
        until("the device is gone", || !container.exec("ip -j link").contains("eth0"));
        Ok(((), None))
    })
    .unwrap();
}
