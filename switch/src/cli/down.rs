//! `tapswitch down`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Outcome, resolv_conf};
use crate::daemon::api::client::{Client, ClientError};
use crate::daemon::api::types::{EndpointInfo, Status};

/// How long after its answer the daemon may still be there: it has only to end its threads.
const ENDING: Duration = Duration::from_secs(5);

/// Detach everything and end the daemon; networks and rules are kept
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch down
  tapswitch --socket /srv/s/run/api.sock down

Containers lose their device. To restart the daemon under running containers, end it with SIGTERM instead.")]
pub(super) struct Args {}

/// Returns when the daemon is gone.
pub(super) fn run(_: &Args, client: &Client) -> Outcome {
    let endpoints: Vec<EndpointInfo> = client.get("/v1/endpoints", &[])?;
    let _: serde_json::Value = client.post("/v1/down", &serde_json::json!({}))?;
    endpoints.iter().for_each(resolv_conf::remove_netns);
    let deadline = Instant::now() + ENDING;
    while !matches!(client.get::<Status>("/v1/status", &[]), Err(ClientError::NoDaemon(_))) {
        if Instant::now() > deadline {
            bail!("down: all is detached, but the daemon at {} still answers", client.socket().display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(ExitCode::SUCCESS)
}
