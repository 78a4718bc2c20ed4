//! The keeper with a switch that only relays: what the test sends it goes to the keeper, and back.
//!
//! Needs root, iproute2 and /dev/net/tun.

#[allow(dead_code)]
mod lab;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, accept, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tapswitch::daemon::keeper::message::{EndpointKey, JobId, SocketKey, ToKeeper, ToSwitch};
use tapswitch::daemon::keeper::{Config, SwitchStart, run, serve_takeover};
use tapswitch::uplink::Transport;
use tapswitch_netns::{Child, DeviceSpec, Error, NameSockets, Namespace, NamespaceId, TapInfo, in_child, message};
use tempfile::TempDir;

use lab::{Container, LIMIT, Netns, become_user, has_carrier, is_up, spec, take_back, take_in, until};

/// How many seconds an answer may take. A keeper on a loaded machine gives a job 10 s before it says that it was too slow, and that
/// is what a test is to show then.
const ANSWER: i64 = 30;

/// A keeper in a process of its own; it and its switch are killed with this value.
struct Daemon {
    // Before the keeper: of one that is gone nobody knows the children.
    family: Family,
    child: Child<()>,
    directory: PathBuf,
}

/// A keeper's pid. Dropped, it ends the keeper with its switch, which else goes on for a while.
struct Family(Pid);

impl Drop for Family {
    fn drop(&mut self) {
        // Stopped, it starts no other switch. Where it has ended, it ended its switch first.
        if kill(self.0, Signal::SIGSTOP).is_err() {
            return;
        }
        let keeper = self.0.to_string();
        until("the keeper stops", || stat(&keeper).first().is_none_or(|state| ["T", "Z"].contains(&state.as_str())));
        for pid in children(self.0).iter().chain([&keeper]) {
            let pid: i32 = pid.parse().unwrap();
            // It may have ended just before.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            until("it ends", || has_ended(pid));
        }
    }
}

/// The processes it has forked and not reaped: its switch, and who works for it.
fn children(keeper: Pid) -> Vec<String> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|pid| stat(pid).get(1) == Some(&keeper.to_string())).collect()
}

/// State and parent of a process; nothing of one that is gone.
fn stat(pid: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in parentheses, which may hold anything.
    text.rsplit(')').next().unwrap().split_whitespace().take(2).map(str::to_owned).collect()
}

/// What the relay says first.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    pid: i32,
    restarts: u32,
    status: String,
    descriptors: usize,
}

/// A connection to the relay.
struct Relay {
    socket: OwnedFd,
    hello: Hello,
}

impl Daemon {
    fn start(directory: &Path, switch_main: fn(SwitchStart) -> i32) -> Daemon {
        Daemon::start_with(directory, None, switch_main)
    }

    fn start_with(directory: &Path, ready: Option<OwnedFd>, switch_main: fn(SwitchStart) -> i32) -> Daemon {
        let (pid, tell_pid) = nix::unistd::pipe().unwrap();
        let keep: Vec<_> = ready.iter().chain([&tell_pid]).map(OwnedFd::as_fd).collect();
        let work = || {
            nix::unistd::write(&tell_pid, &std::process::id().to_ne_bytes()).unwrap();
            let config = Config {
                run_dir: directory.join("run"),
                state_dir: directory.join("state"),
                api_socket: directory.join("run/api.sock"),
                docker_socket: None,
                log: None,
                ready: ready.as_ref().map(|fd| fd.try_clone().unwrap()),
            };
            run(config, || Ok(()), switch_main).map(|()| ((), None)).map_err(|error| as_netns(error.to_string()))
        };
        let child = Child::spawn("daemon", &keep, 6 * LIMIT, work).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(nix::unistd::read(pid, &mut bytes), Ok(4));
        let family = Family(Pid::from_raw(i32::from_ne_bytes(bytes)));
        Daemon { family, child, directory: directory.into() }
    }

