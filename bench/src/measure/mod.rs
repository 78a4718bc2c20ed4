//! What is measured between two joined namespaces.

mod connect;
pub(crate) mod far;
mod figure;
pub(crate) mod icmp;
pub(crate) mod idle;
pub(crate) mod iperf;
mod loss;
pub(crate) mod ping;
pub(crate) mod pingpong;
mod udp;

pub(crate) use connect::connects;
pub(crate) use figure::{Congestion, Direction, Figure, Flows, Pinger, Quantile, Strain};

use std::time::Duration;

use anyhow::Result;

use crate::backend::Joined;
use crate::usage;

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
    /// While streams fill the carrier.
    Ping(Pinger),
    /// One connection after the other.
    Connects,
    /// Memory of the processes that forward, as they are now.
    Resident,
    /// Resident memory before and after idle flows.
    FlowMemory,
}

impl Measure {
    /// Its name in the progress bar, and what the names of its rows have in common.
    pub(crate) fn name(self) -> String {
        match self {
            Measure::Tcp(flows, _) => flows.name(),
            Measure::SmallUdp => "64-byte UDP delivered".to_owned(),
            Measure::Udp(Direction::Across) => "1400-byte UDP delivered".to_owned(),
            Measure::Udp(direction) => format!("1400-byte UDP {} delivered", direction.name()),
            Measure::PingPong => "TCP round trip".to_owned(),
            Measure::Ping(pinger) => format!("ping {} {} streams", pinger.name(), ping::LOAD),
            Measure::Connects => "connections in sequence".to_owned(),
            Measure::Resident => "memory of the forwarder".to_owned(),
            Measure::FlowMemory => "memory of an idle flow".to_owned(),
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
                let distribution = pingpong::round_trips(joined, time)?;
                distribution.into_iter().for_each(|(quantile, micros)| add(Figure::RoundTrip(quantile), micros));
            }
            Measure::Ping(pinger) => {
                let distribution = ping::under_load(joined, pinger, time)?;
                distribution.into_iter().for_each(|(quantile, micros)| add(Figure::Ping(pinger, quantile), micros));
            }
            Measure::Connects => add(Figure::Connects, connect::rate(joined)? / 1e3),
            Measure::Resident => {
                if let Some(bytes) = joined.resident() {
                    add(Figure::Resident, bytes as f64 / 1e6);
                }
            }
            Measure::FlowMemory => {
                if let Some(bytes) = idle::memory(joined)? {
                    add(Figure::FlowMemory, bytes / 1024.0);
                }
            }
        }
        Ok(())
    }
}

/// A clean run, with the time of those that forward and of the machine; Gbit/s.
fn tcp(joined: &Joined, flows: Flows, time: Duration, add: &mut impl FnMut(Figure, f64)) -> Result<f64> {
    let used = || [joined.cpu_time(), usage::machine_time()];
    let before = used();
    let received = iperf::tcp(joined, flows, time)?;
    let after = used();
    let rate = received.gigabits();
    add(Figure::Tcp(flows), rate);
    if flows.streams == 1 {
        let figures = [Figure::ForwarderCpu(flows), Figure::MachineCpu(flows)];
        for ((figure, before), after) in figures.into_iter().zip(before).zip(after) {
            let Some((before, after)) = before.zip(after) else { continue };
            add(figure, after.saturating_sub(before).as_secs_f64() * 1e9 / received.bytes as f64);
        }
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_asked_for_by_the_words_of_the_table() {
        let flows = Flows { direction: Direction::Back, streams: 4, congestion: Congestion::Bbr };
        let some = Quantile::told_by(1000).next().expect("a median");
        for (measure, figure) in [
            (Measure::Tcp(flows, None), Figure::Tcp(flows)),
            (Measure::Tcp(flows, None), Figure::MachineCpu(flows)),
            (Measure::SmallUdp, Figure::SmallUdp),
            (Measure::Udp(Direction::Across), Figure::Udp(Direction::Across)),
            (Measure::Udp(Direction::Down), Figure::Udp(Direction::Down)),
            (Measure::PingPong, Figure::RoundTrip(some)),
            (Measure::Ping(Pinger::Along), Figure::Ping(Pinger::Along, some)),
            (Measure::Connects, Figure::Connects),
            (Measure::Resident, Figure::Resident),
            (Measure::FlowMemory, Figure::FlowMemory),
        ] {
            let (asked, row) = (measure.name(), figure.name());
            assert!(row.contains(&asked), "`{asked}` is not in `{row}`");
        }
    }
}
