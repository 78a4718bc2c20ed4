//! Control with a keeper that is a thread of the test: devices are socket pairs, which read and write whole frames as a TAP does.

mod slow_disk;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use parking_lot::Mutex;
use tapswitch_ipam::Occupied;
use tapswitch_netns::{Namespace, NamespaceId, OffloadMode, TapInfo, message};

pub(crate) use slow_disk::SlowDisk;

use super::{Begin, Control, Ending, Handle, Inputs, Selection, begin, channel};
use crate::daemon::api::types::{
    AttachRequest, EndpointInfo, NetworkCreate, PublicationInfo, PublishRequest, Subnet4, Subnet6,
};
use crate::daemon::docker::Relays;
use crate::daemon::keeper::message::{EndpointKey, Holder, JobId, SocketKey, ToKeeper, ToSwitch};
use crate::daemon::keeper_link;
use crate::daemon::refusal::Outcome;
use crate::daemon::settings::Settings;
use crate::daemon::state::Disk;
use crate::engine::{EngineEvent, IoChoice};
use crate::forwarding::PortId;
use crate::gateway::{DNS, Resolvers, service};

/// What the keeper does about a job.
pub(crate) enum Act {
    /// What it was asked.
    Do,
    /// The same, and the descriptor of the device cannot be received.
    Cut,
    /// Fails it.
    Fail(&'static str),
    /// Fails it, since its namespace is gone.
    Gone,
    /// Never answers it.
    Hold,
}

type Judge = Box<dyn FnMut(&ToKeeper) -> Act + Send>;

/// Where the keeper waits before it does what it is asked.
pub(crate) struct Gate {
    reached: Receiver<()>,
    opened: Sender<()>,
}

impl Gate {
    /// Before the first thing of this kind; and the judge that waits there, and lets it do everything.
    pub(crate) fn before(kind: fn(&ToKeeper) -> bool) -> (Gate, Judge) {
        let ((reach, reached), (opened, open)) = (bounded(1), bounded(1));
        let mut is_first = true;
        let judge = move |said: &ToKeeper| {
            if kind(said) && std::mem::take(&mut is_first) {
                reach.send(()).unwrap();
                open.recv().unwrap();
            }
            Act::Do
        };
        (Gate { reached, opened }, Box::new(judge))
    }

    /// Waits until the keeper is there.
    pub(crate) fn await_keeper(&self) {
        self.reached.recv_timeout(Duration::from_secs(5)).expect("the keeper is asked");
    }

    pub(crate) fn open(&self) {
        self.opened.send(()).unwrap();
    }
}

/// The keeper, as a test sees it.
#[derive(Clone, Default)]
pub(crate) struct Keeper {
    /// All that was said to it, in short.
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
    /// The devices it keeps: both ends of each.
    pub(crate) kept: Arc<Mutex<BTreeMap<String, (OwnedFd, OwnedFd)>>>,
    /// The sockets it keeps, which are pairs too, so that no port of the machine is taken.
    pub(crate) sockets: Arc<Mutex<BTreeMap<SocketKey, (OwnedFd, OwnedFd)>>>,
}

/// A daemon under test.
pub(crate) struct Daemon {
    pub(crate) handle: Handle,
    pub(crate) keeper: Keeper,
    pub(crate) events: Sender<EngineEvent>,
    pub(crate) host: Sender<Occupied>,
    keeper_socket: OwnedFd,
    control: JoinHandle<Ending>,
}

/// Settings with one network, `default`, 10.1.0.0/24 and no IPv6.
pub(crate) fn settings(dir: &Path) -> Settings {
    let network = NetworkCreate {
        name: "default".into(),
        subnet: Some(Subnet4::Given("10.1.0.0/24".parse().unwrap())),
        ipv6: Some(Subnet6::Off),
        ..NetworkCreate::default()
    };
    Settings {
        given_by: ["give another --state"; 2],
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        workers: 1,
        offload: OffloadMode::Auto,
        io: IoChoice::Plain,
        networks: vec![network],
        docker_socket: None,
        flags: None,
    }
}

impl Daemon {
    /// A first start in `dir`.
    pub(crate) fn new(dir: &Path) -> Daemon {
        Daemon::start(settings(dir), 0, Keeper::default(), Box::new(|_| Act::Do)).unwrap()
    }

