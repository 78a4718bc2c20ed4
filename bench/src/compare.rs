//! `compare`: every measure over every backend, interleaved, for some rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::backend::{Backend, Joined};
use crate::measure::{Figure, Measure};
use crate::process::catch_interrupts;
use crate::report::Report;

/// What `compare` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// How often each measure runs over each backend [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seconds of each run [default: 3]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// 3 rounds of 1 second: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
}

/// What every round gave: by backend and figure, one place a round; `None` where the run failed.
pub(crate) type Samples = BTreeMap<(Backend, Figure), Vec<Option<f64>>>;

/// Runs it and prints the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 7 });
    let seconds = options.seconds.unwrap_or(if options.quick { 1 } else { 3 });
    ensure!(nix::unistd::geteuid().is_root(), "compare makes namespaces and a bridge: run it as root");
    for (tool, package) in
        [("iperf3", "iperf3"), ("ip", "iproute2"), ("nsenter", "util-linux"), ("ping", "iputils-ping")]
    {
        let path = std::env::var_os("PATH").context("PATH is not set")?;
        let found = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
        ensure!(found, "`{tool}` is missing: apt-get install {package}");
    }
    catch_interrupts()?;

    let mut report = Report::new(rounds, seconds);
    let mut joined = Vec::new();
    for backend in Backend::ALL {
        match backend.set_up().and_then(|ends| warm_up(&ends).map(|()| ends)) {
            Ok(ends) => joined.push((backend, ends)),
            Err(error) => report.missing(backend, &error),
        }
    }
    ensure!(!joined.is_empty(), "no backend works here: {}", report.all_missing());
    measure(&joined, rounds, seconds, &mut report)?;
    drop(joined);
    report.print(options.json)
}

/// A second of TCP: neighbours known, buffers grown, processors awake.
fn warm_up(ends: &Joined) -> Result<()> {
    Measure::Tcp1.run(ends, 1).map(drop)
}

fn measure(joined: &[(Backend, Joined)], rounds: u32, seconds: u64, report: &mut Report) -> Result<()> {
    let steps = u64::from(rounds) * (Measure::ALL.len() * joined.len()) as u64;
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} (about {eta} left)").context("the bar's template")?;
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    for round in 0..rounds as usize {
        for measure in Measure::ALL {
            for step in 0..joined.len() {
                // Another first one each round: whoever comes first may find a cooler processor.
                let (backend, ends) = &joined[(round + step) % joined.len()];
                bar.set_message(format!("{}, {}", measure.name(), backend.name()));
                let figures = measure
                    .run(ends, seconds)
                    .with_context(|| format!("{} over {}", measure.name(), backend.name()))?;
                for (figure, value) in figures {
                    report.add(*backend, figure, value);
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}
