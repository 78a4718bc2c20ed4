//! Control with a keeper of the test's own, by theme.

mod announcing;
mod disk;
mod endpoints;
mod host_access;
mod networks;
mod publishing;
mod restarts;
mod rules;
mod uplink_host;

use std::time::{Duration, Instant};

use tapswitch_ipam::{Occupied, Route, RouteKind};
use tapswitch_netns::Namespace;

use super::testing::{Act, Daemon, Gate, Keeper, dir, settings, wait};
use super::{Ending, Selection};
use crate::daemon::api::types::{
    AttachRequest, EndpointState, NetworkCreate, NetworkInfo, NetworkSet, RuleChange, Subnet4, Subnet6, UplinkKind,
};
use crate::daemon::keeper::message::ToKeeper;
use crate::daemon::name::Name;
use crate::daemon::rate_limit::RateLimit;
use crate::daemon::refusal::Refusal;
use crate::engine::EngineEvent;
use crate::forwarding::PortId;

fn network(name: &str, subnet: &str) -> NetworkCreate {
    NetworkCreate {
        name: name.into(),
        subnet: Some(Subnet4::Given(subnet.parse().unwrap())),
        ipv6: Some(Subnet6::Off),
        ..NetworkCreate::default()
    }
}

fn rule(from: &str, to: &str, what: Option<&str>) -> RuleChange {
    RuleChange { from: from.into(), to: to.into(), what: what.map(str::to_owned) }
}

fn rules(daemon: &Daemon) -> Vec<String> {
    let rules = daemon.call(|control| control.rules(None)).unwrap();
    rules.into_iter().map(|r| format!("{} {} {}", r.from, r.to, r.what.unwrap_or_default())).collect()
}

/// Waits until `holds`, for at most 5 s.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within 5 s");
        std::thread::yield_now();
    }
}