    /// Its words at its end.
    fn wait(self) -> Result<(), String> {
        let mut fds = [PollFd::new(self.child.socket(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()), Ok(1), "the daemon ends");
        self.child.finish().map(drop).map_err(|error| error.to_string())
    }

    fn pid(&self) -> Pid {
        self.family.0
    }

    /// Kills the keeper alone.
    fn kill_keeper(self) {
        std::mem::forget(self.family);
        drop(self.child);
    }

    fn connect(&self) -> Relay {
        connect_to(&self.directory)
    }
}

/// The test's child speaks the netns crate's errors.
fn as_netns(why: String) -> Error {
    Error::Child { step: "daemon".into(), why }
}

fn connect_to(directory: &Path) -> Relay {
    let path = directory.join("run/attach.sock");
    let address = UnixAddr::new(&path).unwrap();
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER)).unwrap();
    until("the daemon listens", || connect(socket.as_raw_fd(), &address).is_ok());
    let (hello, _) = message::recv(socket.as_fd()).unwrap().expect("the relay greets");
    Relay { socket, hello }
}

impl Relay {
    fn send(&self, message: &ToKeeper, fd: Option<BorrowedFd<'_>>) {
        message::send(self.socket.as_fd(), message, fd).unwrap();
    }

    fn recv(&self) -> (ToSwitch, Option<OwnedFd>) {
        let (told, mut fds) = self.recv_with();
        assert!(fds.len() <= 1, "{told:?}");
        (told, fds.pop())
    }

    fn recv_with(&self) -> (ToSwitch, Vec<OwnedFd>) {
        message::recv_with(self.socket.as_fd()).unwrap().expect("the relay answers")
    }

    fn ask(&self, message: &ToKeeper) -> ToSwitch {
        self.send(message, None);
        self.recv().0
    }

    /// The sockets the keeper had, which come after the TAPs.
    fn kept_sockets(&self) -> Vec<(SocketKey, OwnedFd)> {
        let mut kept = Vec::new();
        loop {
            match self.recv() {
                (ToSwitch::KeptSocket { socket }, Some(fd)) => kept.push((socket, fd)),
                (ToSwitch::KeptAll, None) => return kept,
                other => panic!("{other:?}"),
            }
        }
    }

    fn bind(&self, socket: SocketKey) -> (ToSwitch, Option<OwnedFd>) {
        self.send(&ToKeeper::Bind { job: JobId(5), socket }, None);
        self.recv()
    }

    /// The TAPs the keeper had.
    fn kept(&self) -> Vec<(EndpointKey, OwnedFd)> {
        let mut kept = Vec::new();
        loop {
            match self.recv() {
                (ToSwitch::Kept { endpoint, .. }, Some(fd)) => kept.push((endpoint, fd)),
                (ToSwitch::KeptAll, None) => return kept,
                other => panic!("{other:?}"),
            }
        }
    }

    fn attach(&self, netns: &Netns, device: DeviceSpec) -> (ToSwitch, Option<OwnedFd>) {
        self.attach_in(&netns.open(), device)
    }

    fn attach_in(&self, target: &Namespace, device: DeviceSpec) -> (ToSwitch, Option<OwnedFd>) {
        self.send(&ToKeeper::Attach { job: JobId(1), endpoint: key("web"), device }, Some(target.as_fd()));
        self.recv()
    }

    fn detach(&self) -> ToSwitch {
        self.ask(&ToKeeper::Detach { job: JobId(9), endpoint: key("web") })
    }

    fn kill(&self) {
        kill(Pid::from_raw(self.hello.pid), Signal::SIGKILL).unwrap();
    }
}

fn key(name: &str) -> EndpointKey {
    EndpointKey(format!("default/{name}"))
}

