//! The switch as its faces use it: networks that are there or are made, endpoints attached and found again by their holder.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use ipnet::IpNet;

use super::holder::Holder;
use crate::daemon::api::client::{Client, ClientError, encoded};
use crate::daemon::api::types::{
    AttachRequest, EndpointInfo, NetworkCreate, NetworkInfo, Status, Subnet4, Subnet6, UplinkKind,
};
use crate::daemon::attach_socket;

/// HTTP's word for what is not there.
const NOT_FOUND: u16 = 404;
/// HTTP's word for what somebody else has.
const CONFLICT: u16 = 409;

const MTU: &str = "mtu";
const ICC: &str = "icc";
const HOST_ACCESS: &str = "host access";
/// What of a network `tapswitch network set` changes.
pub(super) const SETTABLE: [&str; 3] = [MTU, ICC, HOST_ACCESS];

/// The daemon behind one socket.
#[derive(Debug)]
pub(super) struct Switch {
    client: Client,
}

/// Why a network cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoNetwork {
    /// The daemon would not make it, or cannot be asked.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// It is there and is another.
    #[error("network {network} is there with {both}")]
    Differs {
        /// Its name.
        network: String,
        /// What of it differs, as of [`SETTABLE`].
        what: &'static str,
        /// Both values.
        both: String,
    },
}

impl Switch {
    /// The daemon whose control socket is `socket`.
    pub(super) fn new(socket: &Path) -> Self {
        Switch { client: Client::new(socket) }
    }

    /// The daemon's state.
    pub(super) fn status(&self) -> Result<Status, ClientError> {
        self.client.get("/v1/status", &[])
    }

