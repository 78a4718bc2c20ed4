//! What `-p` says: `[IP:][HOST:]CONTAINER[/tcp|udp]`, where HOST and CONTAINER are a port or a range `FIRST-LAST`.
//!
//! Without an IP it means every address of the host, of both families, as docker does; an IPv6 address stands in brackets.
//! Without HOST the kernel chooses ports that are free. Ranges go together port by port, so both have the same length,
//! which is at most [`MAX_RANGE`]. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::name::printable;
use crate::uplink::Transport;

/// Most ports of one range: each is two descriptors in either process.
pub const MAX_RANGE: u16 = 512;

/// Ports of the host that lead to ports of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishSpec {
    /// Which address of the host; `None` is all of them.
    pub ip: Option<IpAddr>,
    /// The first port of the host; `None` where the kernel chooses.
    pub host: Option<u16>,
    /// The first port of the container.
    pub container: u16,
    /// How many.
    pub count: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

/// One port of the host that is to lead to one of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub ip: Option<IpAddr>,
    pub host: Option<u16>,
    pub container: u16,
    pub transport: Transport,
}

impl PublishSpec {
    /// Its pairs of ports, lowest first.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Wanted> + use<> {
        let PublishSpec { ip, host, container, count, transport } = *self;
        (0..count).map(move |n| Wanted { ip, host: host.map(|host| host + n), container: container + n, transport })
    }
}

impl Wanted {
    /// Where sockets are to be bound.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let port = self.host.unwrap_or(0);
        match self.ip {
            Some(ip) => vec![SocketAddr::new(ip, port)],
            None => vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()],
        }
    }
}

/// What `unpublish` takes back: `[IP:]HOST[:CONTAINER][/tcp|udp]`, ports or ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpublishSpec {
    /// Published at this address alone; `None` is at any.
    pub ip: Option<IpAddr>,
    /// The first port of the host.
    pub host: u16,
    /// Leading to ports from this one on; `None` is to any.
    pub container: Option<u16>,
    /// How many.
    pub count: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl UnpublishSpec {
    /// Whether it means what is published at `host` and leads to `container`.
    pub(crate) fn means(&self, transport: Transport, host: SocketAddr, container: u16) -> bool {
        let Some(at) = host.port().checked_sub(self.host).filter(|at| *at < self.count) else { return false };
        transport == self.transport
            && self.ip.is_none_or(|ip| ip == host.ip())
            && self.container.is_none_or(|first| first + at == container)
    }
}

/// Not what can be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{spec}`: {why}")]
pub struct BadSpec {
    spec: String,
    why: String,
}

const FORM: &str = "is not [IP:][HOST:]CONTAINER[/tcp|udp], as 8080:80, 127.0.0.1:53:53/udp or [::1]:8000-8010:80-90";
const UNPUBLISH_FORM: &str = "is not [IP:]HOST[:CONTAINER][/tcp|udp], as 8080, 8080:80 or 127.0.0.1:53:53/udp";

impl FromStr for PublishSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, BadSpec> {
        let read = || {
            let (ports, transport) = transport(text)?;
            let (ip, ports) = address(ports, FORM)?;
            let (host, container) = match ports.split_once(':') {
                Some(("", container)) if ip.is_some() => (None, container),
                Some((host, container)) => (Some(range(host, FORM)?), container),
                None if ip.is_none() => (None, ports),
                None => return Err(FORM.to_owned()),
            };
            let (container, count) = range(container, FORM)?;
            if let Some((_, host_count)) = host
                && host_count != count
            {
                return Err(format!("{host_count} ports of the host do not go with {count} of the container"));
            }
            let host = host.map(|(first, _)| first);
            Ok(PublishSpec { ip, host, container, count, transport })
        };
        read().map_err(|why| BadSpec { spec: printable(text), why })
    }
}

impl FromStr for UnpublishSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, BadSpec> {
        let read = || {
            let (ports, transport) = transport(text)?;
            let (ip, ports) = address(ports, UNPUBLISH_FORM)?;
            let (host, container) = match ports.split_once(':') {
                Some((host, container)) => (host, Some(range(container, UNPUBLISH_FORM)?)),
                None => (ports, None),
            };
            let (host, count) = range(host, UNPUBLISH_FORM)?;
            if let Some((_, other)) = container
                && other != count
            {
                return Err(format!("{count} ports of the host do not go with {other} of the container"));
            }
            Ok(UnpublishSpec { ip, host, container: container.map(|(first, _)| first), count, transport })
        };
        read().map_err(|why| BadSpec { spec: printable(text), why })
    }
}

/// What is before the transport, and that, in any case of letters.
fn transport(text: &str) -> Result<(&str, Transport), String> {
    match text.split_once('/') {
        None => Ok((text, Transport::Tcp)),
        Some((ports, tcp)) if tcp.eq_ignore_ascii_case("tcp") => Ok((ports, Transport::Tcp)),
        Some((ports, udp)) if udp.eq_ignore_ascii_case("udp") => Ok((ports, Transport::Udp)),
        Some((_, other)) => Err(format!("`{}` is neither tcp nor udp", printable(other))),
    }
}

/// The address, if there is one, and the rest.
fn address<'a>(text: &'a str, form: &str) -> Result<(Option<IpAddr>, &'a str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, ports) = rest.split_once("]:").ok_or(form)?;
        let address: Ipv6Addr = address.parse().map_err(|_| format!("`{}` is no IPv6 address", printable(address)))?;
        // `::ffff:127.0.0.1` would be an IPv4 address under a name that the checks for loopback do not know.
        if address.to_ipv4_mapped().is_some() {
            return Err("an IPv4 address is given as such, as 127.0.0.1:8080:80".into());
        }
        return Ok((Some(address.into()), ports));
    }
    match text.split_once(':') {
        Some((address, ports)) if address.contains('.') => {
            let address: Ipv4Addr =
                address.parse().map_err(|_| format!("`{}` is no IPv4 address", printable(address)))?;
            Ok((Some(address.into()), ports))
        }
        _ if text.matches(':').count() > 2 => Err("an IPv6 address stands in brackets, as [::1]:8080:80".into()),
        _ => Ok((None, text)),
    }
}

