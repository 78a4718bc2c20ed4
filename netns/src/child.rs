//! Work in a forked child: what enters another namespace never comes back.
//!
//! The child does its work, sends one message (the result and at most one descriptor, or the few of
//! [`Child::spawn_with`]) and ends. It holds only the
//! descriptors it was told to keep, so that it never keeps a device or a connection of its parent alive. It is bounded
//! twice: the parent kills it at its limit, and an alarm of its own ends it should the parent be gone.
//!
//! Works from a process with threads too (the child has one), where the C library's allocator is usable after fork.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, alarm, fork};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::descriptors::close_all_but;
use crate::error::{Error, Result};
use crate::message;

/// A child at work. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Child<T> {
    step: String,
    pid: Pid,
    socket: OwnedFd,
    result: PhantomData<T>,
}

/// What the child's work gives: a value and a descriptor.
type Answer<T> = Result<(T, Option<OwnedFd>)>;
/// The same with several descriptors.
type AnswerWith<T> = Result<(T, Vec<OwnedFd>)>;

impl<T: Serialize + DeserializeOwned> Child<T> {
    /// Forks a child that does `work`. `step` says what is done, for errors; `keep` lists the descriptors that `work`
    /// uses: all others but the standard three are closed in the child.
    ///
    /// The parent waits for [`socket`](Child::socket) to become readable, at most `limit`, and calls
    /// [`finish`](Child::finish).
    pub fn spawn(
        step: &str,
        keep: &[BorrowedFd<'_>],
        limit: Duration,
        work: impl FnOnce() -> Answer<T>,
    ) -> Result<Child<T>> {
        Child::spawn_with(step, keep, limit, || work().map(|(value, fd)| (value, fd.into_iter().collect())))
    }

    /// As [`spawn`](Child::spawn), where the work gives up to [`DESCRIPTORS_MAX`](message::DESCRIPTORS_MAX) descriptors, which
    /// [`finish_with`](Child::finish_with) takes.
    pub fn spawn_with(
        step: &str,
        keep: &[BorrowedFd<'_>],
        limit: Duration,
        work: impl FnOnce() -> AnswerWith<T>,
    ) -> Result<Child<T>> {
        let failed = |error: io::Error| Error::Child { step: step.into(), why: error.to_string() };
        let (ours, theirs) = message::pair().map_err(failed)?;
        // SAFETY: the child runs with its one thread until `_exit`; see the module's text about the allocator.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => {
                Ok(Child { step: step.into(), pid: child, socket: ours, result: PhantomData })
            }
            Ok(ForkResult::Child) => run(theirs, keep, limit, work),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Readable once the answer is there, or the child is dead.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the answer is there, or the child is dead: then [`finish`](Child::finish) does not wait.
    pub fn finished(&self) -> bool {
        readable(self.socket.as_fd(), PollTimeout::ZERO)
    }

    /// Takes the answer and reaps the child. A child that has not answered yet is killed.
    pub fn finish(self) -> Answer<T> {
        let (value, mut fds) = self.finish_with()?;
        Ok((value, fds.pop()))
    }

    /// As [`finish`](Child::finish), with every descriptor of the answer.
    pub fn finish_with(self) -> AnswerWith<T> {
        let failed = |why: String| Error::Child { step: self.step.clone(), why };
        if !self.finished() {
            return Err(failed("timed out".into()));
        }
        let received =
            message::recv_with::<Result<T>>(self.socket.as_fd()).map_err(|error| failed(error.to_string()))?;
        let (result, fds) = received.ok_or_else(|| failed("its process died".into()))?;
        Ok((result?, fds))
    }
}

impl<T> Drop for Child<T> {
    fn drop(&mut self) {
        // The child has ended, or ends now; it is ours and not reaped yet, so the number is still its.
        let _ = kill(self.pid, Signal::SIGKILL);
        // Fails only where somebody else reaped it; then there is nothing left to do.
        let _ = waitpid(self.pid, None);
    }
}

/// Does `work` in a forked child and waits for the answer, at most `limit`. See [`Child::spawn`].
///
/// # Errors
///
/// What `work` returned, or [`Error::Child`] when the child died or was killed at its limit.
pub fn in_child<T: Serialize + DeserializeOwned>(
    step: &str,
    keep: &[BorrowedFd<'_>],
    limit: Duration,
    work: impl FnOnce() -> Answer<T>,
) -> Answer<T> {
    let child = Child::spawn(step, keep, limit, work)?;
    readable(child.socket(), PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
    child.finish()
}

/// Waits; an interrupted wait starts again, which lengthens it at most to the child's own alarm.
fn readable(socket: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(count) => return count > 0,
            Err(_) => return false,
        }
    }
}

/// The child's life.
fn run<T: Serialize>(
    socket: OwnedFd,
    keep: &[BorrowedFd<'_>],
    limit: Duration,
    work: impl FnOnce() -> AnswerWith<T>,
) -> ! {
    let answered = catch_unwind(AssertUnwindSafe(|| {
        set_alarm(limit);
        close_all_but(&[keep, &[socket.as_fd()]].concat());
        let (result, fds) = match work() {
            Ok((value, fds)) => (Ok(value), fds),
            Err(error) => (Err(error), Vec::new()),
        };
        message::send_with(socket.as_fd(), &result, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>())
    }));
    let status = i32::from(!matches!(answered, Ok(Ok(()))));
    // SAFETY: ends the process at once; nothing of the parent's (its buffers, its destructors) runs here.
    unsafe { libc::_exit(status) }
}

/// Ends this process a second after the parent would have.
fn set_alarm(limit: Duration) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: sets the default action, no handler of ours.
    let set = unsafe { sigaction(Signal::SIGALRM, &default) };
    set.expect("SIGALRM's action can be set");
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGALRM);
    mask.thread_unblock().expect("SIGALRM can be unblocked");
    alarm::set(u32::try_from(limit.as_secs()).unwrap_or(u32::MAX - 1).saturating_add(1));
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, RawFd};
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_value_and_a_descriptor_come_back() {
        let (value, fd) =
            in_child("test", &[], LIMIT, || Ok((7, File::open("/dev/null").ok().map(OwnedFd::from)))).unwrap();
        assert_eq!(value, 7);
        assert!(fd.is_some());
    }

