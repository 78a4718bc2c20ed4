//! Signals as data: blocked, and read from a descriptor, so that nothing interrupts anything.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What is passed on to CMD: all that a terminal or an init system sends, and the two that are CMD's own. A shell that takes us
/// up again tells CMD too, which then gets SIGCONT twice: at worst it draws its screen twice.
pub(super) const FORWARDED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGPWR,
    Signal::SIGCONT,
];

/// What the kernel sends for a terminal. Others that it sends, as for an `alarm(2)` from before an `execve`, are ours alone.
const OF_A_TERMINAL: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH];

/// What ends `demo`.
pub(super) const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Which.
    pub signal: Signal,
    /// The kernel sent it, as for Ctrl-C: the terminal's whole foreground group got it.
    pub from_terminal: bool,
}

/// Blocks signals until it is dropped, and reads those that arrive.
#[derive(Debug)]
pub(super) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks `signals` in this thread, and in the threads and processes it starts.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub(super) fn block(signals: &[Signal]) -> nix::Result<Self> {
        let mask: SigSet = signals.iter().copied().collect();
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before))?;
        Ok(Signals { fd, before })
    }

    /// The next signal that is waiting; `None` where none is.
    ///
    /// # Errors
    /// As `read(2)`.
    pub(super) fn next(&self) -> nix::Result<Option<Arrived>> {
        while let Some(info) = self.fd.read_signal()? {
            let number = i32::try_from(info.ssi_signo).expect("signal numbers are below 65");
            // A real-time signal has no name, and was not asked for.
            if let Ok(signal) = Signal::try_from(number) {
                let from_terminal = info.ssi_code == libc::SI_KERNEL && OF_A_TERMINAL.contains(&signal);
                return Ok(Some(Arrived { signal, from_terminal }));
            }
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It was accepted once; a failure would leave the signals blocked in a process that is about to end.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Makes the process's signals those a shell would start a command with: Rust ignores SIGPIPE, and that survives `execve`.
///
/// # Errors
/// As `sigaction(2)`.
pub(super) fn reset() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &default) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_somebody_sent_is_read_and_not_from_the_terminal() {
        let signals = Signals::block(&[Signal::SIGUSR2]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        nix::sys::pthread::pthread_kill(nix::sys::pthread::pthread_self(), Signal::SIGUSR2).unwrap();
        let arrived = signals.next().unwrap();
        assert_eq!(arrived, Some(Arrived { signal: Signal::SIGUSR2, from_terminal: false }));
    }
}
