//! What a figure says, and its line in the table.

use serde::{Deserialize, Serialize, Serializer};

use super::{Measure, idle};

/// Seen from the client, which is the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// Between containers, the client sends: there is no up and down.
    Across,
    /// The same, the server sends.
    Back,
    /// The client sends.
    Up,
    /// The server does.
    Down,
}

/// A congestion control of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Congestion {
    /// The kernel's ordinary one.
    Cubic,
    /// Paces itself, which hides what forwards.
    Bbr,
}

/// TCP streams that send as fast as they can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flows {
    /// Which way.
    pub(crate) direction: Direction,
    /// How many.
    pub(crate) streams: u32,
    /// Of whoever sends, in the containers and in the sockets of what forwards.
    pub(crate) congestion: Congestion,
}

/// What makes it harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strain {
    /// One of a thousand frames is lost, each way, between container and backend.
    Loss,
    /// Flows that do nothing.
    Idle,
}

/// Whose pings are measured while streams fill the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pinger {
    /// Those of two other containers.
    Beside,
    /// Those of the two that the streams are between.
    Along,
}

/// A share of all samples, in ten thousandths: what they do not exceed is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Quantile(u16);

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Gbit/s, received by the application.
    Tcp(Flows),
    /// The rate under a strain, a share of the clean one of the same run.
    Strained(Strain, Flows),
    /// Delivered to the application.
    SmallUdp,
    /// Delivered to the application.
    Udp(Direction),
    /// Of one byte over TCP.
    RoundTrip(Quantile),
    /// Of a ping under load.
    Ping(Pinger, Quantile),
    /// In sequence.
    Connects,
    /// Time of the processes that forward, over the run of these flows.
    ForwarderCpu(Flows),
    /// Time of all processors, over the same run.
    MachineCpu(Flows),
    /// Of the processes that forward, after all else.
    Resident,
    /// Of an idle flow, in the processes that forward.
    FlowMemory,
}

impl Quantile {
    /// The median.
    pub(crate) const P50: Quantile = Quantile(5000);
    /// What one of a hundred exceeds.
    pub(crate) const P99: Quantile = Quantile(9900);
    /// What one of a thousand exceeds.
    const P999: Quantile = Quantile(9990);
    /// Those that a distribution is drawn by, the tables' among them.
    const DRAWN: [Quantile; 11] = [
        Quantile(100),
        Quantile(1000),
        Quantile(2500),
        Quantile::P50,
        Quantile(7500),
        Quantile(9000),
        Quantile(9500),
        Quantile(9800),
        Quantile::P99,
        Quantile::P999,
        Quantile(9999),
    ];
    /// Fewer samples than this beyond a quantile say nothing about it.
    const FEWEST_BEYOND: f64 = 3.0;

    /// Those that so many samples tell.
    pub(crate) fn told_by(samples: usize) -> impl Iterator<Item = Quantile> {
        Quantile::DRAWN.into_iter().filter(move |quantile| {
            let beyond = (1.0 - quantile.share()) * samples as f64;
            beyond >= Quantile::FEWEST_BEYOND
        })
    }

    /// From 0 to 1.
    pub(crate) fn share(self) -> f64 {
        f64::from(self.0) / 1e4
    }

    /// Its name in tables: `p99.9`.
    pub(crate) fn name(self) -> String {
        format!("p{}", f64::from(self.0) / 100.0)
    }

    /// Whether tables have it.
    fn is_listed(self) -> bool {
        [Quantile::P50, Quantile::P99, Quantile::P999].contains(&self)
    }
}

impl Direction {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::Across => "across",
            Direction::Back => "back",
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

impl Congestion {
    /// The kernel's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Congestion::Cubic => "cubic",
            Congestion::Bbr => "bbr",
        }
    }
}

impl Flows {
    /// Its name in tables. Cubic, the ordinary case, is not named, nor is the way across.
    pub(crate) fn name(self) -> String {
        let mut name = "TCP".to_owned();
        if self.direction != Direction::Across {
            name += &format!(" {}", self.direction.name());
        }
        name += &format!(" {} stream{}", self.streams, if self.streams == 1 { "" } else { "s" });
        if self.congestion != Congestion::Cubic {
            name += &format!(" {}", self.congestion.name());
        }
        name
    }
}

impl Pinger {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pinger::Beside => "beside",
            Pinger::Along => "along",
        }
    }
}

