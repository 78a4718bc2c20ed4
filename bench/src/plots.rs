//! What is plotted of a comparison: throughput and cost as bars, round trips as distributions, streams as scaling curves.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::measure::{Direction, Figure, Pinger, Quantile};
use crate::report::Section;
use crate::svg::{Axis, Bars, Curves, Group, Series};

/// Bars of figures with one unit.
struct Panel {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    /// A figure's group in it, if it is there.
    group: fn(Figure) -> Option<String>,
}

const PANELS: [Panel; 6] = [
    Panel {
        file: "tcp",
        title: "TCP, received",
        unit: "Gbit/s, median and spread; higher is better",
        group: |figure| match figure {
            Figure::Tcp(flows) => flows.name().strip_prefix("TCP ").map(str::to_owned),
            _ => None,
        },
    },
    Panel {
        file: "udp-64",
        title: "64-byte UDP, delivered",
        unit: "1000/s, median and spread; higher is better",
        group: |figure| (figure == Figure::SmallUdp).then(String::new),
    },
    Panel {
        file: "udp-1400",
        title: "1400-byte UDP, delivered",
        unit: "Gbit/s, median and spread; higher is better",
        group: |figure| match figure {
            Figure::Udp(Direction::Across) => Some(String::new()),
            Figure::Udp(direction) => Some(direction.name().to_owned()),
            _ => None,
        },
    },
    Panel {
        file: "connections",
        title: "Connections, one after the other",
        unit: "1000/s, median and spread; higher is better",
        group: |figure| (figure == Figure::Connects).then(String::new),
    },
    Panel {
        file: "cpu",
        title: "Processor time of the whole machine",
        unit: "seconds for a GB of TCP, median and spread; lower is better",
        group: |figure| match figure {
            Figure::MachineCpu(flows) => flows.name().strip_prefix("TCP ").map(str::to_owned),
            _ => None,
        },
    },
    Panel {
        file: "memory",
        title: "Memory of the processes that forward",
        unit: "MB, median and spread; lower is better",
        group: |figure| (figure == Figure::Resident).then(String::new),
    },
];

/// A distribution by its quantiles.
struct Distribution {
    file: &'static str,
    title: &'static str,
    quantile: fn(Figure) -> Option<Quantile>,
}

const DISTRIBUTIONS: [Distribution; 3] = [
    Distribution {
        file: "round-trip",
        title: "TCP round trip of one byte",
        quantile: |figure| match figure {
            Figure::RoundTrip(quantile) => Some(quantile),
            _ => None,
        },
    },
    Distribution {
        file: "ping-beside",
        title: "Ping between two containers while four streams run between two others",
        quantile: |figure| match figure {
            Figure::Ping(Pinger::Beside, quantile) => Some(quantile),
            _ => None,
        },
    },
    Distribution {
        file: "ping-along",
        title: "Ping between the two containers that four streams run between",
        quantile: |figure| match figure {
            Figure::Ping(Pinger::Along, quantile) => Some(quantile),
            _ => None,
        },
    },
];

/// Draws all that there is of `sections` into `folder`: `SUITE-WHAT.svg`.
pub(crate) fn write(folder: &Path, sections: &[Section]) -> Result<()> {
    let failed = || format!("write the plots to {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    for section in sections {
        for (file, svg) in draw(section) {
            fs::write(folder.join(format!("{}-{file}.svg", section.suite.name())), svg).with_context(failed)?;
        }
    }
    Ok(())
}

fn draw(section: &Section) -> Vec<(&'static str, String)> {
    let panels = PANELS.iter().filter_map(|panel| Some((panel.file, bars(section, panel)?)));
    let distributions = DISTRIBUTIONS.iter().filter_map(|shown| Some((shown.file, distribution(section, shown)?)));
    panels.chain(distributions).chain(scaling(section).map(|svg| ("streams", svg))).collect()
}

