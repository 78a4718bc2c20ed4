//! What the host already uses: the facts a range is chosen by.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What the host has, of both families and of every routing table. The order of the lists means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupied {
    /// Routes of any table.
    pub routes: Vec<Route>,
    /// Addresses of the host itself.
    pub addresses: Vec<IpAddr>,
    /// Prefixes wider than an address that the host answers for, as 127.0.0.0/8. They are among `routes` too.
    pub local: Vec<IpNet>,
    /// Broadcast addresses of its links.
    pub broadcasts: Vec<IpAddr>,
    /// The nameservers it asks.
    pub nameservers: Vec<IpAddr>,
    /// Our other networks. The one that is being looked at must not be among them.
    pub networks: Vec<OwnNetwork>,
}

/// A route of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where it leads.
    pub prefix: IpNet,
    /// How.
    pub kind: RouteKind,
}

/// How a route gets rid of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Straight to neighbours on a link, or to the host itself.
    OnLink,
    /// Through a gateway.
    Gateway,
    /// Dropped in silence.
    Blackhole,
    /// Dropped with host unreachable.
    Unreachable,
    /// Dropped with administratively prohibited.
    Prohibit,
    /// Back to the next routing rule.
    Throw,
}

impl Route {
    /// Longest prefix that says "everything" rather than "a network": /0 is the default route, and a pair of /1 is
    /// how VPN clients override it without replacing it.
    const DEFAULT_LEN: u8 = 1;

    /// Whether somebody lives there. Default routes lead everywhere, and one that only discards leads nowhere:
    /// administrators blackhole all of 10/8 or 172.16/12 as a matter of hygiene, and mean nobody by it.
    pub fn counts(&self) -> bool {
        matches!(self.kind, RouteKind::OnLink | RouteKind::Gateway) && self.prefix.prefix_len() > Self::DEFAULT_LEN
    }
}

/// Another network of this switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnNetwork {
    /// Its name.
    pub name: NetworkName,
    /// One of its subnets; a network of both families is listed twice.
    pub subnet: IpNet,
}

/// The name of a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkName(String);

impl NetworkName {
    /// Any text is a name; what users may call a network is not this crate's to say.
    pub fn new(name: impl Into<String>) -> Self {
        NetworkName(name.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, kind: RouteKind) -> Route {
        Route { prefix: prefix.parse().unwrap(), kind }
    }

    #[test]
    fn default_routes_and_their_halves_never_count() {
        for prefix in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "8000::/1"] {
            assert!(!route(prefix, RouteKind::OnLink).counts(), "{prefix}");
            assert!(!route(prefix, RouteKind::Gateway).counts(), "{prefix}");
        }
        assert!(route("0.0.0.0/2", RouteKind::Gateway).counts());
    }

    #[test]
    fn routes_that_lead_nowhere_never_count() {
        for kind in [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw] {
            assert!(!route("172.17.0.0/16", kind).counts(), "{kind:?}");
        }
    }
}
