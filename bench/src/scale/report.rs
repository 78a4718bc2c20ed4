//! The figures by number of ports: as a table, or as JSON.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::figure::Figure;
use crate::report::{machine, text};
use crate::stats::{Summary, quantile, ratios, summary};

/// What the traffic of the others is divided by.
const BASE: u32 = 2;

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

    /// Numbers of ports, ascending.
    pub(super) fn ports(&self) -> &[u32] {
        &self.ports
    }

    /// Of all rounds, or attachments.
    pub(super) fn summary(&self, ports: u32, figure: Figure) -> Option<Summary> {
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
        let has_any = |quotient: &Quotient| self.ports.iter().any(|ports| (quotient.of)(self, *ports).is_some());
        for quotient in QUOTIENTS.iter().filter(|quotient| has_any(quotient)) {
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
}

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
}
