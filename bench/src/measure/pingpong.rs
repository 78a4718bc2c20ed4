//! One byte there and back over TCP, as often as it goes: the time of a round trip.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::far::Service;
use crate::backend::Joined;
use crate::process::Running;
use crate::stats::percentile;

/// Round trips before the clock starts: the first ones look up neighbours and wake workers.
const WARM_UP: u32 = 100;
/// Most samples kept: some 20 minutes of the fastest round trips seen.
const MOST_SAMPLES: usize = 1 << 27;

/// Median and 99th percentile, in microseconds.
pub(super) fn round_trips(joined: &Joined, time: Duration) -> Result<(f64, f64)> {
    let mut command = joined.own_client()?;
    command.args(["ping", &joined.service(Service::Echo), &time.as_secs().to_string()]);
    let text = Running::start(command)?.finish("ping-pong", time + Duration::from_secs(20))?;
    let figures: Value = serde_json::from_str(&text).context("read the ping-pong's report")?;
    let figure = |name: &str| figures[name].as_f64().with_context(|| format!("the ping-pong names no {name}"));
    Ok((figure("p50_us")?, figure("p99_us")?))
}

/// The client's process: prints its percentiles.
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
    samples.sort_unstable();
    let micros = |share| percentile(&samples, share).map(|nanos| nanos as f64 / 1e3);
    ensure!(!samples.is_empty(), "not one round trip");
    println!("{}", json!({ "round_trips": samples.len(), "p50_us": micros(0.5), "p99_us": micros(0.99) }));
    Ok(())
}