/// The switch of these tests; it ends a minute after its start at the latest.
fn relay(start: SwitchStart) -> i32 {
    nix::unistd::alarm::set(60);
    let client = accept(start.attach.as_raw_fd()).unwrap();
    // SAFETY: accept just made it.
    let client = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(client) };
    let hello = Hello {
        pid: std::process::id() as i32,
        restarts: start.restarts,
        status: fs::read_to_string("/proc/self/status").unwrap(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
    };
    message::send(client.as_fd(), &hello, None).unwrap();
    let mut taps: Vec<(EndpointKey, TapInfo, OwnedFd)> = Vec::new();
    let mut sockets: Vec<(SocketKey, OwnedFd)> = Vec::new();
    loop {
        let mut fds = [&client, &start.keeper].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        poll(&mut fds, PollTimeout::NONE).unwrap();
        let [from_client, from_keeper] = fds.map(|fd| fd.any().unwrap());
        if from_client {
            match message::recv::<ToKeeper>(client.as_fd()) {
                Ok(Some((asked, fd))) => {
                    message::send(start.keeper.as_fd(), &asked, fd.as_ref().map(OwnedFd::as_fd)).unwrap();
                }
                _ => return 1,
            }
        }
        if from_keeper {
            let Some((told, mut fds)) = message::recv_with::<ToSwitch>(start.keeper.as_fd()).unwrap() else { break };
            if matches!(told, ToSwitch::Stop) {
                return 0;
            }
            let passed: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
            message::send_with(client.as_fd(), &told, &passed).unwrap();
            match (told, fds.pop()) {
                (ToSwitch::Attached { tap, .. }, Some(fd)) => taps.push((key("web"), tap, fd)),
                (ToSwitch::Bound { socket, .. }, Some(fd)) => sockets.push((socket, fd)),
                _ => {}
            }
        }
    }
    // The keeper is gone.
    let taps: Vec<_> = taps.iter().map(|(endpoint, tap, fd)| (endpoint.clone(), tap.clone(), fd.as_fd())).collect();
    let limit = PollTimeout::try_from(LIMIT).unwrap();
    let mut fds = [PollFd::new(start.takeover.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, limit) != Ok(1) {
        return 1;
    }
    let sockets: Vec<_> = sockets.iter().map(|(socket, fd)| (*socket, fd.as_fd())).collect();
    match serve_takeover(start.takeover.as_fd(), &taps, &sockets) {
        Ok(Some(_open_until_the_end)) => std::process::exit(0),
        other => panic!("{other:?}"),
    }
}

/// Asks where the device is; what the keeper tells of it comes after the answer.
fn follow(relay: &Relay, engine: NamespaceId, wait: bool) {
    let gateway = "172.17.0.1".parse().unwrap();
    let asked = ToKeeper::Follow { job: JobId(4), endpoint: key("web"), engine, wait, gateway };
    assert!(matches!(relay.ask(&asked), ToSwitch::Done { job: JobId(4) }));
}

/// Where the keeper tells the device is, with its sockets for names.
fn moved(relay: &Relay) -> (NamespaceId, String, Option<NameSockets>) {
    match relay.recv_with() {
        (ToSwitch::Moved { endpoint, namespace, ifname, names }, fds) if endpoint == key("web") => {
            let sockets = names.map(|upstream| NameSockets::from_parts(upstream, fds).expect("four descriptors"));
            (namespace, ifname, sockets)
        }
        other => panic!("{other:?}"),
    }
}

/// Asks for a device of that name where the process is.
fn attach_down(relay: &Relay, pid: i32, ifname: &str) -> ToSwitch {
    let device = DeviceSpec { ifname: ifname.into(), ..spec() };
    relay.send(&ToKeeper::AttachDown { job: JobId(1), endpoint: key("web"), pid, device }, None);
    relay.recv().0
}

fn carrier_changes(netns: &Netns) -> String {
    netns.exec("cat /sys/class/net/eth0/carrier_changes")
}

/// Ended, though perhaps nobody asked for its status yet.
fn has_ended(pid: i32) -> bool {
    stat(&pid.to_string()).first().is_none_or(|state| state == "Z")
}

fn attached(answer: (ToSwitch, Option<OwnedFd>)) -> OwnedFd {
    match answer {
        (ToSwitch::Attached { .. }, Some(fd)) => fd,
        other => panic!("{other:?}"),
    }
}

fn failed(answer: ToSwitch) -> String {
    match answer {
        ToSwitch::Failed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

/// A frame written to the TAP arrives in the namespace.
fn works(tap: &OwnedFd, netns: &Netns) {
    let received = || netns.exec("cat /sys/class/net/eth0/statistics/rx_packets").trim().parse::<u64>().unwrap();
    let before = received();
    let mut frame = vec![0; 10 + 60];
    frame[10..16].fill(0xff);
    frame[16..22].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[22..24].copy_from_slice(&[0x88, 0xb5]);
    assert_eq!(nix::unistd::write(tap, &frame), Ok(frame.len()));
    until("the frame arrives", || received() > before);
}

#[test]
fn a_killed_switch_gets_its_tap_back_and_the_container_notices_nothing() {
    let directory = TempDir::new().unwrap();
    let netns = Netns::new();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    assert_eq!(first.kept().len(), 0);
    let tap = attached(first.attach(&netns, spec()));
    works(&tap, &netns);
    drop(tap);
    let changes = carrier_changes(&netns);

    first.kill();
    let second = daemon.connect();
    assert_eq!((second.hello.restarts, second.hello.pid == first.hello.pid), (1, false));
    let kept = second.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0, key("web"));
    works(&kept[0].1, &netns);
    assert_eq!(carrier_changes(&netns), changes);

    // Held by test and relay still: the device goes with the last descriptor.
    assert!(matches!(second.detach(), ToSwitch::Done { job: JobId(9) }));
    assert!(matches!(second.detach(), ToSwitch::Done { .. }), "a repeated request is done already");
    drop(kept);
    second.kill();
    until("the device is gone", || netns.link("eth0").is_null());
}

#[test]
fn the_switch_has_no_right_and_no_descriptor_too_many() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let Hello { status, descriptors, .. } = daemon.connect().hello;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"));
    assert!(status.contains("Name:\ttapswitch\n"));
    // The standard three, four of SwitchStart, the client, the directory being read.
    assert_eq!(descriptors, 9);
}

#[test]
fn a_second_daemon_is_refused_by_pid_and_touches_nothing() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let relay_of_first = daemon.connect();
    relay_of_first.kept();
    let error = Daemon::start(directory.path(), relay).wait().unwrap_err();
    assert!(error.contains(&format!("in use by another daemon, pid {}", daemon.pid())), "{error}");
    assert!(!error.contains('\n'));
    assert!(matches!(relay_of_first.detach(), ToSwitch::Done { .. }));
}

