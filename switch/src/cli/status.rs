//! `tapswitch status`.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Outcome, output};
use crate::daemon::api::client::{Client, ClientError};
use crate::daemon::api::types::Status;

/// Between two questions of `--wait`.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the daemon has for its answer where no `--wait` says it: a hundred times what a busy one takes, and what a monitor can wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Longest `--wait`, in seconds: a day, which no script means.
const MAX_WAIT: u64 = 86_400;

/// Show the daemon; exit 1 where none answers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch status
  tapswitch status --wait 10     until a daemon serves, for at most 10 s
  tapswitch status --json | jq .switch_pid")]
pub(super) struct Args {
    /// Wait for a daemon to serve, for at most SECS seconds
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(0..=MAX_WAIT))]
    wait: Option<u64>,
    /// Print an object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let status = wait(client, Duration::from_secs(args.wait.unwrap_or(0)))?;
    output::show(&status, args.json, text)?;
    Ok(ExitCode::SUCCESS)
}

/// The status, asked for until a daemon answers or `limit` is over. A daemon that is stopped takes a question and never answers:
/// each has what remains of the limit, and without one [`PATIENCE`].
///
/// # Errors
/// The last answer's.
pub(super) fn wait(client: &Client, limit: Duration) -> Result<Status, ClientError> {
    let deadline = Instant::now() + limit;
    loop {
        let remains = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
        match client.clone().within(if limit.is_zero() { PATIENCE } else { remains }).get("/v1/status", &[]) {
            Err(_) if Instant::now() < deadline => sleep(PAUSE),
            answer => return answer,
        }
    }
}

fn text(status: &Status) -> String {
    let keeper = output::or_dash(status.keeper_pid);
    let mut lines = vec![
        ("version", status.version.clone()),
        ("processes", format!("keeper {keeper}, switch {}", status.switch_pid)),
        ("uptime", format!("{}, {} restarts", output::duration(status.uptime_seconds), status.restarts)),
        ("forwarding", format!("{} workers, {}", status.workers, status.io)),
        ("networks", status.networks.to_string()),
        ("endpoints", status.endpoints.to_string()),
        ("state", status.state_dir.clone()),
        ("sockets", status.run_dir.clone()),
    ];
    lines.extend(status.docker_socket.iter().map(|socket| ("docker", socket.clone())));
    lines.extend(status.warnings.iter().map(|warning| ("warning", warning.clone())));
    lines.iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_follow_what_is_well() {
        let status = Status {
            version: "0.1.0".into(),
            keeper_pid: None,
            switch_pid: 8,
            uptime_seconds: 61,
            restarts: 0,
            workers: 2,
            io: "io_uring".into(),
            state_dir: "/var/lib/tapswitch".into(),
            run_dir: "/run/tapswitch".into(),
            docker_socket: Some("/run/docker/plugins/tapswitch.sock".into()),
            networks: 1,
            endpoints: 0,
            warnings: vec!["network default overlaps a route".into()],
        };
        let text = text(&status);
        assert!(text.contains("processes   keeper -, switch 8\nuptime      1m 1s, 0 restarts\n"), "{text}");
        let served = "sockets     /run/tapswitch\ndocker      /run/docker/plugins/tapswitch.sock\n";
        assert!(text.contains(served), "{text}");
        assert!(text.ends_with("warning     network default overlaps a route\n"), "{text}");
    }

    #[test]
    fn waiting_for_a_daemon_that_is_stopped_ends_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        // The kernel connects, and nobody accepts.
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = done.send(wait(&Client::new(path), Duration::from_millis(50)));
        });
        let error = ended.recv_timeout(Duration::from_secs(10)).expect("it ends").unwrap_err();
        assert!(error.to_string().contains("no answer within 1 s"), "{error}");
    }

    #[test]
    fn without_a_limit_a_daemon_that_is_stopped_is_given_up_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = done.send(wait(&Client::new(path), Duration::ZERO));
        });
        let error = ended.recv_timeout(2 * PATIENCE).expect("it ends").unwrap_err().to_string();
        assert!(error.contains("no answer within 5 s") && error.contains("api.sock hangs, or is stopped"), "{error}");
    }

    #[test]
    fn waiting_for_nobody_ends_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("api.sock"));
        let error = wait(&client, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("tapswitch up -d"), "{error}");
    }
}
