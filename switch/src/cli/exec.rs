//! `tapswitch exec`: this process moves into the endpoint's namespaces and becomes the command, so that its terminal,
//! signals and exit status are the command's without anything in between.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{chdir, geteuid, setgid, setgroups, setuid};
use tapswitch_netns::{Namespace, NamespaceId, UserNamespace};

use super::{Outcome, args, resolv_conf, run};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{EndpointInfo, EndpointState};
use crate::daemon::name::Target;

/// Run a second command in an endpoint's network namespace
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch exec web -- ip neigh
  tapswitch exec blue/web -- ping -c1 172.17.0.1

Exit status: CMD's, 125 where tapswitch failed, 126 where CMD cannot be executed, 127 where it is not found.")]
pub(super) struct Args {
    /// The endpoint
    #[arg(value_name = "X")]
    endpoint: Target,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let endpoint = args::endpoint(client, &args.endpoint)?;
    enter(&endpoint).with_context(|| format!("exec {}", args.endpoint))?;
    Ok(ExitCode::from(u8::try_from(run::execute(&args.command)).unwrap_or(run::OURS)))
}

/// Moves this process there: user namespace first, which gives the right to the others.
fn enter(endpoint: &EndpointInfo) -> anyhow::Result<()> {
    check_state(endpoint)?;
    let Some(found) = Namespace::find(endpoint.namespace) else {
        bail!("no process or name shows its namespace {} (another user's? be that user, or root)", endpoint.netns);
    };
    // All are opened before any is entered: afterwards /proc may be another's.
    let mounts = match found.pid.filter(|_| endpoint.netns.starts_with(run::NETNS_PREFIX)) {
        Some(pid) => Some(File::open(format!("/proc/{pid}/ns/mnt")).context("open its mount namespace")?),
        None => None,
    };
    let owner = found.namespace.owner()?;
    if owner.id() != identity(Path::new("/proc/self/ns/user"))? {
        enter_user_namespace(&owner)?;
    }
    setns(&found.namespace, CloneFlags::CLONE_NEWNET).context("enter its network namespace")?;
    match mounts {
        Some(mounts) => enter_mounts(&mounts)?,
        None => resolv_conf::enter_netns(endpoint),
    }
    Ok(())
}

/// The kernel gives the numbers of namespaces out again: that of a lost endpoint may be a stranger's by now.
fn check_state(endpoint: &EndpointInfo) -> anyhow::Result<()> {
    match endpoint.state {
        EndpointState::Up => Ok(()),
        EndpointState::Lost => bail!("its device is lost: detach it"),
    }
}

/// The owner itself, whoever lives in it: what bubblewrap starts lives in one that is nested in it.
fn enter_user_namespace(owner: &UserNamespace) -> anyhow::Result<()> {
    drop_groups()?;
    owner.enter()?;
    // Root of the host is nobody in a user's namespace; root is what lives there. Where it maps no root, nobody is.
    for (step, become_root) in [("group", setgid(0.into())), ("user", setuid(0.into()))] {
        match become_root {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error).with_context(|| format!("become root in its user namespace: {step}")),
        }
    }
    Ok(())
}

/// Root's groups would open the host's files to CMD. Dropped while we are root here: a user's namespace may forbid it.
fn drop_groups() -> anyhow::Result<()> {
    // Where it is forbidden here already, the groups are those of the user who made this namespace.
    let forbidden = fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny");
    if geteuid().is_root() && !forbidden {
        setgroups(&[]).context("drop the groups of root")?;
    }
    Ok(())
}

/// The working directory is found again by its name, and is the root where it is not there.
fn enter_mounts(mounts: &File) -> anyhow::Result<()> {
    let directory = std::env::current_dir();
    setns(mounts, CloneFlags::CLONE_NEWNS).context("enter its mount namespace")?;
    if !directory.is_ok_and(|path| chdir(&path).is_ok()) {
        chdir("/").context("enter its mount namespace: /")?;
    }
    Ok(())
}

fn identity(path: &Path) -> anyhow::Result<NamespaceId> {
    let stat = fs::metadata(path).with_context(|| format!("{}", path.display()))?;
    Ok(NamespaceId { dev: stat.dev(), ino: stat.ino() })
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::web_of;
    use super::*;

    #[test]
    fn a_lost_endpoint_is_not_entered() {
        let own = Namespace::current().unwrap().id();
        let lost = EndpointInfo { state: EndpointState::Lost, namespace: own, ..web_of("default") };
        assert_eq!(enter(&lost).unwrap_err().to_string(), "its device is lost: detach it");
        check_state(&web_of("default")).unwrap();
    }
}
