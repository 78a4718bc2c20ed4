//! `scale`: what more ports cost. Switches with different numbers of ports stand side by side, so that in each round all of
//! them are measured on the machine as it is then.

mod attach;
mod figure;
pub(crate) mod flood;
mod plots;
mod report;
mod site;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use crate::measure::Quantile;
use crate::process::{adopt_orphans, catch_interrupts, interrupted};
use crate::{needs, progress, usage};
use figure::Figure;
use report::Report;
use site::Site;

/// How long idle daemons are watched: a clock tick of 10 ms is then a thousandth of a core.
const WATCH: Duration = Duration::from_secs(10);

/// What `scale` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Switches with so many ports, side by side; the first that has two is what the others are divided by
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2,10,100,1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    ports: Vec<u32>,
    /// How often traffic is measured over each; 0 only attaches
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(..=1000))]
    rounds: u32,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Draw plots into this folder, too
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

/// Runs it and prints the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs::root()?;
    needs::TOOLS.into_iter().try_for_each(|(tool, package)| needs::tool(tool, package))?;
    needs::descriptors()?;
    catch_interrupts()?;
    adopt_orphans()?;
    let mut ports = options.ports.clone();
    ports.sort_unstable();
    ports.dedup();
    let mut report = Report::new(ports.clone(), options.rounds, options.seconds);

    let bar = progress::bar(ports.iter().map(|count| u64::from(*count)).sum())?;
    let mut sites = Vec::new();
    for &count in &ports {
        bar.set_message(format!("attaching {count}"));
        let mut site = Site::new(count)?;
        attach::fill(&mut site, &mut report, &bar)?;
        sites.push(site);
    }
    bar.set_message("idle");
    watch_idle(&sites, &mut report)?;
    bar.finish_and_clear();
    measure(&sites, options, &mut report)?;
    for site in &sites {
        if let Some(bytes) = usage::sum(site.pids(), usage::resident) {
            report.add(site.ports(), Figure::Resident, bytes as f64 / 1e6);
        }
    }
    report.print(options.json)?;
    options.svg.as_ref().map_or(Ok(()), |folder| plots::write(&report, folder))
}

/// All of them at once: none does anything.
fn watch_idle(sites: &[Site], report: &mut Report) -> Result<()> {
    for site in sites {
        site.wait_until_quiet()?;
    }
    let time = |site: &Site| usage::sum(site.pids(), usage::cpu_time);
    let (start, before) = (Instant::now(), sites.iter().map(time).collect::<Vec<_>>());
    std::thread::sleep(WATCH);
    for (site, before) in sites.iter().zip(before) {
        let Some((before, after)) = before.zip(time(site)) else { continue };
        let share = after.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
        report.add(site.ports(), Figure::Idle, share * 100.0);
    }
    Ok(())
}

fn measure(sites: &[Site], options: &Options, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(options.seconds);
    let bar = progress::bar(u64::from(options.rounds) * sites.len() as u64 * 3)?;
    for round in 0..options.rounds as usize {
        for step in 0..sites.len() {
            // Another first one each round: whoever comes first may find a cooler processor.
            traffic(&sites[(round + step) % sites.len()], time, report, &bar)?;
        }
        report.end_round();
    }
    bar.finish_and_clear();
    Ok(())
}

/// A round over one of them. What fails is noted and costs only itself.
fn traffic(site: &Site, time: Duration, report: &mut Report, bar: &ProgressBar) -> Result<()> {
    let ports = site.ports();
    for figure in [Figure::Pair, Figure::Pairs, Figure::FloodPing] {
        bar.set_message(format!("{ports} ports: {}", figure.name()));
        bar.inc(1);
        let done = match figure {
            Figure::Pair if ports >= 2 => site.throughput(1, time).map(|rate| report.add(ports, figure, rate)),
            Figure::Pairs if ports > 2 => {
                site.throughput(site::MOST_PAIRS, time).map(|rate| report.add(ports, figure, rate))
            }
            Figure::FloodPing if ports > 2 => flooded(site, time, report),
            _ => Ok(()),
        };
        if let Err(error) = done {
            ensure!(!interrupted(), "interrupted");
            report.failed(ports, figure, &error);
        }
    }
    Ok(())
}

/// What a flood of one container costs two others, and the machine.
fn flooded(site: &Site, time: Duration, report: &mut Report) -> Result<()> {
    let _flood = site.flood()?;
    let (start, before) = (Instant::now(), usage::sum(site.pids(), usage::cpu_time));
    let pings = site.pings(time)?;
    let after = usage::sum(site.pids(), usage::cpu_time);
    if let Some((before, after)) = before.zip(after) {
        let share = after.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
        report.add(site.ports(), Figure::FloodCpu, share * 100.0);
    }
    let p99 = pings.into_iter().find(|(quantile, _)| *quantile == Quantile::P99);
    let (_, micros) = p99.context("too few pings to tell the 99th percentile (longer --seconds)")?;
    report.add(site.ports(), Figure::FloodPing, micros / 1e3);
    Ok(())
}
