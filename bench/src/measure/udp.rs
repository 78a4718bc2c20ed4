//! Datagrams as fast as they are sent: what arrives of them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Direction, iperf};
use crate::backend::Joined;

/// Bytes of a datagram that, with its headers, fills most of an Ethernet frame.
const LARGE: u32 = 1400;

/// 64-byte datagrams a second that reached the server's application: what the switch costs per frame.
pub(super) fn small_delivered(joined: &Joined, time: Duration) -> Result<f64> {
    run(joined, Direction::Across, 64, time)
}

/// Bits a second of [`LARGE`] datagrams that reached the application.
pub(super) fn delivered(joined: &Joined, direction: Direction, time: Duration) -> Result<f64> {
    Ok(run(joined, direction, LARGE, time)? * f64::from(LARGE) * 8.0)
}

fn run(joined: &Joined, direction: Direction, length: u32, time: Duration) -> Result<f64> {
    let end = iperf::run(joined, direction, time, &["--udp", "--bitrate", "0", "--length", &length.to_string()])?;
    rate(&end["sum_received"])
}

/// By the receiver's own account; what was lost after the last datagram it saw is in neither number.
fn rate(received: &Value) -> Result<f64> {
    let count = |field: &str| received[field].as_f64().with_context(|| format!("iperf3 names no {field} received"));
    Ok((count("packets")? - count("lost_packets")?) / count("seconds")?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_lost_is_not_delivered() {
        let received = json!({ "packets": 1000, "lost_packets": 400, "seconds": 2.0 });
        assert_eq!(rate(&received).unwrap(), 300.0);
    }

    #[test]
    fn an_account_without_losses_is_not_trusted() {
        let error = rate(&json!({ "packets": 1000, "seconds": 2.0 })).unwrap_err();
        assert!(error.to_string().contains("lost_packets"));
    }
}
