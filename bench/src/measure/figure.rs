//! What a figure says, and its line in the table.

use serde::{Serialize, Serializer};

use super::idle;

/// Seen from the client, which is the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// Between containers, the client sends: there is no up and down.
    Across,
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
    /// Median.
    RoundTripP50,
    /// What one of a hundred exceeds.
    RoundTripP99,
    /// In sequence.
    Connects,
    /// Time of the processes that forward, over the run of these flows.
    CpuPerGigabyte(Flows),
    /// Of an idle flow, in the processes that forward.
    FlowMemory,
}

impl Direction {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::Across => "across",
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
    /// Its name in tables. Cubic, the ordinary case, is not named, nor is the one way there is across.
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

impl Figure {
    /// Its line in the table, with the unit.
    pub(crate) fn name(self) -> String {
        match self {
            Figure::Tcp(flows) => format!("{}, Gbit/s", flows.name()),
            Figure::Strained(Strain::Loss, flows) => format!("{}, 0.1 % lost, of clean", flows.name()),
            Figure::Strained(Strain::Idle, flows) => {
                format!("{} among {} idle, of alone", flows.name(), idle::MANY)
            }
            Figure::SmallUdp => "64-byte UDP delivered, 1000/s".to_owned(),
            Figure::Udp(direction) => format!("1400-byte UDP {} delivered, Gbit/s", direction.name()),
            Figure::RoundTripP50 => "TCP round trip p50, us".to_owned(),
            Figure::RoundTripP99 => "TCP round trip p99, us".to_owned(),
            Figure::Connects => "connections in sequence, 1000/s".to_owned(),
            Figure::CpuPerGigabyte(flows) => format!("CPU of the forwarder, {}, s/GB", flows.name()),
            Figure::FlowMemory => "memory of an idle flow, KB".to_owned(),
        }
    }

    /// Its name in JSON: words joined by `_`.
    pub(crate) fn key(self) -> String {
        let of = |flows: Flows| format!("{}_{}_{}", flows.direction.name(), flows.streams, flows.congestion.name());
        match self {
            Figure::Tcp(flows) => format!("tcp_{}", of(flows)),
            Figure::Strained(Strain::Loss, flows) => format!("loss_{}", of(flows)),
            Figure::Strained(Strain::Idle, flows) => format!("idle_{}", of(flows)),
            Figure::SmallUdp => "udp_64".to_owned(),
            Figure::Udp(direction) => format!("udp_1400_{}", direction.name()),
            Figure::RoundTripP50 => "round_trip_p50".to_owned(),
            Figure::RoundTripP99 => "round_trip_p99".to_owned(),
            Figure::Connects => "connects".to_owned(),
            Figure::CpuPerGigabyte(flows) => format!("cpu_{}", of(flows)),
            Figure::FlowMemory => "flow_memory".to_owned(),
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
        assert_eq!(Figure::CpuPerGigabyte(FLOWS).key(), "cpu_down_4_cubic");
    }
}
