//! Programs: run to their end with a deadline, or in the background with their lines at hand.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, eventually, eventually_some};

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit status; 128 + signal where it was killed.
    pub code: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a success.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{} failed: {}{}", self.command, self.stdout, self.stderr);
        self.stdout
    }

    /// The one line on standard error of a failure with this exit status.
    ///
    /// # Panics
    /// When it ended otherwise, or said less or more than one line.
    #[track_caller]
    pub fn one_line_of_failure(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}: {}{}", self.command, self.stdout, self.stderr);
        let lines: Vec<_> = self.stderr.lines().collect();
        assert!(lines.len() == 1 && !lines[0].trim().is_empty(), "{}: not one line: {:?}", self.command, self.stderr);
        lines[0].to_owned()
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// When it cannot be started, or does not end within `deadline`.
#[track_caller]
pub fn run(command: Command, deadline: Duration) -> Output {
    Background::start(command).finish(deadline)
}

/// A running program. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Background {
    command: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Background {
    /// Starts `command`. It is killed with the thread that starts it, however that ends.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Background {
        let text = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {text}: {error}"));
        let stdout = Lines::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = Lines::collect(child.stderr.take().expect("stderr is piped"));
        Background { command: text, child, stdout, stderr }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines of its standard output so far.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.so_far.lock().clone()
    }

    /// The lines of its standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.stderr.so_far.lock().clone()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends before, or says nothing for very long.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        self.wait_for_line("ready", PATIENCE);
    }

    /// Waits for a line of its standard output that starts with `start`, and returns it.
    ///
    /// # Panics
    /// When none comes within `deadline`.
    #[track_caller]
    pub fn wait_for_line(&mut self, start: &str, deadline: Duration) -> String {
        let begin = Instant::now();
        loop {
            // Asked before the lines are looked at: the last of them may come after the end.
            let ended = self.child.try_wait().expect("we may wait for our child").is_some() && self.stdout.is_whole();
            if let Some(line) = self.stdout.so_far.lock().iter().find(|line| line.starts_with(start)) {
                return line.clone();
            }
            assert!(
                !ended && begin.elapsed() < deadline,
                "{}: no line `{start}`: {:?} {:?}",
                self.command,
                self.lines(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself just now; whoever waits for it will see.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("we may wait for our child").is_none()
    }

    /// Sends SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// When it does not end soon.
    #[track_caller]
    pub fn terminate(self) -> Output {
        self.signal(Signal::SIGTERM);
        self.finish(Duration::from_secs(10))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `deadline`.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Output {
        let command = self.command.clone();
        let child = &mut self.child;
        let status = eventually_some(&format!("the end of {command}"), deadline, || {
            child.try_wait().expect("we may wait for our child")
        });
        // A descendant may hold the pipes open for longer: then what is there has to do.
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        if !stdout.is_whole() || !stderr.is_whole() {
            let start = Instant::now();
            while !(stdout.is_whole() && stderr.is_whole()) && start.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Output { command, code: code(status), stdout: stdout.text(), stderr: stderr.text() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only where it was reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills every process of a session (setsid), and waits until none is left.
pub(crate) fn kill_session(session: u32) {
    kill_all(|pid| stat(pid).get(3) == Some(&session.to_string()));
}

/// Kills every process that is `wanted`, and waits until none is left. A killed one may have made another just before, so
/// it looks again and again, though not for ever.
pub(crate) fn kill_all(wanted: impl Fn(u32) -> bool) {
    let start = Instant::now();
    loop {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let left: Vec<u32> = pids.filter(|pid| wanted(*pid) && is_alive(*pid)).collect();
        if left.is_empty() || start.elapsed() > Duration::from_secs(10) {
            return;
        }
        for pid in left {
            // It may have ended between the look and the kill.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The fields of /proc/PID/stat from the third on: STATE PPID PGRP SESSION. Of a process that is gone, none.
fn stat(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, the name in parentheses, may hold anything: cut after the last parenthesis.
    text.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Neither gone nor a zombie.
fn is_alive(pid: u32) -> bool {
    stat(pid).first().is_some_and(|state| state != "Z")
}

/// Waits until process `pid` is gone.
pub(crate) fn wait_for_end(pid: u32, deadline: Duration) {
    eventually(&format!("the end of process {pid}"), deadline, || !is_alive(pid));
}

/// Exit status, 128 + signal where it was killed.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A stream that a thread reads line by line.
#[derive(Debug)]
struct Lines {
    so_far: Arc<parking_lot::Mutex<Vec<String>>>,
    end: mpsc::Receiver<()>,
    _reader: JoinHandle<()>,
}

impl Lines {
    fn collect(stream: impl Read + Send + 'static) -> Lines {
        let so_far = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (done, end) = mpsc::channel();
        let sink = Arc::clone(&so_far);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                sink.lock().push(String::from_utf8_lossy(&line).into_owned());
            }
            drop(done);
        });
        Lines { so_far, end, _reader: reader }
    }

    fn is_whole(&self) -> bool {
        matches!(self.end.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }

    fn text(&self) -> String {
        self.so_far.lock().iter().map(|line| format!("{line}\n")).collect()
    }
}
