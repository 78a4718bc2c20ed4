//! Pings while streams fill the carrier. The kernels at both ends answer by themselves: what is measured is the way, and not how
//! long a busy machine keeps a program waiting.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::pingpong::micros;
use super::{Pinger, Quantile, iperf};
use crate::backend::Joined;
use crate::namespace::Namespace;
use crate::process::Running;

/// Streams under which it is measured.
pub(super) const LOAD: u32 = 4;
/// Between two pings. An ordinary user's `ping` allows no less.
const INTERVAL: &str = "0.002";
/// More than one lost of so many, and the 99th percentile is not known.
const MOST_LOST_OF: usize = 100;

/// The distribution under load, in microseconds; nothing where there are no two others.
pub(super) fn under_load(joined: &Joined, pinger: Pinger, time: Duration) -> Result<Vec<(Quantile, f64)>> {
    let (from, to) = match (pinger, joined.beside()) {
        (Pinger::Along, _) => (joined.client(), joined.server_address()),
        (Pinger::Beside, Some(beside)) => beside,
        (Pinger::Beside, None) => return Ok(Vec::new()),
    };
    let mut load = iperf::load(joined, LOAD)?;
    let pings = pings(from, to, time)?;
    load.still_there()?;
    Ok(pings)
}

/// Pings for a time; the distribution of their round trips in microseconds.
///
/// # Errors
/// When more are lost than the 99th percentile allows.
pub(crate) fn pings(from: &Namespace, to: Ipv4Addr, time: Duration) -> Result<Vec<(Quantile, f64)>> {
    let mut command = from.command("ping");
    command.args(["-n", "-i", INTERVAL, "-w", &time.as_secs().to_string(), &to.to_string()]);
    let text = Running::start(command)?.finish("ping", time + Duration::from_secs(10))?;
    Ok(micros(&mut nanos(&text)?))
}

/// The round trips, in nanoseconds.
fn nanos(text: &str) -> Result<Vec<u64>> {
    let times = text.lines().filter_map(|line| line.split_once(" time=")?.1.strip_suffix(" ms")?.parse::<f64>().ok());
    let times: Vec<u64> = times.map(|millis| (millis * 1e6) as u64).collect();
    let sent = text.lines().find_map(|line| line.split_once(" packets transmitted")?.0.parse::<usize>().ok());
    let sent = sent.context("ping does not say how many it sent")?;
    let lost = sent.saturating_sub(times.len());
    ensure!(lost * MOST_LOST_OF <= sent, "{lost} of {sent} pings were lost");
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "PING 10.77.0.3 (10.77.0.3) 56(84) bytes of data.\n\
        64 bytes from 10.77.0.3: icmp_seq=1 ttl=64 time=0.052 ms\n\
        64 bytes from 10.77.0.3: icmp_seq=2 ttl=64 time=12.3 ms\n\n--- 10.77.0.3 ping statistics ---\n";

    #[test]
    fn times_are_read_as_ping_prints_them() {
        let text = format!("{TWO}2 packets transmitted, 2 received, 0% packet loss, time 3ms\n");
        assert_eq!(nanos(&text).unwrap(), [52_000, 12_300_000]);
    }

    #[test]
    fn where_many_are_lost_the_others_say_nothing_of_the_99th_percentile() {
        let text = format!("{TWO}4 packets transmitted, 2 received, 50% packet loss, time 3ms\n");
        assert_eq!(nanos(&text).unwrap_err().to_string(), "2 of 4 pings were lost");
    }
}
