//! Small datagrams: what the switch costs per frame.

use anyhow::{Context, Result};

use super::iperf;
use crate::backend::Joined;

/// 64-byte datagrams a second that reached the server's application.
pub(super) fn delivered(joined: &Joined, seconds: u64) -> Result<f64> {
    let end = iperf::run(joined, seconds, &["--udp", "--bitrate", "0", "--length", "64"])?;
    // The receiver's own account; what was lost after the last datagram it saw is in neither number.
    let received = &end["sum_received"];
    let count = |field: &str| received[field].as_f64().with_context(|| format!("iperf3 names no {field} received"));
    Ok((count("packets")? - count("lost_packets")?) / count("seconds")?)
}
