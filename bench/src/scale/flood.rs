//! A container that broadcasts as fast as it can.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};

/// Where nobody listens. RFC 863: the discard service.
const PORT: u16 = 9;

/// The flooder's process: prints `ready` after the first datagram, and goes on until it is ended.
pub(crate) fn flood() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind")?;
    socket.set_broadcast(true).context("allow broadcasts")?;
    let datagram = [0; 64];
    socket.send_to(&datagram, (Ipv4Addr::BROADCAST, PORT)).context("broadcast")?;
    println!("ready");
    loop {
        // A device whose queue is full refuses one: what is meant by a flood.
        let _ = socket.send_to(&datagram, (Ipv4Addr::BROADCAST, PORT));
    }
}
