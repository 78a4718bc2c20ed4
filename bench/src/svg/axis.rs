//! An axis: where a value stands on it, and which values are written at it.

/// The axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Axis {
    /// From zero to a round number.
    Linear {
        /// The number.
        max: f64,
    },
    /// Between two powers of ten.
    Log {
        /// The lower one.
        min: f64,
        /// The upper one.
        max: f64,
    },
    /// Shares of all, from none to nearly all, each further nine as far from the last.
    Nines,
}

/// The last share on an axis of nines.
const MOST_NINES: f64 = 4.0;

impl Axis {
    /// From zero to beyond every value.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Axis {
        let most = values.into_iter().fold(0.0, f64::max);
        let step = step(most);
        Axis::Linear { max: ((most / step).ceil() * step).max(step) }
    }

    /// Around every value that is more than nothing.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Axis {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.into_iter().filter(|value| *value > 0.0) {
            (least, most) = (least.min(value), most.max(value));
        }
        if most == 0.0 {
            (least, most) = (1.0, 10.0);
        }
        let min = 10_f64.powf(least.log10().floor());
        Axis::Log { min, max: 10_f64.powf(most.log10().ceil()).max(min * 10.0) }
    }

    /// Where a value stands between `from` and `to`; what is beyond the axis, at its end.
    pub(crate) fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        let share = match self {
            Axis::Linear { max } => value / max,
            Axis::Log { min, max } => (value.max(*min) / min).log10() / (max / min).log10(),
            Axis::Nines => -(1.0 - value).max(10_f64.powf(-MOST_NINES)).log10() / MOST_NINES,
        };
        from + share.clamp(0.0, 1.0) * (to - from)
    }

    /// The values to write, ascending, and how.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        match self {
            Axis::Linear { max } => {
                let step = step(*max);
                let count = (max / step).round() as u32;
                (0..=count).map(|at| f64::from(at) * step).map(|value| (value, number(value))).collect()
            }
            Axis::Log { min, max } => {
                let decades = (max / min).log10().round() as i32;
                (0..=decades).map(|at| min * 10_f64.powi(at)).map(|value| (value, number(value))).collect()
            }
            Axis::Nines => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]
                .map(|share: f64| (share, format!("{} %", (share * 1e4).round() / 100.0)))
                .to_vec(),
        }
    }
}

/// A round step that makes four to eight of `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * decade >= rough * 0.999);
    factor.unwrap_or(10.0) * decade
}

/// As few digits as tell it.
fn number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    if rounded >= 1e6 { format!("{:.0}M", rounded / 1e6) } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn a_linear_axis_ends_at_a_round_number_beyond_every_value() {
        let axis = Axis::linear([3.0, 47.3]);
        assert_eq!(axis, Axis::Linear { max: 50.0 });
        assert_eq!(labels(&axis), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&Axis::linear([0.23])), ["0", "0.05", "0.1", "0.15", "0.2", "0.25"]);
    }

    #[test]
    fn an_axis_of_nothing_is_still_one() {
        assert_eq!(labels(&Axis::linear([])).last().unwrap(), "1");
        assert_eq!(labels(&Axis::log([0.0])), ["1", "10"]);
    }

    #[test]
    fn a_logarithmic_axis_has_a_place_for_each_decade() {
        let axis = Axis::log([17.0, 2300.0]);
        assert_eq!(labels(&axis), ["10", "100", "1000", "10000"]);
        assert_eq!(axis.place(100.0, 0.0, 300.0), 100.0);
        assert_eq!(axis.place(1.0, 0.0, 300.0), 0.0, "what is below stands at the end");
    }

    #[test]
    fn each_nine_more_is_as_far_again() {
        assert_eq!(labels(&Axis::Nines), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        let place = |share| Axis::Nines.place(share, 0.0, 400.0).round();
        assert_eq!([0.0, 0.9, 0.99, 0.999, 1.0].map(place), [0.0, 100.0, 200.0, 300.0, 400.0]);
    }

    #[test]
    fn a_value_stands_between_the_ends_either_way_up() {
        let axis = Axis::Linear { max: 10.0 };
        assert_eq!(axis.place(2.5, 300.0, 100.0), 250.0);
    }
}