#[test]
fn readiness_and_failure_are_told_to_who_waits() {
    let directory = TempDir::new().unwrap();
    let read_line = |read: OwnedFd| BufReader::new(fs::File::from(read)).lines().next().unwrap().unwrap();
    let (read, write) = nix::unistd::pipe().unwrap();
    let daemon = Daemon::start_with(directory.path(), Some(write), relay);
    let relay_of_first = daemon.connect();
    relay_of_first.send(&ToKeeper::Ready, None);
    assert_eq!(read_line(read), "ok");

    let (read, write) = nix::unistd::pipe().unwrap();
    let error = Daemon::start_with(directory.path(), Some(write), relay).wait().unwrap_err();
    assert!(error.ends_with(&read_line(read)), "{error}");
}

#[test]
fn a_fatal_switch_ends_the_daemon_with_its_words() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let relay = daemon.connect();
    relay.send(&ToKeeper::Fatal { error: "no pool is free".into() }, None);
    assert_eq!(daemon.wait().unwrap_err(), "daemon: no pool is free");
}

#[test]
fn a_switch_that_dies_at_once_is_given_up() {
    let directory = TempDir::new().unwrap();
    let error = Daemon::start(directory.path(), |_| 3).wait().unwrap_err();
    assert!(error.contains("died 5 times in 10 s, giving up"), "{error}");
}

