//! The names of a network, and which names and addresses are ours to answer at all.
//!
//! | question | answer |
//! |---|---|
//! | NAME, NAME.NETWORK, also of an alias | the endpoint's addresses; all owners' of an alias |
//! | gateway.tapswitch, host.tapswitch | the gateway's, and the host's where containers may reach it |
//! | anything else below `tapswitch`, or NAME.NETWORK where NETWORK is the asker's | there is none |
//! | localhost | the loopback addresses (RFC 6761 6.3) |
//! | `invalid`, another network's NAME.NETWORK, one word that is no name of ours | there is none |
//! | the name of an address of ours | NAME.NETWORK, or there is none |
//! | everything else | elsewhere |
//!
//! So a name that only makes sense here is never asked of somebody else: neither one of ours, nor one word, which is what a
//! misspelt one of ours looks like. A name wins over an alias. An asker sees the one network that he asked through, whatever
//! others he is on.
//!
//! Pure, immutable, and without case: names are lowered when they come in, and are looked up lowered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::persistent::Map;

/// Below it are names of ours that are no endpoint's.
const OURS: &str = "tapswitch";

/// The names of all networks.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    /// By the lowered name.
    zones: BTreeMap<String, Arc<Zone>>,
}

/// What [`Zone::new`] makes a zone from, besides its endpoints.
#[derive(Clone, Debug)]
pub struct ZoneSpec {
    /// The network's name.
    pub network: String,
    /// Names of others are asked of the host's resolvers.
    pub forwards: bool,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// The gateway's addresses.
    pub gateway: Vec<IpAddr>,
    /// The addresses by which containers reach the host, where they may.
    pub host: Vec<IpAddr>,
}

/// An endpoint, as the names know it.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its name.
    pub name: String,
    /// Other names, which it may share.
    pub aliases: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Who has a name, by their own.
type Owners = Arc<[Arc<Station>]>;

/// One network's names. A copy shares what is the same, so that an endpoint comes and goes at the same cost however many there
/// are; but one with an alias costs something for each other that has it too.
#[derive(Clone, Debug)]
pub struct Zone {
    spec: Arc<ZoneSpec>,
    stations: Map<String, Arc<Station>>,
    /// By the lowered name.
    names: Map<String, Owners>,
    /// The same.
    aliases: Map<String, Owners>,
    reverse: Map<IpAddr, Arc<Station>>,
}

/// What is known of a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is ours, and has these addresses.
    Addresses(Vec<IpAddr>),
    /// The address is ours, and this its name.
    Name(String),
    /// It would be ours, and is not there.
    Nothing,
    /// It is not ours.
    Elsewhere,
}

impl Zone {
    /// The names of `stations`.
    pub fn new(spec: ZoneSpec, stations: impl IntoIterator<Item = Station>) -> Self {
        let (stations_by_name, names, aliases, reverse) = Default::default();
        let mut zone = Zone { spec: Arc::new(spec), stations: stations_by_name, names, aliases, reverse };
        stations.into_iter().for_each(|station| zone.add(station));
        zone
    }

    /// Adds an endpoint, or changes the one with its name.
    pub fn add(&mut self, station: Station) {
        self.remove(&station.name);
        let station = Arc::new(station);
        enter(&mut self.names, &station.name, &station);
        station.aliases.iter().for_each(|alias| enter(&mut self.aliases, alias, &station));
        for address in &station.addresses {
            self.reverse.insert(*address, Arc::clone(&station));
        }
        self.stations.insert(station.name.clone(), station);
    }

    /// Takes an endpoint out, if it is there.
    pub fn remove(&mut self, name: &str) {
        let Some(station) = self.stations.remove(name) else { return };
        strike(&mut self.names, name, name);
        station.aliases.iter().for_each(|alias| strike(&mut self.aliases, alias, name));
        for address in &station.addresses {
            if self.reverse.get(address).is_some_and(|owner| owner.name == name) {
                self.reverse.remove(address);
            }
        }
    }

    /// Names of others are asked of the host's resolvers.
    pub fn forwards(&self) -> bool {
        self.spec.forwards
    }

    /// Largest IP packet, in bytes.
    pub fn mtu(&self) -> u32 {
        self.spec.mtu
    }

    fn own(&self, name: &str) -> Option<Vec<IpAddr>> {
        let owners = self.names.get(name).or_else(|| self.aliases.get(name))?;
        Some(owners.iter().flat_map(|station| &station.addresses).copied().collect())
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        let spec = &self.spec;
        if spec.host.contains(&address) {
            return Some(format!("host.{OURS}"));
        }
        if spec.gateway.contains(&address) {
            return Some(format!("gateway.{OURS}"));
        }
        Some(format!("{}.{}", self.reverse.get(&address)?.name, spec.network))
    }