    /// A first start in `dir` on a kernel without IPv6.
    pub(crate) fn without_ipv6(dir: &Path) -> Daemon {
        Daemon::start_on(settings(dir), 0, Keeper::default(), Box::new(|_| Act::Do), false, in_memory()).unwrap()
    }

    /// A first start in `dir` on this disk.
    pub(crate) fn on_disk(dir: &Path, disk: Disk) -> Daemon {
        Daemon::start_on(settings(dir), 0, Keeper::default(), Box::new(|_| Act::Do), true, disk).unwrap()
    }

    /// A start with what `keeper` has kept.
    pub(crate) fn start(settings: Settings, restarts: u32, keeper: Keeper, judge: Judge) -> Result<Daemon, String> {
        Daemon::start_on(settings, restarts, keeper, judge, true, in_memory())
    }

    fn start_on(
        settings: Settings,
        restarts: u32,
        keeper: Keeper,
        judge: Judge,
        has_ipv6: bool,
        disk: Disk,
    ) -> Result<Daemon, String> {
        let (ours, theirs) = message::pair().unwrap();
        keeper.heard.lock().clear();
        for (key, (_, device)) in keeper.kept.lock().iter() {
            let kept = ToSwitch::Kept { endpoint: EndpointKey(key.clone()), tap: info("eth0") };
            message::send(theirs.as_fd(), &kept, Some(device.as_fd())).unwrap();
        }
        for (socket, (_, ours)) in keeper.sockets.lock().iter() {
            message::send(theirs.as_fd(), &ToSwitch::KeptSocket { socket: *socket }, Some(ours.as_fd())).unwrap();
        }
        message::send(theirs.as_fd(), &ToSwitch::KeptAll, None).unwrap();
        let (events, engine) = unbounded();
        let (takeover, _) = message::pair().unwrap();
        let begun = begin(Begin {
            settings,
            keeper: ours.try_clone().unwrap(),
            keeper_pid: 1,
            privileged: true,
            has_ipv6,
            restarts,
            takeover,
            host: Occupied::default(),
            names: service(Resolvers::new(&[], DNS)).0,
            relays: Relays::nobody(),
            events: events.clone(),
            disk,
        })?;
        let (to_control, from_keeper) = bounded(64);
        keeper_link::listen(ours, to_control).unwrap();
        let keeper_socket = theirs.try_clone().unwrap();
        let played = keeper.clone();
        thread::spawn(move || play(&theirs, &played, judge));
        let (handle, commands) = channel();
        let (host, host_changes) = bounded(1);
        let inputs = Inputs { commands, engine, keeper: from_keeper, host: host_changes };
        let control = thread::spawn(move || Control::run(begun, inputs));
        Ok(Daemon { handle, keeper, events, host, keeper_socket, control })
    }

    /// Attaches the test's own namespace, as `ifname` and `name` say.
    pub(crate) fn attach(&self, name: &str, ifname: &str) -> Outcome<EndpointInfo> {
        self.attach_as(AttachRequest {
            name: Some(name.into()),
            ifname: Some(ifname.into()),
            ..AttachRequest::default()
        })
    }

    pub(crate) fn attach_as(&self, request: AttachRequest) -> Outcome<EndpointInfo> {
        let namespace = Namespace::current().unwrap();
        wait(self.handle.ask(move |control, reply| control.attach(&request, namespace, reply)))
    }