#[test]
fn sigterm_keeps_the_device_and_the_next_daemon_attaches_again() {
    let directory = TempDir::new().unwrap();
    let netns = Netns::new();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    first.kept();
    attached(first.attach(&netns, spec()));
    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();
    assert!(!directory.path().join("run/api.sock").exists());
    until("carrier is lost", || !has_carrier(&netns.link("eth0")));

    let daemon = Daemon::start(directory.path(), relay);
    let second = daemon.connect();
    assert!(second.kept().is_empty());
    let namespace = netns.open().id();
    let again = ToKeeper::Reattach { job: JobId(2), endpoint: key("web"), namespace, device: spec() };
    second.send(&again, None);
    works(&attached(second.recv()), &netns);
    assert_eq!(failed(second.ask(&again)), "attach default/web again: it has a device already");

    let set_mtu = |ifname: &str| ToKeeper::SetMtu { job: JobId(3), namespace, ifname: ifname.into(), mtu: 9000 };
    assert!(matches!(second.ask(&set_mtu("eth0")), ToSwitch::Done { job: JobId(3) }));
    assert_eq!(netns.link("eth0")["mtu"], 9000);
    assert_eq!(failed(second.ask(&set_mtu("lo"))), "set MTU of lo: it is no device of ours");
}

#[test]
fn what_cannot_be_attached_says_why() {
    let directory = TempDir::new().unwrap();
    let netns = Netns::new();
    let daemon = Daemon::start(directory.path(), relay);
    let relay = daemon.connect();
    relay.kept();
    let attach = ToKeeper::Attach { job: JobId(1), endpoint: key("web"), device: spec() };
    assert_eq!(failed(relay.ask(&attach)), "attach default/web: no namespace came with the request");

    relay.send(&attach, Some(fs::File::open("/dev/null").unwrap().as_fd()));
    assert_eq!(failed(relay.recv().0), "attach default/web: namespace from a descriptor: not a network namespace");

    relay.send(&attach, Some(fs::File::open("/proc/self/ns/net").unwrap().as_fd()));
    let own = failed(relay.recv().0);
    assert!(own.contains("the host's own network namespace"), "{own}");

    let error = failed(relay.attach(&netns, DeviceSpec { ifname: "lo".into(), ..spec() }).0);
    assert!(error.contains("make TAP lo: the namespace has a device of that name already"), "{error}");
    attached(relay.attach(&netns, spec()));
}

#[test]
fn on_the_host_itself_nothing_is_done_but_to_devices_of_ours() {
    let directory = TempDir::new().unwrap();
    let netns = Netns::new();
    let daemon = Daemon::start(directory.path(), relay);
    let relay = daemon.connect();
    relay.kept();
    let attach = |name: &str, ifname: &str| {
        let device = DeviceSpec { ifname: ifname.into(), ..spec() };
        failed(relay.ask(&ToKeeper::AttachHost { job: JobId(1), endpoint: key(name), device }))
    };
    for (name, ifname) in [("web", "ts-default"), ("host.tapswitch", "eth0")] {
        let error = attach(name, ifname);
        assert!(error.contains("no device for the host's own namespace"), "{error}");
    }
    let route = ToKeeper::Route { job: JobId(2), ifname: "lo".into(), subnets: vec!["10.0.0.0/8".parse().unwrap()] };
    assert_eq!(failed(relay.ask(&route)), "route for lo: it is no device of ours on the host");
    let host = ToKeeper::Attach { job: JobId(3), endpoint: key("host.tapswitch"), device: spec() };
    relay.send(&host, Some(netns.open().as_fd()));
    let error = failed(relay.recv().0);
    assert!(error.contains("the host's own name"), "{error}");
}

#[test]
fn the_next_keeper_takes_over_from_a_switch_whose_keeper_was_killed() {
    let directory = TempDir::new().unwrap();
    let netns = Netns::new();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    first.kept();
    drop(attached(first.attach(&netns, spec())));
    let changes = carrier_changes(&netns);
    daemon.kill_keeper();
    assert!(has_carrier(&netns.link("eth0")));

    let daemon = Daemon::start(directory.path(), relay);
    // The old switch's socket is there until it has handed over.
    until("the old switch has ended", || has_ended(first.hello.pid));
    let second = daemon.connect();
    let kept = second.kept();
    assert_eq!(kept.len(), 1);
    works(&kept[0].1, &netns);
    assert_eq!(carrier_changes(&netns), changes);
    assert!(matches!(second.detach(), ToSwitch::Done { .. }));
}

