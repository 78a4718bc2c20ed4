//! Telling neighbours where an address is, where waiting until they ask would cost a connection seconds.
//!
//! Two occasions. An address gets another MAC than neighbours last saw at it: each of them would send to the old one for
//! as long as it believes in it. And `allow` relates two endpoints: the requests of one for the other went unanswered so
//! far, and a kernel in the middle of them fails what is dialled meanwhile. Each is told by an ARP announcement and an
//! unsolicited neighbour advertisement, and nobody is told of an endpoint that it may not talk to.
//!
//! Control's one thread does all this, and writes the ports itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::endpoint::Endpoint;
use super::host_access;
use super::name::Name;
use super::network::Network;
use crate::forwarding::{gratuitous_arp, unsolicited_na};
use crate::frame::Mac;

/// Most addresses with an unusual MAC that are remembered: what that many endpoints, all of MACs of their own choice,
/// have. Whose address is forgotten may go unannounced, and is found by neighbours' own probes within seconds.
const UNUSUAL_MAX: usize = 8192;

/// Where neighbours last saw the addresses of a network, as far as it is not where an address usually is.
#[derive(Debug, Default)]
pub(crate) struct LastMacs {
    unusual: BTreeMap<IpAddr, Mac>,
}

impl LastMacs {
    /// Notes that `address` is at `mac`; whether neighbours may have seen it elsewhere. One that was never noted they saw
    /// at `usual`, or who knows where.
    fn note(&mut self, address: IpAddr, mac: Mac, usual: Option<Mac>) -> bool {
        let before = self.unusual.remove(&address).or(usual);
        if usual != Some(mac) {
            if self.unusual.len() >= UNUSUAL_MAX {
                self.unusual.pop_first();
            }
            self.unusual.insert(address, mac);
        }
        before != Some(mac)
    }
}

impl Network {
    /// Notes where the addresses of `name` are; those that neighbours may have seen elsewhere.
    pub(crate) fn note_macs(&mut self, name: &Name) -> Vec<IpAddr> {
        let Some(endpoint) = self.endpoints.get(name) else { return Vec::new() };
        let mac = endpoint.record.mac;
        let mut moved: Vec<(IpAddr, Option<Mac>)> = addresses(endpoint).map(|a| (a, self.usual_mac(a))).collect();
        moved.retain(|(address, usual)| self.last_macs.note(*address, mac, *usual));
        moved.into_iter().map(|(address, _)| address).collect()
    }

    /// Tells all that may talk to `name` that these addresses are its.
    pub(crate) fn announce(&self, name: &Name, addresses: &[IpAddr]) {
        let Some(owner) = self.endpoints.get(name).filter(|_| !addresses.is_empty()) else { return };
        let frames: Vec<_> = addresses.iter().map(|address| announcement(*address, owner.record.mac)).collect();
        let rules = self.record.rules.iter().filter(|rule| rule.names(name));
        let related: BTreeSet<&Name> = rules.flat_map(|rule| [&rule.from, &rule.to]).collect();
        let may_talk = |other: &Name| {
            other != name && (host_access::is_taken(other) || self.record.icc || related.contains(other))
        };
        for other in self.endpoints.values().filter(|other| may_talk(&other.record.name)) {
            frames.iter().for_each(|frame| tell(other, frame));
        }
    }

    /// Tells two endpoints that may talk to each other from now on where the other is.
    pub(crate) fn introduce(&self, one: &Name, other: &Name) {
        let (Some(one), Some(other)) = (self.endpoints.get(one), self.endpoints.get(other)) else { return };
        for (about, to) in [(one, other), (other, one)] {
            if about.port().is_some() {
                addresses(about).for_each(|address| tell(to, &announcement(address, about.record.mac)));
            }
        }
    }

    /// Whether anything may pass between the two, in either direction.
    pub(crate) fn relates(&self, one: &Name, other: &Name) -> bool {
        let record = &self.record;
        one != other && (record.icc || record.rules.iter().any(|rule| rule.names(one) && rule.names(other)))
    }

    /// Where an address is unless its endpoint chose a MAC: that of the IPv4 address, or of the one whose mirror it is.
    fn usual_mac(&self, address: IpAddr) -> Option<Mac> {
        let address = match address {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => {
                let host = u128::from(address).checked_sub(self.record.subnet6?.net().network().into())?;
                let first: u32 = self.record.subnet.net().network().into();
                Ipv4Addr::from(first.checked_add(host.try_into().ok()?)?)
            }
        };
        Some(Mac::of_ipv4(address))
    }
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    [Some(endpoint.record.ipv4.into()), endpoint.record.ipv6.map(IpAddr::from)].into_iter().flatten()
}

fn announcement(address: IpAddr, owner: Mac) -> Vec<u8> {
    let mut frame = Vec::new();
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, owner, &mut frame),
        IpAddr::V6(address) => unsolicited_na(address, owner, false, &mut frame),
    }
    frame
}

/// Writes `frame` to an endpoint, if it is up.
fn tell(endpoint: &Endpoint, frame: &[u8]) {
    if let Some(port) = endpoint.port() {
        port.tx.announce(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn only_another_mac_than_last_is_news() {
        let mut macs = LastMacs::default();
        assert!(!macs.note(ADDRESS, A, Some(A)));
        assert!(macs.note(ADDRESS, B, Some(A)));
        assert!(!macs.note(ADDRESS, B, Some(A)));
        assert!(macs.note(ADDRESS, A, Some(A)));
        assert!(macs.unusual.is_empty());
    }

    #[test]
    fn an_address_without_a_usual_mac_is_news_at_first() {
        let mut macs = LastMacs::default();
        assert!(macs.note(ADDRESS, A, None));
        assert!(!macs.note(ADDRESS, A, None));
        assert!(macs.note(ADDRESS, B, None));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut macs = LastMacs::default();
        for n in 0..2 * u32::try_from(UNUSUAL_MAX).unwrap() {
            macs.note(Ipv4Addr::from(n).into(), A, Some(B));
        }
        assert_eq!(macs.unusual.len(), UNUSUAL_MAX);
    }
}
