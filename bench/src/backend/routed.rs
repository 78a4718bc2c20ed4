//! Kernel bridge, veth pair and routing in the host: docker0's way out at its best, without netfilter and NAT.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::host::{FAR, Host};
use super::{Carrier, DEVICE, PREFIX, address};
use crate::namespace::Namespace;

pub(super) fn lead_out(client: &Namespace, host: Host) -> Result<(Namespace, Ipv4Addr, Carrier)> {
    let [address, gateway] = [0, 1].map(address);
    host.inside.sh(&format!(
        "ip link add br0 type bridge; ip address add {gateway}/{PREFIX} dev br0; ip link set br0 up; \
         ip link add p0 type veth peer name {DEVICE} netns {}; ip link set p0 master br0 up; \
         sysctl -qw net.ipv4.ip_forward=1",
        client.pid()
    ))?;
    client.sh(&format!(
        "ip address add {address}/{PREFIX} dev {DEVICE}; ip link set {DEVICE} up; ip route add default via {gateway}"
    ))?;
    Ok((host.far, FAR, Carrier { host: Some(host.inside), ..Carrier::default() }))
}
