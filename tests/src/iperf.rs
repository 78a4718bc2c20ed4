//! One iperf3 run between two containers. Never asserts a speed: machines differ.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::process::Background;
use crate::switch::Switch;

/// The port of a server that is alone in its namespace, so it is always free.
const PORT: u16 = 5201;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One TCP stream, as fast as it goes. Cubic: another congestion control may pace itself.
    Tcp,
    /// 50 Mbit/s of UDP.
    Udp,
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    client: Background,
    // Killed with the run, or before.
    server: Option<Background>,
    seconds: u32,
}

/// Starts a run of `seconds` from `client` to `address`, which is `server`'s. `reverse`: the server sends.
///
/// # Panics
/// When the server does not come to listen.
#[track_caller]
pub fn start(server: &Container, client: &Container, address: IpAddr, load: Load, reverse: bool, seconds: u32) -> Run {
    start_at(server, client, SocketAddr::new(address, PORT), load, reverse, seconds)
}

/// The same with a port of its own, for several runs at once.
#[track_caller]
pub fn start_at(
    server: &Container,
    client: &Container,
    to: SocketAddr,
    load: Load,
    reverse: bool,
    seconds: u32,
) -> Run {
    let port = to.port().to_string();
    let listening = server.spawn(&["iperf3", "--server", "--one-off", "--port", &port]);
    server.wait_for_listener(to.port());
    let (target, seconds_text) = (to.ip().to_string(), seconds.to_string());
    let mut words = vec!["iperf3", "--client", &target, "--port", &port, "--time", &seconds_text, "--json"];
    words.extend(match load {
        Load::Tcp => ["--congestion", "cubic"].as_slice(),
        Load::Udp => &["--udp", "--bitrate", "50M"],
    });
    if reverse {
        words.push("--reverse");
    }
    Run { client: client.spawn(&words), server: Some(listening), seconds }
}

impl Run {
    /// Waits for the end. Returns how many bytes arrived.
    ///
    /// # Panics
    /// When iperf3 reports an error, or nothing arrived.
    #[track_caller]
    pub fn finish(self) -> u64 {
        let output = self.client.finish(Duration::from_secs(u64::from(self.seconds) + 30));
        let report: Value = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
        assert!(
            output.code == 0 && report["error"].is_null(),
            "{}: {} {}",
            output.command,
            report["error"],
            output.stderr
        );
        let bytes = received(&report["end"]);
        assert!(bytes > 0, "{}: nothing arrived: {}", output.command, report["end"]);
        bytes
    }

    /// Ends the receiving program while the client sends.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.client.is_running()
    }

    /// Whether bytes from `endpoint`, an end of it, still come in at the switch.
    pub fn still_moves(&mut self, switch: &Switch, endpoint: &str) -> bool {
        let count = || switch.endpoint(endpoint).and_then(|line| line["tx_bytes"].as_u64());
        let before = count();
        std::thread::sleep(Duration::from_millis(300));
        self.is_running() && count() > before
    }
}

/// Runs to the end; see [`start`] and [`Run::finish`].
#[track_caller]
pub fn measure(
    server: &Container,
    client: &Container,
    address: IpAddr,
    load: Load,
    reverse: bool,
    seconds: u32,
) -> u64 {
    start(server, client, address, load, reverse, seconds).finish()
}

/// iperf3 3.12 names the receiver's bytes only for some runs; lost datagrams are named for all UDP ones.
fn received(end: &Value) -> u64 {
    let sum = &end["sum"];
    if let (Some(packets), Some(lost), Some(bytes)) =
        (sum["packets"].as_u64(), sum["lost_packets"].as_u64(), sum["bytes"].as_u64())
    {
        return bytes / packets.max(1) * packets.saturating_sub(lost);
    }
    end["sum_received"]["bytes"].as_u64().unwrap_or(0)
}
