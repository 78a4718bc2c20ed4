//! What a container's annotations ask for: `org.tapswitch.network` and its companions.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::bail;

use crate::daemon::name::printable;
use crate::daemon::rate_limit::RateLimit;
use crate::frame::Mac;

/// What all of ours start with.
const PREFIX: &str = "org.tapswitch.";

/// What may be behind it.
const KEYS: [&str; 10] = ["network", "name", "ip", "ip6", "mac", "ifname", "aliases", "publish", "rate_in", "rate_out"];

/// A container's wishes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    pub(super) network: String,
    pub(super) name: Option<String>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) mac: Option<Mac>,
    pub(super) ifname: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) publish: Vec<String>,
    pub(super) rate_in: Option<RateLimit>,
    pub(super) rate_out: Option<RateLimit>,
}

impl Annotations {
    /// Reads ours out of all; `None` where no network is named: then the container is not ours.
    ///
    /// # Errors
    /// An unknown one of ours, also where no network is named, or a value that cannot be, by its name.
    pub(super) fn read(all: &BTreeMap<String, String>) -> anyhow::Result<Option<Self>> {
        let ours = || all.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
        if let Some((unknown, _)) = ours().find(|(key, _)| !KEYS.contains(key)) {
            bail!("annotation {PREFIX}{}: there are {}", printable(unknown), KEYS.join(", "));
        }
        let Some(network) = all.get(&format!("{PREFIX}network")).filter(|network| !network.is_empty()) else {
            return Ok(None);
        };
        let mut wanted = Annotations { network: network.clone(), ..Annotations::default() };
        for (key, value) in ours() {
            match key {
                "network" => {}
                "name" => wanted.name = Some(value.clone()),
                "ip" => wanted.ip = Some(parse(key, value)?),
                "ip6" => wanted.ip6 = Some(parse(key, value)?),
                "mac" => wanted.mac = Some(parse(key, value)?),
                "ifname" => wanted.ifname = Some(value.clone()),
                "aliases" => wanted.aliases = list(value),
                "publish" => wanted.publish = list(value),
                "rate_in" => wanted.rate_in = Some(parse(key, value)?),
                "rate_out" => wanted.rate_out = Some(parse(key, value)?),
                _ => unreachable!("one of KEYS"),
            }
        }
        Ok(Some(wanted))
    }
}

/// Words with commas between them.
fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn parse<T: FromStr>(key: &str, value: &str) -> anyhow::Result<T> {
    value.parse().map_err(|_| anyhow::anyhow!("annotation {PREFIX}{key}: `{}` cannot be", printable(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Option<Annotations>> {
        Annotations::read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn without_a_network_the_container_is_not_ours() {
        assert_eq!(read(&[("org.tapswitch.ip", "10.0.0.1"), ("other", "x")]).unwrap(), None);
        assert_eq!(read(&[("org.tapswitch.network", "")]).unwrap(), None);
    }

    #[test]
    fn an_unknown_one_of_ours_is_an_error_without_a_network_too() {
        for network in [&[][..], &[("org.tapswitch.network", "")]] {
            let error = read(&[network, &[("org.tapswitch.netwrok", "web")]].concat()).unwrap_err().to_string();
            assert!(error.starts_with("annotation org.tapswitch.netwrok: there are network, name"), "{error}");
        }
    }

    #[test]
    fn each_wish_is_read() {
        let wanted = read(&[
            ("org.tapswitch.network", "web"),
            ("org.tapswitch.name", "db"),
            ("org.tapswitch.ip", "10.94.0.7"),
            ("org.tapswitch.ip6", "fd00::7"),
            ("org.tapswitch.mac", "02:00:00:00:00:07"),
            ("org.tapswitch.ifname", "net0"),
            ("org.tapswitch.aliases", "a, b"),
            ("org.tapswitch.publish", "8080:80,53:53/udp"),
            ("org.tapswitch.rate_in", "100mbit"),
            ("io.podman.annotations.x", "y"),
        ]);
        assert_eq!(
            wanted.unwrap().unwrap(),
            Annotations {
                network: "web".into(),
                name: Some("db".into()),
                ip: "10.94.0.7".parse().ok(),
                ip6: "fd00::7".parse().ok(),
                mac: "02:00:00:00:00:07".parse().ok(),
                ifname: Some("net0".into()),
                aliases: vec!["a".into(), "b".into()],
                publish: vec!["8080:80".into(), "53:53/udp".into()],
                rate_in: "100mbit".parse().ok(),
                rate_out: None,
            }
        );
    }

    #[test]
    fn a_typing_error_is_named() {
        for (key, value) in [("org.tapswitch.ipp", "x"), ("org.tapswitch.ip", "10.0.0.300"), ("org.tapswitch.mac", "z")]
        {
            let error = read(&[("org.tapswitch.network", "web"), (key, value)]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
