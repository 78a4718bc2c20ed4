//! Programs that are started, watched, and never left behind.
//!
//! Ctrl-C does not end this program: it makes whatever is waited for an error, and the drops on the way out undo all that
//! was made.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

/// Set by the signal handler, which can reach nothing but a static. Relaxed: it is looked at again and again.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Between two looks at a program that is waited for.
const INTERVAL: Duration = Duration::from_millis(5);

/// Makes SIGINT and SIGTERM end the wait that is under way.
pub(crate) fn catch_interrupts() -> Result<()> {
    extern "C" fn note(_: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler does one atomic store, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handle {signal}"))?;
    }
    Ok(())
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
        // A chance to clean up after itself, then none. What fails has ended by itself.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let start = Instant::now();
        while self.is_alive() && start.elapsed() < Duration::from_secs(2) {
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
