//! `tapswitch publish` and `unpublish`, and how published ports are shown.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use super::{Outcome, output};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{PublicationInfo, PublishRequest};
use crate::daemon::name::Target;
use crate::daemon::publish::{PublishSpec, Range, UnpublishSpec};

/// Let clients of the host's ports reach an endpoint's
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch publish web 8080:80                     port 8080 of every address of the host
  tapswitch publish web 127.0.0.1:8080:80 [::1]:8080:80
  tapswitch publish dns 53:53/udp 53:53/tcp
  tapswitch publish web 80                          a port that is free: it is printed
  tapswitch publish media 8000-8010:80-90/udp

The endpoint sees each client's own address. Clients are accepted when the command returns. Ports go with the endpoint, or by \
`tapswitch unpublish`.")]
pub(super) struct PublishArgs {
    /// The endpoint
    #[arg(value_name = "X")]
    endpoint: Target,
    /// Ports, or ranges of them, of the host and of the endpoint; HOST is one that is free where it is left out
    #[arg(value_name = "[IP:][HOST:]CONTAINER[/tcp|udp]", required = true)]
    ports: Vec<PublishSpec>,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// Take back what `publish` opened
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch unpublish web 8080
  tapswitch unpublish web 8080:80
  tapswitch unpublish dns 53/udp
  tapswitch unpublish web 127.0.0.1:8080

The ports are free when the command returns. Connections that are open end, unless another
published port leads to the same one.")]
pub(super) struct UnpublishArgs {
    /// The endpoint
    #[arg(value_name = "X")]
    endpoint: Target,
    /// Ports, or ranges of them, of the host
    #[arg(value_name = "[IP:]HOST[:CONTAINER][/tcp|udp]", required = true, value_parser = unpublish_spec)]
    ports: Vec<String>,
}

/// Checked here, and sent as it was given.
fn unpublish_spec(text: &str) -> Result<String, String> {
    text.parse::<UnpublishSpec>().map(|_| text.to_owned()).map_err(|e| e.to_string())
}

pub(super) fn publish(args: &PublishArgs, client: &Client) -> Outcome {
    let publish = args.ports.iter().map(PublishSpec::to_string).collect();
    let request = PublishRequest { endpoint: args.endpoint.to_string(), publish };
    let published: Vec<PublicationInfo> = client.post("/v1/publications", &request)?;
    output::show(&published, args.json, |published| list(published).into_iter().map(|port| port + "\n").collect())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unpublish(args: UnpublishArgs, client: &Client) -> Outcome {
    let request = PublishRequest { endpoint: args.endpoint.to_string(), publish: args.ports };
    client.delete_with("/v1/publications", &request)?;
    Ok(ExitCode::SUCCESS)
}

/// Published ports as `docker ps` shows them, neighbours as a range.
pub(super) fn list(published: &[PublicationInfo]) -> Vec<String> {
    let mut sorted = published.to_vec();
    sorted.sort_unstable_by_key(|p| (p.container_port, p.protocol, p.ip, p.host_port));
    // Of each range the first, and how many.
    let mut ranges: Vec<(PublicationInfo, u16)> = Vec::new();
    for port in sorted {
        let goes_on = |(first, count): &&mut (PublicationInfo, u16)| {
            (first.protocol, first.ip) == (port.protocol, port.ip)
                && first.host_port.checked_add(*count) == Some(port.host_port)
                && first.container_port.checked_add(*count) == Some(port.container_port)
        };
        match ranges.iter_mut().find(goes_on) {
            Some((_, count)) => *count += 1,
            None => ranges.push((port, 1)),
        }
    }
    ranges.into_iter().map(|(first, count)| one(&first, count)).collect()
}

fn one(first: &PublicationInfo, count: u16) -> String {
    let host = match first.ip {
        _ if count == 1 => SocketAddr::new(first.ip, first.host_port).to_string(),
        IpAddr::V4(ip) => format!("{ip}:{}", Range(first.host_port, count)),
        IpAddr::V6(ip) => format!("[{ip}]:{}", Range(first.host_port, count)),
    };
    format!("{host}->{}/{}", Range(first.container_port, count), first.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::Transport;

    fn port(host: &str, container_port: u16) -> PublicationInfo {
        let host: SocketAddr = host.parse().unwrap();
        PublicationInfo { protocol: Transport::Tcp, ip: host.ip(), host_port: host.port(), container_port }
    }

    #[test]
    fn ports_are_shown_as_docker_does() {
        let both = [port("0.0.0.0:8080", 80), port("[::]:8080", 80)];
        assert_eq!(list(&both), ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"]);
        let udp = PublicationInfo { protocol: Transport::Udp, ..port("127.0.0.1:53", 53) };
        assert_eq!(list(&[udp]), ["127.0.0.1:53->53/udp"]);
        assert!(list(&[]).is_empty());
    }

    #[test]
    fn neighbours_are_a_range() {
        let ports =
            [port("0.0.0.0:8001", 81), port("0.0.0.0:8000", 80), port("[::]:8000", 80), port("0.0.0.0:9000", 82)];
        assert_eq!(list(&ports), ["0.0.0.0:8000-8001->80-81/tcp", "[::]:8000->80/tcp", "0.0.0.0:9000->82/tcp"]);
    }
}
