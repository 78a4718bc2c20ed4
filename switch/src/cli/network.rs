//! `tapswitch network create|rm|ls|inspect|set`.

use std::process::ExitCode;

use clap::{ArgGroup, Subcommand};

use super::args::{NetworkFlags, mtu};
use super::table::Table;
use super::{Outcome, output};
use crate::daemon::api::client::{Client, encoded};
use crate::daemon::api::types::{NetworkInfo, NetworkSet};
use crate::daemon::name::Name;

/// Make, change and show networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch network create blue --subnet 192.168.227.0/24
  tapswitch network ls
  tapswitch network set blue --icc false")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a network
    #[command(after_help = "Examples:
  tapswitch network create blue
  tapswitch network create db --subnet 192.168.227.0/24 --icc false --mtu 9000
  tapswitch network create v4 --ipv6 off --json")]
    Create(Box<CreateArgs>),
    /// Remove a network that has no endpoints
    #[command(after_help = "Examples:
  tapswitch network rm blue")]
    Rm {
        /// The network
        name: Name,
    },
    /// List the networks
    #[command(after_help = "Examples:
  tapswitch network ls
  tapswitch network ls --json | jq -r '.[].subnet'")]
    Ls {
        /// Print an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Show everything about a network
    #[command(after_help = "Examples:
  tapswitch network inspect default
  tapswitch network inspect default --json | jq -r .gateway_mac")]
    Inspect {
        /// The network
        name: Name,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Change a live network; the change holds when the command returns
    #[command(after_help = "Examples:
  tapswitch network set default --icc false    cuts live flows that no rule allows
  tapswitch network set default --mtu 9000
  tapswitch network set default --host-access true")]
    Set(SetArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its name
    name: Name,
    #[command(flatten)]
    flags: NetworkFlags,
    /// Print the network as an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("changes").args(["icc", "mtu", "host_access"]).required(true).multiple(true))]
struct SetArgs {
    /// The network
    name: Name,
    /// Containers talk freely
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    icc: Option<bool>,
    /// Largest IP packet, in bytes
    #[arg(long, value_name = "N", value_parser = mtu)]
    mtu: Option<u32>,
    /// Containers may reach the host itself, as host.tapswitch
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    host_access: Option<bool>,
    /// Print the network as an object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether nothing of the daemon is changed.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.verb, Verb::Ls { .. } | Verb::Inspect { .. })
    }
}

pub(super) fn run(args: Args, client: &Client) -> Outcome {
    match args.verb {
        Verb::Create(args) => create(&args, client),
        Verb::Rm { name } => {
            client.delete(&path(&name))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Ls { json } => list(json, client),
        Verb::Inspect { name, json } => {
            let network: NetworkInfo = client.get(&path(&name), &[])?;
            show(&network, json)
        }
        Verb::Set(args) => set(&args, client),
    }
}

fn create(args: &CreateArgs, client: &Client) -> Outcome {
    let network: NetworkInfo = client.post("/v1/networks", &args.flags.create(Some(&args.name)))?;
    for warning in &network.warnings {
        output::complain(&format!("warning: {warning}"));
    }
    if args.json {
        output::json(&network)?;
    } else {
        output::line(&format!("{} {}", network.name, network.subnet))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn set(args: &SetArgs, client: &Client) -> Outcome {
    let change = NetworkSet { icc: args.icc, mtu: args.mtu, host_access: args.host_access };
    let network: NetworkInfo = client.patch(&path(&args.name), &change)?;
    if args.json {
        output::json(&network)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool, client: &Client) -> Outcome {
    let networks: Vec<NetworkInfo> = client.get("/v1/networks", &[])?;
    output::show(&networks, json, |networks| table(networks))?;
    Ok(ExitCode::SUCCESS)
}

fn show(network: &NetworkInfo, json: bool) -> Outcome {
    output::show(network, json, text)?;
    Ok(ExitCode::SUCCESS)
}

fn path(name: &Name) -> String {
    format!("/v1/networks/{}", encoded(name.as_str()))
}

fn table(networks: &[NetworkInfo]) -> String {
    let mut table = Table::new(&["NAME", "SUBNET", "GATEWAY", "SUBNET6", ">MTU", "ICC", "UPLINK", ">ENDPOINTS"]);
    for n in networks {
        table.row([
            n.name.clone(),
            n.subnet.to_string(),
            n.gateway.to_string(),
            output::or_dash(n.subnet6),
            n.mtu.to_string(),
            n.icc.to_string(),
            n.uplink.to_string(),
            n.endpoints.len().to_string(),
        ]);
    }
    table.text()
}

fn text(network: &NetworkInfo) -> String {
    let endpoints = if network.endpoints.is_empty() { "-".into() } else { network.endpoints.join(", ") };
    let mut lines = vec![
        ("name", network.name.clone()),
        ("subnet", network.subnet.to_string()),
        ("gateway", network.gateway.to_string()),
        ("range", output::or_dash(network.range)),
        ("subnet6", output::or_dash(network.subnet6)),
        ("gateway6", output::or_dash(network.gateway6)),
        ("gateway_mac", network.gateway_mac.to_string()),
        ("mtu", network.mtu.to_string()),
        ("icc", network.icc.to_string()),
        ("uplink", network.uplink.to_string()),
        ("host_access", network.host_access.to_string()),
        ("host", output::or_dash(network.host)),
        ("host6", output::or_dash(network.host6)),
        ("endpoints", endpoints),
    ];
    lines.extend(network.warnings.iter().map(|warning| ("warning", warning.clone())));
    lines.iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::types::UplinkKind;
    use crate::frame::Mac;

    fn network() -> NetworkInfo {
        NetworkInfo {
            name: "default".into(),
            subnet: "172.17.0.0/16".parse().unwrap(),
            gateway: [172, 17, 0, 1].into(),
            range: None,
            subnet6: None,
            gateway6: None,
            gateway_mac: Mac::of_ipv4([172, 17, 0, 1].into()),
            mtu: 1500,
            icc: true,
            uplink: UplinkKind::User,
            host_access: false,
            host: None,
            host6: None,
            endpoints: vec!["db".into(), "web".into()],
            warnings: vec!["overlaps".into()],
        }
    }

    #[test]
    fn a_network_is_one_line_of_ls() {
        let text = table(&[network()]);
        let line: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line, ["default", "172.17.0.0/16", "172.17.0.1", "-", "1500", "true", "user", "2"]);
    }

    #[test]
    fn inspect_names_endpoints_and_warnings() {
        let text = text(&network());
        assert!(text.contains("\nendpoints   db, web\nwarning     overlaps\n"), "{text}");
    }
}