    /// Publishes, and says what `ls` shows of it.
    pub(crate) fn publish(&self, endpoint: &str, specs: &[&str]) -> Outcome<Vec<String>> {
        let request = publish_request(endpoint, specs);
        let published = wait(self.handle.ask(move |control, reply| control.publish_ports(&request, reply)))?;
        Ok(published.iter().map(shown).collect())
    }

    pub(crate) fn unpublish(&self, endpoint: &str, specs: &[&str]) -> Outcome<()> {
        let request = publish_request(endpoint, specs);
        wait(self.handle.ask(move |control, reply| control.unpublish_ports(&request, reply)))
    }

    /// What all endpoints publish.
    pub(crate) fn published(&self) -> Vec<String> {
        let infos = self.call(|control| control.endpoint_infos(&Selection::default())).unwrap();
        infos.iter().flat_map(|info| info.published.iter().map(shown)).collect()
    }

    pub(crate) fn detach(&self, target: &str) -> Outcome<()> {
        self.detach_port(target, None)
    }

    pub(crate) fn detach_port(&self, target: &str, port: Option<u32>) -> Outcome<()> {
        let target = target.parse().unwrap();
        wait(self.handle.ask(move |control, reply| control.detach(&target, port.map(PortId), reply)))
    }

    /// Has control do something at once.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Control) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        wait(self.handle.call(command))
    }

    /// Names and addresses of all endpoints.
    pub(crate) fn list(&self) -> Vec<(String, Ipv4Addr)> {
        let infos = self.call(|control| control.endpoint_infos(&Selection::default())).unwrap();
        infos.into_iter().map(|info| (format!("{}/{}", info.network, info.name), info.ipv4.unwrap())).collect()
    }

    /// SIGTERM: devices stay with the keeper, which is returned.
    pub(crate) fn stop(self) -> Keeper {
        message::send(self.keeper_socket.as_fd(), &ToSwitch::Stop, None).unwrap();
        assert_eq!(self.control.join().unwrap(), Ending::Stopped);
        self.keeper
    }

    /// Kills the keeper alone.
    pub(crate) fn kill_keeper(&self) {
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.keeper_socket),
            nix::sys::socket::Shutdown::Both,
        )
        .unwrap();
    }

    /// How it ended by itself.
    pub(crate) fn ended(self) -> Ending {
        self.control.join().unwrap()
    }
}

fn publish_request(endpoint: &str, specs: &[&str]) -> PublishRequest {
    PublishRequest { endpoint: endpoint.into(), publish: specs.iter().map(|spec| (*spec).to_owned()).collect() }
}

fn shown(published: &PublicationInfo) -> String {
    let host = SocketAddr::new(published.ip, published.host_port);
    format!("{host} {}/{}", published.container_port, published.protocol)
}

/// A disk that syncs nothing: how busy the machine's is must not matter.
fn in_memory() -> Disk {
    Disk::start(|_| Ok(())).unwrap()
}

/// A directory for a daemon, in memory where the machine has that, for the same reason.
pub(crate) fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Waits for an answer.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
}

fn info(ifname: &str) -> TapInfo {
    TapInfo { ifname: ifname.into(), header_len: 10, offload: 0 }
}

