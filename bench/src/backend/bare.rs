//! Two TAPs and the engine's own loop, with no lookup. The loop is a process of its own, so that its time can be told.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use tapswitch::engine::{Engine, EngineConfig, EngineEvent, Forward, IoChoice, Place, Verdict};
use tapswitch::forwarding::{Decision, Instant, Limiter, PortId, PortIndex, Rate, Scratch};
use tapswitch::frame::Offload;
use tapswitch::port::{self, TxPort};
use tapswitch_netns::{DeviceSpec, Namespace, OffloadMode, birth};

use super::{ADDRESSES, Switch};
use crate::namespace;
use crate::process::Running;

/// How long the making of a scratch namespace may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest IP packet, in bytes: that of every backend.
const MTU: u32 = 1500;

pub(super) fn join(ends: &[namespace::Namespace; 2]) -> Result<([Ipv4Addr; 2], Switch)> {
    let mut command = std::process::Command::new(std::env::current_exe().context("find this program")?);
    command.args(["bare", &ends[0].pid().to_string(), &ends[1].pid().to_string()]);
    let mut forwarder = Running::start(command)?;
    forwarder.wait_ready("bare")?;
    Ok((ADDRESSES, Switch::Processes(vec![forwarder.pid()], vec![forwarder], None)))
}

/// Makes a TAP `eth0` in the namespaces of processes `a` and `b`, prints `ready`, and forwards until it is ended.
pub(crate) fn forward(a: u32, b: u32) -> Result<()> {
    // As many as the switch takes by itself.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    // Before any thread exists: a birth moves the process from namespace to namespace.
    let mut taps = Vec::new();
    for (at, pid) in [(0u8, a), (1, b)] {
        let target = Namespace::of_pid(pid.cast_signed())?;
        let scratch = tapswitch_netns::Scratch::beside(&target, PATIENCE)?;
        let address = Ipv4Net::new(ADDRESSES[usize::from(at)], 24).context("24 is a prefix length")?;
        taps.push(birth(&target, &scratch, &device(at, address))?);
    }
    let (rx, tx): (Vec<_>, Vec<_>) = (0..).zip(taps).map(|(id, tap)| port::open(PortId(id), tap, workers)).unzip();

    let (events, gone) = crossbeam_channel::unbounded();
    let mut engine = Engine::start(EngineConfig { workers, io: IoChoice::Auto }, Wire { tx }, events)?;
    rx.into_iter().for_each(|rx| engine.attach(rx));
    println!("ready");
    match gone.recv() {
        Ok(EngineEvent::Gone(port)) => bail!("the device of port {} is gone", port.0),
        Err(_) => bail!("the engine has ended"),
    }
}

fn device(at: u8, address: Ipv4Net) -> DeviceSpec {
    DeviceSpec {
        ifname: "eth0".into(),
        mac: [2, 0, 0, 0, 0, at],
        mtu: MTU,
        addresses: vec![address.into()],
        gateways: Vec::new(),
        offload: OffloadMode::Auto,
        owner: 0,
    }
}

/// What comes in at one port goes out at the other, as it came.
#[derive(Debug)]
struct Wire {
    tx: Vec<Arc<TxPort>>,
}

impl Forward for Wire {
    fn place_of(&self, port: PortId) -> Option<Place> {
        Some(Place { network: 0, port: PortIndex(port.0) })
    }

    fn flood_rate(&self, _: u32) -> Rate {
        Rate::of_copies(1, MTU)
    }

    fn forward(&self, from: Place, _: &mut Limiter, _: &mut [u8], _: Instant, _: &mut Scratch) -> Verdict {
        Verdict { decision: Decision::Unicast(PortIndex(1 - from.port.0)), offload: Offload::NONE }
    }

    fn egress(&self) -> impl Iterator<Item = &[Arc<TxPort>]> {
        std::iter::once(self.tx.as_slice())
    }

    fn tx(&self, _: u32, port: PortIndex) -> &TxPort {
        &self.tx[port.get()]
    }
}
