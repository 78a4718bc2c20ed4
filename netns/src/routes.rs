//! What a device in a namespace has, and routes that are added to it: for who must answer an engine with what is there.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::birth::{enter, find};
use crate::device::check_name;
use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// Where packets go by a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Whither; a prefix of length 0 is anywhere.
    pub to: IpNet,
    /// By whom; `None` is what is on the link.
    pub gateway: Option<IpAddr>,
}

/// A device as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The unicast routes of the main table that leave by it.
    pub routes: Vec<Route>,
}

/// Adds those of `routes` that are not there yet to the device `ifname` in `target`, and says what it has then. Leaves the
/// process in `target`: it is for a forked child.
///
/// # Errors
///
/// [`Error::NoDevice`] when there is no such device. Routes added before one that failed stay.
pub fn add_routes(target: &Namespace, ifname: &str, routes: &[Route]) -> Result<DeviceState> {
    check_name(ifname)?;
    let mut netlink = enter(target)?;
    let link = find(&mut netlink, ifname)?;
    let failed = |os| Error::netlink(format!("look at {ifname}"), os);
    let addresses = netlink.addresses(link.index).map_err(failed)?;
    let mut there = netlink.routes(link.index).map_err(failed)?;
    for route in routes {
        if !there.contains(route) {
            netlink
                .add_route(link.index, route)
                .map_err(|os| Error::netlink(format!("set route to {} on {ifname}", route.to), os))?;
            there.push(*route);
        }
    }
    Ok(DeviceState { mac: link.address, addresses, routes: there })
}
