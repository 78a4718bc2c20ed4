//! A directory belongs to one keeper at a time.
//!
//! The lock is the kernel's, on an open file: it ends with its process however that ends, and no pid is ever judged. The
//! file's content, the holder's pid, is for the message alone. Only the keeper holds it: a switch that outlives its keeper
//! does not keep the next one out. One that was killed holds it until the kernel has taken its process apart, and a job it
//! had forked until that ends; so a held lock is asked for again for a moment before it is an error.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{Error, Result};

/// Longest lock file read: a pid and a line end.
const PID_MAX: u64 = 16;

/// How long a holder may take to be gone: what a killed process takes on a busy machine, and no longer than somebody waits
/// for an error without wondering.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two attempts at a held lock.
const INTERVAL: Duration = Duration::from_millis(10);

/// Makes `path` a directory of ours that nobody else looks into.
pub(super) fn private_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::file("make directory", path, error))?;
    let metadata = fs::metadata(path).map_err(|error| Error::file("examine directory", path, error))?;
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::NotOurs { path: path.into(), owner: metadata.uid() });
    }
    if metadata.mode() & 0o077 != 0 {
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
    /// Locks a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] names the holder; nothing was changed.
    pub(super) fn take(directory: &Path) -> Result<Lock> {
        let path = directory.join("lock");
        let failed = |error: std::io::Error| Error::file("lock", &path, error);
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        let start = Instant::now();
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    write_pid(&mut file).map_err(failed)?;
                    return Ok(Lock { _file: file });
                }
                Err((file, Errno::EWOULDBLOCK)) if start.elapsed() < PATIENCE => file,
                Err((file, Errno::EWOULDBLOCK)) => {
                    return Err(Error::Locked { path: directory.into(), pid: read_pid(file) });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            std::thread::sleep(INTERVAL);
        }
    }
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: File) -> Option<i32> {
    let mut text = String::new();
    file.take(PID_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_by_pid_and_a_third_is_not_after_the_first_ended() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        let error = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by another daemon, pid {} (", std::process::id())), "{error}");
        drop(first);
        Lock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_holder_that_is_about_to_end_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::take(directory.path()).map(drop));
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
}
