//! `tapswitch run`: a command in namespaces of its own, attached before it starts.
//!
//! The command stays in our session and foreground process group, so the terminal is its own: Ctrl-C reaches it directly.
//! What others send us is passed on, and so is the end of a terminal that is ours alone to hear of. We end as it ends, after
//! its endpoint was detached. Before it starts, signals end us, and its namespaces and the endpoint with us.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{execvp, getpgid, getpgrp, getpid, getsid, tcgetpgrp, tcsetpgrp};

use super::args::EndpointFlags;
use super::container::{Container, State};
use super::resolv_conf::{self, Watch};
use super::signals::{Arrived, FORWARDED, Signals, reset};
use super::{Outcome, attach, output};
use crate::daemon::api::client::{Client, ClientError};
use crate::daemon::api::types::{AttachRequest, EndpointInfo};
use crate::daemon::name::Name;

/// The exit status of our own failures, and of a CMD that cannot be executed, or is not there: docker's.
pub(super) const OURS: u8 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// What `ls` shows as the namespace's name begins so; `exec` enters the mounts of such a one too.
pub(super) const NETNS_PREFIX: &str = "run:";

/// Run a command in a network namespace of its own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch run -- sh
  tapswitch run --name web -- python3 -m http.server 80
  tapswitch run --name db --ip 172.17.0.9 -- postgres -D /srv/db
  tapswitch run -p 8080:80 -- python3 -m http.server 80     clients of the host's port 8080
  tapswitch run --network blue -- ip address
  tapswitch run --name db1 --alias db -- postgres -D /srv/db1

As an ordinary user CMD is root in a user namespace of its own. Exit status: CMD's, 128+N where signal N ended it, 125 where \
tapswitch failed, 126 where CMD cannot be executed, 127 where it is not found.")]
pub(super) struct Args {
    #[command(flatten)]
    endpoint: EndpointFlags,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: Args, client: &Client) -> Outcome {
    let (resolv_conf, told) = resolv_conf::channel().context("run")?;
    let begin = || {
        told.mount();
        execute(&args.command)
    };
    let mut container = Container::start(begin).context("run")?;
    let endpoint = attach_container(&args, client, &container)?;
    let mut names = resolv_conf.tell(client, &endpoint, container.pid());
    // Until now a signal ends us, however long the daemon takes, and what was made ends with us. From now on it is CMD's.
    let signals = Signals::block(&[&FORWARDED[..], &[Signal::SIGCHLD]].concat()).context("run: block signals")?;
    let status = container.release().and_then(|()| wait(&mut container, &signals, names.as_mut()));
    drop(container);
    detach(client, &endpoint);
    Ok(ExitCode::from(u8::try_from(status?).unwrap_or(OURS)))
}

fn attach_container(args: &Args, client: &Client, container: &Container) -> anyhow::Result<EndpointInfo> {
    let pid = container.pid();
    let name = args.endpoint.name.clone().or_else(|| default_name(&args.command[0], pid.as_raw()));
    let flags = EndpointFlags { name, ..args.endpoint.clone() };
    let request = AttachRequest { netns: format!("{NETNS_PREFIX}{pid}"), ..attach::request(&flags) };
    Ok(attach::attach(client, &request, container.namespace()?.as_fd())?)
}

/// `CMD-PID`.
fn default_name(command: &OsStr, pid: i32) -> Option<Name> {
    let base = Path::new(command).file_name()?.to_string_lossy();
    Some(Name::nearest(&base)?.numbered(pid.unsigned_abs()))
}

/// Passes signals on, and keeps the resolv.conf in its place, until the child has ended.
fn wait(container: &mut Container, signals: &Signals, mut names: Option<&mut Watch>) -> anyhow::Result<i32> {
    loop {
        match container.poll().context("run: wait for CMD")? {
            State::Ended(status) => return Ok(status),
            State::Stopped(signal) => stop_with(container, signal),
            State::Runs => {}
        }
        let watched = names.as_ref().map(|names| names.as_fd());
        let all = std::iter::once(signals.as_fd()).chain(watched);
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut all, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("run: wait for signals"),
        }
        if let Some(Err(error)) = names.as_mut().map(|names| names.heed()) {
            output::complain(&format!("names: {}; the host's resolv.conf is not watched any more", error.desc()));
            names = None;
        }
        while let Some(arrived) = signals.next().context("run: read signals")? {
            if arrived.signal != Signal::SIGCHLD && !has_got(container, arrived) {
                container.signal(arrived.signal);
            }
        }
    }
}