    /// The network of that name, if there is one.
    pub(super) fn network(&self, name: &str) -> Result<Option<NetworkInfo>, ClientError> {
        match self.client.get(&format!("/v1/networks/{}", encoded(name)), &[]) {
            Ok(info) => Ok(Some(info)),
            Err(ClientError::Refused { status: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The network that `wanted` describes; it is made where there is none of its name. Of two who make it at once, one does
    /// and the other finds it.
    ///
    /// # Errors
    /// When it cannot be made, or is there and contradicts `wanted`.
    pub(super) fn ensure(&self, wanted: &NetworkCreate) -> Result<NetworkInfo, NoNetwork> {
        if let Some(there) = self.network(&wanted.name)? {
            return agreeing(wanted, there);
        }
        match self.client.post::<_, NetworkInfo>("/v1/networks", wanted) {
            Ok(made) => Ok(made),
            Err(refused @ ClientError::Refused { status: CONFLICT, .. }) => match self.network(&wanted.name)? {
                Some(there) => agreeing(wanted, there),
                None => Err(refused.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Attaches the namespace for `holder`. A name that is taken is given up for one that the daemon makes of the holder's: an
    /// engine's containers need not have different names. What else is wrong is refused both times.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be asked; then nothing was changed.
    pub(super) fn attach(
        &self,
        holder: &Holder,
        request: AttachRequest,
        namespace: BorrowedFd<'_>,
    ) -> Result<EndpointInfo, ClientError> {
        let socket = self.client.socket().with_file_name("attach.sock");
        // An engine asks for the ports of a container once more on each of its networks.
        let publish_once = !request.publish.is_empty();
        let named = AttachRequest { netns: holder.to_string(), publish_once, ..request };
        match attach_socket::attach(&socket, &named, namespace) {
            Err(ClientError::Refused { .. }) if named.name.is_some() => {
                let mut unnamed = named;
                // It is found by it all the same, among the others.
                unnamed.aliases.extend(unnamed.name.take());
                attach_socket::attach(&socket, &unnamed, namespace)
            }
            outcome => outcome,
        }
    }

    /// The endpoints, of one network or of all. A network that is not there has none.
    pub(super) fn endpoints(&self, network: Option<&str>) -> Result<Vec<EndpointInfo>, ClientError> {
        match self.client.get("/v1/endpoints", &[("network", network)]) {
            Err(ClientError::Refused { status: NOT_FOUND, .. }) => Ok(Vec::new()),
            outcome => outcome,
        }
    }

    /// Detaches this very endpoint; one that is gone is detached.
    pub(super) fn detach(&self, endpoint: &EndpointInfo) -> Result<(), ClientError> {
        self.client.detach(endpoint)
    }
}

/// The endpoint's addresses with their prefix, each with its gateway.
pub(super) fn addresses(endpoint: &EndpointInfo, network: &NetworkInfo) -> Vec<(IpNet, IpAddr)> {
    let v4 = endpoint.ipv4.map(|ip| (IpAddr::from(ip), network.subnet.prefix_len(), IpAddr::from(network.gateway)));
    let v6 = endpoint.ipv6.zip(network.subnet6.zip(network.gateway6));
    let v6 = v6.map(|(ip, (subnet, gateway))| (IpAddr::from(ip), subnet.prefix_len(), IpAddr::from(gateway)));
    let net = |(ip, length, gateway)| (IpNet::new(ip, length).expect("a subnet's own length"), gateway);
    v4.into_iter().chain(v6).map(net).collect()
}

/// `there`, unless it is not what was wanted.
pub(super) fn agreeing(wanted: &NetworkCreate, there: NetworkInfo) -> Result<NetworkInfo, NoNetwork> {
    match contradiction(wanted, &there) {
        None => Ok(there),
        Some((what, both)) => Err(NoNetwork::Differs { network: there.name, what, both }),
    }
}

/// What `wanted` says that the network is not, and both values. What it leaves open contradicts nothing.
fn contradiction(wanted: &NetworkCreate, there: &NetworkInfo) -> Option<(&'static str, String)> {
    fn differ<T: PartialEq + ToString>(
        what: &'static str,
        wanted: Option<T>,
        there: Option<T>,
    ) -> Option<(&'static str, String)> {
        let wanted = wanted.filter(|wanted| there.as_ref() != Some(wanted))?;
        let there = there.map_or_else(|| "off".into(), |there| there.to_string());
        Some((what, format!("{what} {there}, and {what} {} is asked for", wanted.to_string())))
    }
    let subnet = if let Some(Subnet4::Given(net)) = wanted.subnet { Some(net) } else { None };
    let subnet6 = if let Some(Subnet6::Given(net)) = wanted.ipv6 { Some(net) } else { None };
    differ("subnet", subnet, Some(there.subnet))
        .or_else(|| differ("gateway", wanted.gateway, Some(there.gateway)))
        .or_else(|| differ("range", wanted.range, Some(there.range.unwrap_or(there.subnet))))
        .or_else(|| differ("ipv6", subnet6, there.subnet6))
        .or_else(|| differ("gateway6", wanted.gateway6, there.gateway6))
        .or_else(|| differ(MTU, wanted.mtu, Some(there.mtu)))
        .or_else(|| differ(ICC, wanted.icc, Some(there.icc)))
        .or_else(|| differ::<UplinkKind>("uplink", wanted.uplink, Some(there.uplink)))
        .or_else(|| differ(HOST_ACCESS, wanted.host_access, Some(there.host_access)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::plugin) fn web() -> NetworkInfo {
        NetworkInfo {
            name: "web".into(),
            subnet: "10.94.0.0/24".parse().unwrap(),
            gateway: "10.94.0.1".parse().unwrap(),
            range: None,
            subnet6: None,
            gateway6: None,
            gateway_mac: "02:42:0a:5e:00:01".parse().unwrap(),
            mtu: 1500,
            icc: true,
            uplink: UplinkKind::User,
            host_access: false,
            host: None,
            host6: None,
            endpoints: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_is_left_open_or_said_again_contradicts_nothing() {
        let open = NetworkCreate { name: "web".into(), ..NetworkCreate::default() };
        assert_eq!(contradiction(&open, &web()), None);
        let again = NetworkCreate {
            subnet: Some(Subnet4::Given(web().subnet)),
            gateway: Some(web().gateway),
            range: Some(web().subnet),
            mtu: Some(1500),
            icc: Some(true),
            uplink: Some(UplinkKind::User),
            ..open
        };
        assert_eq!(contradiction(&again, &web()), None);
    }

    #[test]
    fn a_contradiction_names_both_values() {
        let other = Some(Subnet4::Given("10.95.0.0/24".parse().unwrap()));
        let wanted = NetworkCreate { subnet: other, ..NetworkCreate::default() };
        let text = agreeing(&wanted, web()).unwrap_err().to_string();
        assert_eq!(text, "network web is there with subnet 10.94.0.0/24, and subnet 10.95.0.0/24 is asked for");
        let wanted =
            NetworkCreate { ipv6: Some(Subnet6::Given("fd00::/64".parse().unwrap())), ..NetworkCreate::default() };
        assert_eq!(contradiction(&wanted, &web()).unwrap().1, "ipv6 off, and ipv6 fd00::/64 is asked for");
    }
}
