//! Kernel bridge and a veth pair for each end. The bridge has a namespace of its own, so that no rule of the host stands in its way.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Carrier, addresses};
use crate::namespace::Namespace;

pub(super) fn join(ends: &[Namespace]) -> Result<(Vec<Ipv4Addr>, Carrier)> {
    let bridge = Namespace::new()?;
    bridge.sh("ip link add br0 type bridge; ip link set br0 up")?;
    for (at, (end, address)) in ends.iter().zip(addresses()).enumerate() {
        bridge.sh(&format!(
            "ip link add p{at} type veth peer name eth0 netns {}; ip link set p{at} master br0 up",
            end.pid()
        ))?;
        end.sh(&format!("ip address add {address}/24 dev eth0; ip link set eth0 up"))?;
    }
    // Where there is br_netfilter, docker0 without rules: not through netfilter.
    bridge.sh("f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 0 >$f")?;
    Ok((addresses().take(ends.len()).collect(), Carrier { _within: Some(bridge), ..Carrier::default() }))
}