    #[test]
    fn an_error_comes_back_typed() {
        let error = Error::NoDevice { ifname: "eth0".into() };
        let result = in_child::<()>("test", &[], LIMIT, || Err(error.clone()));
        assert_eq!(result.unwrap_err(), error);
    }

    #[test]
    fn a_child_that_hangs_is_killed_at_its_limit() {
        let start = Instant::now();
        let result = in_child::<()>("test", &[], Duration::from_millis(50), || {
            loop {
                nix::unistd::pause();
            }
        });
        assert_eq!(result.unwrap_err().to_string(), "test: timed out");
        assert!(start.elapsed() < LIMIT);
    }

    #[test]
    fn a_child_that_dies_is_an_error() {
        let result = in_child::<()>("test", &[], LIMIT, || {
            nix::sys::signal::raise(Signal::SIGKILL).unwrap();
            unreachable!()
        });
        assert_eq!(result.unwrap_err().to_string(), "test: its process died");
    }

    #[test]
    fn only_kept_descriptors_are_open_in_the_child() {
        let kept = File::open("/dev/null").unwrap();
        let other = File::open("/dev/null").unwrap();
        let (kept_number, other_number) = (kept.as_raw_fd(), other.as_raw_fd());
        let (open, _) = in_child("test", &[kept.as_fd()], LIMIT, move || {
            let open = |fd: RawFd| std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok();
            Ok(((open(kept_number), open(other_number)), None))
        })
        .unwrap();
        assert_eq!(open, (true, false));
    }
}