    fn special(&self, name: &str) -> Option<Found> {
        let (rest, top) = name.rsplit_once('.').unwrap_or(("", name));
        match (rest, top) {
            ("gateway", OURS) => Some(Found::Addresses(self.spec.gateway.clone())),
            ("host", OURS) if !self.spec.host.is_empty() => Some(Found::Addresses(self.spec.host.clone())),
            (_, OURS | "invalid") => Some(Found::Nothing),
            (_, "localhost") => Some(Found::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])),
            _ => None,
        }
    }
}

impl Zones {
    /// Of these networks.
    pub fn new(zones: impl IntoIterator<Item = Arc<Zone>>) -> Self {
        Zones { zones: zones.into_iter().map(|zone| (zone.spec.network.to_ascii_lowercase(), zone)).collect() }
    }

    /// The zone of `network`.
    pub fn of(&self, network: &str) -> Option<&Zone> {
        self.zones.get(&network.to_ascii_lowercase()).map(Arc::as_ref)
    }

    /// What `asker` may know of `name`, which is lowered and has no dot at its end.
    pub fn address(&self, asker: &Zone, name: &str) -> Found {
        if let Some(found) = asker.special(name) {
            return found;
        }
        if let Some(addresses) = asker.own(name) {
            return Found::Addresses(addresses);
        }
        let mut known = false;
        // A network's name may have dots itself, so every dot can be the one before it.
        for (head, network) in name.match_indices('.').map(|(at, _)| (&name[..at], &name[at + 1..])) {
            let Some(zone) = self.zones.get(network) else { continue };
            let own = std::ptr::eq(Arc::as_ptr(zone), asker);
            match zone.own(head) {
                Some(addresses) if own => return Found::Addresses(addresses),
                found => known |= own || found.is_some(),
            }
        }
        if known || !name.contains('.') { Found::Nothing } else { Found::Elsewhere }
    }

    /// What `asker` may know of the name of `prefix`: one address, or a part of the tree above it.
    pub fn reverse(&self, asker: &Zone, prefix: IpNet) -> Found {
        if prefix.prefix_len() == prefix.max_prefix_len() {
            if let Some(name) = asker.name_of(prefix.addr()) {
                return Found::Name(name);
            }
            if prefix.addr().is_loopback() {
                return Found::Name("localhost".into());
            }
        }
        let ours = |subnet: &IpNet| subnet.contains(&prefix);
        let is_ours = self.zones.values().any(|zone| zone.spec.subnets.iter().any(ours));
        if is_ours { Found::Nothing } else { Found::Elsewhere }
    }
}

/// Notes that `station` has `name`, in the order of stations' own names.
fn enter(map: &mut Map<String, Owners>, name: &str, station: &Arc<Station>) {
    let name = name.to_ascii_lowercase();
    let owners = map.get(&name).map_or(&[][..], |owners| owners);
    let at = owners.partition_point(|owner| owner.name < station.name);
    let owners = [&owners[..at], &[Arc::clone(station)], &owners[at..]].concat();
    map.insert(name, owners.into());
}

