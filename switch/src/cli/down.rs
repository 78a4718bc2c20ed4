//! `tapswitch down`.
//!
//! A switch process that hangs takes no order. It is killed: its keeper starts another at once, which has every device and detaches
//! them. Nothing is lost by it that `down` would have spared.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};
use nix::unistd::Pid;

use super::{Outcome, output, resolv_conf, status};
use crate::daemon::api::client::{Client, ClientError};
use crate::daemon::api::types::{EndpointInfo, Status};

/// How long after its answer the daemon may still be there: it has only to end its threads.
const ENDING: Duration = Duration::from_secs(5);

/// Detach everything and end the daemon; networks and rules are kept
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch down
  tapswitch --socket /srv/s/run/api.sock down

Containers lose their device. A switch that hangs is killed, and its successor does it. To restart the daemon under running containers, end it with SIGTERM instead.")]
pub(super) struct Args {}

/// Returns when the daemon is gone.
pub(super) fn run(_: &Args, client: &Client) -> Outcome {
    end_hung(client)?;
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

/// Kills a switch process that does not answer; the next one does.
fn end_hung(client: &Client) -> anyhow::Result<()> {
    let Err(silent @ ClientError::Silent { .. }) = status::wait(client, Duration::ZERO) else { return Ok(()) };
    let Some(switch) = switch_of(client)? else {
        bail!("down: {silent}; its keeper is gone, so end its process `tapswitch` by its pid")
    };
    output::complain(&format!("down: the switch, pid {switch}, does not answer: killing it"));
    kill(switch, Signal::SIGKILL).with_context(|| format!("down: kill {switch}"))
}

/// The switch process of the keeper that made the socket; `None` where that is gone.
fn switch_of(client: &Client) -> anyhow::Result<Option<Pid>> {
    let at = client.socket().display();
    let connection =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(connection.as_raw_fd(), &UnixAddr::new(client.socket())?) {
        Ok(()) => {}
        Err(Errno::EAGAIN) => {
            bail!("down: the daemon at {at} does not answer, and too many wait for it: end it by its pid")
        }
        Err(error) => return Err(error).with_context(|| format!("down: connect to {at}")),
    }
    // unix(7): those of whoever called listen(2).
    let keeper = getsockopt(&connection, PeerCredentials).context("down: who made the socket")?.pid();
    Ok(children_of(keeper)
        .into_iter()
        .find(|child| name_of(*child) == "tapswitch")
        .filter(|_| name_of(keeper) == "tapswitch-keep")
        .map(Pid::from_raw))
}

/// By their parent, which /proc shows of every process.
fn children_of(parent: i32) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The fourth field of /proc/PID/stat; the second, in parentheses, may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_by_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children_of(i32::try_from(std::process::id()).unwrap()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_socket_that_is_no_daemon_s_names_no_switch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(switch_of(&Client::new(path)).unwrap(), None);
    }
}