/// CMD has stopped. Where it has the terminal, or left it to us, whoever started us waits to have it back: we stop by the same signal,
/// and CMD goes on when we do, with the terminal if that is ours again. Who leads a session has nobody who would take it up again.
fn stop_with(container: &Container, signal: Signal) {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else { return };
    let (Ok(group), Ok(has_it)) = (getpgid(Some(container.pid())), tcgetpgrp(&terminal)) else { return };
    if getsid(None) == Ok(getpid()) || (has_it != group && has_it != getpgrp()) {
        return;
    }
    // To us alone, as it came to CMD alone; returns when we go on.
    let _ = kill(getpid(), signal);
    if has_it == group && tcgetpgrp(&terminal) == Ok(getpgrp()) {
        // CMD may have ended; then there is no such group, and nobody misses it.
        let _ = tcsetpgrp(&terminal, group);
    }
    container.signal(Signal::SIGCONT);
}

/// Whether CMD got it too: the terminal's signals go to its foreground group, which CMD may have left. A terminal that hangs up tells
/// the leader of its session alone, as we are under `ssh -t` or in a window of our own (`__tty_hangup` of drivers/tty/tty_io.c).
fn has_got(container: &Container, arrived: Arrived) -> bool {
    let is_ours_alone = arrived.signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
    arrived.from_terminal && !is_ours_alone && getpgid(Some(container.pid())) == Ok(getpgrp())
}

/// The daemon may have seen the namespace die already, or may be gone itself: both are fine, and another endpoint that has
/// the name by now stays. What else fails is said, and changes nothing of CMD's exit status.
fn detach(client: &Client, endpoint: &EndpointInfo) {
    match client.detach(endpoint) {
        Ok(()) | Err(ClientError::NoDaemon(_)) => {}
        Err(error) => output::complain(&format!("detach {}/{}: {error}", endpoint.network, endpoint.name)),
    }
}

/// Becomes the command; returns the exit status of a failure, which it has reported.
pub(super) fn execute(command: &[OsString]) -> i32 {
    match become_command(command) {
        Ok(never) => match never {},
        Err((error, status)) => {
            output::complain(&error);
            status
        }
    }
}

fn become_command(command: &[OsString]) -> Result<std::convert::Infallible, (String, i32)> {
    let shown = command[0].to_string_lossy();
    let words: Result<Vec<CString>, _> = command.iter().map(|w| CString::new(w.as_bytes())).collect();
    let words = words.expect("arguments of a process hold no NUL");
    reset().map_err(|e| (format!("{shown}: reset signals: {e}"), i32::from(OURS)))?;
    execvp(&words[0], &words).map_err(|error| not_executed(&shown, error))
}

/// What is said of a command that cannot be executed, and the status that says so too.
fn not_executed(command: &str, error: Errno) -> (String, i32) {
    let error = if error == Errno::EACCES && !is_anywhere(command) { Errno::ENOENT } else { error };
    let status = if matches!(error, Errno::ENOENT | Errno::ENOTDIR) { NOT_FOUND } else { NOT_EXECUTABLE };
    (format!("{command}: {}", error.desc().to_lowercase()), status)
}

/// Whether there is such a file where it is looked for. A directory of PATH that may not be searched is no reason to think so.
fn is_anywhere(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.contains('/') || std::env::split_paths(&path).any(|directory| directory.join(command).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(text: &str) -> OsString {
        text.into()
    }

    #[test]
    fn the_default_name_is_the_command_s_and_the_process_s() {
        assert_eq!(default_name(&os("/usr/bin/python3"), 4711).unwrap().as_str(), "python3-4711");
        assert_eq!(default_name(&os("my prog"), 7).unwrap().as_str(), "my-prog-7");
        assert_eq!(default_name(&os(".."), 7), None);
    }

    #[test]
    fn exec_failures_have_docker_s_statuses() {
        assert_eq!(not_executed("/no/such/command", Errno::ENOENT).1, 127);
        assert_eq!(not_executed("/etc/passwd", Errno::EACCES), ("/etc/passwd: permission denied".into(), 126));
        assert_eq!(not_executed("nowhere-in-path", Errno::EACCES).1, 127, "a directory of PATH may not be searched");
    }
}
