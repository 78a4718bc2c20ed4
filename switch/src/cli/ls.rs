//! `tapswitch ls`.

use std::process::ExitCode;

use super::args::NetworkFilter;
use super::table::Table;
use super::{Outcome, output, publish};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{EndpointInfo, EndpointState};

/// List the endpoints
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch ls
  tapswitch ls --network blue
  tapswitch ls --json | jq -r '.[] | .name + \" \" + .ipv4'

RX is what the switch received from the container, TX what it sent to it.")]
pub(super) struct Args {
    #[command(flatten)]
    filter: NetworkFilter,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let endpoints: Vec<EndpointInfo> = client.get("/v1/endpoints", &args.filter.query())?;
    output::show(&endpoints, args.json, |endpoints| table(endpoints))?;
    Ok(ExitCode::SUCCESS)
}

/// The table that `ls` prints.
pub(super) fn table(endpoints: &[EndpointInfo]) -> String {
    let head = ["NAME", "NETWORK", "ADDRESS", "MAC", "NETNS", "IFNAME", "STATE", "PORTS", ">RX", ">TX", ">DROPS"];
    let mut table = Table::new(&head);
    for e in endpoints {
        table.row([
            e.name.clone(),
            e.network.clone(),
            address(e),
            e.mac.to_string(),
            short_ids(&e.netns),
            e.ifname.clone(),
            state(e.state).into(),
            ports(e),
            output::bytes(e.rx_bytes),
            output::bytes(e.tx_bytes),
            e.drops.values().sum::<u64>().to_string(),
        ]);
    }
    table.text()
}

/// Its IPv4 address, else its IPv6 one.
fn address(endpoint: &EndpointInfo) -> String {
    match endpoint.ipv4 {
        Some(ipv4) => ipv4.to_string(),
        None => output::or_dash(endpoint.ipv6),
    }
}

/// `text`, of whose long hexadecimal numbers the first digits are left, as docker shows ids.
fn short_ids(text: &str) -> String {
    const DIGITS: usize = 12;
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let short = words.map(|word| {
        let (id, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
        let is_long = id.len() > DIGITS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        format!("{}{end}", if is_long { &id[..DIGITS] } else { id })
    });
    short.collect()
}

fn ports(endpoint: &EndpointInfo) -> String {
    match publish::list(&endpoint.published) {
        none if none.is_empty() => "-".into(),
        ports => ports.join(", "),
    }
}

fn state(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Up => "up",
        EndpointState::Lost => "lost",
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::web_of;
    use super::*;

    #[test]
    fn an_endpoint_is_one_line_with_its_drops_summed() {
        let text = table(&[web_of("default")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["NAME", "NETWORK", "ADDRESS", "MAC", "NETNS", "IFNAME", "STATE", "PORTS", "RX", "TX", "DROPS"]
        );
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["web", "default", "172.17.0.2", "02:42:ac:11:00:02", "4711", "eth0", "up", "-", "1.50kB", "84B", "7"]
        );
    }

    #[test]
    fn ids_of_engines_are_shown_as_docker_shows_them() {
        let id = "4f".repeat(32);
        for (netns, shown) in [
            (id.clone(), "4f4f4f4f4f4f".to_owned()),
            (format!("podman:{id}"), "podman:4f4f4f4f4f4f".into()),
            (
                "/run/netns/cni-0a1b2c3d-77aa-1234-5678-0a1b2c3d4e5f".into(),
                "/run/netns/cni-0a1b2c3d-77aa-1234-5678-0a1b2c3d4e5f".into(),
            ),
            ("a-namespace-of-some-long-name".into(), "a-namespace-of-some-long-name".into()),
            ("run:4711".into(), "run:4711".into()),
            ("/run/netns/é".into(), "/run/netns/é".into()),
        ] {
            assert_eq!(short_ids(&netns), shown);
        }
        let endpoint = EndpointInfo { netns: id, ..web_of("default") };
        assert!(table(&[endpoint]).contains(" 4f4f4f4f4f4f "));
    }

    #[test]
    fn an_endpoint_without_ipv4_shows_its_ipv6_address() {
        let mut endpoint = web_of("default");
        (endpoint.ipv4, endpoint.ipv6) = (None, Some("fd00::2".parse().unwrap()));
        assert_eq!(address(&endpoint), "fd00::2");
        endpoint.ipv6 = None;
        assert_eq!(address(&endpoint), "-");
    }
}
