//! iperf3 between the client's end and the server's. Each run has a server of its own: one that a run left in the lurch does
//! not serve the next.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Congestion, Direction, Flows};
use crate::backend::Joined;
use crate::namespace::Namespace;
use crate::process::Running;

/// The port of iperf3's server.
const PORT: u16 = 5201;
/// Beyond the time of the run, most that setting up and ending it may take.
const OVERHEAD: Duration = Duration::from_secs(20);

/// Longer than anything that is measured under a load.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Received {
    /// At the application.
    pub(super) bytes: u64,
    /// In this time, by the receiver's clock.
    pub(super) seconds: f64,
}

impl Received {
    /// Gbit/s.
    pub(crate) fn gigabits(self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.seconds
    }
}

/// Who sends to whom, and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// Where the client runs.
    pub(crate) client: &'a Namespace,
    /// Where the server does.
    pub(crate) server: &'a Namespace,
    /// Its address.
    pub(crate) address: Ipv4Addr,
}

/// A server that serves one run, and then a client at it.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    way: Way<'a>,
    _running: Running,
}

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    client: Running,
    _server: Server<'a>,
}

impl<'a> Way<'a> {
    /// Between the ends of a backend.
    pub(super) fn of(joined: &'a Joined) -> Self {
        Way { client: joined.client(), server: joined.server(), address: joined.server_address() }
    }

    /// Starts a server.
    pub(crate) fn serve(self) -> Result<Server<'a>> {
        let mut server = self.server.command("iperf3");
        server.args(["--server", "--one-off", "--port", &PORT.to_string()]);
        // Else datagrams are answered from the address of the device, which is another one on the far side.
        server.args(["--bind", &self.address.to_string()]);
        let running = Running::start(server)?;
        self.server.wait_for_listener(PORT)?;
        Ok(Server { way: self, _running: running })
    }
}

impl<'a> Server<'a> {
    /// Starts a run with further `flags`.
    pub(crate) fn run(self, time: Duration, flags: &[&str]) -> Result<Session<'a>> {
        let mut client = self.way.client.command("iperf3");
        client.args(["--client", &self.way.address.to_string(), "--port", &PORT.to_string()]);
        client.args(["--connect-timeout", "5000", "--json", "--time", &time.as_secs().to_string()]).args(flags);
        Ok(Session { client: Running::start(client)?, _server: self })
    }
}

impl Session<'_> {
    /// The `end` of its report.
    fn finish(self, time: Duration) -> Result<Value> {
        let text = self.client.finish("iperf3", time + OVERHEAD)?;
        let mut report: Value = serde_json::from_str(&text).context("read iperf3's report")?;
        ensure!(report["error"].is_null(), "iperf3: {}", report["error"]);
        Ok(report["end"].take())
    }

    /// What arrived of TCP, at its end.
    pub(crate) fn received(self, time: Duration) -> Result<Received> {
        received(&self.finish(time)?)
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
    let reverse = matches!(direction, Direction::Back | Direction::Down).then_some("--reverse");
    let flags: Vec<_> = flags.iter().copied().chain(reverse).collect();
    Way::of(joined).serve()?.run(time, &flags)?.finish(time)
}

/// Streams that send until they are dropped.
#[derive(Debug)]
pub(super) struct Load<'a>(Session<'a>);

/// Starts streams; returns when all of them are connected.
pub(super) fn load(joined: &Joined, streams: u32) -> Result<Load<'_>> {
    let flags = ["--congestion", Congestion::Cubic.name(), "--parallel", &streams.to_string()];
    let session = Way::of(joined).serve()?.run(LONG, &flags)?;
    // One connection more is for control.
    joined.server().wait_for_clients(PORT, streams as usize + 1)?;
    Ok(Load(session))
}

impl Load<'_> {
    /// # Errors
    /// When it has ended by itself: what was measured under it was not.
    pub(super) fn still_there(&mut self) -> Result<()> {
        ensure!(self.0.client.is_alive(), "the streams of the load ended");
        Ok(())
    }
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