fn play(socket: &OwnedFd, keeper: &Keeper, mut judge: Judge) {
    while let Ok(Some((said, _))) = message::recv::<ToKeeper>(socket.as_fd()) {
        let act = judge(&said);
        let (job, device) = match said {
            ToKeeper::Attach { job, endpoint, device } => (job, Some(("attach", endpoint, device.ifname))),
            ToKeeper::AttachHost { job, endpoint, device } => (job, Some(("attach host", endpoint, device.ifname))),
            ToKeeper::AttachDown { job, endpoint, device, .. } => (job, Some(("attach down", endpoint, device.ifname))),
            ToKeeper::Follow { job, endpoint, wait, .. } => {
                keeper.heard.lock().push(format!("follow {}{}", endpoint.0, if wait { "" } else { " now" }));
                (job, None)
            }
            ToKeeper::Route { job, ifname, subnets } => {
                keeper.heard.lock().push(format!("route {ifname} {subnets:?}"));
                (job, None)
            }
            ToKeeper::Reattach { job, endpoint, device, .. } => (job, Some(("reattach", endpoint, device.ifname))),
            ToKeeper::Detach { job, endpoint } => {
                keeper.heard.lock().push(format!("detach {}", endpoint.0));
                if matches!(act, Act::Do) {
                    keeper.kept.lock().remove(&endpoint.0);
                }
                (job, None)
            }
            ToKeeper::Bind { job, socket: key } => {
                keeper.heard.lock().push(format!("bind {} {}", key.transport, key.address));
                if !matches!(act, Act::Hold) && bind(socket, keeper, job, key, &act).is_err() {
                    return;
                }
                continue;
            }
            ToKeeper::Unbind { job, socket } => {
                keeper.heard.lock().push(format!("unbind {} {}", socket.transport, socket.address));
                keeper.sockets.lock().remove(&socket);
                (job, None)
            }
            ToKeeper::SetMtu { job, ifname, mtu, .. } => {
                keeper.heard.lock().push(format!("mtu {ifname} {mtu}"));
                (job, None)
            }
            other => {
                keeper.heard.lock().push(format!("{other:?}"));
                continue;
            }
        };
        if let Some((verb, endpoint, _)) = &device {
            keeper.heard.lock().push(format!("{verb} {}", endpoint.0));
        }
        let sent = match (act, device) {
            (Act::Hold, _) => continue,
            (Act::Fail(error), _) => {
                message::send(socket.as_fd(), &ToSwitch::Failed { job, error: error.into(), gone: false }, None)
            }
            (Act::Gone, _) => {
                let failed = ToSwitch::Failed { job, error: "its namespace is no more".into(), gone: true };
                message::send(socket.as_fd(), &failed, None)
            }
            (Act::Do | Act::Cut, None) => message::send(socket.as_fd(), &ToSwitch::Done { job }, None),
            (act, Some((_, endpoint, ifname))) => {
                let (container, ours) =
                    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
                let namespace = NamespaceId { dev: 0, ino: 0 };
                let attached = ToSwitch::Attached { job, tap: info(&ifname), namespace };
                let enclosed = (!matches!(act, Act::Cut)).then(|| ours.as_fd());
                let sent = message::send(socket.as_fd(), &attached, enclosed);
                keeper.kept.lock().insert(endpoint.0, (container, ours));
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The first port given where any is asked for.
const FREE: u16 = 49_153;

/// Binds, unless it is to fail or the port is taken.
fn bind(link: &OwnedFd, keeper: &Keeper, job: JobId, mut key: SocketKey, act: &Act) -> std::io::Result<()> {
    let mut sockets = keeper.sockets.lock();
    if key.address.port() == 0 {
        let taken = |port: &u16| sockets.keys().any(|other| other.address.port() == *port);
        key.address.set_port((FREE..).find(|port| !taken(port)).unwrap());
    }
    let in_use = Errno::EADDRINUSE as i32;
    let refused = match act {
        Act::Fail(name) => Some((in_use, Some(Holder { uid: 0, process: Some(((*name).into(), 4711)) }))),
        Act::Gone => Some((Errno::EAFNOSUPPORT as i32, None)),
        _ => sockets.contains_key(&key).then_some((in_use, None)),
    };
    if let Some((errno, holder)) = refused {
        return message::send(link.as_fd(), &ToSwitch::NotBound { job, errno, holder }, None);
    }
    let (theirs, ours) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_NONBLOCK).unwrap();
    let sent = message::send(link.as_fd(), &ToSwitch::Bound { job, socket: key }, Some(ours.as_fd()));
    sockets.insert(key, (theirs, ours));
    sent
}
