//! A veth pair from one namespace to the other, and no switch: what the kernel can do at best between two.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Carrier, DEVICE, addresses};
use crate::namespace::Namespace;

pub(super) fn join(ends: &[Namespace]) -> Result<(Vec<Ipv4Addr>, Carrier)> {
    for pair in ends.chunks_exact(2) {
        pair[0].sh(&format!("ip link add {DEVICE} type veth peer name {DEVICE} netns {}", pair[1].pid()))?;
    }
    for (end, address) in ends.iter().zip(addresses()) {
        end.sh(&format!("ip address add {address}/24 dev {DEVICE}; ip link set {DEVICE} up"))?;
    }
    Ok((addresses().take(ends.len()).collect(), Carrier::default()))
}