fn bars(section: &Section, panel: &Panel) -> Option<String> {
    let figures: Vec<_> =
        section.figures().into_iter().filter_map(|figure| Some((figure, (panel.group)(figure)?))).collect();
    // A backend for which nothing was measured, the kernel's own where processes are, has no place.
    let mut backends = section.backends();
    backends.retain(|backend| figures.iter().any(|(figure, _)| section.summary(*backend, *figure).is_some()));
    let group = |(figure, name): (Figure, String)| Group {
        name,
        values: backends.iter().map(|backend| section.summary(*backend, figure)).collect(),
    };
    let series = backends.iter().map(|backend| backend.name()).collect();
    let groups: Vec<_> = figures.into_iter().map(group).collect();
    (!groups.is_empty()).then(|| Bars { title: panel.title, unit: panel.unit, series, groups }.draw())
}

fn distribution(section: &Section, shown: &Distribution) -> Option<String> {
    let figures: Vec<_> =
        section.figures().into_iter().filter_map(|figure| Some((figure, (shown.quantile)(figure)?.share()))).collect();
    let series = curves(section, &figures);
    let values = || series.iter().flat_map(|series| series.points.iter());
    let y = Axis::log(values().flat_map(|(_, value)| [value.min, value.max]));
    values().next()?;
    Some(
        Curves {
            title: shown.title,
            unit: "us, median and spread of the rounds; lower is better",
            below: "share of all that took no longer",
            x: Axis::Nines,
            y,
            series,
        }
        .draw(),
    )
}

/// What more streams at once bring.
fn scaling(section: &Section) -> Option<String> {
    let first = |figure: &Figure| match figure {
        Figure::Tcp(flows) => Some(*flows),
        _ => None,
    };
    let first = section.figures().iter().find_map(first)?;
    let same = |figure: Figure| match figure {
        Figure::Tcp(flows) if (flows.direction, flows.congestion) == (first.direction, first.congestion) => {
            Some((figure, f64::from(flows.streams)))
        }
        _ => None,
    };
    let figures: Vec<_> = section.figures().into_iter().filter_map(same).collect();
    let series = curves(section, &figures);
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, value)| value.max));
    let (x, y) = (Axis::log(figures.iter().map(|(_, streams)| *streams)), Axis::linear(values));
    let unit = "Gbit/s, median and spread; higher is better";
    (figures.len() > 1).then(|| Curves { title: "TCP by streams at once", unit, below: "streams", x, y, series }.draw())
}

/// A curve for each backend that has any of `figures`, which stand where they are said to.
fn curves(section: &Section, figures: &[(Figure, f64)]) -> Vec<Series<'static>> {
    let curve = |backend: &crate::backend::Backend| {
        let point = |(figure, x): &(Figure, f64)| Some((*x, section.summary(*backend, *figure)?));
        Series { name: backend.name(), points: figures.iter().filter_map(point).collect() }
    };
    let curves = section.suite.backends().iter().map(curve);
    curves.filter(|series| !series.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::measure::{Congestion, Flows};
    use crate::suite::Suite;

    fn section() -> Section {
        let mut section = Section::new(Suite::Switch);
        for (backend, rate) in [(Backend::Tapswitch, 30.0), (Backend::Bridge, 45.0)] {
            for streams in [1, 4] {
                let flows = Flows { direction: Direction::Across, streams, congestion: Congestion::Cubic };
                section.add(backend, Figure::Tcp(flows), 0, rate);
            }
            for quantile in Quantile::told_by(100_000) {
                section.add(backend, Figure::RoundTrip(quantile), 0, 1e3 * quantile.share());
            }
        }
        section.add(Backend::Tapswitch, Figure::Resident, 0, 33.0);
        section
    }

    #[test]
    fn what_was_measured_is_plotted_and_nothing_else() {
        let files: Vec<_> = draw(&section()).into_iter().map(|(file, _)| file).collect();
        assert_eq!(files, ["tcp", "memory", "round-trip", "streams"]);
    }

    #[test]
    fn a_backend_that_has_no_such_figure_has_no_bar() {
        let plots = draw(&section());
        let of = |name| &plots.iter().find(|(file, _)| *file == name).unwrap().1;
        assert!(of("tcp").contains(">bridge<") && !of("tcp").contains(">VDE<"));
        assert!(of("memory").contains(">tapswitch<") && !of("memory").contains(">bridge<"));
    }

    #[test]
    fn plots_are_files_named_by_suite_and_subject() {
        let folder = crate::folder::Folder::new("plots-test");
        write(folder.path(), &[section()]).unwrap();
        let text = fs::read_to_string(folder.path().join("switch-round-trip.svg")).unwrap();
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
