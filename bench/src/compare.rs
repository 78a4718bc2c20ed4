//! `compare`: every measure over every backend, interleaved, for some rounds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::backend::{Backend, Joined, tapswitch};
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
    /// Only rows that have this in their names, as `TCP` or `round trip`
    #[arg(long, value_name = "TEXT")]
    rows: Vec<String>,
    /// Only the switch and these peers, by their names in the table, or none
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Another build of the switch, measured beside this one: did a change help?
    #[arg(long, value_name = "PROGRAM")]
    other: Option<PathBuf>,
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

/// Said instead of a peer.
const NOBODY: &str = "none";

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

/// What is asked for of a suite.
struct Chosen {
    suite: Suite,
    backends: Vec<Backend>,
    /// What is measured once, before all else.
    fresh: Vec<Measure>,
    /// What is measured each round.
    measures: Vec<Measure>,
}

impl Options {
    /// Who takes part, and what is measured; nothing where no row of this one is asked for.
    fn choose(&self, suite: Suite) -> Option<Chosen> {
        let takes_part = |backend: &Backend| match &self.peers {
            _ if *backend == suite.ours() => true,
            _ if backend.is_other() => self.other.is_some(),
            Some(peers) => peers.iter().any(|peer| peer == backend.name()),
            None => true,
        };
        let is_asked = |measure: &Measure| {
            self.rows.is_empty() || self.rows.iter().any(|row| measure.name().contains(row.as_str()))
        };
        let is_chosen = self.only.is_none_or(|only| only == suite);
        let measures: Vec<_> = suite.measures(self.congestion.all()).into_iter().filter(is_asked).collect();
        let fresh: Vec<_> = suite.fresh().iter().copied().filter(is_asked).collect();
        let backends = suite.backends().iter().copied().filter(takes_part).collect();
        let is_empty = measures.is_empty() && fresh.is_empty();
        (is_chosen && !is_empty).then_some(Chosen { suite, backends, fresh, measures })
    }

    /// # Errors
    /// When a row or a peer is asked for that there is not.
    fn check(&self) -> Result<()> {
        let all =
            |suite: &Suite| suite.measures(self.congestion.all()).into_iter().chain(suite.fresh().iter().copied());
        let mut rows: Vec<_> = Suite::ALL.iter().flat_map(all).map(Measure::name).collect();
        let mut named = BTreeSet::new();
        rows.retain(|row| named.insert(row.clone()));
        for text in &self.rows {
            ensure!(rows.iter().any(|row| row.contains(text)), "no row has `{text}` in its name: {}", rows.join(", "));
        }
        let backends =
            Suite::ALL.iter().flat_map(|suite| suite.backends().iter().filter(|other| **other != suite.ours()));
        let peers = backends.filter(|backend| !backend.is_other()).map(|backend| backend.name()).chain([NOBODY]);
        let peers: Vec<_> = peers.collect();
        for name in self.peers.iter().flatten() {
            ensure!(peers.contains(&name.as_str()), "there is no peer `{name}`: {}", peers.join(", "));
        }
        Ok(())
    }
}

/// Runs it and prints the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs::root()?;
    needs::TOOLS.into_iter().try_for_each(|(tool, package)| needs::tool(tool, package))?;
    catch_interrupts()?;
    options.check()?;

    let effort = Effort {
        rounds: options.rounds.unwrap_or(if options.quick { 1 } else { 7 }),
        time: Duration::from_secs(options.seconds.unwrap_or(if options.quick { 1 } else { 3 })),
        quick: options.quick,
    };
    let switch = tapswitch::built()?;
    let program = |backend: Backend| options.other.as_ref().filter(|_| backend.is_other()).unwrap_or(&switch);
    let chosen = Suite::ALL.into_iter().filter_map(|suite| options.choose(suite));
    let sections = chosen.map(|chosen| compare(&chosen, effort, program));
    let report = Report { effort, sections: sections.collect::<Result<_>>()? };
    report.print(options.json)?;
    options.svg.as_ref().map_or(Ok(()), |folder| plots::write(folder, &report.sections))
}

/// One suite, from setting up to taking down.
fn compare<'a>(chosen: &Chosen, effort: Effort, program: impl Fn(Backend) -> &'a PathBuf) -> Result<Section> {
    let mut section = Section::new(chosen.suite);
    let mut joined = Vec::new();
    for &backend in &chosen.backends {
        match set_up(backend, program(backend), chosen, effort, &mut section) {
            Ok(ends) => joined.push((backend, ends)),
            Err(error) => section.missing(backend, &error),
        }
        ensure!(!interrupted(), "interrupted");
    }
    ensure!(!joined.is_empty(), "no backend works here: {}", section.all_missing());
    measure(&joined, &chosen.measures, effort, &mut section)?;
    Ok(section)
}

fn set_up(backend: Backend, switch: &Path, chosen: &Chosen, effort: Effort, section: &mut Section) -> Result<Joined> {
    if let Some((tool, package)) = backend.needs() {
        needs::tool(tool, package)?;
    }
    let ends = backend.set_up(switch)?;
    for measure in chosen.fresh.iter().filter(|measure| !chosen.suite.spares(effort, backend, **measure)) {
        let add = |figure, value| section.add(backend, figure, 0, value);
        if let Err(error) = measure.run(&ends, Duration::ZERO, false, add) {
            section.failed(backend, *measure, &error);
        }
    }
    if !effort.quick {
        warm_up(&ends, chosen.suite)?;
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
