//! A directory belongs to one keeper at a time.
//!
//! The lock is the kernel's, on an open file: it ends with its process however that ends, and no pid is ever judged. The
//! file's content, the holder's pid and its run directory, is for the message alone. Only the keeper holds it: a switch that
//! outlives its keeper does not keep the next one out. One that was killed holds it until the kernel has taken its process
//! apart, and a job it had forked until that ends; so a held lock is asked for again for a moment before it is an error.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{Error, Result};

/// Longest lock file read: a pid and a path, and their line ends.
const HOLDER_MAX: u64 = 4096 + 16;

/// How long a holder may take to be gone: what a killed process takes on a busy machine, and no longer than somebody waits
/// for an error without wondering.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two attempts at a held lock.
const INTERVAL: Duration = Duration::from_millis(10);

/// The lock's file.
const LOCK: &str = "lock";

/// Makes `path` a directory of ours that nobody else looks into. One that is there and holds what is not ours is left as it is.
///
/// # Errors
///
/// [`Error::NotOurs`], [`Error::Shared`]; nothing was changed.
pub(super) fn private_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::file("make directory", path, error))?;
    let metadata = fs::metadata(path).map_err(|error| Error::file("examine directory", path, error))?;
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::NotOurs { path: path.into(), owner: metadata.uid() });
    }
    if metadata.mode() & 0o077 != 0 {
        let mut entries = fs::read_dir(path).map_err(|error| Error::file("read directory", path, error))?;
        // Where everybody may write, a lock's file says nothing.
        let may_be_ours = metadata.mode() & 0o002 == 0 && path.join(LOCK).exists();
        if !may_be_ours && entries.next().is_some() {
            return Err(Error::Shared { path: path.into() });
        }
        let private = fs::set_permissions(path, Permissions::from_mode(0o700));
        private.map_err(|error| Error::file("make private", path, error))?;
    }
    Ok(())
}

/// A held directory; released with this value.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Locks a directory, for the daemon whose sockets are in `run_dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] names the holder; nothing was changed.
    pub(super) fn take(directory: &Path, run_dir: &Path) -> Result<Lock> {
        let path = directory.join(LOCK);
        let failed = |error: std::io::Error| Error::file("lock", &path, error);
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        let start = Instant::now();
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    write_holder(&mut file, run_dir).map_err(failed)?;
                    return Ok(Lock { _file: file });
                }
                Err((file, Errno::EWOULDBLOCK)) if start.elapsed() < PATIENCE => file,
                Err((file, Errno::EWOULDBLOCK)) => {
                    return Err(Error::Locked { path: directory.into(), holder: read_holder(file) });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            std::thread::sleep(INTERVAL);
        }
    }
}

/// Who holds a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Holder {
    /// The keeper.
    pub pid: i32,
    /// Where its sockets are.
    pub run_dir: Option<PathBuf>,
}

/// Two lines: the pid and the run directory.
fn write_holder(file: &mut File, run_dir: &Path) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    // In one piece: others may read it at any time.
    file.write_all(format!("{}\n{}\n", std::process::id(), run_dir.display()).as_bytes())
}

fn read_holder(file: File) -> Option<Holder> {
    let mut text = String::new();
    file.take(HOLDER_MAX).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let is_shown_as_it_is = |path: &&str| path.starts_with('/') && !path.contains(char::is_control);
    Some(Holder { pid, run_dir: lines.next().filter(is_shown_as_it_is).map(PathBuf::from) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_by_pid_and_a_third_is_not_after_the_first_ended() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = Path::new("/run/lab");
        let first = Lock::take(directory.path(), run_dir).unwrap();
        let error = Lock::take(directory.path(), run_dir).unwrap_err().to_string();
        let holder = format!("in use by another daemon, pid {} (", std::process::id());
        assert!(error.contains(&holder) && error.contains("`tapswitch --socket /run/lab/api.sock down`"), "{error}");
        drop(first);
        Lock::take(directory.path(), run_dir).unwrap();
    }

    #[test]
    fn a_holder_that_is_about_to_end_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), directory.path()).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::take(directory.path(), directory.path()).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_directory_is_made_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run/tapswitch");
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_directory_of_others_things_is_left_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("shared");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("file"), "").unwrap();
        let error = private_directory(&directory).unwrap_err().to_string();
        assert!(error.contains("give it a directory of its own"), "{error}");
        assert_eq!(mode_of(&directory), 0o755);
        // An empty one, and one that was ours before.
        fs::remove_file(directory.join("file")).unwrap();
        private_directory(&directory).unwrap();
        assert_eq!(mode_of(&directory), 0o700);
        drop(Lock::take(&directory, &directory).unwrap());
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        private_directory(&directory).unwrap();
        assert_eq!(mode_of(&directory), 0o700);
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(private_directory(&directory), Err(Error::Shared { .. })), "anybody may have made the lock");
    }
}
