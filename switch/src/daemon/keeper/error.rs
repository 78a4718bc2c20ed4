//! Why the keeper did not start, or ended.

use std::io;
use std::path::PathBuf;

/// A result of the keeper.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the keeper did not start, or ended; one line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another daemon has the directory.
    #[error("{}: in use by another daemon{} (stop it with `tapswitch down`, or use another directory)", path.display(), of_pid(*.pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other's keeper, where its lock file tells.
        pid: Option<i32>,
    },
    /// A live daemon listens there.
    #[error("{}: socket in use by another daemon (choose another with --socket)", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is no socket is in the way.
    #[error("{}: is in the way and is not a socket (remove it, or choose another with --socket)", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The run directory is somebody else's.
    #[error("{}: belongs to user {owner} (remove it, or set XDG_RUNTIME_DIR)", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A step at a file failed.
    #[error("{step} {}: {source}", path.display())]
    File {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{step}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The switch that outlived its keeper did not hand over.
    #[error("take over from the running switch: {why} (it forwards on; end it with `tapswitch down` or by its pid)")]
    Takeover {
        /// Why.
        why: String,
    },
    /// The switch said it cannot start.
    #[error("{error}")]
    Fatal {
        /// Its words.
        error: String,
    },
    /// The switch cannot stay alive.
    #[error(
        "the switch process died {deaths} times in {seconds} s, giving up (the containers keep their devices; `tapswitch up` takes them back)"
    )]
    GaveUp {
        /// How often.
        deaths: usize,
        /// In how long.
        seconds: u64,
    },
}

impl Error {
    /// A system call that failed.
    pub(super) fn system(step: &'static str, source: impl Into<io::Error>) -> Error {
        Error::System { step, source: source.into() }
    }

    /// A step at a file that failed.
    pub(super) fn file(step: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Error {
        Error::File { step, path: path.into(), source: source.into() }
    }
}

fn of_pid(pid: Option<i32>) -> String {
    pid.map(|pid| format!(", pid {pid}")).unwrap_or_default()
}