/// A free port of the host's loopback, listened to.
fn listening(relay: &Relay) -> SocketKey {
    let any = SocketKey { transport: Transport::Tcp, address: "127.0.0.1:0".parse().unwrap() };
    match relay.bind(any) {
        (ToSwitch::Bound { socket, .. }, Some(_)) => socket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bound_socket_is_kept_for_the_next_switch_and_no_client_is_refused_meanwhile() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    first.kept();
    let socket = listening(&first);
    first.kill();
    for _ in 0..100 {
        TcpStream::connect(socket.address).expect("the keeper holds it");
    }
    let second = daemon.connect();
    let kept = second.kept_sockets();
    assert_eq!(kept.iter().map(|(socket, _)| *socket).collect::<Vec<_>>(), [socket]);
    drop(kept);
    for _ in 0..2 {
        assert!(matches!(second.ask(&ToKeeper::Unbind { job: JobId(6), socket }), ToSwitch::Done { job: JobId(6) }));
    }
    second.kill();
    let third = daemon.connect();
    assert!(third.kept_sockets().is_empty());
    assert!(TcpStream::connect(socket.address).is_err(), "nobody listens any more");
}

#[test]
fn the_next_keeper_takes_sockets_over_too() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    first.kept();
    let socket = listening(&first);
    daemon.kill_keeper();
    TcpStream::connect(socket.address).expect("the switch holds it");
    let daemon = Daemon::start(directory.path(), relay);
    until("the old switch has ended", || has_ended(first.hello.pid));
    assert_eq!(daemon.connect().kept_sockets()[0].0, socket);
    TcpStream::connect(socket.address).expect("the next keeper holds it");
}

