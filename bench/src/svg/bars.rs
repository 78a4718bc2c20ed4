//! Groups of bars, each with the spread of what it is the median of.

use super::{Axis, Canvas, FIELD, colour};
use crate::stats::Summary;

/// Of a group's place, what stays empty beside its bars.
const GAP: f64 = 0.16;
/// Half the width of a spread's ends.
const CAP: f64 = 3.0;

/// The picture.
#[derive(Debug)]
pub(crate) struct Bars<'a> {
    /// Above it.
    pub(crate) title: &'a str,
    /// Of the values.
    pub(crate) unit: &'a str,
    /// What the bars of each group stand for.
    pub(crate) series: Vec<&'a str>,
    /// Side by side.
    pub(crate) groups: Vec<Group>,
}

/// Bars that are looked at together.
#[derive(Debug)]
pub(crate) struct Group {
    /// Below it.
    pub(crate) name: String,
    /// Of each series.
    pub(crate) values: Vec<Option<Summary>>,
}

impl Bars<'_> {
    /// As SVG.
    pub(crate) fn draw(&self) -> String {
        let mut canvas = Canvas::new(self.title, self.unit, &self.series);
        let values = self.groups.iter().flat_map(|group| group.values.iter().flatten());
        let axis = Axis::linear(values.map(|value| value.max));
        canvas.vertical(&axis);
        let [left, right, _, bottom] = FIELD;
        let place = (right - left) / self.groups.len().max(1) as f64;
        let width = place * (1.0 - GAP) / self.series.len().max(1) as f64;
        for (at, group) in self.groups.iter().enumerate() {
            let start = left + place * (at as f64 + GAP / 2.0);
            for (series, value) in group.values.iter().enumerate() {
                let x = start + width * series as f64;
                match value {
                    Some(value) => bar(&mut canvas, &axis, series, (x, width), value),
                    None => canvas.text("v m", x + width / 2.0, bottom - 4.0, "-"),
                }
            }
            canvas.text("m", left + place * (at as f64 + 0.5), bottom + 20.0, &group.name);
        }
        canvas.finish()
    }
}

fn bar(canvas: &mut Canvas, axis: &Axis, series: usize, (x, width): (f64, f64), value: &Summary) {
    let [_, _, top, bottom] = FIELD;
    let y = |value| axis.place(value, bottom, top);
    let (height, middle) = (bottom - y(value.median), x + width / 2.0);
    canvas.rect(&format!("f {}", colour(series)), [x + 1.0, y(value.median), width - 2.0, height]);
    canvas.line("w", [middle, y(value.min), middle, y(value.max)]);
    for end in [value.min, value.max] {
        canvas.line("w", [middle - CAP, y(end), middle + CAP, y(end)]);
    }
    canvas.text("v m", middle, y(value.max) - 4.0, &short(value.median));
}

/// Three digits that matter, or what is before the point.
fn short(value: f64) -> String {
    let digits = (2 - value.abs().max(1e-3).log10().floor() as i32).clamp(0, 3) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: Summary = Summary { median: 30.0, min: 20.0, max: 40.0 };

    fn svg() -> String {
        let groups = ["1 stream", "4 streams"]
            .map(|name| Group { name: name.to_owned(), values: vec![Some(VALUE), None] })
            .into();
        Bars { title: "TCP", unit: "Gbit/s", series: vec!["tapswitch", "bridge"], groups }.draw()
    }

    #[test]
    fn a_bar_is_as_high_as_its_median_and_carries_its_spread() {
        let svg = svg();
        let [_, _, top, bottom] = FIELD;
        let height = |value: f64| (bottom - top) * value / 40.0;
        assert_eq!(svg.matches(&format!("height=\"{:.1}\"/>", height(30.0))).count(), 2, "a bar in each group");
        let spread = format!("y1=\"{:.1}\" x2", bottom - height(20.0));
        assert!(svg.contains(&spread), "{svg}");
        assert_eq!(svg.matches(">30<").count(), 3, "at the axis and above both bars");
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_not_a_bar_of_nothing() {
        assert_eq!(svg().matches(">-<").count(), 2);
    }

    #[test]
    fn axis_unit_and_groups_are_named() {
        for text in ["TCP", "Gbit/s", "1 stream", "4 streams", "0", "40"] {
            assert!(svg().contains(&format!(">{text}<")), "{text}");
        }
    }

    #[test]
    fn values_have_three_digits() {
        assert_eq!([0.2234, 1.0, 32.84, 207.4, 12345.6].map(short), ["0.223", "1", "32.8", "207", "12346"]);
    }
}
