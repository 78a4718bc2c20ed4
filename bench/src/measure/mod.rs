//! What is measured between two joined namespaces.

mod connect;
pub(crate) mod far;
mod figure;
pub(crate) mod idle;
mod iperf;
mod loss;
pub(crate) mod pingpong;
mod udp;

pub(crate) use connect::connects;
pub(crate) use figure::{Congestion, Direction, Figure, Flows, Strain};

use std::time::Duration;

use anyhow::Result;

use crate::backend::Joined;

/// One run; it gives one or more figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// iperf3; then once more under a strain, next to each other so that the machine is the same.
    Tcp(Flows, Option<Strain>),
    /// iperf3, 64 bytes a datagram, as fast as it goes.
    SmallUdp,
    /// iperf3, 1,400 bytes a datagram, as fast as it goes.
    Udp(Direction),
    /// One byte there and back.
    PingPong,
    /// One connection after the other.
    Connects,
    /// Resident memory before and after idle flows.
    FlowMemory,
}

impl Measure {
    /// Its name in the progress bar.
    pub(crate) fn name(self) -> String {
        match self {
            Measure::Tcp(flows, _) => flows.name(),
            Measure::SmallUdp => "64-byte UDP".to_owned(),
            Measure::Udp(direction) => format!("1400-byte UDP {}", direction.name()),
            Measure::PingPong => "TCP ping-pong".to_owned(),
            Measure::Connects => "connections".to_owned(),
            Measure::FlowMemory => "memory of idle flows".to_owned(),
        }
    }

    /// Runs it; each figure goes to `add` as soon as it is known, so that what fails later costs only itself. In a `brief`
    /// run, no strain.
    pub(crate) fn run(
        self,
        joined: &Joined,
        time: Duration,
        brief: bool,
        mut add: impl FnMut(Figure, f64),
    ) -> Result<()> {
        match self {
            Measure::Tcp(flows, strain) => {
                let rate = tcp(joined, flows, time, &mut add)?;
                match strain.filter(|_| !brief) {
                    Some(Strain::Loss) => {
                        let _loss = loss::begin(joined.client())?;
                        let lossy = iperf::tcp(joined, flows, time)?;
                        add(Figure::Strained(Strain::Loss, flows), lossy.gigabits() / rate);
                    }
                    Some(Strain::Idle) => {
                        let _idle = idle::open(joined, idle::MANY)?;
                        let busy = iperf::tcp(joined, flows, time)?;
                        add(Figure::Strained(Strain::Idle, flows), busy.gigabits() / rate);
                    }
                    None => {}
                }
            }
            Measure::SmallUdp => add(Figure::SmallUdp, udp::small_delivered(joined, time)? / 1e3),
            Measure::Udp(direction) => add(Figure::Udp(direction), udp::delivered(joined, direction, time)? / 1e9),
            Measure::PingPong => {
                let (p50, p99) = pingpong::round_trips(joined, time)?;
                add(Figure::RoundTripP50, p50);
                add(Figure::RoundTripP99, p99);
            }
            Measure::Connects => add(Figure::Connects, connect::rate(joined)? / 1e3),
            Measure::FlowMemory => {
                if let Some(bytes) = idle::memory(joined)? {
                    add(Figure::FlowMemory, bytes / 1024.0);
                }
            }
        }
        Ok(())
    }
}

/// A clean run, with the time of the processes that forward; Gbit/s.
fn tcp(joined: &Joined, flows: Flows, time: Duration, add: &mut impl FnMut(Figure, f64)) -> Result<f64> {
    let before = joined.cpu_time();
    let received = iperf::tcp(joined, flows, time)?;
    let rate = received.gigabits();
    add(Figure::Tcp(flows), rate);
    if let (1, Some(before), Some(after)) = (flows.streams, before, joined.cpu_time()) {
        let used = after.saturating_sub(before);
        add(Figure::CpuPerGigabyte(flows), used.as_secs_f64() * 1e9 / received.bytes as f64);
    }
    Ok(rate)
}
