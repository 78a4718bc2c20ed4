//! Flows that do nothing: what they cost the others, and what memory.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::far::Service;
use crate::backend::Joined;
use crate::needs;
use crate::process::Running;

/// Idle flows.
pub(crate) const MANY: u32 = 1000;
/// Flows before the first look at memory: what the first one alone costs is not a flow's.
const FIRST: u32 = 10;

/// Opens `count` flows, which stay until what is returned is dropped.
pub(super) fn open(joined: &Joined, count: u32) -> Result<Running> {
    let mut command = joined.own_client()?;
    command.args(["idle", &joined.service(Service::Echo), &count.to_string()]);
    let mut flows = Running::start(command)?;
    flows.wait_ready("idle flows")?;
    Ok(flows)
}

/// Bytes that each idle flow adds to the forwarding processes; `None` where the kernel forwards.
pub(super) fn memory(joined: &Joined) -> Result<Option<f64>> {
    let _first = open(joined, FIRST)?;
    let before = joined.resident();
    let _many = open(joined, MANY)?;
    let after = joined.resident();
    Ok(before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64 / f64::from(MANY)))
}

/// The client's process: opens them, prints `ready`, and waits to be ended.
pub(crate) fn hold(address: SocketAddr, count: u32) -> Result<()> {
    // More than the usual limit.
    needs::descriptors()?;
    let mut flows = Vec::new();
    for number in 1..=count {
        let flow = TcpStream::connect_timeout(&address, Duration::from_secs(5));
        flows.push(flow.with_context(|| format!("open idle flow {number}"))?);
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}
