//! `tapswitch attach`: the client opens the namespace, the daemon never does.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use anyhow::Context;
use tapswitch_netns::Namespace;

use super::args::{EndpointFlags, checked, device_mac};
use super::{Outcome, output, resolv_conf};
use crate::daemon::api::client::{Client, ClientError};
use crate::daemon::api::types::{AttachRequest, EndpointInfo};
use crate::daemon::attach_socket;
use crate::daemon::name::Name;
use crate::daemon::wanted;
use crate::frame::Mac;

/// Give a namespace a device on a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch attach 4711                      the namespace of process 4711
  tapswitch attach blue --name web           /run/netns/blue, made by `ip netns add blue`
  tapswitch attach /proc/4711/ns/net --ip 172.17.0.9
  tapswitch attach 4711 --network db --ifname eth1     one namespace, a second network
  tapswitch attach blue -p 8080:80 -p 53:53/udp        with published ports
  tapswitch attach blue --rate-in 100mbit --rate-out 10mbit
  tapswitch attach lab --guard off           a nested switch, which speaks for the MACs behind it

The endpoint ends with its namespace, or by `tapswitch detach`.")]
pub(super) struct Args {
    /// All digits: a process; without `/`: a name under /run/netns; else a path
    netns: String,
    #[command(flatten)]
    endpoint: EndpointFlags,
    /// MAC [default: 02:42 and the IPv4 address]
    #[arg(long, value_name = "M", value_parser = device_mac)]
    mac: Option<Mac>,
    /// The device's name in the namespace
    #[arg(long, value_name = "NAME", default_value = "eth0", value_parser = checked(wanted::check_ifname))]
    ifname: String,
    /// The source guard: it sends from its own MAC and addresses only; off is for a nested switch, whose MACs are learned
    #[arg(long, value_name = "on|off", default_value = "on")]
    guard: OnOff,
    /// Print the endpoint as an object
    #[arg(long)]
    json: bool,
}

/// A flag's two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnOff {
    On,
    Off,
}

pub(super) fn run(args: Args, client: &Client) -> Outcome {
    let namespace = Namespace::resolve(&args.netns).context("attach")?;
    let request = AttachRequest {
        mac: args.mac,
        ifname: Some(args.ifname),
        netns: args.netns,
        guard: Some(args.guard == OnOff::On),
        ..request(&args.endpoint)
    };
    let endpoint = attach(client, &request, namespace.as_fd())?;
    resolv_conf::write_netns(client, &endpoint);
    if args.json {
        output::json(&endpoint)?;
    } else {
        output::line(&summary(&endpoint))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the flags ask for.
pub(super) fn request(flags: &EndpointFlags) -> AttachRequest {
    AttachRequest {
        network: flags.network.as_ref().map(Name::to_string),
        name: flags.name.as_ref().map(Name::to_string),
        aliases: flags.aliases.iter().map(Name::to_string).collect(),
        ip: flags.ip,
        ip6: flags.ip6,
        publish: flags.publish.iter().map(ToString::to_string).collect(),
        rate_in: flags.rate_in,
        rate_out: flags.rate_out,
        ..AttachRequest::default()
    }
}

/// Attaches `namespace` and returns when it is served.
///
/// # Errors
/// When nobody listens, or the daemon refuses: then nothing was changed.
pub(super) fn attach(
    client: &Client,
    request: &AttachRequest,
    namespace: BorrowedFd<'_>,
) -> Result<EndpointInfo, ClientError> {
    attach_socket::attach(&client.socket().with_file_name("attach.sock"), request, namespace)
}

/// Name, addresses and network in one line.
pub(super) fn summary(endpoint: &EndpointInfo) -> String {
    let addresses = endpoint.ipv4.map(|a| a.to_string()).into_iter().chain(endpoint.ipv6.map(|a| a.to_string()));
    format!("{} {}", endpoint.name, addresses.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::web_of;
    use super::*;

    #[test]
    fn attaching_without_a_daemon_names_the_socket_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("api.sock"));
        let namespace = Namespace::current().unwrap();
        let error = attach(&client, &AttachRequest::default(), namespace.as_fd()).unwrap_err().to_string();
        assert!(error.contains("attach.sock") && error.contains("tapswitch up -d"), "{error}");
    }

    #[test]
    fn the_summary_holds_name_and_addresses() {
        let mut endpoint = web_of("default");
        assert_eq!(summary(&endpoint), "web 172.17.0.2");
        endpoint.ipv6 = Some("fd00::2".parse().unwrap());
        assert_eq!(summary(&endpoint), "web 172.17.0.2 fd00::2");
    }
}
