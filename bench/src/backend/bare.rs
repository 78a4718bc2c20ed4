//! A pair of TAPs and the engine's own loop, with no lookup: the limit of this design on this machine. The loop is a process of
//! its own, so that its time can be told.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Uid;
use tapswitch::engine::{Engine, EngineConfig, Forward, IoChoice, Nobody, Place, Verdict};
use tapswitch::forwarding::{Decision, Instant, Limiter, PortId, PortIndex, Rate, Scratch as Space};
use tapswitch::frame::Offload;
use tapswitch::port::{self, TxPort};
use tapswitch_netns::{DeviceSpec, Namespace as Target, OffloadMode, Scratch, Tap, birth, in_child};

use super::{Carrier, addresses};
use crate::namespace::Namespace;
use crate::process::Running;

/// Most that the birth of a device may take.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn join(ends: &[Namespace]) -> Result<(Vec<Ipv4Addr>, Carrier)> {
    let mut command = std::process::Command::new(std::env::current_exe().context("find this program")?);
    command.arg("bare").args(ends.iter().map(|end| end.pid().to_string()));
    let mut forwarder = Running::start(command)?;
    forwarder.wait_ready("bare")?;
    for (end, address) in ends.iter().zip(addresses()) {
        end.sh(&format!("ip address add {address}/24 dev eth0; ip link set eth0 up"))?;
    }
    let carrier = Carrier { pids: vec![forwarder.pid()], _running: vec![forwarder], ..Carrier::default() };
    Ok((addresses().take(ends.len()).collect(), carrier))
}

/// What comes in at one end of a pair goes out at the other, its offload header as it came.
struct Wire(Vec<Arc<TxPort>>);

impl Forward for Wire {
    type Local = Nobody;

    fn place_of(&self, port: PortId) -> Option<Place> {
        let at = (0u32..).zip(&self.0).find(|(_, tx)| tx.id() == port)?.0;
        Some(Place { network: 0, port: PortIndex(at) })
    }

    fn flood_rate(&self, _network: u32) -> Rate {
        Rate { bytes_per_second: 0, burst: 0 }
    }

    fn forward(&self, from: Place, _: &mut Limiter, _: &mut [u8], _: Instant, _: &mut Space) -> Verdict {
        Verdict { decision: Decision::Unicast(PortIndex(from.port.0 ^ 1)), offload: Offload::NONE }
    }

    fn egress(&self) -> impl Iterator<Item = (Place, &Arc<TxPort>)> {
        (0..).zip(&self.0).map(|(at, tx)| (Place { network: 0, port: PortIndex(at) }, tx))
    }

    fn most_ports(&self) -> usize {
        self.0.len()
    }

    fn tx(&self, _network: u32, port: PortIndex) -> &TxPort {
        &self.0[port.get()]
    }
}

/// Makes a TAP `eth0` in the namespace of each process, prints `ready`, and forwards from the first to the second and back, from
/// the third to the fourth, until it is ended.
pub(crate) fn forward(processes: &[u32]) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let taps = (1..).zip(processes).map(|(number, process)| device(*process, number)).collect::<Result<Vec<_>>>()?;
    let (ports, wire): (Vec<_>, Vec<_>) =
        taps.into_iter().zip(0u32..).map(|(tap, id)| port::open(PortId(id), tap, workers)).unzip();
    // A namespace that goes away ends the measure, not the loop.
    let (events, _gone) = crossbeam_channel::unbounded();
    let mut engine = Engine::start(EngineConfig { workers, io: IoChoice::Auto }, Wire(wire), events, |_| Nobody)
        .context("start the engine")?;
    ports.into_iter().for_each(|port| engine.attach(port));
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn device(process: u32, number: u8) -> Result<Tap> {
    let target = Target::of_pid(i32::try_from(process).context("a process number")?)?;
    let spec = DeviceSpec {
        ifname: "eth0".into(),
        mac: [0x02, 0x42, 0, 0, 0, number],
        mtu: 1500,
        addresses: Vec::new(),
        gateways: Vec::new(),
        offload: OffloadMode::On,
        owner: Uid::current().as_raw(),
    };
    let scratch = Scratch::beside(&target, LIMIT)?;
    let keep = [std::os::fd::AsFd::as_fd(&target), std::os::fd::AsFd::as_fd(&scratch)];
    let (info, fd) = in_child("make a device", &keep, LIMIT, || {
        let tap = birth(&target, &scratch, &spec)?;
        Ok((tap.info, Some(tap.fd)))
    })?;
    Ok(Tap { info, fd: fd.context("the child gave no descriptor")? })
}
