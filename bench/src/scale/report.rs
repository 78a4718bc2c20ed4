//! The figures by number of ports: as a table, as JSON, as plots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::site::MOST_PAIRS;
use crate::report::{machine, text};
use crate::stats::{Summary, quantile, ratios, summary};
use crate::svg::{Axis, Curves, Series};

/// What the traffic of the others is divided by.
const BASE: u32 = 2;

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
    const ALL: [Figure; 8] = [
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
    fn key(self) -> &'static str {
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
    fn is_of_round(self) -> bool {
        matches!(self, Figure::Pair | Figure::Pairs | Figure::FloodPing | Figure::FloodCpu)
    }
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Report {
    ports: Vec<u32>,
    rounds: u32,
    seconds: u64,
    /// One place a round, or an attachment; `None` where it failed.
    samples: BTreeMap<(u32, Figure), Vec<Option<f64>>>,
    ended: usize,
    failed: BTreeMap<(u32, Figure), (u32, String)>,
}

/// A line below the figures: two of them, divided.
struct Quotient {
    name: &'static str,
    key: &'static str,
    of: fn(&Report, u32) -> Option<Summary>,
}

const QUOTIENTS: [Quotient; 3] = [
    Quotient {
        name: "attach divided by veth",
        key: "attach_of_veth",
        of: |report, ports| report.ratio((ports, Figure::Attach), (ports, Figure::Veth)),
    },
    Quotient {
        name: "busy pair divided by that of two ports",
        key: "pair_of_two_ports",
        of: |report, ports| (ports != BASE).then(|| report.ratio((ports, Figure::Pair), (BASE, Figure::Pair)))?,
    },
    Quotient {
        name: "tapswitch attach p99, ms",
        key: "attach_p99_ms",
        of: |report, ports| {
            let p99 = quantile(&report.values(ports, Figure::Attach), 0.99)?;
            Some(Summary { median: p99, min: p99, max: p99 })
        },
    },
];

impl Report {
    pub(super) fn new(ports: Vec<u32>, rounds: u32, seconds: u64) -> Report {
        Report { ports, rounds, seconds, samples: BTreeMap::new(), ended: 0, failed: BTreeMap::new() }
    }

    /// Notes a sample.
    pub(super) fn add(&mut self, ports: u32, figure: Figure, value: f64) {
        self.samples.entry((ports, figure)).or_default().push(Some(value));
    }

    /// Leaves a hole where this round gave nothing, so that the samples of later rounds keep their partners.
    pub(super) fn end_round(&mut self) {
        self.ended += 1;
        for &ports in &self.ports {
            for figure in Figure::ALL.into_iter().filter(|figure| figure.is_of_round()) {
                self.samples.entry((ports, figure)).or_default().resize(self.ended, None);
            }
        }
    }

    /// Notes that a run failed, and why it did the first time.
    pub(super) fn failed(&mut self, ports: u32, figure: Figure, error: &anyhow::Error) {
        let first = || (0, format!("{error:#}"));
        self.failed.entry((ports, figure)).or_insert_with(first).0 += 1;
    }

    fn values(&self, ports: u32, figure: Figure) -> Vec<f64> {
        self.samples.get(&(ports, figure)).into_iter().flatten().copied().flatten().collect()
    }

    fn summary(&self, ports: u32, figure: Figure) -> Option<Summary> {
        summary(&self.values(ports, figure))
    }

    fn ratio(&self, ours: (u32, Figure), theirs: (u32, Figure)) -> Option<Summary> {
        summary(&ratios(self.samples.get(&ours)?, self.samples.get(&theirs)?))
    }

    fn figures(&self) -> BTreeSet<Figure> {
        let known = self.samples.iter().filter(|(_, values)| values.iter().any(Option::is_some));
        known.map(|((_, figure), _)| *figure).collect()
    }

    /// Prints it.
    pub(super) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            println!("{}", serde_json::to_string_pretty(&self.json())?);
            return Ok(());
        }
        println!("{}", machine()["description"].as_str().unwrap_or_default());
        println!("{} rounds of {} s, interleaved; median (smallest - largest)", self.rounds, self.seconds);
        println!("{}", self.table());
        for ((ports, figure), (times, why)) in &self.failed {
            println!("{} at {ports} ports failed {times} times, at first: {why}", figure.name());
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let heads = self.ports.iter().map(|ports| format!("{ports} port{}", if *ports == 1 { "" } else { "s" }));
        table.set_header([String::new()].into_iter().chain(heads));
        let mut row = |name: String, of: &dyn Fn(u32) -> Option<Summary>| {
            table.add_row([name].into_iter().chain(self.ports.iter().map(|ports| text(of(*ports)))));
        };
        self.figures().into_iter().for_each(|figure| row(figure.name(), &|ports| self.summary(ports, figure)));
        for quotient in QUOTIENTS {
            row(quotient.name.into(), &|ports| (quotient.of)(self, ports));
        }
        table
    }

    fn json(&self) -> Value {
        let shown = |summary: Option<Summary>, samples: Option<&Vec<Option<f64>>>| {
            summary.map(|s| json!({ "median": s.median, "min": s.min, "max": s.max, "samples": samples }))
        };
        let sites = self.ports.iter().map(|&ports| {
            let figures = self.figures().into_iter().map(|figure| {
                (figure.key().to_owned(), json!(shown(self.summary(ports, figure), self.samples.get(&(ports, figure)))))
            });
            let quotients = QUOTIENTS
                .iter()
                .map(|quotient| (quotient.key.to_owned(), json!(shown((quotient.of)(self, ports), None))));
            json!({ "ports": ports, "figures": figures.chain(quotients).collect::<serde_json::Map<_, _>>() })
        });
        let failed = self.failed.iter().map(|((ports, figure), (times, why))| {
            json!({ "ports": ports, "figure": figure.key(), "times": times, "why": why })
        });
        json!({ "machine": machine(), "rounds": self.rounds, "seconds": self.seconds,
            "sites": sites.collect::<Vec<_>>(), "failed": failed.collect::<Vec<_>>() })
    }

    /// Draws what grows with the ports into `folder`: `scale-WHAT.svg`.
    pub(super) fn plot(&self, folder: &Path) -> Result<()> {
        let failed = || format!("write the plots to {}", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
        for plot in &PLOTS {
            if let Some(svg) = self.draw(plot) {
                fs::write(folder.join(format!("scale-{}.svg", plot.file)), svg).with_context(failed)?;
            }
        }
        Ok(())
    }

    fn draw(&self, plot: &Plot) -> Option<String> {
        let curve = |(name, figure): &(&'static str, Figure)| {
            let point = |ports: &u32| Some((f64::from(*ports), self.summary(*ports, *figure)?));
            Series { name, points: self.ports.iter().filter_map(point).collect() }
        };
        let series: Vec<_> = plot.curves.iter().map(curve).filter(|series| !series.points.is_empty()).collect();
        let points = || series.iter().flat_map(|series| &series.points);
        points().next()?;
        let x = Axis::log(points().map(|(ports, _)| *ports));
        let y = (plot.axis)(&points().flat_map(|(_, value)| [value.min, value.max]).collect::<Vec<_>>());
        Some(Curves { title: plot.title, unit: plot.unit, below: "ports of the switch", x, y, series }.draw())
    }
}

/// Curves over the ports.
struct Plot {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    axis: fn(&[f64]) -> Axis,
    curves: &'static [(&'static str, Figure)],
}

