//! The thread `names`, which answers at the gateways, and what control tells it.

use std::io;
use std::path::Path;
use std::thread;

use super::endpoint::Endpoint;
use super::host::RESOLV_CONFS;
use super::state::NetworkRecord;
use crate::daemon::api::types::UplinkKind;
use crate::forwarding::NetworkSpec;
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

/// The names of a network: of its endpoints that are served.
pub(super) fn zone<'a>(
    record: &NetworkRecord,
    spec: &NetworkSpec,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
) -> Zone {
    let addresses = |v4: Option<_>, v6: Option<_>| v4.map(Into::into).into_iter().chain(v6.map(Into::into)).collect();
    let stations = endpoints.into_iter().filter(|endpoint| endpoint.port().is_some()).map(|endpoint| {
        let record = &endpoint.record;
        Station {
            name: record.name.to_string(),
            aliases: record.aliases.iter().map(ToString::to_string).collect(),
            addresses: addresses(Some(record.ipv4), record.ipv6),
        }
    });
    let zone = ZoneSpec {
        network: record.name.to_string(),
        forwards: record.uplink != UplinkKind::None,
        mtu: record.mtu,
        subnets: std::iter::once(spec.subnet4.into()).chain(spec.subnet6.map(Into::into)).collect(),
        gateway: addresses(Some(spec.gateway4), spec.gateway6),
        host: addresses(spec.host4, spec.host6),
    };
    Zone::new(zone, stations)
}
