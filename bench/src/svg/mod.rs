//! Plots as SVG, written by hand: a picture is a few rectangles, lines and words.
//!
//! Readable in the dark and in light: colours are classes, of which the picture has a set for each, and its ground is its own.
//! Nothing is loaded from elsewhere, so that a picture in a page of documentation shows the same anywhere.

mod axis;
mod bars;
mod curves;

pub(crate) use axis::Axis;
pub(crate) use bars::{Bars, Group};
pub(crate) use curves::{Curves, Series};

use std::fmt::Write as _;

/// Width of every picture, in pixels: a page's column.
const WIDTH: f64 = 880.0;
/// Height.
const HEIGHT: f64 = 400.0;
/// Of the field between the axes: left, right, top, bottom.
const FIELD: [f64; 4] = [72.0, WIDTH - 40.0, 72.0, HEIGHT - 64.0];
/// Width of a letter of a legend, a little more than most have.
const LETTER: f64 = 7.2;

/// The colours of series, in light and in the dark; neither set tells anything by red against green alone. Series beyond them
/// begin again.
const COLOURS: [[&str; 8]; 2] = [
    ["#0550ae", "#d4660a", "#2da078", "#8250df", "#cf3a6b", "#8a7000", "#57606a", "#1b9fc9"],
    ["#58a6ff", "#f0883e", "#56d4a4", "#bc8cff", "#ff7eb6", "#d9c04a", "#8b949e", "#76e3ea"],
];
/// Words, grid, axes, spreads and ground in light, and all shapes.
const LIGHT: &str = "text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-size:15px;font-weight:600}\
    .v{font-size:9px}.m{text-anchor:middle}.e{text-anchor:end}.g{fill:#fff}.a{stroke:#57606a;fill:none}\
    .r{stroke:#d0d7de;fill:none}.w{stroke:#24292f;fill:none}.l{fill:none;stroke-width:2}";
/// The same in the dark.
const DARK: &str = "text{fill:#e6edf3}.g{fill:#0d1117}.a{stroke:#8b949e}.r{stroke:#30363d}.w{stroke:#e6edf3}";

/// A picture in the making.
#[derive(Debug, Default)]
struct Canvas(String);

impl Canvas {
    /// An empty one, with its title, the units of what is shown, and the names of the series in their colours.
    fn new(title: &str, unit: &str, series: &[&str]) -> Canvas {
        let mut canvas = Canvas::default();
        canvas.text("t", FIELD[0], 24.0, title);
        canvas.text("e", FIELD[1], 24.0, unit);
        let mut x = FIELD[0];
        for (at, name) in series.iter().enumerate() {
            canvas.rect(&format!("f {}", colour(at)), [x, 40.0, 11.0, 11.0]);
            canvas.text("", x + 16.0, 50.0, name);
            x += 34.0 + LETTER * name.chars().count() as f64;
        }
        canvas
    }

    /// The vertical axis with its grid.
    fn vertical(&mut self, axis: &Axis) {
        let [left, right, top, bottom] = FIELD;
        for (value, label) in axis.ticks() {
            let y = axis.place(value, bottom, top);
            self.line("r", [left, y, right, y]);
            self.text("e", left - 8.0, y + 4.0, &label);
        }
        self.line("a", [left, top, left, bottom]);
        self.line("a", [left, bottom, right, bottom]);
    }

    /// `[x, y, width, height]`
    fn rect(&mut self, class: &str, [x, y, width, height]: [f64; 4]) {
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// From `[x, y` to `x, y]`.
    fn line(&mut self, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
        self.put(format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
    }

    fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }

    fn dot(&mut self, class: &str, x: f64, y: f64) {
        self.put(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"));
    }

    fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.put(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a string takes anything");
    }

    /// The whole file.
    fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\n\
             <style>{}</style>\n<rect class=\"g\" width=\"100%\" height=\"100%\"/>\n{}</svg>\n",
            style(),
            self.0
        )
    }
}

/// Spelt out for each colour: not every reader of SVG knows the variables of CSS.
fn style() -> String {
    let [light, dark] = COLOURS.map(|colours| {
        let rules = colours.iter().enumerate();
        rules
            .map(|(at, colour)| format!(".f.s{at}{{fill:{colour}}}.l.s{at},.d.s{at}{{stroke:{colour}}}"))
            .collect::<String>()
    });
    format!("{LIGHT}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}")
}

/// The class of a series.
fn colour(series: usize) -> String {
    format!("s{}", series % COLOURS[0].len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_colours_for_the_dark_and_a_ground_of_its_own() {
        let svg = Canvas::new("A title", "Gbit/s", &["one", "two"]).finish();
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(svg.contains("<rect class=\"g\" width=\"100%\""));
        for colour in COLOURS.concat() {
            for what in ["fill", "stroke"] {
                assert!(svg.contains(&format!("{what}:{colour}}}")), "{what} {colour}");
            }
        }
    }

    #[test]
    fn what_is_written_is_no_markup() {
        let svg = Canvas::new("a < b & c", "", &[]).finish();
        assert!(svg.contains(">a &lt; b &amp; c<"));
    }

    #[test]
    fn a_legend_names_each_series_beside_its_colour() {
        let svg = Canvas::new("", "", &["tapswitch", "bridge"]).finish();
        let (first, second) = (svg.find("\"f s0\"").unwrap(), svg.find("\"f s1\"").unwrap());
        assert!(first < svg.find(">tapswitch<").unwrap() && second < svg.find(">bridge<").unwrap());
    }
}
