//! A process in namespaces of its own, that waits there until it is told to go on: what `run` and `demo` are made of.
//!
//! It is forked, makes its namespaces (user, where we may not make the others without; network; mount), mounts a /sys
//! that shows its own devices, says so, and waits. It dies with its parent. The parent must have one thread when it
//! starts one, as after every fork.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, getppid};
use tapswitch_netns::Namespace;

use super::userns;

/// What the child says when its namespaces are made; anything else is why they are not.
const MADE: &[u8] = b"made";

/// The child. Dropped, it is killed and waited for.
#[derive(Debug)]
pub(super) struct Container {
    pid: Pid,
    conversation: UnixStream,
    ended: bool,
}

/// What has become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing new.
    Runs,
    /// This signal has stopped it, which is told once.
    Stopped(Signal),
    /// Its exit status: 128 and the signal's number where one killed it.
    Ended(i32),
}

impl Container {
    /// Forks a child into namespaces of its own; `body` runs there after [`Container::release`], and its value is the
    /// child's exit status.
    ///
    /// # Errors
    /// When a namespace cannot be made: one line with the remedy.
    pub(super) fn start(body: impl FnOnce() -> i32) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let parent = nix::unistd::getpid();
        // SAFETY: this process has one thread, so the child may do all that the parent may.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Child => {
                drop(ours);
                // A panic must not unwind into what the parent was doing.
                let life = catch_unwind(AssertUnwindSafe(|| child(parent, theirs, body)));
                process::exit(life.unwrap_or(i32::from(super::run::OURS)));
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let mut container = Container { pid: child, conversation: ours, ended: false };
                container.await_namespaces()?;
                Ok(container)
            }
        }
    }

    /// The child's process.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// When the child died.
    pub(super) fn namespace(&self) -> anyhow::Result<Namespace> {
        Ok(Namespace::of_pid(self.pid.as_raw())?)
    }

    /// Lets `body` run.
    ///
    /// # Errors
    /// When the child died.
    pub(super) fn release(&mut self) -> anyhow::Result<()> {
        self.conversation.write_all(b"g").context("the process in the new namespaces died")
    }

    /// Sends it a signal; one that has ended cannot be hurt.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.ended {
            // It is our child and was not waited for, so the pid is its own; what can fail is that it is dying.
            let _ = kill(self.pid, signal);
        }
    }

    /// What has become of it since it was asked last.
    ///
    /// # Errors
    /// As `waitpid(2)`.
    pub(super) fn poll(&mut self) -> nix::Result<State> {
        let state = state(self.pid, libc::WNOHANG | libc::WUNTRACED)?;
        self.ended |= matches!(state, State::Ended(_));
        Ok(state)
    }

    fn await_namespaces(&mut self) -> anyhow::Result<()> {
        let mut said = vec![0; 1024];
        match self.conversation.read(&mut said)? {
            0 => bail!("the process in the new namespaces died"),
            n if &said[..n] == MADE => Ok(()),
            n => Err(anyhow!(String::from_utf8_lossy(&said[..n]).into_owned())),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        while !self.ended {
            match state(self.pid, 0) {
                Err(Errno::EINTR) => {}
                _ => self.ended = true,
            }
        }
    }
}

/// The state of our child `pid`. Not by nix, which knows no real-time signals and fails at their numbers.
fn state(pid: Pid, flags: libc::c_int) -> nix::Result<State> {
    let mut status = 0;
    // SAFETY: the status is written to a variable of ours.
    let waited = Errno::result(unsafe { libc::waitpid(pid.as_raw(), &raw mut status, flags) })?;
    Ok(match waited {
        0 => State::Runs,
        _ if libc::WIFEXITED(status) => State::Ended(libc::WEXITSTATUS(status)),
        _ if libc::WIFSIGNALED(status) => State::Ended(128 + libc::WTERMSIG(status)),
        _ if libc::WIFSTOPPED(status) => Signal::try_from(libc::WSTOPSIG(status)).map_or(State::Runs, State::Stopped),
        _ => State::Runs,
    })
}

fn child(parent: Pid, mut conversation: UnixStream, body: impl FnOnce() -> i32) -> i32 {
    let made = enter_new_namespaces().and_then(|()| die_with(parent));
    let said = match &made {
        Ok(()) => conversation.write_all(MADE),
        Err(why) => conversation.write_all(why.as_bytes()),
    };
    let mut go = [0];
    // An end of the conversation instead of the word means that the parent failed, and said why.
    if made.is_err() || said.is_err() || conversation.read_exact(&mut go).is_err() {
        return i32::from(super::run::OURS);
    }
    body()
}

/// After the credentials have changed: that resets it.
fn die_with(parent: Pid) -> Result<(), String> {
    set_pdeathsig(Signal::SIGKILL).map_err(|e| e.to_string())?;
    // It may have died before.
    if getppid() == parent { Ok(()) } else { Err("the parent died".into()) }
}

fn enter_new_namespaces() -> Result<(), String> {
    let of_user = !userns::is_privileged();
    if of_user {
        enter_user_namespace()?;
    }
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| userns::explain("make a network namespace", e, of_user))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| userns::explain("make a mount namespace", e, of_user))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .map_err(|e| userns::explain("keep mounts from the host", e, of_user))?;
    mount_sys();
    Ok(())
}

/// A user namespace in which we are root, and nobody else is anybody: that map needs no helper.
fn enter_user_namespace() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| userns::explain("make a user namespace", e, true))?;
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        fs::write(format!("/proc/self/{file}"), text).map_err(|e| {
            let errno = Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
            userns::explain(&format!("map users: /proc/self/{file}"), errno, true)
        })?;
    }
    Ok(())
}

/// Mounts a sysfs over /sys, so that /sys/class/net shows this namespace's devices, and puts the control groups back on it.
/// Where the kernel refuses, as in some containers, /sys stays the host's: that hinders no traffic.
fn mount_sys() {
    let cgroup = fs::File::open("/sys/fs/cgroup");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>).is_err() {
        return;
    }
    if let Ok(cgroup) = cgroup {
        let source = format!("/proc/self/fd/{}", cgroup.as_raw_fd());
        // Without it `run` works, and its CMD cannot look at control groups.
        let _ = mount(
            Some(source.as_str()),
            "/sys/fs/cgroup",
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn end(container: &mut Container) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match container.poll().unwrap() {
                State::Ended(status) => return status,
                _ => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_body_runs_in_another_namespace_after_release_and_its_value_is_the_status() {
        let mut container = Container::start(|| 42).unwrap();
        assert_ne!(container.namespace().unwrap().id(), Namespace::current().unwrap().id());
        assert_eq!(container.poll().unwrap(), State::Runs);
        container.release().unwrap();
        assert_eq!(end(&mut container), 42);
    }

    #[test]
    fn a_signal_that_ends_it_shows_in_its_status() {
        let mut container = Container::start(|| 0).unwrap();
        container.signal(Signal::SIGKILL);
        assert_eq!(end(&mut container), 128 + 9);
        assert!(container.release().is_err());
    }

    #[test]
    fn a_signal_that_stops_it_is_told() {
        let mut container = Container::start(|| 0).unwrap();
        container.signal(Signal::SIGSTOP);
        let deadline = Instant::now() + Duration::from_secs(10);
        while container.poll().unwrap() != State::Stopped(Signal::SIGSTOP) {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        container.signal(Signal::SIGCONT);
        container.release().unwrap();
        assert_eq!(end(&mut container), 0);
    }

    #[test]
    fn dropped_it_is_gone() {
        let container = Container::start(|| 0).unwrap();
        let pid = container.pid();
        drop(container);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
