//! What a figure says of a number of ports, and its line in the table.

use super::site::MOST_PAIRS;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// Milliseconds of each `tapswitch attach`.
    Attach,
    /// Milliseconds of each veth pair.
    Veth,
    /// Gbit/s of one busy pair.
    Pair,
    /// Gbit/s of many, together.
    Pairs,
    /// The 99th percentile of a ping while a third container floods, in milliseconds.
    FloodPing,
    /// The switch's time meanwhile, per cent of a core.
    FloodCpu,
    /// The switch's time while nobody does anything, per cent of a core.
    Idle,
    /// Its memory after all that, in MB.
    Resident,
}

impl Figure {
    /// In the order of the table.
    pub(super) const ALL: [Figure; 8] = [
        Figure::Attach,
        Figure::Veth,
        Figure::Pair,
        Figure::Pairs,
        Figure::FloodPing,
        Figure::FloodCpu,
        Figure::Idle,
        Figure::Resident,
    ];

    /// Its line in the table, with the unit.
    pub(super) fn name(self) -> String {
        match self {
            Figure::Attach => "tapswitch attach, ms".into(),
            Figure::Veth => "ip link add veth, and move, ms".into(),
            Figure::Pair => "TCP of one busy pair, Gbit/s".into(),
            Figure::Pairs => format!("TCP of up to {MOST_PAIRS} busy pairs, Gbit/s"),
            Figure::FloodPing => "others' ping p99 under a flood, ms".into(),
            Figure::FloodCpu => "CPU of the switch under a flood, % of a core".into(),
            Figure::Idle => "CPU of the idle switch, % of a core".into(),
            Figure::Resident => "memory of the switch, MB".into(),
        }
    }

    /// Its name in JSON.
    pub(super) fn key(self) -> &'static str {
        match self {
            Figure::Attach => "attach_ms",
            Figure::Veth => "veth_ms",
            Figure::Pair => "pair_gbit",
            Figure::Pairs => "pairs_gbit",
            Figure::FloodPing => "flood_ping_p99_ms",
            Figure::FloodCpu => "flood_cpu_percent",
            Figure::Idle => "idle_cpu_percent",
            Figure::Resident => "resident_mb",
        }
    }

    /// Once in each round, so that there is a partner to divide by.
    pub(super) fn is_of_round(self) -> bool {
        matches!(self, Figure::Pair | Figure::Pairs | Figure::FloodPing | Figure::FloodCpu)
    }
}
