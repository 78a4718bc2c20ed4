//! `tapswitch up`: the daemon, in the foreground or behind our back.
//!
//! Nothing here may start a thread: the keeper forks the switch, and enters user namespaces in forked children.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use anyhow::{Context, anyhow, bail};
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use tapswitch_netns::{OffloadMode, close_all_but};

use super::args::NetworkFlags;
use super::{Outcome, output, status};
use crate::daemon::api::client::Client;
use crate::daemon::host::has_ipv6;
use crate::daemon::name::Name;
use crate::daemon::settings::{DockerPlugin, Flags, Settings, check_workers};
use crate::daemon::{keeper, log, refuse_contradiction, switch_main};

/// The line a detached daemon says when it serves; any other says why it does not.
const SERVES: &str = "ok";

/// Start the switch
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch up                                  in the foreground, log on stderr
  tapswitch up -d                               in the background, once it serves
  tapswitch up -d --subnet 192.168.227.0/24 --icc false
  tapswitch up --config /etc/tapswitch.toml
  tapswitch up -d --docker-plugin               for `docker network create -d tapswitch`
  tapswitch up -d --state ~/lab                 a second one; its socket is ~/lab/run/api.sock

A stored network wins: flags that contradict it are an error that names both values. End it with `tapswitch down`, or with \
SIGTERM, which leaves the containers' devices to the next `up`.")]
pub(super) struct Args {
    /// Return once it serves, and leave it running; its log is `log` beside the sockets
    #[arg(short, long)]
    detach: bool,
    /// Configuration, as TOML; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep state in DIR and sockets in DIR/run [default: /var/lib/tapswitch and /run/tapswitch, or the XDG directories]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The network that the network flags speak of [default: default]
    #[arg(long, value_name = "NET")]
    name: Option<Name>,
    #[command(flatten)]
    network: NetworkFlags,
    /// Forwarding threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = workers, help_heading = "Forwarding")]
    workers: Option<usize>,
    /// Frames of up to 64 KB between containers, unsegmented and unsummed [default: auto]
    #[arg(long, value_name = "auto|on|off", value_parser = offload_mode, help_heading = "Forwarding")]
    offload: Option<OffloadMode>,
    /// Serve Docker's network and IPAM drivers `tapswitch` [default PATH: /run/docker/plugins/tapswitch.sock, where dockerd looks; with
    /// --state and for a user docker.sock beside api.sock]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, help_heading = "Docker")]
    docker_plugin: Option<Option<PathBuf>>,
}

fn offload_mode(text: &str) -> Result<OffloadMode, String> {
    match text {
        "auto" => Ok(OffloadMode::Auto),
        "on" => Ok(OffloadMode::On),
        "off" => Ok(OffloadMode::Off),
        _ => Err("want auto, on or off".into()),
    }
}

fn workers(text: &str) -> Result<usize, String> {
    let workers = text.parse().map_err(|e| format!("{e}"))?;
    check_workers(workers).map(|()| workers).map_err(|e| e.to_string())
}

pub(super) fn run(args: Args, socket: Option<&Path>) -> Outcome {
    let detach = args.detach;
    let settings = settings(args, socket)?;
    if let Some(complaint) = log::complaint() {
        output::complain(&format!("warning: {complaint}"));
    }
    if detach { detached(&settings) } else { serve(&settings, None) }
}

fn settings(args: Args, socket: Option<&Path>) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(&flags(args))?;
    if let Some(path) = socket {
        let path = std::path::absolute(path).context("up: --socket")?;
        if path.file_name() != Some("api.sock".as_ref()) {
            bail!("up: --socket {}: its name must be api.sock; attach.sock will lie beside it", path.display());
        }
        settings.run_dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        settings.given_by[1] = "give another --socket";
    }
    settings.refuse_others_directories()?;
    Ok(settings)
}

fn flags(args: Args) -> Flags {
    Flags {
        config: args.config,
        state: args.state,
        network: args.network.create(args.name.as_ref()),
        workers: args.workers,
        offload: args.offload,
        docker_plugin: args.docker_plugin.map(|path| path.map_or(DockerPlugin::Usual, DockerPlugin::At)),
    }
}

/// Forks, and returns in the parent when the child serves or has failed.
fn detached(settings: &Settings) -> Outcome {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let client = Client::new(settings.api_socket());
    // SAFETY: this process has one thread, so the child may do all that the parent may.
    match unsafe { fork() }.context("up: fork")? {
        ForkResult::Child => {
            drop(reader);
            process::exit(in_background(settings, writer));
        }
        ForkResult::Parent { .. } => {
            drop(writer);
            await_serving(File::from(reader))?;
            report_warnings(&client);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn await_serving(reader: impl Read) -> anyhow::Result<()> {
    let mut said = String::new();
    BufReader::new(reader).read_line(&mut said)?;
    match said.trim_end() {
        SERVES => Ok(()),
        "" => bail!("up: the daemon died while it started (its log may say why)"),
        error => Err(anyhow!(error.to_owned())),
    }
}

/// They are in the log as well, which nobody reads.
fn report_warnings(client: &Client) {
    // It serves, and if it does not any more, this is not the place to say so.
    for warning in status::wait(client, std::time::Duration::ZERO).map(|s| s.warnings).unwrap_or_default() {
        output::complain(&format!("warning: {warning}"));
    }
}

fn in_background(settings: &Settings, writer: OwnedFd) -> i32 {
    if let Err(error) = leave_terminal() {
        // Who waited may have been interrupted.
        let _ = writeln!(File::from(writer), "{}", output::one_line(&error));
        return 1;
    }
    // Whoever waits for the end of another of the caller's descriptors, as for a lock, must not wait for ours.
    close_all_but(&[writer.as_fd()]);
    match serve(settings, Some(writer)) {
        Ok(_) => 0,
        Err(error) => {
            // For the log; whoever waited was told.
            output::complain(&output::one_line(&error));
            1
        }
    }
}

fn leave_terminal() -> anyhow::Result<()> {
    setsid().context("up: leave the session")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("up: open /dev/null")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    std::env::set_current_dir("/").context("up: go to /")
}

/// The daemon's whole life. `ready` is told when it serves, or why it does not.
fn serve(settings: &Settings, ready: Option<OwnedFd>) -> Outcome {
    log::start(ready.is_some());
    let config = keeper::Config {
        run_dir: settings.run_dir.clone(),
        state_dir: settings.state_dir.clone(),
        api_socket: settings.api_socket(),
        docker_socket: settings.docker_socket.clone(),
        log: ready.is_some().then(|| settings.run_dir.join("log")),
        ready,
    };
    keeper::run(config, || refuse_contradiction(settings, has_ipv6()), |start| switch_main(start, settings))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_s_word_decides() {
        let said = |text: &[u8]| await_serving(text).map_err(|e| e.to_string());
        assert_eq!(said(b"ok\n"), Ok(()));
        assert_eq!(said(b"state in use").unwrap_err(), "state in use");
        assert!(said(b"").unwrap_err().contains("died"));
    }
}
