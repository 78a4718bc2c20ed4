//! Where addresses come from: leased by the switch itself, or by another plugin that is run for it.
//!
//! The switch's own section is written as host-local's: `subnet`, `rangeStart`, `rangeEnd`, `gateway` or `ranges`, and `routes`.
//! One IPv4 and one IPv6 subnet, since a network has one of each. The switch leases from a block: a range that is none is
//! refused, and says that host-local can be run instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use super::config::{Dns, RouteSpec, invalid};
use super::error::{CniError, Code};
use crate::daemon::api::types::{NetworkCreate, Subnet4, Subnet6};

/// `ipam` in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Section {
    #[serde(rename = "type")]
    kind: Option<String>,
    ranges: Option<Vec<Vec<Range>>>,
    subnet: Option<IpNet>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
    routes: Option<Vec<RouteSpec>>,
}

/// Addresses to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Range {
    subnet: IpNet,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

/// What a delegated plugin gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Given {
    ips: Vec<GivenIp>,
    pub(super) routes: Vec<RouteSpec>,
    pub(super) dns: Dns,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct GivenIp {
    address: IpNet,
    gateway: Option<IpAddr>,
}

/// The subnets of the network to be made, and the addresses in them to be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) subnet: Subnet4,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) range: Option<Ipv4Net>,
    pub(super) ipv6: Subnet6,
    pub(super) gateway6: Option<Ipv6Addr>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
}

impl Section {
    /// The plugin to be run; `None` is the switch's own leases.
    pub(super) fn delegate(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| !matches!(*kind, "" | "tapswitch" | "tapswitch-cni"))
    }

    /// Chooses from `ranges` instead.
    pub(super) fn set_ranges(&mut self, ranges: Vec<Vec<Range>>) {
        self.subnet = None;
        self.ranges = Some(ranges);
    }

    /// Routes to be set in the container.
    pub(super) fn routes(&self) -> &[RouteSpec] {
        self.routes.as_deref().unwrap_or_default()
    }

    /// What the section and the container's own wish `ips` come to, where the switch leases. `ipv6` is the configuration's own
    /// word about IPv6.
    ///
    /// # Errors
    /// Code 2 for more than one subnet of a family, 7 for what cannot be.
    pub(super) fn own(&self, ips: &[IpAddr], ipv6: Option<Subnet6>) -> Result<Addresses, CniError> {
        let mut addresses = Addresses::default();
        let ranges = self.all_ranges()?;
        if !ranges.is_empty() {
            addresses.ipv6 = Subnet6::Off;
        }
        for range in ranges {
            range.enter(&mut addresses)?;
        }
        if let Some(ipv6) = ipv6 {
            addresses.ipv6 = ipv6;
        }
        addresses.ask_for(ips)?;
        Ok(addresses)
    }

    fn all_ranges(&self) -> Result<Vec<Range>, CniError> {
        let mut all: Vec<Range> = Vec::new();
        if let Some(subnet) = self.subnet {
            let &Section { range_start, range_end, gateway, .. } = self;
            all.push(Range { subnet, range_start, range_end, gateway });
        } else if self.range_start.or(self.range_end).or(self.gateway).is_some() {
            return Err(invalid("ipam: rangeStart, rangeEnd and gateway need a subnet"));
        }
        for set in self.ranges.iter().flatten() {
            match set.as_slice() {
                [] => {}
                [one] => all.push(one.clone()),
                [_, second, ..] => return Err(too_many(second.subnet)),
            }
        }
        let mut v4 = all.iter().filter(|range| range.subnet.addr().is_ipv4());
        let mut v6 = all.iter().filter(|range| range.subnet.addr().is_ipv6());
        if let Some(second) = v4.nth(1).or_else(|| v6.nth(1)) {
            return Err(too_many(second.subnet));
        }
        Ok(all)
    }
}

impl Range {
    fn enter(&self, addresses: &mut Addresses) -> Result<(), CniError> {
        let not_inside = |address: IpAddr| invalid(format!("ipam: {address} is not in the subnet {}", self.subnet));
        for address in [self.range_start, self.range_end, self.gateway].into_iter().flatten() {
            if !self.subnet.trunc().contains(&address) {
                return Err(not_inside(address));
            }
        }
        match self.subnet {
            IpNet::V4(subnet) => {
                addresses.subnet = Subnet4::Given(subnet);
                addresses.gateway = self.gateway.map(v4).transpose()?;
                addresses.range = block(
                    subnet,
                    addresses.gateway,
                    self.range_start.map(v4).transpose()?,
                    self.range_end.map(v4).transpose()?,
                )?;
            }
            IpNet::V6(subnet) => {
                if self.range_start.or(self.range_end).is_some() {
                    let msg = format!("unsupported: a range in {subnet}: an IPv6 address follows from the IPv4 one");
                    return Err(CniError::new(Code::UNSUPPORTED, msg));
                }
                addresses.ipv6 = Subnet6::Given(subnet);
                if let Some(IpAddr::V6(gateway)) = self.gateway {
                    addresses.gateway6 = Some(gateway);
                }
            }
        }
        Ok(())
    }
}

