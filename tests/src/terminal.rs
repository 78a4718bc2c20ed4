//! A terminal with a program on it, as a person has one: what is typed, what is shown, Ctrl-C, and hanging up.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::process::{code, kill_session};
use crate::wait::eventually_some;

/// For what a person would wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Interrupts the foreground job: termios(3).
pub const CTRL_C: &str = "\x03";
/// Stops the foreground job.
pub const CTRL_Z: &str = "\x1a";

/// The program leads the terminal's session. All of the session is killed when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    window: Option<Window>,
    shown: Arc<Mutex<String>>,
}

/// Our side of the terminal. The thread has a duplicate of the descriptor; when both are closed the kernel hangs up.
#[derive(Debug)]
struct Window {
    master: File,
    closing: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts `command` on a terminal of its own.
    ///
    /// # Panics
    /// When there is none to have, or the program cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Terminal {
        // openpty(3) would let our side be inherited.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("open a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a new terminal is ours");
        let path = ptsname_r(&master).expect("a terminal has a name");
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).expect("open it");
        let duplicate = || slave.try_clone().expect("duplicate a descriptor");
        command.stdin(duplicate()).stdout(duplicate()).stderr(duplicate());
        // SAFETY: each is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                take_terminal()?;
                Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
            });
        }
        let child = command.env("TERM", "dumb").spawn().expect("start a program");
        // The command holds its side too.
        drop((slave, command));
        let shown = Arc::default();
        let window = Window::open(File::from(std::os::fd::OwnedFd::from(master)), Arc::clone(&shown));
        Terminal { child, window: Some(window), shown }
    }

    /// Types `text`, as it is: a line ends in `\n`.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        let window = self.window.as_mut().expect("nobody hung up");
        window.master.write_all(text.as_bytes()).expect("the terminal takes what is typed");
    }

    /// Waits until `text` was shown, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            let mut screen = self.shown.lock();
            if let Some(at) = screen.find(text) {
                screen.drain(..at + text.len());
                return;
            }
            assert!(start.elapsed() < PATIENCE, "`{text}` is not shown: {screen:?}");
            drop(screen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What was shown since.
    pub fn shown(&self) -> String {
        self.shown.lock().clone()
    }

    /// Makes it another size, in characters.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let master = &self.window.as_ref().expect("nobody hung up").master;
        // SAFETY: the kernel reads `size`, a whole winsize, and keeps nothing of it.
        let done = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(master), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0, "a terminal takes any size");
    }

    /// Closes the window: the kernel hangs up.
    pub fn hang_up(&mut self) {
        if let Some(window) = self.window.take() {
            window.closing.store(true, Ordering::Relaxed);
            window.reader.join().expect("it does not panic");
        }
    }

    /// SIGKILL to the program alone.
    pub fn kill(&mut self) {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGKILL).expect("it runs");
    }

    /// The program's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program's end. Returns its exit status, 128 + signal where it was killed.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn finish(mut self) -> i32 {
        let child = &mut self.child;
        let what = format!("the end of a program that shows {:?}", self.shown.lock());
        code(eventually_some(&what, PATIENCE, || child.try_wait().expect("we may wait for our child")))
    }
}

/// Makes descriptor 0 the terminal of the session that this process leads.
fn take_terminal() -> nix::Result<()> {
    // SAFETY: it takes no pointer.
    nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
    Ok(())
}

impl Window {
    fn open(master: File, shown: Arc<Mutex<String>>) -> Window {
        let closing = Arc::new(AtomicBool::new(false));
        let (mut ours, told) = (master.try_clone().expect("duplicate a descriptor"), Arc::clone(&closing));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !told.load(Ordering::Relaxed) {
                // A while, so that it sees that it is told to end.
                let ready = poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], 20_u8);
                match ready.map(|count| if count > 0 { ours.read(&mut bytes) } else { Ok(0) }) {
                    Ok(Ok(length)) => shown.lock().push_str(&String::from_utf8_lossy(&bytes[..length])),
                    // Its last program is gone, which may be for now.
                    Ok(Err(_)) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Window { master, closing, reader }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.hang_up();
        kill_session(self.child.id());
        // It fails only where it was reaped already.
        let _ = self.child.wait();
    }
}
