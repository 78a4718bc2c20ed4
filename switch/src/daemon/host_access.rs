//! The host as containers see it: `host.tapswitch`, an address of the subnet, on networks that may reach it; and the addresses
//! of its own that no other network's packets may go to.
//!
//! It gets the highest address that is free, out of the way of the endpoints, which get the lowest, and keeps it as long as
//! it is to be reached: the network's file holds it. Control's one thread calls all of this.

use std::time::Duration;

use ipnet::IpNet;
use tapswitch_ipam::{LeaseError, Leases, Occupied, Owner, Wanted};

use super::api::types::UplinkKind;
use super::keeper::HOST_PREFIX as PREFIX;
use super::name::Name;
use super::state::{HostRecord, NetworkRecord};
use crate::uplink::HostAddresses;

/// By this name containers know the host.
pub(crate) const NAME: &str = "host.tapswitch";

/// As a name.
pub(crate) fn name() -> Name {
    NAME.parse().expect("it is a name")
}

/// Longest device name: IFNAMSIZ less the final zero.
const MAX_IFNAME: usize = 15;

/// How the host's own device on `network` is called, unless something else is: `ts-` and the network's name, as far as it
/// fits. What is cut off is told apart by a hash (FNV-1a), the same in every version.
pub(crate) fn ifname(network: &Name) -> String {
    let whole = format!("{PREFIX}{network}");
    if whole.len() <= MAX_IFNAME {
        return whole;
    }
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = network.as_str().bytes().fold(0x811c_9dc5, hash) & 0xffff;
    format!("{}-{hash:04x}", &whole[..MAX_IFNAME - 5])
}

/// Whether `name` is the host's, and so nobody else's.
pub(crate) fn is_taken(name: &Name) -> bool {
    name.as_str().eq_ignore_ascii_case(NAME)
}

/// The leases of a network on which only the host has one yet, as its file says; and what is to be left out for Docker.
pub(crate) fn leases(record: &NetworkRecord) -> Leases {
    let mut leases = Leases::new(record.subnet, record.subnet6);
    if let Some(host) = record.host {
        let wanted = Wanted { ipv4: Some(host.ipv4), ipv6: host.ipv6 };
        if let Err(error) = leases.request(&Owner::new(NAME), wanted, Duration::ZERO) {
            // The file was edited by hand: endpoints come first.
            tracing::warn!("network {}: {NAME}: {error}", record.name);
        }
    }
    for aux in record.docker.iter().filter(|docker| docker.ours).flat_map(|docker| &docker.aux) {
        // No endpoint's name has a space.
        let owner = Owner::new(format!("docker aux {aux}"));
        if let Err(error) = leases.request(&owner, Wanted { ipv4: Some(*aux), ipv6: None }, Duration::ZERO) {
            tracing::warn!("network {}: to be left out: {error}", record.name);
        }
    }
    leases
}

/// What the host has by `record`: the lease it has, a new one, or none. Once that is in force, or will not be, [`tidy`].
///
/// # Errors
/// No address is left.
pub(crate) fn lease(
    leases: &mut Leases,
    record: &NetworkRecord,
    now: Duration,
) -> Result<Option<HostRecord>, LeaseError> {
    let owner = Owner::new(NAME);
    if !record.host_access && record.uplink != UplinkKind::Host {
        return Ok(None);
    }
    let lease = match leases.of(&owner) {
        Some(has) => has.clone(),
        None => {
            let wanted = Wanted { ipv4: Some(leases.highest(now)?), ipv6: None };
            leases.request(&owner, wanted, now)?
        }
    };
    Ok(Some(HostRecord { ipv4: lease.ipv4, ipv6: lease.ipv6 }))
}

/// Ends the host's lease where it has none by `record`, which is in force.
pub(crate) fn tidy(leases: &mut Leases, record: &NetworkRecord, now: Duration) {
    if record.host.is_none() {
        leases.release(&Owner::new(NAME), now);
    }
}

/// What containers must not reach of a host that has all this. Cheap where it has a million routes: only those that are
/// the host itself count.
pub(crate) fn addresses(host: &Occupied) -> HostAddresses {
    let local = host.addresses.iter().copied().map(IpNet::from).chain(host.local.iter().copied());
    HostAddresses::new(local, host.broadcasts.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> NetworkRecord {
        let base = r#"{"name":"n","subnet":{"net":"10.0.0.0/29","gateway":"10.0.0.1","range":"10.0.0.0/29"},"subnet6":null,
            "gateway_mac":"02:42:0a:00:00:01","icc":true,"mtu":1500,"uplink":"user","ageing":300,"fdb_limit":1,"flood_limit":1}"#;
        let mut value: serde_json::Value = serde_json::from_str(base).unwrap();
        let more: serde_json::Value = serde_json::from_str(json).unwrap();
        for (key, entry) in more.as_object().unwrap() {
            value[key] = entry.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_host_gets_the_highest_free_address_and_keeps_it() {
        let mut record = record(r#"{"host_access":true}"#);
        let mut leases = leases(&record);
        let wanted = Wanted { ipv4: "10.0.0.6".parse().ok(), ipv6: None };
        leases.request(&Owner::new("web"), wanted, Duration::ZERO).unwrap();
        record.host = lease(&mut leases, &record, Duration::ZERO).unwrap();
        assert_eq!(record.host.unwrap().ipv4.to_string(), "10.0.0.5");
        leases.release(&Owner::new("web"), Duration::ZERO);
        assert_eq!(lease(&mut leases, &record, Duration::from_secs(600)), Ok(record.host), "asked again");
        assert_eq!(lease(&mut super::leases(&record), &record, Duration::ZERO), Ok(record.host), "after a restart");
    }

    #[test]
    fn device_names_fit_and_tell_networks_apart() {
        let ifname = |name: &str| ifname(&name.parse().unwrap());
        assert_eq!(ifname("default"), "ts-default");
        assert_eq!(ifname("twelve-chars"), "ts-twelve-chars");
        let [one, other] = ["a-long-name-of-one", "a-long-name-of-another"].map(ifname);
        assert!(one != other && one.len() == 15 && one.starts_with("ts-a-long-"), "{one} {other}");
    }

    #[test]
    fn without_host_access_the_address_is_free_again() {
        let mut record = record(r#"{"host_access":true}"#);
        let mut leases = leases(&record);
        record.host = lease(&mut leases, &record, Duration::ZERO).unwrap();
        record.host_access = false;
        record.host = lease(&mut leases, &record, Duration::ZERO).unwrap();
        assert_eq!((record.host, leases.len()), (None, 1), "until that is in force");
        tidy(&mut leases, &record, Duration::ZERO);
        assert!(leases.is_empty());
    }

    #[test]
    fn a_full_range_is_an_error() {
        let record = record(r#"{"host_access":true}"#);
        let mut leases = Leases::new(record.subnet, None);
        for n in 0..5 {
            leases.request(&Owner::new(n.to_string()), Wanted::default(), Duration::ZERO).unwrap();
        }
        assert!(matches!(lease(&mut leases, &record, Duration::ZERO), Err(LeaseError::Exhausted { .. })));
    }

    #[test]
    fn routes_that_lead_elsewhere_do_not_count() {
        let local: IpNet = "10.9.0.0/16".parse().unwrap();
        let far =
            tapswitch_ipam::Route { prefix: "11.0.0.0/8".parse().unwrap(), kind: tapswitch_ipam::RouteKind::Gateway };
        let host = Occupied { routes: vec![far], local: vec![local], ..Occupied::default() };
        assert_eq!(addresses(&host), HostAddresses::new([local].into_iter(), [].into_iter()));
    }
}
