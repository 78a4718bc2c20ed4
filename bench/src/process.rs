//! Programs that are started, watched, and never left behind.
//!
//! Neither Ctrl-C nor a closed terminal ends this program: it makes whatever is waited for an error, and the drops on the way out
//! undo all that was made.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tapswitch::daemon::keeper::STOP_PATIENCE;

/// Set by the signal handler, which can reach nothing but a static. Relaxed: it is looked at again and again.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Between two looks at a program that is waited for.
const INTERVAL: Duration = Duration::from_millis(5);

/// What a program has to end by itself: more than a keeper gives its switch, which it would leave behind if it were killed.
const PATIENCE: Duration = Duration::from_secs(2 * STOP_PATIENCE.as_secs());

/// Makes SIGINT, SIGTERM and a closed terminal end the wait that is under way.
pub(crate) fn catch_interrupts() -> Result<()> {
    extern "C" fn note(_: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does one atomic store, which is async-signal-safe.
        let before = unsafe { sigaction(signal, &action) }.with_context(|| format!("handle {signal}"))?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // As by nohup. SAFETY: it is what was there.
            unsafe { sigaction(signal, &before) }.with_context(|| format!("ignore {signal}"))?;
        }
    }
    Ok(())
}

/// Makes processes that lose their parent below this program its own children, by which [`end_orphan`] knows them.
pub(crate) fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("adopt orphans")
}

/// Kills a process that has lost its parent, if it has. The number of one that was waited for may be another's.
pub(crate) fn end_orphan(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed());
    if waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
        // It is ours and not waited for: what fails has ended by itself.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    }
}

/// Whether the user asked for the end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits until `look` finds something.
///
/// # Errors
/// When it finds nothing within `deadline`, or the user interrupts.
pub(crate) fn wait<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(!interrupted(), "interrupted");
        ensure!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// A running program; ended, then killed, when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

impl Running {
    /// Starts it. It is killed with this program, however that ends.
    pub(crate) fn start(command: Command) -> Result<Running> {
        Running::start_reading(command, Stdio::null())
    }

    /// Starts one that ends with its standard input: there is one, and nothing comes.
    pub(crate) fn start_waiting(command: Command) -> Result<Running> {
        Running::start_reading(command, Stdio::piped())
    }

