//! Why the keeper did not start, or ended.

use std::io;
use std::path::PathBuf;

use super::lock::Holder;

/// A result of the keeper.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the keeper did not start, or ended; one line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another daemon has the directory.
    #[error("{}: in use by another daemon{}, or use another directory)", path.display(), of_holder(.holder.as_ref()))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other, where its lock file tells.
        holder: Option<Holder>,
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
    /// A directory is somebody else's.
    #[error("{}: belongs to user {owner}: give another directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A directory that others look into holds what is not the daemon's.
    #[error("{}: is open to others and holds other things: give it a directory of its own", path.display())]
    Shared {
        /// The directory.
        path: PathBuf,
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

fn of_holder(holder: Option<&Holder>) -> String {
    let pid = holder.map(|holder| format!(", pid {}", holder.pid)).unwrap_or_default();
    let socket = holder.and_then(|holder| holder.run_dir.as_ref()).map(|run_dir| run_dir.join("api.sock"));
    let socket = socket.map(|socket| format!("--socket {} ", socket.display())).unwrap_or_default();
    format!("{pid} (stop it with `tapswitch {socket}down`")
}
