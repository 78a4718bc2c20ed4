//! `tapswitch exec`: this process moves into the endpoint's namespaces and becomes the command, so that its terminal,
//! signals and exit status are the command's without anything in between.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use nix::unistd::{chdir, geteuid, setgid, setuid};
use tapswitch_netns::{Namespace, NamespaceId};

use super::{Outcome, args, resolv_conf, run};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::EndpointInfo;
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
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let endpoint = args::endpoint(client, &args.endpoint)?;
    enter(&endpoint).with_context(|| format!("exec {}", args.endpoint))?;
    let mut mask = SigSet::empty();
    nix::sys::signal::sigprocmask(nix::sys::signal::SigmaskHow::SIG_BLOCK, None, Some(&mut mask))?;
    Ok(ExitCode::from(u8::try_from(run::execute(&args.command, &mask)).unwrap_or(run::OURS)))
}

/// Moves this process there: user namespace first, which gives the right to the others.
fn enter(endpoint: &EndpointInfo) -> anyhow::Result<()> {
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
        enter_user_namespace(found.pid, owner.id())?;
    }
    setns(&found.namespace, CloneFlags::CLONE_NEWNET).context("enter its network namespace")?;
    match mounts {
        Some(mounts) => enter_mounts(&mounts)?,
        None => resolv_conf::enter_netns(endpoint),
    }
    Ok(())
}

fn enter_user_namespace(pid: Option<i32>, owner: NamespaceId) -> anyhow::Result<()> {
    let Some(pid) = pid else { bail!("no process lives in its user namespace") };
    let path = format!("/proc/{pid}/ns/user");
    if identity(Path::new(&path))? != owner {
        bail!("process {pid} in it lives in another user namespace than the one that owns it");
    }
    let user = File::open(&path).context("open its user namespace")?;
    setns(&user, CloneFlags::CLONE_NEWUSER).context("enter its user namespace")?;
    if !geteuid().is_root() {
        // Root of the host is nobody in a user's namespace; root is what lives there.
        setgid(0.into()).context("become root in its user namespace")?;
        setuid(0.into()).context("become root in its user namespace")?;
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
