//! The listening sockets: bound by the keeper, served by the switch, so that they outlive a restart.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};

use super::error::{Error, Result};
use super::start::Config;

/// Connections that wait for a restarting switch.
const BACKLOG: i32 = 128;

/// The sockets; their files, and the directories made for them, are removed with this value.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) api: UnixListener,
    pub(super) attach: OwnedFd,
    pub(super) takeover: OwnedFd,
    pub(super) docker: Option<UnixListener>,
    _files: Vec<Unlink>,
    /// After the files in them: fields are dropped in their order.
    _directories: Directories,
}

impl Listeners {
    /// Binds all; removes what a dead daemon left there.
    pub(super) fn bind(config: &Config) -> Result<Listeners> {
        let (api, api_file) = bind_at(config.api_socket.clone(), SockType::Stream)?;
        let (attach, attach_file) = bind_at(config.attach_socket(), SockType::SeqPacket)?;
        let (takeover, takeover_file) = bind_at(config.takeover_socket(), SockType::SeqPacket)?;
        let mut files = vec![api_file, attach_file, takeover_file];
        let mut directories = Directories::default();
        let docker = match &config.docker_socket {
            None => None,
            Some(path) => {
                let made = make_directory_of(path)?;
                let (docker, file) = bind_at(path.clone(), SockType::Stream)?;
                files.push(file);
                directories = made;
                Some(docker.into())
            }
        };
        Ok(Listeners { api: api.into(), attach, takeover, docker, _files: files, _directories: directories })
    }

    /// The same sockets for a switch, which have no files to be removed there.
    pub(super) fn duplicate(&self) -> io::Result<Listeners> {
        Ok(Listeners {
            api: self.api.try_clone()?,
            attach: self.attach.try_clone()?,
            takeover: self.takeover.try_clone()?,
            docker: self.docker.as_ref().map(UnixListener::try_clone).transpose()?,
            _files: Vec::new(),
            _directories: Directories::default(),
        })
    }
}

fn make_directory_of(path: &Path) -> Result<Directories> {
    let Some(directory) = path.parent() else { return Ok(Directories::default()) };
    let missing = directory.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
    // From here on, so that a failure leaves none of them.
    let made = Directories(missing);
    fs::create_dir_all(directory).map_err(|error| Error::file("make directory", directory, error))?;
    Ok(made)
}

/// Directories that were made for a socket, the inner first. What somebody else has put into one by now keeps it.
#[derive(Debug, Default)]
struct Directories(Vec<PathBuf>);

impl Drop for Directories {
    fn drop(&mut self) {
        // Not empty, or gone already.
        self.0.iter().take_while(|path| fs::remove_dir(path).is_ok()).count();
    }
}

/// A socket's file.
#[derive(Debug)]
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        // Gone already: somebody removed the directory. The next daemon removes a stale one as well.
        let _ = fs::remove_file(&self.0);
    }
}

/// Connects to a SOCK_SEQPACKET socket; `None` when nobody listens there.
pub(super) fn connect_seqpacket(path: &Path) -> Result<Option<OwnedFd>> {
    connect_to(path, SockType::SeqPacket)
}

/// Accepts one connection, closed on exec.
pub(super) fn accept(listener: impl AsFd) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind_at(path: PathBuf, kind: SockType) -> Result<(OwnedFd, Unlink)> {
    clear(&path, kind)?;
    let failed = |errno: Errno| Error::file("bind socket", &path, errno);
    let address = UnixAddr::new(&path).map_err(failed)?;
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    // The keeper has one thread: nobody else makes a file meanwhile.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(fd.as_raw_fd(), &address);
    umask(before);
    bound.map_err(failed)?;
    let file = Unlink(path.clone());
    listen(&fd, Backlog::new(BACKLOG).expect("a valid backlog")).map_err(failed)?;
    Ok((fd, file))
}

/// Refuses what no daemon could bind, before another is ended for this one.
pub(super) fn refuse_files_in_the_way(config: &Config) -> Result<()> {
    let paths = [Some(config.api_socket.clone()), Some(config.attach_socket()), config.docker_socket.clone()];
    for path in paths.into_iter().flatten() {
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
            return Err(Error::NotASocket { path });
        }
    }
    Ok(())
}

/// Removes the socket of a dead daemon.
fn clear(path: &Path, kind: SockType) -> Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("examine", path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NotASocket { path: path.into() });
    }
    if connect_to(path, kind)?.is_some() {
        return Err(Error::SocketInUse { path: path.into() });
    }
    fs::remove_file(path).map_err(|error| Error::file("remove stale socket", path, error))
}

/// A socket of another kind than expected is in use as well: EPROTOTYPE.
fn connect_to(path: &Path, kind: SockType) -> Result<Option<OwnedFd>> {
    let failed = |errno: Errno| Error::file("connect to", path, errno);
    let address = UnixAddr::new(path).map_err(failed)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, kind, flags, None).map_err(failed)?;
    match connect(fd.as_raw_fd(), &address) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
        Err(Errno::EPROTOTYPE) => Err(Error::SocketInUse { path: path.into() }),
        Err(errno) => Err(failed(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &Path) -> Config {
        Config {
            log: None,
            run_dir: directory.into(),
            state_dir: directory.into(),
            api_socket: directory.join("api.sock"),
            docker_socket: Some(directory.join("plugins/docker.sock")),
            ready: None,
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        drop(UnixListener::bind(&config.api_socket).unwrap());
        let live = Listeners::bind(&config).unwrap();
        assert!(matches!(Listeners::bind(&config), Err(Error::SocketInUse { .. })));
        assert!(config.api_socket.exists());
        drop(live);
        assert!(!config.api_socket.exists() && !directory.path().join("plugins/docker.sock").exists());
    }

    #[test]
    fn directories_made_for_a_socket_go_with_it_unless_they_are_used() {
        let directory = tempfile::tempdir().unwrap();
        let outer = directory.path().join("a");
        let config = Config { docker_socket: Some(outer.join("b/docker.sock")), ..config(directory.path()) };
        drop(Listeners::bind(&config).unwrap());
        assert!(!outer.exists());
        let listeners = Listeners::bind(&config).unwrap();
        fs::write(outer.join("another's"), "").unwrap();
        drop(listeners);
        assert!(outer.exists() && !outer.join("b").exists());
        drop(Listeners::bind(&config).unwrap());
        assert!(outer.exists(), "it was there before");
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        fs::write(&config.api_socket, "precious").unwrap();
        assert!(matches!(refuse_files_in_the_way(&config), Err(Error::NotASocket { .. })));
        assert!(matches!(Listeners::bind(&config), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&config.api_socket).unwrap(), "precious");
    }
}
