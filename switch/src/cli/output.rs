//! What reaches stdout, and errors in one line.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

/// Whoever read stdout has seen enough. A type of its own: a pipe to anybody else that breaks is a failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct ReaderGone;

/// Writes `text` to stdout at once.
///
/// # Errors
/// As `write(2)`. EPIPE is an error that [`is_reader_gone`] knows and nobody reports.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    write(&mut io::stdout().lock(), text)
}

fn write(out: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("write output"),
    }
}

/// Writes `text` and a line end.
///
/// # Errors
/// See [`print()`].
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Writes `value` as indented JSON.
///
/// # Errors
/// See [`print()`].
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints `value` as JSON where it was asked for, else as the text that `text` makes of it.
pub(super) fn show<T: Serialize>(value: &T, json: bool, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    if json { self::json(value) } else { print(&text(value)) }
}

/// Writes a line that starts with our name to stderr. Where nobody reads that, there is nobody left to tell.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "tapswitch: {text}");
}

/// Whether `error` only says that nobody reads stdout any more.
pub(super) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.is::<ReaderGone>()
}

/// `error` and its causes in one line, a cause that its effect quotes already left out.
pub(super) fn one_line(error: &anyhow::Error) -> String {
    let mut out = String::new();
    for cause in error.chain().map(|c| c.to_string()) {
        if out.is_empty() {
            out = cause;
        } else if !out.contains(&cause) {
            out = format!("{out}: {cause}");
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A number of bytes, as `docker stats` shows it: decimal, three digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.5 would round to 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A time span in its largest two units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m {}s", seconds % 60),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

/// What is there, or `-`.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_have_three_digits() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (99_990, "100kB"),
            (999_499, "999kB"),
            (999_500, "1.00MB"),
            (1_500_000_000, "1.50GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn durations_show_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3_660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn an_error_is_one_line_and_says_nothing_twice() {
        let error = anyhow::anyhow!("no such\n  thing").context("attach web");
        assert_eq!(one_line(&error), "attach web: no such thing");
        let error = anyhow::anyhow!("EPERM").context("attach web: EPERM (be root)");
        assert_eq!(one_line(&error), "attach web: EPERM (be root)");
    }

    #[test]
    fn output_that_cannot_be_written_is_said_to_be_that() {
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = write(&mut full, "x").unwrap_err();
        assert!(one_line(&error).starts_with("write output: No space left"), "{}", one_line(&error));
    }

    #[test]
    fn a_closed_reader_is_no_failure_and_another_broken_pipe_is() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = write(&mut writer, "x").unwrap_err();
        assert!(is_reader_gone(&error));
        assert!(is_reader_gone(&Err::<(), _>(error).context("print").unwrap_err()));
        let elsewhere = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_reader_gone(&Err::<(), _>(elsewhere).context("the process died").unwrap_err()));
    }
}