impl Given {
    /// As the switch is asked for them.
    ///
    /// # Errors
    /// Code 2: no IPv4 address, or two of a family.
    pub(super) fn addresses(&self) -> Result<Addresses, CniError> {
        let mut addresses = Addresses { ipv6: Subnet6::Off, ..Addresses::default() };
        for ip in &self.ips {
            match ip.address {
                IpNet::V4(net) => {
                    addresses.subnet = Subnet4::Given(net.trunc());
                    addresses.gateway = ip.gateway.map(v4).transpose()?;
                }
                IpNet::V6(net) => {
                    addresses.ipv6 = Subnet6::Given(net.trunc());
                    if let Some(IpAddr::V6(gateway)) = ip.gateway {
                        addresses.gateway6 = Some(gateway);
                    }
                }
            }
        }
        addresses.ask_for(&self.ips.iter().map(|ip| ip.address.addr()).collect::<Vec<_>>())?;
        if addresses.ip.is_none() {
            let msg = "unsupported: the IPAM plugin gave no IPv4 address, and a network has an IPv4 subnet";
            return Err(CniError::new(Code::UNSUPPORTED, msg));
        }
        Ok(addresses)
    }
}

impl Addresses {
    /// Into the network that is to be there.
    pub(super) fn complete(&self, network: &mut NetworkCreate) {
        network.subnet = Some(self.subnet);
        network.gateway = self.gateway;
        network.range = self.range;
        network.ipv6 = Some(self.ipv6);
        network.gateway6 = self.gateway6;
    }

    fn ask_for(&mut self, ips: &[IpAddr]) -> Result<(), CniError> {
        for ip in ips {
            let had = match ip {
                IpAddr::V4(ip) => self.ip.replace(*ip).map(IpAddr::from),
                IpAddr::V6(ip) => self.ip6.replace(*ip).map(IpAddr::from),
            };
            if let Some(had) = had {
                let msg = format!("unsupported: two addresses of one family, {had} and {ip}");
                return Err(CniError::new(Code::UNSUPPORTED, msg));
            }
        }
        Ok(())
    }
}

/// The block that holds `start` to `end` and beyond them only what is never leased; `None` is all of the subnet.
fn block(
    subnet: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    start: Option<Ipv4Addr>,
    end: Option<Ipv4Addr>,
) -> Result<Option<Ipv4Net>, CniError> {
    if start.or(end).is_none() {
        return Ok(None);
    }
    let (first, last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    let gateway = gateway.map_or(first + 1, u32::from);
    let from = start.map_or(first, u32::from);
    let to = end.map_or(last, u32::from);
    if from > to {
        return Err(invalid(format!("ipam: the range {} to {} is empty", Ipv4Addr::from(from), Ipv4Addr::from(to))));
    }
    let length = u8::try_from((from ^ to).leading_zeros()).expect("32 at most").max(subnet.prefix_len());
    let block = Ipv4Net::new(from.into(), length).expect("32 at most").trunc();
    let (low, high) = (u32::from(block.network()), u32::from(block.broadcast()));
    let never = |address: u32| address == first || address == last || address == gateway;
    // Short-circuits at the first address that could be leased.
    if !(low..from).all(never) || !(to..=high).skip(1).all(never) {
        return Err(invalid(format!(
            "ipam: {} to {} is no block: give one, as rangeStart and rangeEnd of {block}, or let host-local lease (ipam type)",
            Ipv4Addr::from(from),
            Ipv4Addr::from(to),
        )));
    }
    Ok((block != subnet).then_some(block))
}

fn v4(address: IpAddr) -> Result<Ipv4Addr, CniError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(invalid(format!("ipam: {address} is not of its subnet's family"))),
    }
}

fn too_many(subnet: IpNet) -> CniError {
    let msg = format!(
        "unsupported: ipam.ranges with {subnet}: a network has one subnet of a family, and a container one address"
    );
    CniError::new(Code::UNSUPPORTED, msg)
}

#[cfg(test)]
mod tests;
