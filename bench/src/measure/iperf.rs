//! iperf3 from the client's end to the server's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::backend::{IPERF_PORT, Joined};
use crate::process::Running;

/// Bytes that arrived over `streams` TCP streams. Cubic, the kernel's ordinary congestion control: bbr paces itself, and
/// would hide the switch.
pub(super) fn tcp(joined: &Joined, streams: u32, seconds: u64) -> Result<u64> {
    let end = run(joined, seconds, &["--congestion", "cubic", "--parallel", &streams.to_string()])?;
    let bytes = end["sum_received"]["bytes"].as_u64().context("iperf3 names no bytes received")?;
    ensure!(bytes > 0, "iperf3: nothing arrived");
    Ok(bytes)
}

/// The `end` of the report of a run with further `flags`.
pub(super) fn run(joined: &Joined, seconds: u64, flags: &[&str]) -> Result<Value> {
    let mut command = joined.client().command("iperf3");
    command.args(["--client", &joined.server_address().to_string(), "--port", &IPERF_PORT.to_string()]);
    command.args(["--json", "--time", &seconds.to_string()]).args(flags);
    let text = Running::start(command)?.finish("iperf3", Duration::from_secs(seconds + 20))?;
    let mut report: Value = serde_json::from_str(&text).context("read iperf3's report")?;
    ensure!(report["error"].is_null(), "iperf3: {}", report["error"]);
    Ok(report["end"].take())
}
