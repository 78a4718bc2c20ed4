//! Where the daemon's log goes: standard error, one line for each event; with its time where that is a file, and without where a
//! service manager writes its own.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::name::printable;

/// What is logged; in the form of `RUST_LOG`. Absent: `info`.
pub const VARIABLE: &str = "TAPSWITCH_LOG";

/// What is wrong with the filter that the environment asks for: one line.
pub fn complaint() -> Option<String> {
    wanted().err()
}

fn wanted() -> Result<Option<EnvFilter>, String> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let text = text.to_string_lossy();
    parsed(&text)
        .map(Some)
        .map_err(|error| format!("{VARIABLE}={}: {error}; what is logged is `info`", printable(&text)))
}

fn parsed(text: &str) -> Result<EnvFilter, String> {
    if let Some(word) = text.split(',').find(|word| is_mistyped(word)) {
        return Err(format!(
            "{word} is no level: these are error, warn, info, debug, trace and off, alone or as tapswitch=debug"
        ));
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// Whether it is a word alone that names neither a level nor a crate of ours. To `tracing` it is a crate, of which nothing
/// is ever logged.
fn is_mistyped(word: &str) -> bool {
    let is_alone = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_alone && word.parse::<LevelFilter>().is_err() && !word.starts_with("tapswitch")
}

/// Starts the log, once for a process and those forked from it; later calls do nothing.
pub fn start(with_time: bool) {
    let filter = wanted().ok().flatten().unwrap_or_else(|| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // An error means that it was started already.
    let _ = if with_time { log.try_init() } else { log.without_time().try_init() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_is_an_error() {
        for text in ["error", "DEBUG", "off", "tapswitch", "tapswitch=debug,warn", "info,tapswitch::engine=trace", ""] {
            assert!(parsed(text).is_ok(), "{text}");
        }
        for text in ["nonsense===", "tapswitch=debgu", "debgu", "info,debgu"] {
            assert!(parsed(text).is_err(), "{text}");
        }
        let error = parsed("debgu").unwrap_err();
        assert!(error.starts_with("debgu is no level: these are error, warn, info, debug, trace"), "{error}");
    }
}
