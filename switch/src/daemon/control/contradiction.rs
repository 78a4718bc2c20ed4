//! A stored network wins: what settings ask for and it is not.

use crate::daemon::api::types::{NetworkCreate, Subnet4, Subnet6};
use crate::daemon::state::NetworkRecord;

/// What a stored network is, and is asked to be otherwise.
pub(super) struct Contradiction {
    /// As the settings file and the flags name it.
    key: &'static str,
    /// One line that names both values.
    pub text: String,
}

impl Contradiction {
    /// How the network `name` comes to have what is asked for.
    pub(super) fn remedy(&self, name: &str) -> String {
        let flag = self.key.replace('_', "-");
        match self.key {
            // What `NetworkSet` changes.
            "icc" | "mtu" | "host_access" => {
                format!("start without that, and change it by `tapswitch network set {name} --{flag} ..`")
            }
            _ => format!(
                "start without that, and make it anew by `tapswitch network rm {name}` and `tapswitch network create {name} --{flag} ..`"
            ),
        }
    }
}

/// What `wanted` says that the stored network does not.
pub(super) fn contradiction(wanted: &NetworkCreate, stored: &NetworkRecord, has_ipv6: bool) -> Option<Contradiction> {
    type Found = Option<(&'static str, String)>;
    fn differ<T: PartialEq + std::fmt::Display>(what: &'static str, wanted: Option<T>, stored: Option<T>) -> Found {
        let wanted = wanted?;
        if stored.as_ref() == Some(&wanted) {
            return None;
        }
        let stored = stored.map_or_else(|| "off".into(), |s| s.to_string());
        Some((what, format!("{what} {stored}, and {what} {wanted} is asked for")))
    }
    let subnet = if let Some(Subnet4::Given(net)) = wanted.subnet { Some(net) } else { None };
    let stored6 = stored.subnet6.map(|s| s.net());
    let ipv6: Found = match wanted.ipv6 {
        None => None,
        Some(Subnet6::Auto) if stored6.is_some() || !has_ipv6 => None,
        Some(Subnet6::Auto) => Some(("ipv6", "ipv6 off, and ipv6 auto is asked for".into())),
        Some(Subnet6::Off) => stored6.map(|net| ("ipv6", format!("ipv6 {net}, and ipv6 off is asked for"))),
        Some(Subnet6::Given(net)) => differ("ipv6", Some(net), stored6),
    };
    let (key, found) = differ("subnet", subnet, Some(stored.subnet.net()))
        .or_else(|| differ("gateway", wanted.gateway, Some(stored.subnet.gateway())))
        .or_else(|| differ("range", wanted.range, Some(stored.subnet.range())))
        .or(ipv6)
        .or_else(|| differ("gateway6", wanted.gateway6, stored.subnet6.map(|s| s.gateway())))
        .or_else(|| differ("icc", wanted.icc, Some(stored.icc)))
        .or_else(|| differ("mtu", wanted.mtu, Some(stored.mtu)))
        .or_else(|| differ("uplink", wanted.uplink, Some(stored.uplink)))
        .or_else(|| differ("host_access", wanted.host_access, Some(stored.host_access)))
        .or_else(|| differ("ageing", wanted.ageing, Some(stored.ageing)))
        .or_else(|| differ("fdb_limit", wanted.fdb_limit, Some(stored.fdb_limit)))
        .or_else(|| differ("flood_limit", wanted.flood_limit, Some(stored.flood_limit)))?;
    Some(Contradiction { key, text: format!("network {} is stored with {found}", stored.name) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Mac;
    use tapswitch_ipam::Subnet;

    fn stored() -> NetworkRecord {
        let subnet = Subnet::new("172.18.0.0/16".parse().unwrap(), None, None).unwrap();
        NetworkRecord {
            name: "default".parse().unwrap(),
            subnet,
            subnet6: None,
            chosen: false,
            gateway_mac: Mac::of_ipv4(subnet.gateway()),
            icc: true,
            mtu: 1500,
            uplink: crate::daemon::api::types::UplinkKind::None,
            host_access: false,
            host: None,
            ageing: 300,
            fdb_limit: 8192,
            flood_limit: 500,
            rules: std::collections::BTreeSet::new(),
            docker: None,
        }
    }

    fn wanted(json: &str) -> NetworkCreate {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_left_open_or_said_again_contradicts_nothing() {
        for json in ["{}", r#"{"subnet":"172.18.0.0/16","icc":true,"mtu":1500,"ipv6":"off","range":"172.18.0.0/16"}"#] {
            assert!(contradiction(&wanted(json), &stored(), true).is_none(), "{json}");
        }
    }

    #[test]
    fn a_contradiction_names_both_values_in_one_line() {
        for (json, was, is) in [
            (r#"{"subnet":"10.0.0.0/16"}"#, "subnet 172.18.0.0/16", "subnet 10.0.0.0/16"),
            (r#"{"icc":false}"#, "icc true", "icc false"),
            (r#"{"mtu":9000}"#, "mtu 1500", "mtu 9000"),
            (r#"{"ipv6":"fd00::/64"}"#, "ipv6 off", "ipv6 fd00::/64"),
            (r#"{"ipv6":"auto"}"#, "ipv6 off", "ipv6 auto"),
            (r#"{"gateway":"172.18.0.9"}"#, "gateway 172.18.0.1", "gateway 172.18.0.9"),
        ] {
            let line = contradiction(&wanted(json), &stored(), true).unwrap().text;
            assert!(line.contains(was) && line.contains(is) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn the_remedy_of_a_contradiction_is_a_command_that_there_is() {
        let remedy = |json: &str| contradiction(&wanted(json), &stored(), true).unwrap().remedy("default");
        for (json, flag) in
            [(r#"{"icc":false}"#, "icc"), (r#"{"mtu":9000}"#, "mtu"), (r#"{"host_access":true}"#, "host-access")]
        {
            assert!(remedy(json).contains(&format!("network set default --{flag} ..`")), "{json}: {}", remedy(json));
        }
        for (json, flag) in [
            (r#"{"subnet":"10.0.0.0/16"}"#, "subnet"),
            (r#"{"uplink":"user"}"#, "uplink"),
            (r#"{"ipv6":"auto"}"#, "ipv6"),
        ] {
            let remedy = remedy(json);
            assert!(
                remedy.contains(&format!("network rm default` and `tapswitch network create default --{flag} ..`")),
                "{remedy}"
            );
            assert!(!remedy.contains("network set"), "{remedy}");
        }
    }

    #[test]
    fn ipv6_auto_contradicts_nothing_where_the_kernel_has_none() {
        let auto = wanted(r#"{"ipv6":"auto"}"#);
        assert!(contradiction(&auto, &stored(), false).is_none());
        assert!(contradiction(&wanted(r#"{"ipv6":"fd00::/64"}"#), &stored(), false).is_some());
    }
}
