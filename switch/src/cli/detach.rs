//! `tapswitch detach`.

use std::process::ExitCode;

use super::{Outcome, args, resolv_conf};
use crate::daemon::api::client::Client;
use crate::daemon::name::Target;

/// Take an endpoint's device away
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch detach web
  tapswitch detach blue/web      where several networks have a `web`")]
pub(super) struct Args {
    /// The endpoint
    #[arg(value_name = "X")]
    endpoint: Target,
}

/// Returns when nothing is forwarded to or from it any more.
pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let endpoint = args::endpoint(client, &args.endpoint)?;
    client.detach(&endpoint)?;
    resolv_conf::remove_netns(&endpoint);
    Ok(ExitCode::SUCCESS)
}
