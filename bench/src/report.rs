//! The figures as a table, or as JSON.

use std::fs;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::compare::Samples;
use crate::measure::Figure;
use crate::stats::{Summary, ratios, summary};

/// Whom the switch is divided by.
const PEERS: [Backend; 2] = [Backend::Bridge, Backend::Bare];

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    rounds: u32,
    seconds: u64,
    samples: Samples,
    missing: Vec<(Backend, String)>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(rounds: u32, seconds: u64) -> Report {
        Report { rounds, seconds, samples: Samples::new(), missing: Vec::new() }
    }

    /// Notes the figure of one more round.
    pub(crate) fn add(&mut self, backend: Backend, figure: Figure, value: f64) {
        self.samples.entry((backend, figure)).or_default().push(Some(value));
    }

    /// Notes that a backend is left out, and why.
    pub(crate) fn missing(&mut self, backend: Backend, error: &anyhow::Error) {
        self.missing.push((backend, format!("{error:#}")));
    }

    /// The backends left out, in one line.
    pub(crate) fn all_missing(&self) -> String {
        self.missing.iter().map(|(backend, why)| format!("{}: {why}", backend.name())).collect::<Vec<_>>().join("; ")
    }

    /// Prints it.
    pub(crate) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            println!("{}", serde_json::to_string_pretty(&self.json())?);
            return Ok(());
        }
        println!("{}", machine()["description"].as_str().unwrap_or_default());
        println!(
            "{} rounds of {} s, interleaved; median (smallest - largest); ratios are taken within a round",
            self.rounds, self.seconds
        );
        println!("{}", self.table());
        for (backend, why) in &self.missing {
            println!("{} is left out: {why}", backend.name());
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec![String::new()];
        header.extend(Backend::ALL.map(|backend| backend.name().to_owned()));
        header.extend(PEERS.map(|peer| format!("tapswitch / {}", peer.name())));
        table.set_header(header);
        for figure in Figure::ALL {
            let mut row = vec![figure.name().to_owned()];
            row.extend(Backend::ALL.map(|backend| text(self.summary(backend, figure))));
            row.extend(PEERS.map(|peer| text(self.ratio(peer, figure))));
            table.add_row(row);
        }
        table
    }

    fn json(&self) -> Value {
        let figures = Figure::ALL.map(|figure| {
            let of = |backend: Backend| {
                let summary = self.summary(backend, figure)?;
                Some(json!({ "median": summary.median, "min": summary.min, "max": summary.max,
                    "samples": self.samples.get(&(backend, figure)) }))
            };
            json!({ "figure": figure, "name": figure.name(),
                "backends": Backend::ALL.map(|backend| json!({ "backend": backend, "value": of(backend) })),
                "ratios": PEERS.map(|peer| json!({ "to": peer, "value": self.ratio(peer, figure) })) })
        });
        let missing: Vec<_> =
            self.missing.iter().map(|(backend, why)| json!({ "backend": backend, "why": why })).collect();
        json!({ "machine": machine(), "rounds": self.rounds, "seconds": self.seconds, "figures": figures, "missing": missing })
    }

    fn summary(&self, backend: Backend, figure: Figure) -> Option<Summary> {
        let samples: Vec<f64> = self.samples.get(&(backend, figure))?.iter().copied().flatten().collect();
        summary(&samples)
    }

    fn ratio(&self, peer: Backend, figure: Figure) -> Option<Summary> {
        let ours = self.samples.get(&(Backend::Tapswitch, figure))?;
        summary(&ratios(ours, self.samples.get(&(peer, figure))?))
    }
}

/// Three digits that matter: more would claim a precision that the spread beside them denies.
fn text(summary: Option<Summary>) -> String {
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
fn machine() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| cpuinfo.lines().find(|line| line.starts_with(name))?.split(':').nth(1).map(str::trim);
    let cpu = field("model name").unwrap_or("unknown processor").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "kernel": kernel, "cpu": cpu, "cores": cores, "description": format!("{cores} cores of {cpu}, Linux {kernel}") })
}
