//! The figures as tables, or as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::measure::{Figure, Measure};
use crate::stats::{Summary, ratios, summary};
use crate::suite::{Effort, Suite};

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// How it was measured.
    pub(crate) effort: Effort,
    /// The comparisons made.
    pub(crate) sections: Vec<Section>,
}

/// One comparison's part.
#[derive(Debug)]
pub(crate) struct Section {
    /// Which.
    pub(crate) suite: Suite,
    samples: Samples,
    missing: Vec<(Backend, String)>,
    failed: BTreeMap<(Backend, String), (u32, String)>,
}

/// What every round gave: by backend and figure, one place a round; `None` where the run failed.
type Samples = BTreeMap<(Backend, Figure), Vec<Option<f64>>>;

impl Report {
    /// Prints it.
    pub(crate) fn print(&self, as_json: bool) -> Result<()> {
        let seconds = self.effort.time.as_secs();
        if as_json {
            let sections: Vec<_> = self.sections.iter().map(Section::json).collect();
            let report = json!({ "machine": machine(), "rounds": self.effort.rounds, "seconds": seconds,
                "quick": self.effort.quick, "sections": sections });
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(());
        }
        println!("{}", machine()["description"].as_str().unwrap_or_default());
        println!(
            "{} rounds of {seconds} s, interleaved; median (smallest - largest); ratios are taken within a round",
            self.effort.rounds
        );
        self.sections.iter().for_each(Section::print);
        Ok(())
    }
}

impl Section {
    /// An empty one.
    pub(crate) fn new(suite: Suite) -> Section {
        Section { suite, samples: Samples::new(), missing: Vec::new(), failed: BTreeMap::new() }
    }

    /// Notes the figure of a round.
    pub(crate) fn add(&mut self, backend: Backend, figure: Figure, round: usize, value: f64) {
        let rounds = self.samples.entry((backend, figure)).or_default();
        rounds.resize(rounds.len().max(round + 1), None);
        rounds[round] = Some(value);
    }

    /// Notes that a backend is left out, and why.
    pub(crate) fn missing(&mut self, backend: Backend, error: &anyhow::Error) {
        self.missing.push((backend, format!("{error:#}")));
    }

    /// Notes that a run failed, and why it did the first time.
    pub(crate) fn failed(&mut self, backend: Backend, measure: Measure, error: &anyhow::Error) {
        let first = || (0, format!("{error:#}"));
        self.failed.entry((backend, measure.name())).or_insert_with(first).0 += 1;
    }

    /// The backends left out, in one line.
    pub(crate) fn all_missing(&self) -> String {
        self.missing.iter().map(|(backend, why)| format!("{}: {why}", backend.name())).collect::<Vec<_>>().join("; ")
    }

    fn print(&self) {
        println!("\n{}", self.suite.title());
        println!("{}", self.values());
        let peers = self.peers();
        if !peers.is_empty() {
            println!("tapswitch divided by");
            println!("{}", self.quotients(&peers));
        }
        for (backend, why) in &self.missing {
            println!("{} is left out: {why}", backend.name());
        }
        for ((backend, measure), (times, why)) in &self.failed {
            println!("{measure} over {} failed {times} times, at first: {why}", backend.name());
        }
    }

    fn values(&self) -> Table {
        self.table(&self.backends(), |backend, figure| self.summary(backend, figure))
    }

    fn quotients(&self, peers: &[Backend]) -> Table {
        self.table(peers, |backend, figure| self.ratio(backend, figure))
    }