impl Figure {
    /// Its line in the table, with the unit.
    pub(crate) fn name(self) -> String {
        match self {
            Figure::Tcp(flows) => format!("{}, Gbit/s", flows.name()),
            Figure::Strained(Strain::Loss, flows) => format!("{}, 0.1 % lost, of clean", flows.name()),
            Figure::Strained(Strain::Idle, flows) => {
                format!("{} among {} idle, of alone", flows.name(), idle::MANY)
            }
            Figure::SmallUdp => format!("{}, 1000/s", Measure::SmallUdp.name()),
            Figure::Udp(direction) => format!("{}, Gbit/s", Measure::Udp(direction).name()),
            Figure::RoundTrip(quantile) => format!("{} {}, us", Measure::PingPong.name(), quantile.name()),
            Figure::Ping(pinger, quantile) => format!("{} {}, us", Measure::Ping(pinger).name(), quantile.name()),
            Figure::Connects => format!("{}, 1000/s", Measure::Connects.name()),
            Figure::ForwarderCpu(flows) => format!("CPU of the forwarder, {}, s/GB", flows.name()),
            Figure::MachineCpu(flows) => format!("CPU of the machine, {}, s/GB", flows.name()),
            Figure::Resident => format!("{}, MB", Measure::Resident.name()),
            Figure::FlowMemory => format!("{}, KB", Measure::FlowMemory.name()),
        }
    }

    /// Its name in JSON: words joined by `_`.
    pub(crate) fn key(self) -> String {
        let of = |flows: Flows| format!("{}_{}_{}", flows.direction.name(), flows.streams, flows.congestion.name());
        let at = |quantile: Quantile| quantile.name().replace('.', "_");
        match self {
            Figure::Tcp(flows) => format!("tcp_{}", of(flows)),
            Figure::Strained(Strain::Loss, flows) => format!("loss_{}", of(flows)),
            Figure::Strained(Strain::Idle, flows) => format!("idle_{}", of(flows)),
            Figure::SmallUdp => "udp_64".to_owned(),
            Figure::Udp(direction) => format!("udp_1400_{}", direction.name()),
            Figure::RoundTrip(quantile) => format!("round_trip_{}", at(quantile)),
            Figure::Ping(pinger, quantile) => format!("ping_{}_{}", pinger.name(), at(quantile)),
            Figure::Connects => "connects".to_owned(),
            Figure::ForwarderCpu(flows) => format!("cpu_{}", of(flows)),
            Figure::MachineCpu(flows) => format!("machine_cpu_{}", of(flows)),
            Figure::Resident => "resident".to_owned(),
            Figure::FlowMemory => "flow_memory".to_owned(),
        }
    }

    /// Whether tables have it; the others are for JSON and plots.
    pub(crate) fn is_listed(self) -> bool {
        match self {
            Figure::RoundTrip(quantile) | Figure::Ping(_, quantile) => quantile.is_listed(),
            _ => true,
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOWS: Flows = Flows { direction: Direction::Down, streams: 4, congestion: Congestion::Cubic };

    #[test]
    fn the_ordinary_congestion_control_goes_without_saying() {
        assert_eq!(FLOWS.name(), "TCP down 4 streams");
        let bbr = Flows { streams: 1, congestion: Congestion::Bbr, ..FLOWS };
        assert_eq!(bbr.name(), "TCP down 1 stream bbr");
        assert_eq!(Flows { direction: Direction::Across, ..FLOWS }.name(), "TCP 4 streams");
    }

    #[test]
    fn figures_of_one_run_have_keys_of_their_own() {
        assert_eq!(Figure::Tcp(FLOWS).key(), "tcp_down_4_cubic");
        assert_eq!(Figure::Strained(Strain::Idle, FLOWS).key(), "idle_down_4_cubic");
        assert_eq!(Figure::ForwarderCpu(FLOWS).key(), "cpu_down_4_cubic");
        assert_eq!(Figure::MachineCpu(FLOWS).key(), "machine_cpu_down_4_cubic");
    }

    #[test]
    fn a_quantile_is_named_as_a_percentile() {
        let p999 = Figure::RoundTrip(Quantile::P999);
        assert_eq!((p999.name().as_str(), p999.key().as_str()), ("TCP round trip p99.9, us", "round_trip_p99_9"));
        let p50 = Figure::Ping(Pinger::Along, Quantile::P50);
        assert_eq!((p50.name().as_str(), p50.key().as_str()), ("ping along 4 streams p50, us", "ping_along_p50"));
    }

    #[test]
    fn quantiles_beyond_which_there_are_next_to_no_samples_are_not_told() {
        let last = |samples| Quantile::told_by(samples).last();
        assert_eq!((last(6), last(1500)), (Some(Quantile::P50), Some(Quantile::P99)));
        assert_eq!((last(6000), last(100_000)), (Some(Quantile::P999), Some(Quantile(9999))));
    }

    #[test]
    fn the_tables_have_three_of_the_quantiles() {
        let listed = Quantile::DRAWN.into_iter().filter(|quantile| Figure::RoundTrip(*quantile).is_listed());
        assert_eq!(listed.map(Quantile::name).collect::<Vec<_>>(), ["p50", "p99", "p99.9"]);
    }
}
