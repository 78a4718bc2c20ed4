//! Short connections, one after the other: what setting up and ending a flow costs.
//!
//! The server ends each at once and the client waits for that end: then it was really there, and what waits in TIME_WAIT is
//! the server's end, so that no port of client or forwarder is used up.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::far::Service;
use crate::backend::Joined;
use crate::process::Running;

/// Connections of a run.
const COUNT: u32 = 1000;
/// Most that one may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Connections a second.
pub(super) fn rate(joined: &Joined) -> Result<f64> {
    let mut command = joined.own_client()?;
    command.args(["connect", &joined.service(Service::End), &COUNT.to_string()]);
    let text = Running::start(command)?.finish("connections", Duration::from_secs(60))?;
    let figures: Value = serde_json::from_str(&text).context("read the connections' report")?;
    figures["per_second"].as_f64().context("the connections' report names no rate")
}

/// The client's process: prints its rate.
pub(crate) fn connects(address: SocketAddr, count: u32) -> Result<()> {
    let start = Instant::now();
    for number in 1..=count {
        one(address).with_context(|| format!("connection {number} of {count}"))?;
    }
    println!("{}", json!({ "per_second": f64::from(count) / start.elapsed().as_secs_f64() }));
    Ok(())
}

fn one(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connect")?;
    stream.set_read_timeout(Some(LIMIT))?;
    ensure!(stream.read(&mut [0]).context("wait for the end")? == 0, "data came instead of the end");
    Ok(())
}
