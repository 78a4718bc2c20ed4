//! `compare`: every measure over every backend, interleaved, for some rounds.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::backend::{Backend, Joined};
use crate::measure::{Congestion, Figure, Measure};
use crate::process::{catch_interrupts, interrupted};
use crate::report::{Report, Section};
use crate::suite::{Effort, Suite};
use crate::{needs, plots, progress};

/// What `compare` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Draw plots into this folder, too
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Only between containers, or only on the way out
    #[arg(long, value_name = "WHAT")]
    only: Option<Suite>,
    /// Congestion control of all TCP
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: Choice,
    /// How often each measure runs over each backend [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seconds of each run [default: 3]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// 1 round of 1 second, the peers' basic rows only: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
}

/// Of the congestion controls.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Choice {
    /// The kernel's ordinary one
    Cubic,
    /// Paces itself, which hides what forwards
    Bbr,
    /// Cubic, and rows of their own for bbr
    Both,
}

impl Choice {
    fn all(self) -> &'static [Congestion] {
        match self {
            Choice::Cubic => &[Congestion::Cubic],
            Choice::Bbr => &[Congestion::Bbr],
            Choice::Both => &[Congestion::Cubic, Congestion::Bbr],
        }
    }
}

/// Runs it and prints the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs::root()?;
    needs::TOOLS.into_iter().try_for_each(|(tool, package)| needs::tool(tool, package))?;
    catch_interrupts()?;

    let effort = Effort {
        rounds: options.rounds.unwrap_or(if options.quick { 1 } else { 7 }),
        time: Duration::from_secs(options.seconds.unwrap_or(if options.quick { 1 } else { 3 })),
        quick: options.quick,
    };
    let suites = Suite::ALL.into_iter().filter(|suite| options.only.is_none_or(|only| only == *suite));
    let sections = suites.map(|suite| compare(suite, effort, options.congestion.all()));
    let report = Report { effort, sections: sections.collect::<Result<_>>()? };
    report.print(options.json)?;
    options.svg.as_ref().map_or(Ok(()), |folder| plots::write(folder, &report.sections))
}

/// One suite, from setting up to taking down.
fn compare(suite: Suite, effort: Effort, congestions: &[Congestion]) -> Result<Section> {
    let mut section = Section::new(suite);
    let mut joined = Vec::new();
    for &backend in suite.backends() {
        match set_up(backend, suite, effort, &mut section) {
            Ok(ends) => joined.push((backend, ends)),
            Err(error) => section.missing(backend, &error),
        }
        ensure!(!interrupted(), "interrupted");
    }
    ensure!(!joined.is_empty(), "no backend works here: {}", section.all_missing());
    measure(&joined, &suite.measures(congestions), effort, &mut section)?;
    Ok(section)
}

fn set_up(backend: Backend, suite: Suite, effort: Effort, section: &mut Section) -> Result<Joined> {
    if let Some((tool, package)) = backend.needs() {
        needs::tool(tool, package)?;
    }
    let ends = backend.set_up()?;
    for measure in suite.fresh().iter().filter(|measure| !suite.spares(effort, backend, **measure)) {
        let add = |figure, value| section.add(backend, figure, 0, value);
        if let Err(error) = measure.run(&ends, Duration::ZERO, false, add) {
            section.failed(backend, *measure, &error);
        }
    }
    if !effort.quick {
        warm_up(&ends, suite)?;
    }
    Ok(ends)
}

/// A second of TCP: neighbours known, buffers grown, processors awake.
fn warm_up(ends: &Joined, suite: Suite) -> Result<()> {
    let measures = suite.measures(&[Congestion::Cubic]);
    let first = measures.first().ok_or_else(|| anyhow!("a suite without measures"))?;
    first.run(ends, Duration::from_secs(1), true, |_: Figure, _| ())
}

fn measure(joined: &[(Backend, Joined)], measures: &[Measure], effort: Effort, section: &mut Section) -> Result<()> {
    let bar = progress::bar(u64::from(effort.rounds) * (measures.len() * joined.len()) as u64)?;
    // What never worked is not tried again: a run that hangs costs its deadline each time.
    let mut hopeless = BTreeSet::new();
    for round in 0..effort.rounds as usize {
        for (at, measure) in measures.iter().enumerate() {
            for step in 0..joined.len() {
                // Another first one each round: whoever comes first may find a cooler processor.
                let (backend, ends) = &joined[(round + step) % joined.len()];
                bar.set_message(format!("{}, {}", measure.name(), backend.name()));
                bar.inc(1);
                let ours = *backend == section.suite.ours();
                if section.suite.spares(effort, *backend, *measure) || hopeless.contains(&(at, *backend)) {
                    continue;
                }
                let mut found = false;
                let done = measure.run(ends, effort.time, effort.quick && !ours, |figure, value| {
                    found = true;
                    section.add(*backend, figure, round, value);
                });
                if let Err(error) = done {
                    ensure!(!interrupted(), "interrupted");
                    section.failed(*backend, *measure, &error);
                    if !found && round == 0 {
                        hopeless.insert((at, *backend));
                    }
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}