/// Notes that the station of that own name does not have `name`.
fn strike(map: &mut Map<String, Owners>, name: &str, station: &str) {
    let name = name.to_ascii_lowercase();
    let Some(owners) = map.get(&name) else { return };
    let owners: Owners = owners.iter().filter(|owner| owner.name != station).cloned().collect();
    if owners.is_empty() {
        map.remove(&name)
    } else {
        map.insert(name, owners)
    };
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::gateway) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn station(name: &str, aliases: &[&str], addresses: &[&str]) -> Station {
        Station {
            name: name.into(),
            aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
            addresses: addresses.iter().map(|address| ip(address)).collect(),
        }
    }

    fn spec(network: &str, subnets: &[&str], gateway: &[&str], host: &[&str]) -> ZoneSpec {
        ZoneSpec {
            network: network.into(),
            forwards: true,
            mtu: 1500,
            subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
            gateway: gateway.iter().map(|address| ip(address)).collect(),
            host: host.iter().map(|address| ip(address)).collect(),
        }
    }

    /// `default` with web (both families), Db and two who are called `cache`; `blue.lan` with db; `shut`, without a way out.
    pub(in crate::gateway) fn zones() -> Zones {
        let subnets = ["10.1.0.0/24", "fd00:1::/64"];
        let default = Zone::new(
            spec("default", &subnets, &["10.1.0.1", "fd00:1::1"], &["10.1.0.254"]),
            [
                station("web", &["www", "cache"], &["10.1.0.2", "fd00:1::2"]),
                station("Db", &["cache", "web"], &["10.1.0.3"]),
            ],
        );
        let blue =
            Zone::new(spec("blue.lan", &["10.2.0.0/24"], &["10.2.0.1"], &[]), [station("db", &[], &["10.2.0.2"])]);
        let shut = ZoneSpec { forwards: false, ..spec("shut", &["10.3.0.0/24"], &["10.3.0.1"], &[]) };
        Zones::new([default, blue, Zone::new(shut, [])].map(Arc::new))
    }

    fn find(network: &str, name: &str) -> Found {
        let zones = zones();
        zones.address(zones.of(network).unwrap(), name)
    }

    fn addresses(list: &[&str]) -> Found {
        Found::Addresses(list.iter().map(|address| ip(address)).collect())
    }

    #[test]
    fn a_name_and_its_full_name_have_the_endpoint_s_addresses() {
        for name in ["web", "web.default", "www", "www.default"] {
            assert_eq!(find("default", name), addresses(&["10.1.0.2", "fd00:1::2"]), "{name}");
        }
        assert_eq!(find("default", "db"), addresses(&["10.1.0.3"]));
        assert_eq!(find("blue.lan", "db.blue.lan"), addresses(&["10.2.0.2"]));
    }

    #[test]
    fn a_shared_alias_has_all_addresses_by_its_owners_names_and_a_name_wins_over_an_alias() {
        assert_eq!(find("default", "cache"), addresses(&["10.1.0.3", "10.1.0.2", "fd00:1::2"]));
        assert_eq!(find("default", "web"), addresses(&["10.1.0.2", "fd00:1::2"]));
    }

    #[test]
    fn another_network_s_names_are_neither_told_nor_asked_elsewhere() {
        assert_eq!(find("default", "db.blue.lan"), Found::Nothing);
        assert_eq!(find("blue.lan", "web.default"), Found::Nothing);
        assert_eq!(find("blue.lan", "web"), Found::Nothing);
    }

    #[test]
    fn what_is_not_there_below_the_own_network_is_nothing_and_below_another_s_elsewhere() {
        assert_eq!(find("default", "mail.default"), Found::Nothing);
        assert_eq!(find("blue.lan", "www.blue.lan"), Found::Nothing);
        assert_eq!(find("default", "www.blue.lan"), Found::Elsewhere);
    }

    #[test]
    fn one_word_never_leaves() {
        assert_eq!(find("default", "wbe"), Found::Nothing);
        assert_eq!(find("default", "example.org"), Found::Elsewhere);
    }

    #[test]
    fn gateway_and_host_have_names_where_they_are() {
        assert_eq!(find("default", "gateway.tapswitch"), addresses(&["10.1.0.1", "fd00:1::1"]));
        assert_eq!(find("default", "host.tapswitch"), addresses(&["10.1.0.254"]));
        for name in ["host.tapswitch", "web.tapswitch", "tapswitch", "x.host.tapswitch", "some.invalid"] {
            assert_eq!(find("blue.lan", name), Found::Nothing, "{name}");
        }
        assert_eq!(find("default", "localhost"), addresses(&["127.0.0.1", "::1"]));
    }

    #[test]
    fn addresses_of_ours_have_names_or_none_and_others_are_elsewhere() {
        let zones = zones();
        let find = |network, prefix: &str| zones.reverse(zones.of(network).unwrap(), prefix.parse().unwrap());
        assert_eq!(find("default", "10.1.0.3/32"), Found::Name("Db.default".into()));
        assert_eq!(find("default", "fd00:1::2/128"), Found::Name("web.default".into()));
        assert_eq!(find("default", "10.1.0.1/32"), Found::Name("gateway.tapswitch".into()));
        assert_eq!(find("default", "10.1.0.254/32"), Found::Name("host.tapswitch".into()));
        assert_eq!(find("default", "127.0.0.1/32"), Found::Name("localhost".into()));
        assert_eq!(find("default", "10.1.0.77/32"), Found::Nothing);
        assert_eq!(find("default", "10.2.0.2/32"), Found::Nothing);
        assert_eq!(find("default", "10.1.0.0/24"), Found::Nothing);
        assert_eq!(find("default", "10.0.0.0/8"), Found::Elsewhere);
        assert_eq!(find("default", "192.0.2.1/32"), Found::Elsewhere);
    }
}
