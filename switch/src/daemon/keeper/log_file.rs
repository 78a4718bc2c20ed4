//! The log of a daemon that has left its terminal.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::dup2_stderr;

use super::error::{Error, Result};

/// At this length it starts anew with the daemon, in bytes.
const MAX_LEN: u64 = 4 << 20;

/// Sends stderr to the end of the file at `path`.
pub(super) fn redirect_stderr(path: &Path) -> Result<()> {
    let log = open(path).map_err(|error| Error::file("open", path, error))?;
    dup2_stderr(log).map_err(|errno| Error::system("write to the log", errno))
}

fn open(path: &Path) -> std::io::Result<File> {
    let log = File::options().create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    if log.metadata()?.len() > MAX_LEN {
        log.set_len(0)?;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_written_before_stays_unless_it_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        open(&path).unwrap().write_all(b"one\n").unwrap();
        open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        File::options().write(true).open(&path).unwrap().set_len(MAX_LEN + 1).unwrap();
        assert_eq!(open(&path).unwrap().metadata().unwrap().len(), 0);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (other, path) = (dir.path().join("other"), dir.path().join("log"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        open(&path).unwrap_err();
        assert!(!other.exists());
    }
}
