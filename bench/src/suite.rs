//! The two comparisons: which backends, which measures.

use std::time::Duration;

use serde::Serialize;

use crate::backend::Backend;
use crate::measure::{Congestion, Direction, Flows, Measure, Pinger, Strain};

/// How long and how often a run of all is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often each measure runs over each backend.
    pub(crate) rounds: u32,
    /// Of each run.
    pub(crate) time: Duration,
    /// Only what shows that it works: what is particular to us is not measured over the peers.
    pub(crate) quick: bool,
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Suite {
    /// From container to container
    Switch,
    /// From a container to a server far away, and back
    Egress,
}

impl Suite {
    /// Both, in the order of the report.
    pub(crate) const ALL: [Suite; 2] = [Suite::Switch, Suite::Egress];

    /// Before the names of its plots.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Suite::Switch => "switch",
            Suite::Egress => "egress",
        }
    }

    /// Above its table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Suite::Switch => "container to container",
            Suite::Egress => "container to a far server",
        }
    }

    /// Who takes part, the switch first.
    pub(crate) fn backends(self) -> &'static [Backend] {
        match self {
            Suite::Switch => &[
                Backend::Tapswitch,
                Backend::Other,
                Backend::Bridge,
                Backend::Veth,
                Backend::Bare,
                Backend::Openvswitch,
                Backend::Vde,
            ],
            Suite::Egress => &[
                Backend::Uplink,
                Backend::OtherUplink,
                Backend::Pasta1500,
                Backend::Pasta65520,
                Backend::Slirp1500,
                Backend::Slirp65520,
                Backend::Routed,
            ],
        }
    }

    /// Who the others are measured against.
    pub(crate) fn ours(self) -> Backend {
        self.backends()[0]
    }

    /// What is measured each round, TCP under each of `congestions`; of them the first where one has to do.
    pub(crate) fn measures(self, congestions: &[Congestion]) -> Vec<Measure> {
        let tcp = |direction, streams, strain| {
            congestions.iter().enumerate().map(move |(at, &congestion)| {
                let flows = Flows { direction, streams, congestion };
                Measure::Tcp(flows, if at == 0 { strain } else { None })
            })
        };
        let mut measures = Vec::new();
        match self {
            Suite::Switch => {
                for direction in [Direction::Across, Direction::Back] {
                    for streams in [1, 4, 16] {
                        measures.extend(tcp(direction, streams, None));
                    }
                }
                measures.extend([Measure::SmallUdp, Measure::Udp(Direction::Across)]);
                measures.extend([Measure::PingPong, Measure::Connects]);
                measures.extend([Pinger::Beside, Pinger::Along].map(Measure::Ping));
                measures.push(Measure::Resident);
            }
            Suite::Egress => {
                for direction in [Direction::Up, Direction::Down] {
                    measures.extend(tcp(direction, 1, Some(Strain::Loss)));
                    measures.extend(tcp(direction, 4, Some(Strain::Idle)));
                }
                measures.push(Measure::PingPong);
                measures.extend([Direction::Up, Direction::Down].map(Measure::Udp));
                measures.push(Measure::Connects);
            }
        }
        measures
    }

    /// What is measured once, before all else: of a process that has already grown, nothing is learned.
    pub(crate) fn fresh(self) -> &'static [Measure] {
        match self {
            Suite::Switch => &[],
            Suite::Egress => &[Measure::FlowMemory],
        }
    }

    /// Whether a quick run leaves `measure` over `backend` out.
    pub(crate) fn spares(self, effort: Effort, backend: Backend, measure: Measure) -> bool {
        let (basic, more_of_the_same) = match measure {
            Measure::Tcp(flows, _) => (flows.streams == 1, flows.streams > 4 || flows.direction == Direction::Back),
            _ => (matches!(measure, Measure::PingPong | Measure::Resident), false),
        };
        effort.quick && (more_of_the_same || backend != self.ours() && !basic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Effort = Effort { rounds: 1, time: Duration::from_secs(1), quick: true };

    #[test]
    fn each_congestion_control_has_rows_of_its_own_and_the_first_bears_the_strain() {
        let measures = Suite::Egress.measures(&[Congestion::Cubic, Congestion::Bbr]);
        let strained = |congestion| {
            let tcp = measures.iter().filter_map(|measure| match measure {
                Measure::Tcp(flows, strain) if flows.congestion == congestion => Some(strain.is_some()),
                _ => None,
            });
            tcp.collect::<Vec<_>>()
        };
        assert_eq!(strained(Congestion::Cubic), [true; 4]);
        assert_eq!(strained(Congestion::Bbr), [false; 4]);
    }

    #[test]
    fn a_quick_run_spares_peers_what_is_not_basic() {
        let egress = Suite::Egress;
        assert!(egress.spares(QUICK, Backend::Pasta1500, Measure::Connects));
        assert!(!egress.spares(QUICK, Backend::Pasta1500, Measure::PingPong));
        assert!(!egress.spares(QUICK, Backend::Uplink, Measure::Connects));
        assert!(!egress.spares(Effort { quick: false, ..QUICK }, Backend::Pasta1500, Measure::Connects));
        let tcp = |direction| Measure::Tcp(Flows { direction, streams: 1, congestion: Congestion::Cubic }, None);
        assert!(!Suite::Switch.spares(QUICK, Backend::Vde, tcp(Direction::Across)));
        assert!(Suite::Switch.spares(QUICK, Backend::Vde, tcp(Direction::Back)));
        assert!(Suite::Switch.spares(QUICK, Backend::Tapswitch, tcp(Direction::Back)), "it is like across");
    }
}