/// The first port, and how many.
fn range(text: &str, form: &str) -> Result<(u16, u16), String> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first, form)?, port(last, form)?),
        None => (port(text, form)?, port(text, form)?),
    };
    if last < first {
        return Err(format!("the range {first}-{last} is empty"));
    }
    match last - first {
        more if more < MAX_RANGE => Ok((first, more + 1)),
        more => Err(format!("{} ports at once; {MAX_RANGE} is the most", u32::from(more) + 1)),
    }
}

fn port(digits: &str, form: &str) -> Result<u16, String> {
    // `parse` would take a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(form.to_owned());
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{} is no port", printable(digits)))
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.host) {
            (Some(IpAddr::V6(ip)), _) => write!(f, "[{ip}]:")?,
            (Some(ip), _) => write!(f, "{ip}:")?,
            (None, _) => {}
        }
        match self.host {
            Some(host) => write!(f, "{}:", Range(host, self.count))?,
            None if self.ip.is_some() => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}/{}", Range(self.container, self.count), self.transport)
    }
}

/// Ports, as text.
pub(crate) struct Range(pub u16, pub u16);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range(first, 1) => write!(f, "{first}"),
            Range(first, count) => write!(f, "{first}-{}", first + (count - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PublishSpec {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn docker_s_forms_are_read_and_written_back() {
        for (text, written) in [
            ("8080:80", "8080:80/tcp"),
            ("8080:80/tcp", "8080:80/tcp"),
            ("53:53/udp", "53:53/udp"),
            ("53:53/UDP", "53:53/udp"),
            ("80/Tcp", "80/tcp"),
            ("80", "80/tcp"),
            ("80-82/udp", "80-82/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[::1]:8080:80/udp", "[::1]:8080:80/udp"),
            ("[fd00::1]::80", "[fd00::1]::80/tcp"),
            ("8000-8010:80-90", "8000-8010:80-90/tcp"),
            ("65535:65535", "65535:65535/tcp"),
        ] {
            assert_eq!(spec(text).to_string(), written);
            assert_eq!(spec(written), spec(text), "{written}");
        }
    }

    #[test]
    fn without_an_address_both_families_are_meant() {
        let wanted: Vec<Wanted> = spec("8000-8001:80-81").wanted().collect();
        assert_eq!(wanted.len(), 2);
        assert_eq!((wanted[1].host, wanted[1].container), (Some(8001), 81));
        let shown: Vec<String> = wanted[1].addresses().iter().map(SocketAddr::to_string).collect();
        assert_eq!(shown, ["0.0.0.0:8001", "[::]:8001"]);
        let one = spec("[::1]:8080:80").wanted().next().unwrap();
        assert_eq!(one.addresses(), ["[::1]:8080".parse().unwrap()]);
    }

    #[test]
    fn what_is_none_says_what_would_be() {
        for (text, needle) in [
            ("", "is not [IP:]"),
            ("web", "is not [IP:]"),
            ("8080:", "is not [IP:]"),
            (":80", "is not [IP:]"),
            ("8080:+80", "is not [IP:]"),
            ("8080: 80", "is not [IP:]"),
            ("127.0.0.1:80", "is not [IP:]"),
            ("[::1]:80", "is not [IP:]"),
            ("[::1]8080:80", "is not [IP:]"),
            ("8080:80:80", "is not [IP:]"),
            ("8080:80/sctp", "neither tcp nor udp"),
            ("8080:80/", "neither tcp nor udp"),
            ("0:80", "0 is no port"),
            ("8080:65536", "65536 is no port"),
            ("1.2.3:8080:80", "no IPv4 address"),
            ("[::g]:8080:80", "no IPv6 address"),
            ("::1:8080:80", "in brackets"),
            ("[::ffff:127.0.0.1]:8080:80", "is given as such"),
            ("8010-8000:80-90", "is empty"),
            ("8000-8010:80", "11 ports of the host do not go with 1"),
            ("1-65535:1-65535", "512 is the most"),
        ] {
            let error = text.parse::<PublishSpec>().unwrap_err().to_string();
            assert!(error.contains(needle) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn unpublishing_means_what_it_names() {
        let means = |text: &str, host: &str, container| {
            text.parse::<UnpublishSpec>().unwrap().means(Transport::Tcp, host.parse().unwrap(), container)
        };
        assert!(means("8080", "0.0.0.0:8080", 80) && means("8080", "[::]:8080", 80));
        assert!(means("8080:80", "[::]:8080", 80) && !means("8080:81", "[::]:8080", 80));
        assert!(means("127.0.0.1:8080", "127.0.0.1:8080", 80) && !means("127.0.0.1:8080", "0.0.0.0:8080", 80));
        assert!(means("8000-8010:80-90", "0.0.0.0:8010", 90) && !means("8000-8010:80-90", "0.0.0.0:8011", 91));
        assert!(means("8080/TCP", "0.0.0.0:8080", 80) && !means("8080/UDP", "0.0.0.0:8080", 80));
        assert!(!means("8000-8010:80-90", "0.0.0.0:8010", 80) && !means("8080/udp", "0.0.0.0:8080", 80));
        for bad in ["", "x", ":80", "127.0.0.1::80", "80/x", "8000-8001:80", "0"] {
            assert!(bad.parse::<UnpublishSpec>().is_err(), "{bad}");
        }
    }
}
