//! Pings while streams fill the carrier. The kernels at both ends answer by themselves: what is measured is the way, and not how
//! long a busy machine keeps a program waiting.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::icmp::Report;
use super::{Pinger, Quantile, iperf};
use crate::backend::{Joined, own};
use crate::namespace::Namespace;
use crate::process::Running;

/// Streams under which it is measured.
pub(super) const LOAD: u32 = 4;
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
    let mut command = own(from)?;
    command.args(["echo", &to.to_string(), &time.as_secs().to_string()]);
    let text = Running::start(command)?.finish("ping", time + Duration::from_secs(10))?;
    told(serde_json::from_str(&text).context("read the pings' report")?)
}

fn told(Report { sent, lost, micros }: Report) -> Result<Vec<(Quantile, f64)>> {
    ensure!(lost * MOST_LOST_OF <= sent, "{lost} of {sent} pings were lost");
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_many_are_lost_the_others_say_nothing_of_the_99th_percentile() {
        let report = |lost| Report { sent: 1000, lost, micros: vec![(Quantile::P99, 50.0)] };
        assert_eq!(told(report(10)).unwrap(), [(Quantile::P99, 50.0)]);
        assert_eq!(told(report(11)).unwrap_err().to_string(), "11 of 1000 pings were lost");
    }
}
