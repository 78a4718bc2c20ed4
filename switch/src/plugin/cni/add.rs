//! ADD: addresses, network, device, routes; what fails is undone in reverse.

use std::os::fd::AsFd;
use std::path::Path;

use serde_json::Value;
use tapswitch_netns::{Namespace, Route};

use super::config::{Dns, RouteSpec, Wishes};
use super::delegate::{Delegate, Held};
use super::environment::Environment;
use super::error::{CniError, Code};
use super::ipam::{Addresses, Section};
use super::result::Made;
use super::{Job, holder};
use crate::daemon::api::types::{AttachRequest, EndpointInfo, NetworkInfo};
use crate::daemon::name::Name;
use crate::plugin::switch::Switch;
use crate::plugin::{inside, note};

/// An endpoint that was just attached; dropped, it is detached.
struct Attached<'a> {
    switch: &'a Switch,
    endpoint: EndpointInfo,
    kept: bool,
}

impl Job<'_> {
    /// Gives the container its device, and says what it has.
    pub(super) fn add(&self, ipam: &Section) -> Result<Value, CniError> {
        if self.config.prev_result().is_some() {
            let msg = "prevResult: this plugin makes a device and comes first in a list";
            return Err(CniError::new(Code::CONFIG, msg));
        }
        let wishes = self.config.wishes(&self.environment.args()?)?;
        let namespace = open(self.environment)?;
        let held = self.delegate()?.map(Delegate::add).transpose()?;
        let addresses = match &held {
            Some(held) => held.given.addresses()?,
            None => ipam.own(&wishes.ips, wishes.ipv6)?,
        };
        let mut wanted = wishes.network.clone();
        addresses.complete(&mut wanted);
        let network = self.switch.ensure(&wanted)?;
        let routes = routes(held.as_ref().map_or(ipam.routes(), |held| &held.given.routes), &network);
        let attached = self.attach(&wishes, &addresses, &namespace)?;
        let state = inside::add(&namespace, &attached.endpoint.ifname, &routes)?;
        let made = Made {
            endpoint: &attached.endpoint,
            network: &network,
            state: &state,
            routes: &routes,
            dns: self.dns(held.as_ref()),
        };
        let object = made.object(self.config.version, self.environment);
        attached.keep();
        if let Some(held) = held {
            held.keep();
        }
        Ok(object)
    }

    /// The configuration's word, or the delegated plugin's.
    fn dns(&self, held: Option<&Held<'_>>) -> Option<Dns> {
        let given = || held.map(|held| held.given.dns.clone()).filter(|dns| *dns != Dns::default());
        self.config.dns().or_else(given)
    }

    fn attach(&self, wishes: &Wishes, addresses: &Addresses, namespace: &Namespace) -> Result<Attached<'_>, CniError> {
        let attachment = self.environment.attachment();
        let holder = holder(attachment);
        let name = wishes.name.clone().or_else(|| Name::nearest(holder.short()));
        let request = AttachRequest {
            network: Some(self.config.network.to_string()),
            name: name.map(String::from),
            ip: addresses.ip,
            ip6: addresses.ip6,
            mac: wishes.mac,
            ifname: Some(attachment.ifname.clone()),
            guard: wishes.guard,
            aliases: wishes.aliases.clone(),
            publish: wishes.publish.clone(),
            rate_in: wishes.rates.ingress,
            rate_out: wishes.rates.egress,
            ..AttachRequest::default()
        };
        let endpoint = self.switch.attach(&holder, request, namespace.as_fd())?;
        Ok(Attached { switch: &self.switch, endpoint, kept: false })
    }
}

/// The container's namespace, which must not be the one this runs in.
pub(super) fn open(environment: &Environment) -> Result<Namespace, CniError> {
    let namespace = Namespace::open(Path::new(&environment.netns))?;
    if !environment.own_netns && namespace.id() == Namespace::current()?.id() {
        let msg = format!("CNI_NETNS: {} is the namespace of the plugin itself", environment.netns);
        return Err(CniError::new(Code::NAMESPACE, msg));
    }
    Ok(namespace)
}

/// With the gateway of its family where a route names none.
fn routes(wanted: &[RouteSpec], network: &NetworkInfo) -> Vec<Route> {
    let gateway = |route: &RouteSpec| match route.dst {
        ipnet::IpNet::V4(_) => Some(network.gateway.into()),
        ipnet::IpNet::V6(_) => network.gateway6.map(Into::into),
    };
    // One default route is the device's own already; two that mean it are one.
    let mut routes: Vec<Route> = Vec::new();
    for route in wanted {
        let route = Route { to: route.dst.trunc(), gateway: route.gw.or_else(|| gateway(route)) };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

impl Attached<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.switch.detach(&self.endpoint)
        {
            note(&format!("detach {}: {error}", self.endpoint.name));
        }
    }
}
