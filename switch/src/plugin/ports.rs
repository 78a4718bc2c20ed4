//! Ports of the host that are to lead to a container, as engines say it and as `tapswitch publish` reads it.

use std::net::IpAddr;

use crate::daemon::name::printable;

/// Consecutive ports of the host that lead to as many of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortMapping {
    /// Address of the host; empty or unspecified is all of them.
    pub(super) address: String,
    /// The first port of the host.
    pub(super) host: i64,
    /// The first port of the container.
    pub(super) container: i64,
    /// How many; 0 is one.
    pub(super) count: u16,
    /// `tcp`, `udp`, or both with a comma between; empty is `tcp`.
    pub(super) protocol: String,
}

impl PortMapping {
    /// `127.0.0.1:8080:80/tcp`, for each protocol.
    ///
    /// # Errors
    /// One line: no port, no address, or a protocol that is not published.
    pub(super) fn specs(&self) -> Result<Vec<String>, String> {
        let host = range("host port", self.host, self.count)?;
        let container = range("container port", self.container, self.count)?;
        let address = match self.address.as_str() {
            // What Kubernetes and podman say for all addresses.
            "" | "0.0.0.0" | "::" => String::new(),
            text => match text.parse() {
                Ok(IpAddr::V4(address)) => format!("{address}:"),
                Ok(IpAddr::V6(address)) => format!("[{address}]:"),
                Err(_) => return Err(format!("port mapping: `{}` is no address", printable(text))),
            },
        };
        let protocols = if self.protocol.is_empty() { "tcp" } else { &self.protocol };
        protocols
            .split(',')
            .map(|protocol| match protocol.trim().to_ascii_lowercase().as_str() {
                known @ ("tcp" | "udp") => Ok(format!("{address}{host}:{container}/{known}")),
                other => Err(format!("port mapping: protocol `{}`: there are tcp and udp", printable(other))),
            })
            .collect()
    }
}

/// `8080`, or `8080-8082` for three.
fn range(what: &str, first: i64, count: u16) -> Result<String, String> {
    let more = count.max(1) - 1;
    let port = |number: i64| u16::try_from(number).ok().filter(|port| *port != 0);
    match (port(first), port(first.saturating_add(more.into())), more) {
        (Some(first), Some(_), 0) => Ok(first.to_string()),
        (Some(first), Some(last), _) => Ok(format!("{first}-{last}")),
        _ if more == 0 => Err(format!("port mapping: {what} {first} is no port")),
        _ => Err(format!("port mapping: {what} {first} and {more} more are no ports")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::publish::PublishSpec;

    fn specs(address: &str, host: i64, container: i64, count: u16, protocol: &str) -> Result<Vec<String>, String> {
        PortMapping { address: address.into(), host, container, count, protocol: protocol.into() }.specs()
    }

    #[test]
    fn mappings_are_written_as_publish_reads_them() {
        for (mapping, written) in [
            (specs("", 8082, 80, 1, "tcp"), &["8082:80/tcp"][..]),
            (specs("0.0.0.0", 53, 53, 0, "UDP"), &["53:53/udp"]),
            (specs("127.0.0.1", 80, 80, 1, ""), &["127.0.0.1:80:80/tcp"]),
            (specs("::1", 80, 80, 1, "tcp,udp"), &["[::1]:80:80/tcp", "[::1]:80:80/udp"]),
            (specs("", 8000, 80, 3, "tcp"), &["8000-8002:80-82/tcp"]),
        ] {
            assert_eq!(mapping.unwrap(), written);
            assert!(written.iter().all(|spec| spec.parse::<PublishSpec>().is_ok()));
        }
    }

    #[test]
    fn what_cannot_be_published_is_named() {
        for (mapping, needle) in [
            (specs("", 0, 80, 1, ""), "host port 0"),
            (specs("", 80, -1, 1, ""), "container port -1"),
            (specs("", 65535, 80, 2, ""), "65535"),
            (specs("", i64::MAX, 80, 2, ""), "no ports"),
            (specs("", 80, 80, 1, "sctp"), "sctp"),
            (specs("x", 80, 80, 1, ""), "no address"),
        ] {
            let error = mapping.unwrap_err();
            assert!(error.contains(needle), "{error}");
        }
    }
}
