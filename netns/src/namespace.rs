//! A network namespace, held by a descriptor, and the user namespace that owns it.
//!
//! A held descriptor keeps the namespace alive. What should only be recognised again is kept as its [`NamespaceId`].

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

// include/uapi/linux/nsfs.h
const NSIO: u8 = 0xb7;
const NS_GET_USERNS: u8 = 0x1;
const NS_GET_NSTYPE: u8 = 0x3;
// include/uapi/linux/magic.h
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// A namespace's identity: what `stat` says of its nsfs file. Valid while the namespace lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// A network namespace, kept alive by this descriptor.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    id: NamespaceId,
}

/// A user namespace, kept alive by this descriptor.
#[derive(Debug)]
pub struct UserNamespace {
    fd: OwnedFd,
    id: NamespaceId,
}

impl Namespace {
    /// Takes a descriptor somebody passed. It is examined without being read: whatever else it is, nothing happens to it.
    ///
    /// # Errors
    ///
    /// [`Error::NotANamespace`] when it is anything but a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Namespace> {
        Namespace::checked(fd, "from a descriptor")
    }

    /// Opens the namespace at `path`, as `/proc/1/ns/net`.
    pub fn open(path: &Path) -> Result<Namespace> {
        Namespace::open_named(path, &path.display().to_string())
    }

    /// Opens the namespace a process is in.
    pub fn of_pid(pid: i32) -> Result<Namespace> {
        Namespace::open_named(Path::new(&format!("/proc/{pid}/ns/net")), &pid.to_string())
    }

    /// Opens the namespace of the calling thread.
    pub fn current() -> Result<Namespace> {
        Namespace::open_named(Path::new("/proc/thread-self/ns/net"), "of this thread")
    }

    /// Its identity.
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// The user namespace that owns it: who has CAP_NET_ADMIN there has it here.
    pub fn owner(&self) -> Result<UserNamespace> {
        let name = "owner of the network namespace";
        let request = nix::request_code_none!(NSIO, NS_GET_USERNS);
        let fd = nsfs_ioctl(self.fd.as_fd(), request).map_err(|os| match os {
            Errno::EPERM => Error::NamespaceDenied { name: name.into() },
            os => Error::Namespace { name: name.into(), os: os.into() },
        })?;
        // SAFETY: the ioctl just returned this descriptor; nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        UserNamespace::from_owned(fd)
    }

    /// Opens without touching what is there until it is known to be an nsfs file: opening a device can have effects.
    pub(crate) fn open_named(path: &Path, name: &str) -> Result<Namespace> {
        let named = |error: std::io::Error| open_error(name, error);
        let mut options = File::options();
        let handle = options.read(true).custom_flags(libc::O_PATH).open(path).map_err(named)?;
        check_nsfs(handle.as_fd(), name)?;
        let file = File::open(format!("/proc/self/fd/{}", handle.as_raw_fd())).map_err(named)?;
        Namespace::checked(file.into(), name)
    }

    /// Moves the calling thread into it.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.fd, CloneFlags::CLONE_NEWNET)
            .map_err(|os| Error::Enter { what: "the network namespace".into(), os: os.into() })
    }

    fn checked(fd: OwnedFd, name: &str) -> Result<Namespace> {
        check_nsfs(fd.as_fd(), name)?;
        let request = nix::request_code_none!(NSIO, NS_GET_NSTYPE);
        match nsfs_ioctl(fd.as_fd(), request) {
            Ok(libc::CLONE_NEWNET) => {}
            _ => return Err(Error::NotANamespace { name: name.into() }),
        }
        let id = NamespaceId::of(fd.as_fd(), name)?;
        Ok(Namespace { fd, id })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Namespace> for OwnedFd {
    fn from(namespace: Namespace) -> OwnedFd {
        namespace.fd
    }
}

impl UserNamespace {
    /// The user namespace of the caller.
    pub fn current() -> Result<UserNamespace> {
        let name = "user namespace of this process";
        let file = File::open("/proc/self/ns/user").map_err(|error| open_error(name, error))?;
        UserNamespace::from_owned(file.into())
    }

    /// Its identity.
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// Moves the calling process into it, unless it is there. The process must have one thread.
    ///
    /// # Errors
    ///
    /// [`Error::Enter`] when it is neither the caller's user's own nor the caller privileged over it.
    pub fn enter(&self) -> Result<()> {
        if UserNamespace::current()?.id == self.id {
            return Ok(());
        }
        setns(&self.fd, CloneFlags::CLONE_NEWUSER)
            .map_err(|os| Error::Enter { what: "the user namespace".into(), os: os.into() })
    }

    fn from_owned(fd: OwnedFd) -> Result<UserNamespace> {
        let id = NamespaceId::of(fd.as_fd(), "user namespace")?;
        Ok(UserNamespace { fd, id })
    }
}

impl NamespaceId {
    /// Of an nsfs file that can be reached by `path`, without opening it.
    pub(crate) fn at(path: &Path) -> Option<NamespaceId> {
        let stat = std::fs::metadata(path).ok()?;
        Some(NamespaceId { dev: stat.dev(), ino: stat.ino() })
    }

    fn of(fd: BorrowedFd<'_>, name: &str) -> Result<NamespaceId> {
        let stat = fstat(fd).map_err(|os| Error::Namespace { name: name.into(), os: os.into() })?;
        Ok(NamespaceId { dev: stat.st_dev, ino: stat.st_ino })
    }
}

/// Runs one of nsfs' ioctls, none of which takes an argument.
fn nsfs_ioctl(fd: BorrowedFd<'_>, request: libc::c_ulong) -> nix::Result<i32> {
    // SAFETY: the descriptor is open, and a request of nsfs reads and writes no memory of ours.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request) })
}

fn check_nsfs(fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    match fstatfs(fd) {
        Ok(stat) if stat.filesystem_type() == NSFS_MAGIC => Ok(()),
        Ok(_) => Err(Error::NotANamespace { name: name.into() }),
        Err(os) => Err(Error::Namespace { name: name.into(), os: os.into() }),
    }
}

fn open_error(name: &str, error: std::io::Error) -> Error {
    let name = name.to_owned();
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::UnknownNamespace { name },
        std::io::ErrorKind::PermissionDenied => Error::NamespaceDenied { name },
        _ => Error::Namespace { name, os: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_namespace() {
        let error = Namespace::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "namespace /dev/null: not a network namespace");
        let file = File::open("/proc/self/status").unwrap();
        assert!(matches!(Namespace::from_fd(file.into()), Err(Error::NotANamespace { .. })));
    }

    #[test]
    fn another_kind_of_namespace_is_refused() {
        let error = Namespace::open(Path::new("/proc/self/ns/uts")).unwrap_err();
        assert!(matches!(error, Error::NotANamespace { .. }));
    }

    #[test]
    fn a_path_descriptor_is_refused() {
        let path = File::options().read(true).custom_flags(libc::O_PATH).open("/proc/self/ns/net").unwrap();
        assert!(Namespace::from_fd(path.into()).is_err());
    }

    #[test]
    fn ours_is_the_one_of_our_pid_and_has_an_owner() {
        let ours = Namespace::current().unwrap();
        assert_eq!(ours.id(), Namespace::of_pid(std::process::id() as i32).unwrap().id());
        ours.owner().unwrap();
    }
}