    fn start_reading(mut command: Command, stdin: Stdio) -> Result<Running> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: prctl and setpgid are async-signal-safe and touch no memory of ours.
        unsafe {
            command.pre_exec(|| {
                // Out of the terminal's foreground group: Ctrl-C is ours to act on.
                nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
                Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?)
            });
        }
        let mut child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        let stdout = lines(child.stdout.take().context("stdout is piped")?);
        let stderr = lines(child.stderr.take().context("stderr is piped")?);
        Ok(Running { child, stdout, stderr })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the line `ready`.
    pub(crate) fn wait_ready(&mut self, what: &str) -> Result<()> {
        let lines = std::mem::replace(&mut self.stdout, mpsc::channel().1);
        let ready = self.wait_for(what, Duration::from_secs(10), || lines.try_iter().any(|line| line == "ready"));
        self.stdout = lines;
        ready
    }

    /// Waits until `done`, while it runs.
    ///
    /// # Errors
    /// When it ends before, with what it said.
    pub(crate) fn wait_for(&mut self, what: &str, deadline: Duration, done: impl Fn() -> bool) -> Result<()> {
        wait(what, deadline, || {
            if done() {
                return Ok(Some(()));
            }
            if let Some(status) = self.child.try_wait()? {
                let why: Vec<_> = self.stderr.iter().collect();
                bail!("{what}: {status}: {}", why.join(" "));
            }
            Ok(None)
        })
    }

    /// Waits for the end, which has to be a success; its output.
    pub(crate) fn finish(mut self, what: &str, deadline: Duration) -> Result<String> {
        let status: ExitStatus = wait(what, deadline, || Ok(self.child.try_wait()?))?;
        let stdout: Vec<_> = self.stdout.iter().collect();
        if !status.success() {
            let stderr: Vec<_> = self.stderr.iter().collect();
            bail!("{what}: {status}: {}", [stderr, stdout].concat().join(" "));
        }
        Ok(stdout.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if !self.is_alive() {
            return;
        }
        // A chance to clean up after itself, then none. What fails has ended by itself.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let start = Instant::now();
        while self.is_alive() && start.elapsed() < PATIENCE {
            std::thread::sleep(INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end, which has to be a success; its output.
pub(crate) fn run(command: Command, what: &str) -> Result<String> {
    Running::start(command)?.finish(what, Duration::from_secs(30))
}

/// Reads a stream in a thread: a program must not block on a full pipe while nobody looks.
fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use tapswitch_netns::in_child;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// What `work` finds, in a process of its own that has one thread.
    fn alone<T: serde::Serialize + serde::de::DeserializeOwned>(work: impl FnOnce() -> T) -> T {
        in_child("test", &[], LIMIT, || Ok((work(), None::<OwnedFd>))).unwrap().0
    }

    fn set(signal: Signal, handler: SigHandler) {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler of ours.
        unsafe { sigaction(signal, &action) }.unwrap();
    }

    fn is_there(pid: u32) -> bool {
        kill(Pid::from_raw(pid.cast_signed()), None) != Err(Errno::ESRCH)
    }

    /// A program below a shell, which goes on with `then`.
    fn below(seconds: &str, then: &str) -> (Running, u32) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sleep {seconds} >/dev/null 2>&1 & echo $!; {then}")]);
        let shell = Running::start(command).unwrap();
        let pid = shell.stdout.recv_timeout(LIMIT).unwrap().parse().unwrap();
        (shell, pid)
    }

    #[test]
    fn a_closed_terminal_is_an_interruption_unless_it_is_ignored() {
        let interrupted_by = |handler| {
            alone(|| {
                set(Signal::SIGHUP, handler);
                catch_interrupts().unwrap();
                nix::sys::signal::raise(Signal::SIGHUP).unwrap();
                interrupted()
            })
        };
        assert!(interrupted_by(SigHandler::SigDfl));
        assert!(!interrupted_by(SigHandler::SigIgn), "nohup");
    }

    #[test]
    fn a_program_that_was_waited_for_is_told_nothing_for_its_number_may_be_another_s() {
        let others_end = || {
            let mut first = Running::start(Command::new("true")).unwrap();
            wait("its end", LIMIT, || Ok((!first.is_alive()).then_some(()))).unwrap();
            std::fs::write("/proc/sys/kernel/ns_last_pid", (first.pid() - 1).to_string()).unwrap();
            let mut other = Command::new("sleep").arg("0.2").spawn().unwrap();
            assert_eq!(other.id(), first.pid());
            drop(first);
            other.wait().unwrap().success()
        };
        let lives = alone(|| {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).unwrap();
            alone(others_end)
        });
        assert!(lives);
    }

    #[test]
    fn a_program_that_takes_its_time_to_end_is_waited_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'sleep 2.5; echo ended; exit' TERM; echo ready; while :; do sleep 0.05; done"]);
        let mut program = Running::start(command).unwrap();
        program.wait_ready("the trap").unwrap();
        let stdout = std::mem::replace(&mut program.stdout, mpsc::channel().1);
        drop(program);
        assert_eq!(stdout.recv_timeout(LIMIT).as_deref(), Ok("ended"));
    }

    #[test]
    fn a_process_that_has_a_parent_is_no_orphan_of_ours() {
        let (shell, pid) = below("0.2", "wait $!; echo $?");
        end_orphan(pid);
        assert_eq!(shell.stdout.recv_timeout(LIMIT).as_deref(), Ok("0"));
    }

    #[test]
    fn a_process_that_lost_its_parent_is_ended() {
        let is_left = alone(|| {
            adopt_orphans().unwrap();
            let (mut shell, pid) = below("100", "exit");
            wait("its end", LIMIT, || Ok((!shell.is_alive()).then_some(()))).unwrap();
            assert!(is_there(pid));
            end_orphan(pid);
            is_there(pid)
        });
        assert!(!is_left);
    }
}
