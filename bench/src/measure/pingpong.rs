//! One byte there and back over TCP, as often as it goes: the time of a round trip.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Quantile;
use super::far::Service;
use crate::backend::Joined;
use crate::process::Running;
use crate::stats::percentile;

/// Round trips before the clock starts: the first ones look up neighbours and wake workers.
const WARM_UP: u32 = 100;
/// Most samples kept: some 20 minutes of the fastest round trips seen.
const MOST_SAMPLES: usize = 1 << 27;

/// Their distribution, in microseconds.
pub(super) fn round_trips(joined: &Joined, time: Duration) -> Result<Vec<(Quantile, f64)>> {
    let mut command = joined.own_client()?;
    command.args(["ping", &joined.service(Service::Echo), &time.as_secs().to_string()]);
    let text = Running::start(command)?.finish("ping-pong", time + Duration::from_secs(20))?;
    let report: Report = serde_json::from_str(&text).context("read the ping-pong's report")?;
    Ok(report.micros)
}

/// What the client's process prints.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    round_trips: usize,
    micros: Vec<(Quantile, f64)>,
}

/// Of samples in nanoseconds, each quantile that they tell, in microseconds.
pub(super) fn micros(samples: &mut [u64]) -> Vec<(Quantile, f64)> {
    samples.sort_unstable();
    let told = Quantile::told_by(samples.len());
    told.filter_map(|quantile| Some((quantile, percentile(samples, quantile.share())? as f64 / 1e3))).collect()
}

/// The client's process: prints their distribution.
pub(crate) fn ping(address: SocketAddr, time: Duration) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut byte = [7];
    for _ in 0..WARM_UP {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < time && samples.len() < MOST_SAMPLES {
        let sent = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        samples.push(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let report = Report { round_trips: samples.len(), micros: micros(&mut samples) };
    ensure!(!report.micros.is_empty(), "{} round trips are too few", report.round_trips);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
