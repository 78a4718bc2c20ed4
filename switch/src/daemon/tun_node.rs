//! /dev/net/tun: whether the daemon's user can open it, and the remedy where not. Opening it makes no device and needs no right but
//! the node's own.

use std::fs::File;
use std::io;
use std::path::Path;

/// The node.
pub const TUN: &str = "/dev/net/tun";

/// Opens the node.
///
/// # Errors
/// What is wrong, and the remedy.
pub fn check() -> Result<(), (String, &'static str)> {
    open(Path::new(TUN)).map_err(|error| explain(&error))
}

/// What `status` and the log say where no container can be attached. root is asked for no mode: the switch process, which looks,
/// has not the capability that the keeper opens it with.
pub(crate) fn warning(privileged: bool) -> Option<String> {
    warning_of(open(Path::new(TUN)), privileged)
}

fn open(node: &Path) -> io::Result<()> {
    File::options().read(true).write(true).open(node).map(drop)
}

fn warning_of(opened: io::Result<()>, privileged: bool) -> Option<String> {
    let error = opened.err()?;
    if privileged && error.raw_os_error() == Some(libc::EACCES) {
        return None;
    }
    let (detail, remedy) = explain(&error);
    Some(format!("no container can be attached: {detail} ({remedy})"))
}

fn explain(error: &io::Error) -> (String, &'static str) {
    let (detail, remedy) = match error.raw_os_error() {
        Some(libc::ENOENT) => (
            "there is no such device",
            "as root: modprobe tun; in a container give it the device, as by `--device /dev/net/tun`",
        ),
        Some(libc::ENODEV | libc::ENXIO) => ("the kernel has no tun driver loaded", "as root: modprobe tun"),
        Some(libc::EACCES) => {
            ("permission denied", "as root: chmod 0666 /dev/net/tun, the mode that distributions ship (it is harmless)")
        }
        Some(libc::EPERM) => {
            ("forbidden by the device cgroup", "give the container the device, as by `--device /dev/net/tun`")
        }
        _ => return (format!("open {TUN}: {error}"), "see dmesg"),
    };
    (format!("open {TUN}: {detail}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_the_node_has_its_own_remedy() {
        for (errno, remedy) in [
            (libc::ENOENT, "modprobe tun"),
            (libc::ENODEV, "modprobe tun"),
            (libc::EACCES, "chmod 0666 /dev/net/tun"),
            (libc::EPERM, "--device /dev/net/tun"),
        ] {
            assert!(explain(&io::Error::from_raw_os_error(errno)).1.contains(remedy), "{errno}");
        }
    }

    #[test]
    fn a_node_that_a_user_cannot_open_is_warned_of() {
        let opened = |errno| Err(io::Error::from_raw_os_error(errno));
        let warning = warning_of(opened(libc::EACCES), false).unwrap();
        assert!(
            warning.starts_with("no container can be attached: open /dev/net/tun: permission denied (as root: chmod"),
            "{warning}"
        );
        assert_eq!(warning_of(opened(libc::EACCES), true), None, "the keeper has the capability");
        assert!(warning_of(opened(libc::ENOENT), true).is_some());
        assert_eq!(warning_of(Ok(()), false), None);
    }
}
