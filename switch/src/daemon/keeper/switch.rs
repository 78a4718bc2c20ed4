//! The switch process, as its keeper sees it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use tapswitch_netns::message;

use super::error::{Error, Result};
use super::kept::{KeptDescriptors, Label};
use super::listen::Listeners;
use super::message::{ToKeeper, ToSwitch};
use super::renounce::renounce;
use super::start::{Config, SwitchStart};

/// Answers that may wait for a switch that does not read; beyond them it is not listened to.
const OUTBOX_MAX: usize = 4096;

/// A running switch. Dropped, it is left alone: it outlives its keeper.
#[derive(Debug)]
pub(super) struct Switch {
    pid: Pid,
    socket: OwnedFd,
    outbox: VecDeque<(ToSwitch, Enclosed)>,
    /// The last send failed for what no event tells the end of.
    blocked: bool,
}

/// What goes with a message.
#[derive(Debug)]
enum Enclosed {
    Nothing,
    /// A duplicate of a descriptor that is kept.
    Kept(Label),
    /// Descriptors that nobody keeps.
    Given(Vec<OwnedFd>),
}

/// What came from the switch.
#[derive(Debug)]
pub(super) enum Heard {
    Message(ToKeeper, Option<OwnedFd>),
    /// Not ours to understand; it was thrown away.
    Nonsense(io::Error),
    Nothing,
    Closed,
}

impl Switch {
    /// Forks one. It renounces its rights and becomes `switch_main`, whose value is its exit status.
    pub(super) fn spawn(
        listeners: &Listeners,
        config: &Config,
        restarts: u32,
        switch_main: &impl Fn(SwitchStart) -> i32,
    ) -> Result<Switch> {
        let failed = |error: io::Error| Error::system("start the switch process", error);
        let (ours, theirs) = message::pair().map_err(failed)?;
        let Listeners { api, attach, takeover, docker, .. } = listeners.duplicate().map_err(failed)?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(errno.into()))?;
        let start = SwitchStart {
            keeper: theirs,
            api,
            attach,
            docker,
            takeover,
            restarts,
            run_dir: config.run_dir.clone(),
            state_dir: config.state_dir.clone(),
        };
        // SAFETY: the keeper has one thread, so the child is a whole process; it never returns from `become_switch`.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => {
                Ok(Switch { pid: child, socket: ours, outbox: VecDeque::new(), blocked: false })
            }
            Ok(ForkResult::Child) => become_switch(start, switch_main),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// To wait for.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits for the socket to take it.
    pub(super) fn waits_for_room(&self) -> bool {
        !self.outbox.is_empty() && !self.blocked
    }

    /// Whether something waits that only trying again sends: the kernel's limit of descriptors on their way.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether it reads what it is sent, and so may say more.
    pub(super) fn is_heard(&self) -> bool {
        self.outbox.len() < OUTBOX_MAX
    }

    /// Queues a message; the descriptor kept under `label` goes with it.
    pub(super) fn tell(&mut self, message: ToSwitch, label: Option<Label>) {
        self.outbox.push_back((message, label.map_or(Enclosed::Nothing, Enclosed::Kept)));
    }

    /// Queues a message; the descriptors go with it, and are closed here.
    pub(super) fn give(&mut self, message: ToSwitch, fds: Vec<OwnedFd>) {
        self.outbox.push_back((message, Enclosed::Given(fds)));
    }

    /// Sends what the socket takes. A broken connection shows in [`hear`](Switch::hear).
    pub(super) fn flush(&mut self, kept: &KeptDescriptors) {
        self.blocked = false;
        while let Some((message, enclosed)) = self.outbox.front() {
            let socket = self.socket.as_fd();
            let sent = match enclosed {
                Enclosed::Nothing => message::send(socket, message, None),
                Enclosed::Given(fds) => {
                    message::send_with(socket, message, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>())
                }
                Enclosed::Kept(label) => match (kept.fd(label), gone(message)) {
                    (Some(fd), _) => message::send(socket, message, Some(fd)),
                    // Detached before the switch read of it.
                    (None, Some(message)) => message::send(socket, &message, None),
                    (None, None) => Ok(()),
                },
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) => {
                    self.blocked = true;
                    return;
                }
                Ok(()) => {}
                // It ended, which `hear` tells with its last words; nothing more is to be said of that.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => tracing::warn!("tell the switch: {error}"),
            }
            self.outbox.pop_front();
        }
    }

    /// The next message, without waiting.
    pub(super) fn hear(&self) -> Heard {
        match message::recv(self.socket.as_fd()) {
            Ok(Some((message, fd))) => Heard::Message(message, fd),
            Ok(None) => Heard::Closed,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Err(error) if error.raw_os_error().is_none() => Heard::Nonsense(error),
            Err(_) => Heard::Closed,
        }
    }

    /// Ends it, if it has not ended, and reaps it; says how it ended.
    pub(super) fn kill(&self) -> String {
        // Not reaped yet, so the number is still its; fails only when there is nothing left to end.
        let _ = kill(self.pid, Signal::SIGKILL);
        match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, status)) => format!("exit status {status}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => signal.to_string(),
            other => format!("{other:?}"),
        }
    }
}

/// What a message about a kept descriptor becomes once that is gone.
fn gone(message: &ToSwitch) -> Option<ToSwitch> {
    match message {
        ToSwitch::Attached { job, .. } => {
            Some(ToSwitch::Failed { job: *job, error: "it was detached meanwhile".into(), gone: false })
        }
        ToSwitch::Bound { job, .. } => {
            Some(ToSwitch::NotBound { job: *job, errno: Errno::ECANCELED as i32, holder: None })
        }
        _ => None,
    }
}

/// The switch process's life.
fn become_switch(start: SwitchStart, switch_main: &impl Fn(SwitchStart) -> i32) -> ! {
    let life = catch_unwind(AssertUnwindSafe(|| {
        let docker = start.docker.as_ref().map(AsFd::as_fd);
        let always = [start.keeper.as_fd(), start.api.as_fd(), start.attach.as_fd(), start.takeover.as_fd()];
        let keep: Vec<_> = always.into_iter().chain(docker).collect();
        match renounce(c"tapswitch", &keep) {
            Ok(()) => switch_main(start),
            Err(error) => {
                tracing::error!("{error}");
                1
            }
        }
    }));
    // Nothing of the keeper's is dropped here: this process never returns to where it was forked.
    std::process::exit(life.unwrap_or(101))
}