#[test]
fn a_port_that_is_taken_comes_back_with_who_has_it() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let relay = daemon.connect();
    relay.kept();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = SocketKey { transport: Transport::Tcp, address: taken.local_addr().unwrap() };
    match relay.bind(socket) {
        (ToSwitch::NotBound { job: JobId(5), errno: libc::EADDRINUSE, holder: Some(holder) }, None) => {
            assert_eq!(holder.process.expect("ours may be looked at").1, std::process::id());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_that_an_engine_takes_is_followed_and_destroyed_wherever_it_is() {
    let directory = TempDir::new().unwrap();
    let (engine, container) = (Netns::new(), Netns::new());
    let process = engine.process();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    first.kept();
    let error = failed(attach_down(&first, process.pid(), "eth0"));
    assert_eq!(error, "attach default/web: a device for an engine is named tsd..., not eth0");
    let at_home = engine.open().id();
    match attach_down(&first, process.pid(), "tsd0") {
        ToSwitch::Attached { namespace, tap, .. } => assert_eq!((namespace, tap.ifname.as_str()), (at_home, "tsd0")),
        other => panic!("{other:?}"),
    }
    assert!(!is_up(&engine.link("tsd0")));

    follow(&first, at_home, true);
    container.exec("ip link set lo up");
    take_in(&engine, "tsd0", &container, "eth0");
    let namespace = container.open().id();
    let (there, ifname, names) = moved(&first);
    assert_eq!((there, ifname.as_str()), (namespace, "eth0"));
    assert_eq!(names.expect("nobody answers names").upstream.udp, "172.17.0.1:53".parse().unwrap());
    let set_mtu = ToKeeper::SetMtu { job: JobId(3), namespace, ifname, mtu: 9000 };
    assert!(matches!(first.ask(&set_mtu), ToSwitch::Done { .. }));
    assert_eq!(container.link("eth0")["mtu"], 9000);

    first.kill();
    let second = daemon.connect();
    assert_eq!(second.kept().len(), 1);
    follow(&second, at_home, false);
    assert_eq!(moved(&second).0, namespace);
    take_back(&container, "eth0", &engine, "tsd0");
    follow(&second, at_home, false);
    let (there, ifname, names) = moved(&second);
    assert_eq!((there, ifname.as_str(), names.is_none()), (at_home, "tsd0", true));

    // One that waits has a descriptor of the device: it ends with it. Asked twice, it is one.
    for _ in 0..2 {
        follow(&second, at_home, true);
        assert_eq!(children(daemon.pid()).len(), 2);
    }
    assert!(matches!(second.detach(), ToSwitch::Done { .. }));
    assert_eq!(children(daemon.pid()).len(), 1, "the switch alone");
    second.kill();
    until("the device is gone", || engine.link("tsd0").is_null());
}

#[test]
fn a_device_of_an_engine_on_the_host_is_attached_again_and_nothing_else_there_is() {
    /// Not left to the host when a test fails.
    struct Left(String);
    impl Drop for Left {
        fn drop(&mut self) {
            let _ = std::process::Command::new("ip").args(["link", "del", &self.0]).output();
        }
    }
    let directory = TempDir::new().unwrap();
    let pid = std::process::id();
    let device = DeviceSpec { ifname: format!("tsd{pid}"), ..spec() };
    let left = Left(device.ifname.clone());
    let on_host = || Path::new("/sys/class/net").join(&left.0).exists();
    let daemon = Daemon::start(directory.path(), relay);
    let first = daemon.connect();
    first.kept();
    assert!(matches!(attach_down(&first, pid as i32, &left.0), ToSwitch::Attached { .. }));
    assert!(on_host());
    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();

    let daemon = Daemon::start(directory.path(), relay);
    let second = daemon.connect();
    assert!(second.kept().is_empty());
    let namespace = Namespace::current().unwrap().id();
    let again = |device: &DeviceSpec| ToKeeper::Reattach {
        job: JobId(2),
        endpoint: key("web"),
        namespace,
        device: device.clone(),
    };
    let error = failed(second.ask(&again(&DeviceSpec { ifname: "eth0".into(), ..device.clone() })));
    assert!(error.contains("the host's own network namespace"), "{error}");
    assert!(matches!(second.ask(&again(&device)), ToSwitch::Attached { .. }));
    let set_mtu = ToKeeper::SetMtu { job: JobId(3), namespace, ifname: left.0.clone(), mtu: 9000 };
    assert!(matches!(second.ask(&set_mtu), ToSwitch::Done { .. }));
    assert!(matches!(second.detach(), ToSwitch::Done { .. }));
    second.kill();
    until("the device is gone", || !on_host());
}

#[test]
fn what_cannot_be_made_for_an_engine_or_followed_says_why() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), relay);
    let relay = daemon.connect();
    relay.kept();
    let error = failed(attach_down(&relay, i32::MAX, "tsd0"));
    assert!(error.starts_with("attach default/web: namespace 2147483647: not found"), "{error}");
    let device = DeviceSpec { ifname: "tsd0".into(), ..spec() };
    let pid = std::process::id() as i32;
    let host = ToKeeper::AttachDown { job: JobId(1), endpoint: key("host.tapswitch"), pid, device };
    assert!(failed(relay.ask(&host)).contains("the host's own name"));
    let engine = Namespace::current().unwrap().id();
    let gateway = "172.17.0.1".parse().unwrap();
    let follow = ToKeeper::Follow { job: JobId(4), endpoint: key("web"), engine, wait: true, gateway };
    assert_eq!(failed(relay.ask(&follow)), "follow default/web: it has no device");
}

#[test]
fn a_users_switch_gets_its_tap_back_without_entering_the_container() {
    in_child("as a user", &[], 3 * LIMIT, || {
        become_user();
        let directory = TempDir::new().unwrap();
        let container = Container::start();
        let daemon = Daemon::start(directory.path(), relay);
        let first = daemon.connect();
        first.kept();
        drop(attached(first.attach_in(&Namespace::of_pid(container.pid())?, spec())));
        let state = || container.exec("ip -d -j addr show eth0");
        let before = state();
        assert!(before.contains("LOWER_UP"), "{before}");
        first.kill();
        let second = daemon.connect();
        assert_eq!(second.kept().len(), 1);
        assert_eq!(state(), before);
        assert!(matches!(second.detach(), ToSwitch::Done { .. }));
        second.kill();
        until("the device is gone", || !container.exec("ip -j link").contains("eth0"));
        Ok(((), None))
    })
    .unwrap();
}
