//! The capability `portMappings`: which ports of the host lead to the container.

use std::net::IpAddr;

use serde::Deserialize;

use super::config::invalid;
use super::error::CniError;
use crate::daemon::name::printable;

/// One mapping, as runtimes give it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortMapping {
    host_port: i64,
    container_port: i64,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

impl PortMapping {
    /// As `tapswitch publish` reads it: `127.0.0.1:8080:80/tcp`.
    ///
    /// # Errors
    /// Code 7: no port, no address, or a protocol that is not published.
    pub(super) fn spec(&self) -> Result<String, CniError> {
        let port = |what: &str, number: i64| {
            u16::try_from(number)
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| invalid(format!("portMappings: {what} {number} is no port")))
        };
        let host = port("hostPort", self.host_port)?;
        let container = port("containerPort", self.container_port)?;
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => "tcp",
            "udp" => "udp",
            other => {
                return Err(invalid(format!("portMappings: protocol `{}`: tcp and udp are had", printable(other))));
            }
        };
        let address = match self.host_ip.as_str() {
            // What Kubernetes and podman say for all addresses.
            "" | "0.0.0.0" | "::" => String::new(),
            text => match text.parse() {
                Ok(IpAddr::V4(address)) => format!("{address}:"),
                Ok(IpAddr::V6(address)) => format!("[{address}]:"),
                Err(_) => return Err(invalid(format!("portMappings: hostIP `{}` is no address", printable(text)))),
            },
        };
        Ok(format!("{address}{host}:{container}/{protocol}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<String, CniError> {
        serde_json::from_str::<PortMapping>(json).unwrap().spec()
    }

    #[test]
    fn mappings_are_written_as_publish_reads_them() {
        for (json, written) in [
            (r#"{"hostPort":8082,"containerPort":80,"protocol":"tcp"}"#, "8082:80/tcp"),
            (r#"{"hostPort":53,"containerPort":53,"protocol":"UDP","hostIP":"0.0.0.0"}"#, "53:53/udp"),
            (r#"{"hostPort":80,"containerPort":80,"hostIP":"127.0.0.1"}"#, "127.0.0.1:80:80/tcp"),
            (r#"{"hostPort":80,"containerPort":80,"hostIP":"::1"}"#, "[::1]:80:80/tcp"),
        ] {
            assert_eq!(spec(json).unwrap(), written);
        }
    }

    #[test]
    fn what_cannot_be_published_is_named() {
        for (json, needle) in [
            (r#"{"hostPort":0,"containerPort":80}"#, "hostPort 0"),
            (r#"{"hostPort":80,"containerPort":-1}"#, "containerPort -1"),
            (r#"{"hostPort":80,"containerPort":65536}"#, "65536"),
            (r#"{"hostPort":80,"containerPort":80,"protocol":"sctp"}"#, "sctp"),
            (r#"{"hostPort":80,"containerPort":80,"hostIP":"x"}"#, "hostIP"),
        ] {
            let error = spec(json).unwrap_err();
            assert!(error.msg.contains(needle), "{error}");
        }
    }
}
