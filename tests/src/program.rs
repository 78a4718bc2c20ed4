//! Where programs are: ours beside the running test, the others in PATH.

use std::path::{Path, PathBuf};

/// Debian packages of the programs that tests use.
const PACKAGES: &[(&str, &str)] = &[
    ("bwrap", "bubblewrap"),
    ("dig", "bind9-dnsutils"),
    ("busybox", "busybox-static"),
    ("ctr", "containerd"),
    ("ip", "iproute2"),
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("redis-check-rdb", "redis-tools"),
    ("redis-cli", "redis-tools"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// The path of one of our own programs, as `tapswitch`: `target/PROFILE/NAME`, two folders above the running test.
///
/// # Panics
/// When it was not built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the kernel names the running program");
    let folder = test.parent().and_then(Path::parent).expect("tests run from target/PROFILE/deps");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins`, or the tests by `tests/run`",
        path.display()
    );
    path
}

/// The path of a program of the system.
///
/// # Panics
/// When it is missing, with the command that installs it.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let package = PACKAGES.iter().find(|(tool, _)| *tool == name).map_or(name, |(_, package)| package);
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: apt-get install {package}"))
}
