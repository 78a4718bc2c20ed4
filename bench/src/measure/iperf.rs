//! iperf3 between the client's end and the server's. Each run has a server of its own: one that a run left in the lurch does
//! not serve the next.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Direction, Flows};
use crate::backend::Joined;
use crate::process::Running;

/// The port of iperf3's server.
const PORT: u16 = 5201;
/// Beyond the time of the run, most that setting up and ending it may take.
const OVERHEAD: Duration = Duration::from_secs(20);

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Received {
    /// At the application.
    pub(super) bytes: u64,
    /// In this time, by the receiver's clock.
    pub(super) seconds: f64,
}

impl Received {
    /// Gbit/s.
    pub(super) fn gigabits(self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.seconds
    }
}

/// Runs TCP streams.
pub(super) fn tcp(joined: &Joined, flows: Flows, time: Duration) -> Result<Received> {
    let congestion = flows.congestion.name();
    // Of a peer that ends the flow and opens its own, half of the way is those sockets'.
    joined.set_congestion(congestion)?;
    let parallel = flows.streams.to_string();
    received(&run(joined, flows.direction, time, &["--congestion", congestion, "--parallel", &parallel])?)
}

/// The `end` of the report of a run with further `flags`.
pub(super) fn run(joined: &Joined, direction: Direction, time: Duration, flags: &[&str]) -> Result<Value> {
    let mut server = joined.server().command("iperf3");
    server.args(["--server", "--one-off", "--port", &PORT.to_string()]);
    // Else datagrams are answered from the address of the device, which is another one on the far side.
    server.args(["--bind", &joined.server_address().to_string()]);
    let _server = Running::start(server)?;
    joined.server().wait_for_listener(PORT)?;
    let mut client = joined.client().command("iperf3");
    client.args(["--client", &joined.server_address().to_string(), "--port", &PORT.to_string()]);
    client.args(["--connect-timeout", "5000", "--json", "--time", &time.as_secs().to_string()]).args(flags);
    if direction == Direction::Down {
        client.arg("--reverse");
    }
    let text = Running::start(client)?.finish("iperf3", time + OVERHEAD)?;
    let mut report: Value = serde_json::from_str(&text).context("read iperf3's report")?;
    ensure!(report["error"].is_null(), "iperf3: {}", report["error"]);
    Ok(report["end"].take())
}

fn received(end: &Value) -> Result<Received> {
    let sum = &end["sum_received"];
    let bytes = sum["bytes"].as_u64().context("iperf3 names no bytes received")?;
    let seconds = sum["seconds"].as_f64().context("iperf3 names no seconds received")?;
    ensure!(bytes > 0 && seconds > 0.0, "iperf3: nothing arrived");
    Ok(Received { bytes, seconds })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rate_is_the_receiver_s() {
        let end = json!({ "sum_sent": { "bytes": 9_000_000_000_u64, "seconds": 2.0 },
            "sum_received": { "bytes": 1_000_000_000, "seconds": 2.0 } });
        assert_eq!(received(&end).unwrap().gigabits(), 4.0);
    }

    #[test]
    fn a_run_in_which_nothing_arrived_is_no_run() {
        assert!(received(&json!({ "sum_received": { "bytes": 0, "seconds": 1.0 } })).is_err());
        assert!(received(&json!({ "sum_sent": { "bytes": 5 } })).is_err());
    }
}
