//! A host and what lies beyond it, both namespaces: nothing of the machine's own network is touched.
//!
//! The way between them is a veth pair of MTU 1500 with segmentation offload, as a network card has. The far address is not on
//! the host's link but behind a router, as nearly all of the internet is; a peer that lends the host's addresses to the
//! container is then not fooled into taking it for a neighbour.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{PREFIX, SUBNET};
use crate::namespace::Namespace;

/// Where the servers are. RFC 5737: the three ranges of documentation are nobody's.
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// The host's own address on its link, and its router's.
const LINK: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(198, 51, 100, 1)];
/// The host's device towards the far.
pub(super) const LINK_DEVICE: &str = "wan";

/// The host and the far.
#[derive(Debug)]
pub(super) struct Host {
    /// Where backends run.
    pub(super) inside: Namespace,
    /// Where servers run.
    pub(super) far: Namespace,
}

impl Host {
    pub(super) fn new() -> Result<Host> {
        let (inside, far) = (Namespace::new()?, Namespace::new()?);
        let [own, router] = LINK;
        inside.sh(&format!("ip link add {LINK_DEVICE} mtu 1500 type veth peer name eth0 netns {}", far.pid()))?;
        // The route back to containers is what a host without NAT asks of its router; only `routed` makes use of it.
        far.sh(&format!(
            "ip link set eth0 mtu 1500; ip address add {router}/24 dev eth0; ip address add {FAR}/32 dev lo; \
             ip link set eth0 up; ip route add {SUBNET}/{PREFIX} via {own}"
        ))?;
        inside.sh(&format!(
            "ip address add {own}/24 dev {LINK_DEVICE}; ip link set {LINK_DEVICE} up; ip route add default via {router}"
        ))?;
        Ok(Host { inside, far })
    }
}

/// Has new TCP sockets in the host use a congestion control. By the route: the namespace's default can only be set to what
/// the machine's own allows.
pub(super) fn set_congestion(host: &Namespace, name: &str) -> Result<()> {
    host.sh(&format!("ip route replace default via {} congctl {name}", LINK[1]))
}
