//! The thread `names`, which answers at the gateways, and what control tells it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::thread;

use super::endpoint::Endpoint;
use super::host::RESOLV_CONFS;
use super::state::NetworkRecord;
use crate::daemon::api::types::UplinkKind;
use crate::forwarding::NetworkSettings;
use crate::gateway::{DNS, Names, Resolvers, Station, Zone, ZoneSpec, service};

/// Starts it. It ends with the process.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub(super) fn start() -> io::Result<Names> {
    let (names, service) = service(Resolvers::new(&RESOLV_CONFS.map(Path::new), DNS));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("names".into()).spawn(move || runtime.block_on(service.run()))?;
    Ok(names)
}

/// The names of a network, without those of its endpoints.
pub(super) fn zone(record: &NetworkRecord, settings: &NetworkSettings) -> Zone {
    let zone = ZoneSpec {
        network: record.name.to_string(),
        forwards: record.uplink != UplinkKind::None,
        mtu: record.mtu,
        subnets: std::iter::once(settings.subnet4.into()).chain(settings.subnet6.map(Into::into)).collect(),
        gateway: addresses(Some(settings.gateway4), settings.gateway6),
        host: addresses(settings.host4, settings.host6),
    };
    Zone::new(zone, [])
}

/// An endpoint, where it is to be found by names: it is served, and not the host's own device, which has its name from the network
/// itself.
pub(super) fn station(endpoint: &Endpoint) -> Option<Station> {
    endpoint.port().filter(|_| !endpoint.is_host())?;
    let record = &endpoint.record;
    Some(Station {
        name: record.name.to_string(),
        aliases: record.aliases.iter().map(ToString::to_string).collect(),
        addresses: addresses(Some(record.ipv4), record.ipv6),
    })
}

fn addresses(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Vec<IpAddr> {
    v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from)).collect()
}
