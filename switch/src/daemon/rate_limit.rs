//! A limit of an endpoint's rate in one direction, as people and engines write it.
//!
//! Bits, since links are sold by them and CNI counts in them. As text the units are tc's for bits (tc(8), UNITS); those by which tc
//! means bytes, as in `100mbps`, are refused, because most people mean bits by them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::printable;
use crate::forwarding::Rate;

/// Bits per second: what Kubernetes takes for its bandwidth annotations, 1k to 1P.
const RATE: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// Bits; the reference plugin of CNI takes less than 4 GB.
const BURST: std::ops::RangeInclusive<u64> = 1..=u32::MAX as u64 * 8;

/// The words behind a number, and what they multiply it by.
const UNITS: [(&str, u64); 14] = [
    ("kibit", 1 << 10),
    ("mibit", 1 << 20),
    ("gibit", 1 << 30),
    ("tibit", 1 << 40),
    ("kbit", 1_000),
    ("mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("tbit", 1_000_000_000_000),
    ("bit", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("", 1),
];

/// The limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Bits per second.
    pub rate: u64,
    /// Bits at once; absent is what passes in 20 ms, and 64 KB at least.
    #[serde(default)]
    pub burst: Option<u64>,
}

impl RateLimit {
    /// Checks both values.
    ///
    /// # Errors
    /// One line that names the value and its limits.
    pub fn check(&self) -> Result<(), String> {
        if !RATE.contains(&self.rate) {
            return Err(format!("{} bits per second: must be {} to {}", self.rate, RATE.start(), RATE.end()));
        }
        match self.burst {
            Some(burst) if !BURST.contains(&burst) => {
                Err(format!("a burst of {burst} bits: must be {} to {}", BURST.start(), BURST.end()))
            }
            _ => Ok(()),
        }
    }

    /// As the forwarding core counts.
    pub(crate) fn rate(&self) -> Rate {
        Rate::limit(self.rate, self.burst)
    }
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!("`{}` is no rate: bits per second, as 500kbit, 100mbit, 1.5gbit or a plain number", printable(text))
        };
        let lower = text.to_ascii_lowercase();
        let (digits, unit) =
            lower.split_at(lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len()));
        if unit.ends_with("bps") {
            return Err(format!(
                "`{}`: say bits, as 100mbit; tc means bytes by `bps`, and others bits",
                printable(text)
            ));
        }
        let (_, by) = UNITS.iter().find(|(word, _)| *word == unit).ok_or_else(unknown)?;
        let rate = times(digits, *by).ok_or_else(unknown)?;
        let limit = RateLimit { rate, burst: None };
        limit.check().map(|()| limit)
    }
}

/// A decimal number times `by`, rounded down.
fn times(digits: &str, by: u64) -> Option<u64> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !is_number(part) || (part.is_empty() && digits.ends_with('.')) {
        return None;
    }
    let billionths: u128 = format!("{part:0<9}").parse().ok()?;
    let whole = whole.parse::<u128>().ok()?.checked_mul(by.into())?;
    u64::try_from(whole.checked_add(billionths * u128::from(by) / 1_000_000_000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_tc_writes_them() {
        for (text, rate) in [
            ("100mbit", 100_000_000),
            ("100Mbit", 100_000_000),
            ("1gbit", 1_000_000_000),
            ("1.5gbit", 1_500_000_000),
            ("64kbit", 64_000),
            ("64kibit", 65_536),
            ("10M", 10_000_000),
            ("2500", 2500),
            ("2500bit", 2500),
            ("0.001mbit", 1000),
            ("1000t", 1_000_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(RateLimit { rate, burst: None }), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_what_would_be() {
        for (text, needle) in [
            ("", "100mbit"),
            ("fast", "100mbit"),
            ("-1", "100mbit"),
            ("1..5m", "100mbit"),
            (".5m", "100mbit"),
            ("5.m", "100mbit"),
            ("10 mbit", "100mbit"),
            ("100mbps", "bytes"),
            ("0", "must be 1000"),
            ("999", "must be 1000"),
            ("1001t", "must be 1000 to"),
            ("99999999999999999999999999999999999999999", "100mbit"),
            ("340282366920938463463374607431768211455t", "100mbit"),
        ] {
            let error = text.parse::<RateLimit>().unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }

    #[test]
    fn a_burst_has_limits_too() {
        let with = |burst| RateLimit { rate: 1_000, burst: Some(burst) }.check();
        assert!(with(1).is_ok() && with(u64::from(u32::MAX)).is_ok());
        assert!(with(0).is_err() && with(1 << 36).is_err());
    }
}
