//! The IpamDriver: ranges that overlap nothing on the host, and the leases of our networks.
//!
//! A pool's id is its subnet behind [`PREFIX`], so that it means the same after any restart. MACs are asked for with
//! every address of an endpoint: by them the two addresses of one endpoint are known to be one lease.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};

use super::router::{Answer, refused};
use super::wire::{Address, ReleasePool, RequestPool};
use crate::daemon::control::{Handle, Purpose};
use crate::daemon::name::printable;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::frame::Mac;

/// Our address space.
const LOCAL: &str = "tapswitch";
/// Must be another than the local one, and is nobody's.
const GLOBAL: &str = "tapswitch-global";
/// Before the subnet, in a pool's id.
const PREFIX: &str = "tapswitch/";
/// libnetwork's `ipamapi.RequestAddressType`.
const TYPE: &str = "RequestAddressType";
/// libnetwork's `netlabel.Gateway`.
const GATEWAY: &str = "com.docker.network.gateway";
/// libnetwork's `netlabel.MacAddress`.
const MAC: &str = "com.docker.network.endpoint.macaddress";

pub(super) fn capabilities() -> Value {
    // A replayed request cannot be told from a new one, and nothing is lost that would have to be replayed.
    json!({ "RequiresMACAddress": true, "RequiresRequestReplay": false })
}

pub(super) fn address_spaces() -> Value {
    json!({ "LocalDefaultAddressSpace": LOCAL, "GlobalDefaultAddressSpace": GLOBAL })
}

pub(super) async fn request_pool(control: &Handle, request: RequestPool) -> Answer {
    let wanted = wanted_pool(&request).map_err(|e| refused(e.during("request a pool")))?;
    let (pool, range, v6) = wanted;
    let subnet = control.call(move |c| c.request_pool(pool, range, v6)).await;
    let subnet = subnet.map_err(|e| refused(e.during("request a pool")))?;
    Ok(json!({ "PoolID": format!("{PREFIX}{subnet}"), "Pool": subnet.to_string(), "Data": {} }))
}

pub(super) async fn release_pool(control: &Handle, request: ReleasePool) -> Answer {
    // One that we never gave is released.
    if let Some(subnet) = subnet_of(&request.pool) {
        control.call(move |c| c.release_pool(subnet)).await.map_err(refused)?;
    }
    Ok(json!({}))
}

pub(super) async fn request_address(control: &Handle, request: Address) -> Answer {
    let during = |e: Refusal| refused(e.during(&format!("request an address of {}", printable(&request.pool))));
    let subnet = subnet_of(&request.pool).ok_or_else(|| during(Refusal::Unknown("there is no such pool".into())))?;
    let purpose = purpose(&request).map_err(during)?;
    let given: Option<IpAddr> = request.address;
    let address = control.call(move |c| c.request_address(subnet, given, purpose)).await.map_err(during)?;
    Ok(json!({ "Address": address.to_string(), "Data": {} }))
}

pub(super) async fn release_address(control: &Handle, request: Address) -> Answer {
    if let Some((subnet, address)) = subnet_of(&request.pool).zip(request.address) {
        let released = control.call(move |c| {
            c.docker_released(subnet, address);
            Ok(())
        });
        released.await.map_err(refused)?;
    }
    Ok(json!({}))
}

fn purpose(request: &Address) -> Outcome<Purpose> {
    if request.options.get(TYPE).is_some_and(|kind| kind == GATEWAY) {
        return Ok(Purpose::Gateway);
    }
    match request.options.get(MAC) {
        None => Ok(Purpose::Other),
        Some(text) => {
            let mac: Mac = text.parse().map_err(|e| Refusal::Malformed(format!("{MAC}: {e}")))?;
            Ok(Purpose::Endpoint(mac))
        }
    }
}

/// Range, part of it to give addresses from, and family.
fn wanted_pool(request: &RequestPool) -> Outcome<(Option<IpNet>, Option<Ipv4Net>, bool)> {
    let impossible = |text: String| Refusal::Impossible(text);
    if let Some(option) = request.options.keys().next() {
        tracing::warn!("docker: option {} of a pool is not known", printable(option));
    }
    if request.pool.is_some_and(|pool| matches!(pool, IpNet::V6(_)) != request.v6) {
        return Err(impossible("the pool is of the other family".into()));
    }
    let range = match request.sub_pool {
        None => None,
        Some(IpNet::V4(range)) => Some(range),
        Some(IpNet::V6(range)) => {
            return Err(impossible(format!(
                "range {range}: of IPv6 there are none, since addresses go with the IPv4 ones"
            )));
        }
    };
    if range.is_some() && request.pool.is_none() {
        return Err(impossible("a range needs a given subnet".into()));
    }
    Ok((request.pool, range, request.v6))
}

fn subnet_of(pool: &str) -> Option<IpNet> {
    pool.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(json: Value) -> Outcome<(Option<IpNet>, Option<Ipv4Net>, bool)> {
        wanted_pool(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_pool_s_id_is_its_subnet() {
        assert_eq!(subnet_of("tapswitch/10.9.0.0/24"), "10.9.0.0/24".parse().ok());
        for other in ["", "10.9.0.0/24", "lab/10.9.0.0/24", "tapswitch/", "tapswitch/x"] {
            assert_eq!(subnet_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_pool_cannot_be_is_refused_by_name() {
        assert_eq!(pool(json!({"AddressSpace": LOCAL, "Pool": "", "V6": true})), Ok((None, None, true)));
        for (request, needle) in [
            (json!({"Pool": "10.9.0.0/24", "V6": true}), "family"),
            (json!({"SubPool": "10.9.0.0/28"}), "subnet"),
            (json!({"Pool": "fd00::/64", "SubPool": "fd00::/80", "V6": true}), "fd00::/80"),
        ] {
            let error = pool(request).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
    }
}