    fn table(&self, backends: &[Backend], cell: impl Fn(Backend, Figure) -> Option<Summary>) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec![String::new()];
        header.extend(backends.iter().map(|backend| backend.name().to_owned()));
        table.set_header(header);
        for figure in self.figures().into_iter().filter(|figure| figure.is_listed()) {
            let mut row = vec![figure.name()];
            row.extend(backends.iter().map(|backend| text(cell(*backend, figure))));
            table.add_row(row);
        }
        table
    }

    fn json(&self) -> Value {
        let of = |backend: Backend, figure: Figure| {
            let summary = self.summary(backend, figure)?;
            Some(json!({ "median": summary.median, "min": summary.min, "max": summary.max,
                "samples": self.samples.get(&(backend, figure)) }))
        };
        let figures = self.figures().into_iter().map(|figure| {
            let values = self.backends().into_iter();
            let values = values.map(|backend| json!({ "backend": backend, "value": of(backend, figure) }));
            let ratios = self.peers().into_iter();
            let ratios = ratios.map(|peer| json!({ "to": peer, "value": self.ratio(peer, figure) }));
            json!({ "figure": figure, "name": figure.name(), "backends": values.collect::<Vec<_>>(),
                "ratios": ratios.collect::<Vec<_>>() })
        });
        let missing = self.missing.iter().map(|(backend, why)| json!({ "backend": backend, "why": why }));
        let failed = self.failed.iter().map(|((backend, measure), (times, why))| {
            json!({ "backend": backend, "measure": measure, "times": times, "why": why })
        });
        json!({ "suite": self.suite, "figures": figures.collect::<Vec<_>>(), "missing": missing.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>() })
    }

    /// Who was asked for, the switch first.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        let asked = |backend: &Backend| {
            let missing = self.missing.iter().any(|(missing, _)| missing == backend);
            missing || self.samples.keys().any(|(has, _)| has == backend)
        };
        self.suite.backends().iter().copied().filter(asked).collect()
    }

    /// Whom the switch is divided by.
    fn peers(&self) -> Vec<Backend> {
        self.backends().into_iter().filter(|backend| *backend != self.suite.ours()).collect()
    }

    /// Those that any backend has, in the order of the table.
    pub(crate) fn figures(&self) -> BTreeSet<Figure> {
        self.samples.keys().map(|(_, figure)| *figure).collect()
    }

    /// Of all rounds of one backend.
    pub(crate) fn summary(&self, backend: Backend, figure: Figure) -> Option<Summary> {
        let samples: Vec<f64> = self.samples.get(&(backend, figure))?.iter().copied().flatten().collect();
        summary(&samples)
    }

    fn ratio(&self, peer: Backend, figure: Figure) -> Option<Summary> {
        let ours = self.samples.get(&(self.suite.ours(), figure))?;
        summary(&ratios(ours, self.samples.get(&(peer, figure))?))
    }
}

/// Three digits that matter: more would claim a precision that the spread beside them denies.
pub(crate) fn text(summary: Option<Summary>) -> String {
    let Some(summary) = summary else { return "-".to_owned() };
    let digits = if summary.median >= 100.0 {
        0
    } else if summary.median >= 10.0 {
        1
    } else {
        2
    };
    format!("{:.digits$} ({:.digits$} - {:.digits$})", summary.median, summary.min, summary.max)
}

/// Where the figures are from: they mean nothing elsewhere.
pub(crate) fn machine() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| cpuinfo.lines().find(|line| line.starts_with(name))?.split(':').nth(1).map(str::trim);
    let cpu = field("model name").unwrap_or("unknown processor").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "kernel": kernel, "cpu": cpu, "cores": cores, "description": format!("{cores} cores of {cpu}, Linux {kernel}") })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_round_that_failed_leaves_a_hole_and_the_others_keep_their_partners() {
        let mut section = Section::new(Suite::Egress);
        let figure = Figure::Connects;
        section.add(Backend::Uplink, figure, 0, 6.0);
        section.add(Backend::Uplink, figure, 2, 8.0);
        for (round, value) in [(0, 3.0), (1, 1.0), (2, 2.0)] {
            section.add(Backend::Pasta1500, figure, round, value);
        }
        let ratio = section.ratio(Backend::Pasta1500, figure).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 3.0, 4.0));
    }

    #[test]
    fn failures_are_counted_and_the_first_one_is_told() {
        let mut section = Section::new(Suite::Egress);
        for why in ["first", "second"] {
            section.failed(Backend::Slirp1500, Measure::Connects, &anyhow!(why));
        }
        let failed = &section.json()["failed"];
        assert_eq!((&failed[0]["times"], &failed[0]["why"]), (&json!(2), &json!("first")));
    }

    #[test]
    fn what_is_left_out_is_named() {
        let mut section = Section::new(Suite::Egress);
        section.missing(Backend::Pasta1500, &anyhow!("`pasta` is missing: apt-get install passt"));
        assert_eq!(section.all_missing(), "pasta 1500: `pasta` is missing: apt-get install passt");
        assert_eq!(section.json()["missing"][0]["backend"], "pasta 1500");
    }

    #[test]
    fn three_digits_are_shown() {
        let summary = |median| Some(Summary { median, min: 1.0, max: 123.4 });
        assert_eq!(text(summary(12.34)), "12.3 (1.0 - 123.4)");
        assert_eq!(text(None), "-");
    }
}