const PLOTS: [Plot; 4] = [
    Plot {
        file: "throughput",
        title: "TCP by ports",
        unit: "Gbit/s, median and spread; higher is better",
        axis: |values| Axis::linear(values.iter().copied()),
        curves: &[("one busy pair", Figure::Pair), ("up to 32 busy pairs together", Figure::Pairs)],
    },
    Plot {
        file: "attach",
        title: "Attaching a container by ports",
        unit: "ms, median and spread; lower is better",
        // One among a thousand may take very long.
        axis: |values| Axis::log(values.iter().copied()),
        curves: &[("tapswitch attach", Figure::Attach), ("ip link add veth, and move", Figure::Veth)],
    },
    Plot {
        file: "memory",
        title: "Memory of keeper and switch by ports",
        unit: "MB; lower is better",
        axis: |values| Axis::linear(values.iter().copied()),
        curves: &[("tapswitch", Figure::Resident)],
    },
    Plot {
        file: "flood",
        title: "Ping between two containers while a third one floods, 99th percentile",
        unit: "ms, median and spread; lower is better",
        axis: |values| Axis::log(values.iter().copied()),
        curves: &[("tapswitch", Figure::FloodPing)],
    },
];

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_round_that_failed_leaves_a_hole_and_the_others_keep_their_partners() {
        let mut report = Report::new(vec![2, 10], 3, 1);
        for (two, ten) in [(Some(20.0), Some(10.0)), (None, Some(7.0)), (Some(30.0), Some(30.0))] {
            for (ports, value) in [(2, two), (10, ten)] {
                value.into_iter().for_each(|value| report.add(ports, Figure::Pair, value));
            }
            report.end_round();
        }
        let ratio = (QUOTIENTS[1].of)(&report, 10).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.5, 0.75, 1.0));
        assert_eq!((QUOTIENTS[1].of)(&report, 2), None, "it is the one that others are divided by");
    }

    #[test]
    fn attaching_is_divided_by_the_veth_of_the_same_container() {
        let mut report = Report::new(vec![2], 0, 1);
        for (attach, veth) in [(30.0, 20.0), (44.0, 40.0)] {
            report.add(2, Figure::Attach, attach);
            report.add(2, Figure::Veth, veth);
        }
        let quotients = &report.json()["sites"][0]["figures"];
        assert_eq!(
            (&quotients["attach_of_veth"]["min"], &quotients["attach_of_veth"]["max"]),
            (&json!(1.1), &json!(1.5))
        );
        assert_eq!(quotients["attach_p99_ms"]["median"], 44.0);
    }

    #[test]
    fn failures_are_counted_and_what_was_never_measured_has_no_line() {
        let mut report = Report::new(vec![10], 2, 1);
        for why in ["first", "second"] {
            report.failed(10, Figure::FloodPing, &anyhow!(why));
            report.end_round();
        }
        let failed = &report.json()["failed"][0];
        assert_eq!((&failed["times"], &failed["why"]), (&json!(2), &json!("first")));
        assert!(report.figures().is_empty());
    }

    #[test]
    fn plots_have_a_point_for_each_number_of_ports() {
        let mut report = Report::new(vec![2, 1000], 1, 1);
        for ports in [2, 1000] {
            report.add(ports, Figure::Resident, 30.0);
        }
        let svg = report.draw(&PLOTS[2]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">1000<") && svg.contains("ports of the switch"));
        assert_eq!(report.draw(&PLOTS[0]), None, "nothing was measured");
    }
}
