//! What is measured between two joined namespaces.

mod iperf;
pub(crate) mod pingpong;
mod udp;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::backend::Joined;

/// One run; it gives one or more figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// iperf3, one stream.
    Tcp1,
    /// iperf3, four streams.
    Tcp4,
    /// iperf3, 64 bytes a datagram, as fast as it goes.
    SmallUdp,
    /// One byte there and back.
    PingPong,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Received by the application.
    Tcp1,
    /// The same of four streams.
    Tcp4,
    /// Delivered to the application.
    SmallUdp,
    /// Median.
    RoundTripP50,
    /// What one of a hundred exceeds.
    RoundTripP99,
    /// Time of the processes that forward, over the run of [`Measure::Tcp1`].
    CpuPerGigabyte,
}

impl Measure {
    /// All.
    pub(crate) const ALL: [Measure; 4] = [Measure::Tcp1, Measure::Tcp4, Measure::SmallUdp, Measure::PingPong];

    /// Its name in the progress bar.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::Tcp1 => "TCP, 1 stream",
            Measure::Tcp4 => "TCP, 4 streams",
            Measure::SmallUdp => "64-byte UDP",
            Measure::PingPong => "TCP ping-pong",
        }
    }

    /// Runs it.
    pub(crate) fn run(self, joined: &Joined, seconds: u64) -> Result<Vec<(Figure, f64)>> {
        match self {
            Measure::Tcp1 => {
                let before = joined.cpu_time();
                let bytes = iperf::tcp(joined, 1, seconds)?;
                let mut figures = vec![(Figure::Tcp1, gigabits(bytes, seconds))];
                if let (Some(before), Some(after)) = (before, joined.cpu_time()) {
                    let used: Duration = after.saturating_sub(before);
                    figures.push((Figure::CpuPerGigabyte, used.as_secs_f64() * 1e9 / bytes as f64));
                }
                Ok(figures)
            }
            Measure::Tcp4 => Ok(vec![(Figure::Tcp4, gigabits(iperf::tcp(joined, 4, seconds)?, seconds))]),
            Measure::SmallUdp => Ok(vec![(Figure::SmallUdp, udp::delivered(joined, seconds)? / 1e3)]),
            Measure::PingPong => {
                let (p50, p99) = pingpong::round_trips(joined, seconds)?;
                Ok(vec![(Figure::RoundTripP50, p50), (Figure::RoundTripP99, p99)])
            }
        }
    }
}

impl Figure {
    /// All, in the order of the table.
    pub(crate) const ALL: [Figure; 6] = [
        Figure::Tcp1,
        Figure::Tcp4,
        Figure::SmallUdp,
        Figure::RoundTripP50,
        Figure::RoundTripP99,
        Figure::CpuPerGigabyte,
    ];

    /// Its line in the table, with the unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Figure::Tcp1 => "TCP 1 stream, Gbit/s",
            Figure::Tcp4 => "TCP 4 streams, Gbit/s",
            Figure::SmallUdp => "64-byte UDP delivered, 1000/s",
            Figure::RoundTripP50 => "TCP round trip p50, us",
            Figure::RoundTripP99 => "TCP round trip p99, us",
            Figure::CpuPerGigabyte => "CPU of the forwarder, s/GB",
        }
    }
}

fn gigabits(bytes: u64, seconds: u64) -> f64 {
    bytes as f64 * 8.0 / 1e9 / seconds as f64
}
