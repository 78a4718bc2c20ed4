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
        network.subnet = self.subnet;
        network.gateway = self.gateway;
        network.range = self.range;
        network.ipv6 = self.ipv6;
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
mod tests {
    use super::*;

    fn section(json: &str) -> Section {
        serde_json::from_str(json).unwrap()
    }

    fn own(json: &str) -> Result<Addresses, CniError> {
        section(json).own(&[], None)
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_section_the_switch_chooses() {
        assert_eq!(own("{}").unwrap(), Addresses::default());
        assert_eq!(section("{}").delegate(), None);
        assert_eq!(section(r#"{"type":"tapswitch"}"#).delegate(), None);
        assert_eq!(section(r#"{"type":"host-local"}"#).delegate(), Some("host-local"));
    }

    #[test]
    fn host_local_s_two_ways_of_writing_mean_the_same() {
        let short = own(r#"{"subnet":"10.94.0.0/24","gateway":"10.94.0.9"}"#).unwrap();
        let long = own(r#"{"ranges":[[{"subnet":"10.94.0.0/24","gateway":"10.94.0.9"}]]}"#).unwrap();
        assert_eq!(short, long);
        assert_eq!((short.subnet, short.ipv6), (Subnet4::Given(net("10.94.0.0/24")), Subnet6::Off));
    }

    #[test]
    fn both_families_can_be_given() {
        let both = own(r#"{"ranges":[[{"subnet":"10.94.0.0/24"}],[{"subnet":"fd00:94::/64"}]]}"#).unwrap();
        assert_eq!(both.ipv6, Subnet6::Given("fd00:94::/64".parse().unwrap()));
        let more = r#"{"ranges":[[{"subnet":"10.94.0.0/24"}],[{"subnet":"10.95.0.0/24"}]]}"#;
        assert_eq!(own(more).unwrap_err().code, Code::UNSUPPORTED);
        let alternatives = r#"{"ranges":[[{"subnet":"10.94.0.0/24"},{"subnet":"10.95.0.0/24"}]]}"#;
        assert_eq!(own(alternatives).unwrap_err().code, Code::UNSUPPORTED);
    }

    #[test]
    fn a_range_that_is_a_block_but_for_what_is_never_leased_is_taken() {
        for (start, end, want) in [
            ("10.94.0.1", "10.94.0.254", None),
            ("10.94.0.2", "10.94.0.254", None),
            ("10.94.0.128", "10.94.0.254", Some("10.94.0.128/25")),
            ("10.94.0.64", "10.94.0.127", Some("10.94.0.64/26")),
            ("10.94.0.7", "10.94.0.7", Some("10.94.0.7/32")),
        ] {
            let found = block(net("10.94.0.0/24"), None, Some(start.parse().unwrap()), Some(end.parse().unwrap()));
            assert_eq!(found.unwrap(), want.map(net), "{start} to {end}");
        }
        let error = own(r#"{"subnet":"10.94.0.0/24","rangeStart":"10.94.0.20","rangeEnd":"10.94.0.50"}"#).unwrap_err();
        assert!(error.msg.contains("host-local"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for json in [
            r#"{"gateway":"10.94.0.1"}"#,
            r#"{"subnet":"10.94.0.0/24","gateway":"10.95.0.1"}"#,
            r#"{"subnet":"10.94.0.0/24","rangeStart":"fd00::1"}"#,
            r#"{"subnet":"10.94.0.0/24","rangeStart":"10.94.0.9","rangeEnd":"10.94.0.8"}"#,
        ] {
            assert_eq!(own(json).unwrap_err().code, Code::CONFIG, "{json}");
        }
    }

    #[test]
    fn a_delegated_plugin_s_addresses_say_the_network() {
        let given: Given = serde_json::from_str(
            r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.94.0.75/24","gateway":"10.94.0.1"}],"dns":{}}"#,
        )
        .unwrap();
        let addresses = given.addresses().unwrap();
        assert_eq!(addresses.subnet, Subnet4::Given(net("10.94.0.0/24")));
        assert_eq!((addresses.ip, addresses.gateway), ("10.94.0.75".parse().ok(), "10.94.0.1".parse().ok()));
        assert_eq!(Given::default().addresses().unwrap_err().code, Code::UNSUPPORTED);
    }

    #[test]
    fn a_container_has_one_address_of_a_family() {
        let asked = ["10.94.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let addresses = Section::default().own(&asked, None).unwrap();
        assert_eq!((addresses.ip, addresses.ip6), ("10.94.0.7".parse().ok(), "fd00::7".parse().ok()));
        let two = ["10.94.0.7".parse().unwrap(), "10.94.0.8".parse().unwrap()];
        assert_eq!(Section::default().own(&two, None).unwrap_err().code, Code::UNSUPPORTED);
    }
}
