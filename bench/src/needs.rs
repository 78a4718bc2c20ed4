//! What a run needs of the machine: rights, tools, descriptors.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Where Debian keeps `nft`, out of an ordinary user's sight.
const ADMIN_PATH: &str = "/usr/sbin:/sbin";

/// Tools that every comparison uses, and the Debian packages that bring them.
pub(crate) const TOOLS: [(&str, &str); 5] = [
    ("iperf3", "iperf3"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("sysctl", "procps"),
];

/// Goes on as root: in a user namespace, if need be, where namespaces and devices may be made.
///
/// # Errors
/// When there is none to be had. It does not return where one is entered: this program starts again in it.
pub(crate) fn root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let path = std::env::var("PATH").context("PATH is not set")?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(std::env::current_exe().context("find this program")?);
    command.args(std::env::args_os().skip(1)).env("PATH", format!("{path}:{ADMIN_PATH}"));
    bail!("start unshare (apt-get install util-linux): {}", command.exec())
}

/// # Errors
/// When there is no such program, with the package that brings it.
pub(crate) fn tool(tool: &str, package: &str) -> Result<()> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let found = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    ensure!(found, "`{tool}` is missing: apt-get install {package}");
    Ok(())
}

/// Lets this process have as many descriptors as it may: the usual limit is 1,024.
pub(crate) fn descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of descriptors")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of descriptors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_missing_is_named_with_its_package() {
        assert!(tool("sh", "dash").is_ok());
        let error = tool("tapswitch-has-no-such-tool", "a-package").unwrap_err();
        assert_eq!(error.to_string(), "`tapswitch-has-no-such-tool` is missing: apt-get install a-package");
    }
}
