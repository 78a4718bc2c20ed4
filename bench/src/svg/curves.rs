//! Curves over one axis: how something grows, or a distribution. Each point is a median, with the spread beside it.

use super::{Axis, Canvas, FIELD, colour};
use crate::stats::Summary;

/// Between the spreads of two series at one place, which would hide each other.
const APART: f64 = 2.0;

/// The picture.
#[derive(Debug)]
pub(crate) struct Curves<'a> {
    /// Above it.
    pub(crate) title: &'a str,
    /// What the values are, with their unit.
    pub(crate) unit: &'a str,
    /// What stands below, with its unit.
    pub(crate) below: &'a str,
    /// The lower axis.
    pub(crate) x: Axis,
    /// The values' axis.
    pub(crate) y: Axis,
    /// The curves.
    pub(crate) series: Vec<Series<'a>>,
}

/// One curve.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    /// In the legend.
    pub(crate) name: &'a str,
    /// Ascending along the lower axis.
    pub(crate) points: Vec<(f64, Summary)>,
}

impl Curves<'_> {
    /// As SVG.
    pub(crate) fn draw(&self) -> String {
        let names: Vec<_> = self.series.iter().map(|series| series.name).collect();
        let mut canvas = Canvas::new(self.title, self.unit, &names);
        canvas.vertical(&self.y);
        self.horizontal(&mut canvas);
        for (at, series) in self.series.iter().enumerate() {
            self.curve(&mut canvas, at, series);
        }
        canvas.finish()
    }

    fn horizontal(&self, canvas: &mut Canvas) {
        let [left, right, _, bottom] = FIELD;
        for (value, label) in self.x.ticks() {
            let x = self.x.place(value, left, right);
            canvas.line("a", [x, bottom, x, bottom + 5.0]);
            canvas.text("m", x, bottom + 20.0, &label);
        }
        canvas.text("m", (left + right) / 2.0, bottom + 44.0, self.below);
    }

    fn curve(&self, canvas: &mut Canvas, number: usize, series: &Series<'_>) {
        let (colour, beside) = (colour(number), APART * number as f64);
        let [left, right, top, bottom] = FIELD;
        let y = |value| self.y.place(value, bottom, top);
        let at = |(x, value): &(f64, Summary)| (self.x.place(*x, left, right), y(value.median));
        let points: Vec<_> = series.points.iter().map(at).collect();
        canvas.path(&format!("l {colour}"), &points);
        for ((x, middle), (_, value)) in points.iter().zip(&series.points) {
            canvas.line(&format!("d {colour}"), [x - beside, y(value.min), x - beside, y(value.max)]);
            canvas.dot(&format!("f {colour}"), *x, *middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg() -> String {
        let point = |x, median| (x, Summary { median, min: median / 2.0, max: median * 2.0 });
        let curve = |name, scale: f64| Series { name, points: vec![point(1.0, scale), point(1000.0, scale * 5.0)] };
        let (x, y) = (Axis::log([1.0, 1000.0]), Axis::linear([20.0]));
        let series = vec![curve("tapswitch", 2.0), curve("veth", 1.0)];
        Curves { title: "Attaching", unit: "ms", below: "ports", x, y, series }.draw()
    }

    #[test]
    fn each_curve_goes_through_the_medians_and_shows_the_spread() {
        let (svg, [left, right, top, bottom]) = (svg(), FIELD);
        let y = |value: f64| bottom - (bottom - top) * value / 20.0;
        let path = format!("<polyline class=\"l s0\" points=\"{left:.1},{:.1} {right:.1},{:.1}\"/>", y(2.0), y(10.0));
        assert!(svg.contains(&path), "{path}\n{svg}");
        assert_eq!(svg.matches("<circle").count(), 4);
        let spread =
            format!("class=\"d s0\" x1=\"{right:.1}\" y1=\"{:.1}\" x2=\"{right:.1}\" y2=\"{:.1}\"", y(5.0), y(20.0));
        assert!(svg.contains(&spread));
    }

    #[test]
    fn both_axes_say_what_they_measure() {
        for text in ["Attaching", "ms", "ports", "1", "10", "100", "1000", "20"] {
            assert!(svg().contains(&format!(">{text}<")), "{text}");
        }
    }
}
