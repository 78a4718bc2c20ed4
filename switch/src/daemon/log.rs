//! Where the daemon's log goes: standard error, one line for each event; with its time where that is a file, and without where a
//! service manager writes its own.

use tracing_subscriber::EnvFilter;

/// What is logged; in the form of `RUST_LOG`. Absent: `info`.
pub const VARIABLE: &str = "TAPSWITCH_LOG";

/// Starts the log, once for a process and those forked from it; later calls do nothing.
pub fn start(with_time: bool) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // An error means that it was started already.
    let _ = if with_time { log.try_init() } else { log.without_time().try_init() };
}
