//! Keeps the resolv.conf of a container of `run` mounted.
//!
//! When a file is renamed over another, what is mounted on that goes in every mount namespace (`vfs_rename` of fs/namei.c,
//! `detach_mounts`), and that is how systemd-resolved and NetworkManager write theirs. So `run` watches the folder of the host's file, and
//! those that it leads to as a link. When a file of such a name comes, a child looks whether the container sees the host's file now,
//! and mounts ours on it again.
//!
//! Limits: for some milliseconds the container sees the host's. Mount namespaces that CMD makes of its own are not looked after.
//! Threads: one, the only one of its process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;
use tapswitch_netns::in_child;

use super::{PATH, mount_text};
use crate::cli::output;

/// As the kernel follows (MAXSYMLINKS).
const MAX_LINKS: usize = 40;
/// For the child, which needs some milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// See the head of this file.
pub(in crate::cli) struct Watch {
    inotify: Inotify,
    /// Of the file, and of what it leads to.
    names: Vec<OsString>,
    text: Vec<u8>,
    mounts: File,
    /// The container's user namespace, where it is another than ours.
    users: Option<File>,
}

impl Watch {
    /// For the process `container`, which has mounted `text` or is about to.
    ///
    /// # Errors
    /// The kernel has no more to watch with, or the process has died.
    pub(in crate::cli) fn begin(container: Pid, text: Vec<u8>) -> io::Result<Self> {
        let namespace = |kind: &str| File::open(format!("/proc/{container}/ns/{kind}"));
        let users = namespace("user")?;
        let is_ours = identity(&users.metadata()?) == identity(&fs::metadata("/proc/self/ns/user")?);
        let mut watch = Watch {
            inotify: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?,
            names: Vec::new(),
            text,
            mounts: namespace("mnt")?,
            users: (!is_ours).then_some(users),
        };
        watch.follow()?;
        Ok(watch)
    }

    /// Mounts again what was unmounted, if the host's file is another since this was asked last. What fails is said.
    ///
    /// # Errors
    /// The host's file cannot be watched any more.
    pub(in crate::cli) fn heed(&mut self) -> nix::Result<()> {
        if self.has_changed()?
            && let Err(error) = self.mount_again()
        {
            output::complain(&format!("names: mount {PATH} again: {error}; the host's is used"));
        }
        Ok(())
    }

    /// Watches the folders of the file and of what it leads to; those that were watched before are watched once.
    fn follow(&mut self) -> nix::Result<()> {
        self.names.clear();
        let mut path = PathBuf::from(PATH);
        for _ in 0..MAX_LINKS {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { break };
            match self.inotify.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO) {
                // A link to nowhere, or to where we may not look.
                Err(Errno::ENOENT | Errno::EACCES) => break,
                watched => watched?,
            };
            self.names.push(name.to_owned());
            let Ok(target) = fs::read_link(&path) else { break };
            path = folder.join(target);
        }
        Ok(())
    }

    fn has_changed(&mut self) -> nix::Result<bool> {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Err(Errno::EAGAIN) => break,
                events => {
                    changed |= events?.iter().any(|event| event.name.as_ref().is_none_or(|n| self.names.contains(n)))
                }
            }
        }
        if changed {
            self.follow()?;
        }
        Ok(changed)
    }

    fn mount_again(&self) -> anyhow::Result<()> {
        // None: it comes with the next event, or names nobody.
        let Ok(host) = fs::metadata(PATH) else { return Ok(()) };
        let keep: Vec<BorrowedFd<'_>> = std::iter::once(&self.mounts).chain(&self.users).map(AsFd::as_fd).collect();
        let (failed, _) = in_child("enter the container", &keep, LIMIT, || {
            let done = self.mount_inside(&host);
            Ok((done.err().map(|error| error.to_string()), None))
        })?;
        failed.map_or(Ok(()), |error| Err(anyhow::Error::msg(error)))
    }

    /// In a child: ours is mounted unless the container sees something else than `host`, be it ours or CMD's own.
    fn mount_inside(&self, host: &fs::Metadata) -> io::Result<()> {
        if let Some(users) = &self.users {
            setns(users, CloneFlags::CLONE_NEWUSER)?;
        }
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
        match fs::metadata(Path::new(PATH)) {
            Ok(seen) if identity(&seen) == identity(host) => mount_text(&self.text),
            _ => Ok(()),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
