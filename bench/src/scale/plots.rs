//! What grows with the ports, as curves.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::figure::Figure;
use super::report::Report;
use crate::svg::{Axis, Curves, Series};

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

/// Draws what grows with the ports into `folder`: `scale-WHAT.svg`.
pub(super) fn write(report: &Report, folder: &Path) -> Result<()> {
    let failed = || format!("write the plots to {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    for plot in &PLOTS {
        if let Some(svg) = draw(report, plot) {
            fs::write(folder.join(format!("scale-{}.svg", plot.file)), svg).with_context(failed)?;
        }
    }
    Ok(())
}

fn draw(report: &Report, plot: &Plot) -> Option<String> {
    let curve = |(name, figure): &(&'static str, Figure)| {
        let point = |ports: &u32| Some((f64::from(*ports), report.summary(*ports, *figure)?));
        Series { name, points: report.ports().iter().filter_map(point).collect() }
    };
    let series: Vec<_> = plot.curves.iter().map(curve).filter(|series| !series.points.is_empty()).collect();
    let points = || series.iter().flat_map(|series| &series.points);
    points().next()?;
    let x = Axis::log(points().map(|(ports, _)| *ports));
    let y = (plot.axis)(&points().flat_map(|(_, value)| [value.min, value.max]).collect::<Vec<_>>());
    Some(Curves { title: plot.title, unit: plot.unit, below: "ports of the switch", x, y, series }.draw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_have_a_point_for_each_number_of_ports() {
        let mut report = Report::new(vec![2, 1000], 1, 1);
        for ports in [2, 1000] {
            report.add(ports, Figure::Resident, 30.0);
        }
        let svg = draw(&report, &PLOTS[2]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">1000<") && svg.contains("ports of the switch"));
        assert_eq!(draw(&report, &PLOTS[0]), None, "nothing was measured");
    }
}
