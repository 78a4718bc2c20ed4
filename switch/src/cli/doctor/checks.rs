//! The checks, one function each.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use caps::CapSet;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};
use tapswitch_netns::kernel_version;

use super::{Check, Level};
use crate::cli::container::Container;
use crate::cli::status;
use crate::cli::userns::{self, Limits};
use crate::daemon::api::client::{Client, ClientError};
use crate::daemon::host::has_ipv6;
use crate::daemon::settings::{Flags, Settings};
use crate::daemon::tun_node::{self, TUN};
use crate::engine::try_io_uring;

/// The check that makes namespaces.
const NAMESPACES: &str = "namespaces";
/// The first kernel that tells the kind of a namespace (NS_GET_NSTYPE): 4.11.
const LEAST_KERNEL: (u32, u32) = (4, 11);
/// The first kernel whose TAPs io_uring reads without a thread of its own: 6.4.
const FAST_KERNEL: (u32, u32) = (6, 4);
/// Descriptors: two for each endpoint, and some for the rest.
const OPEN_FILES: u64 = 4096;

pub(super) fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    match kernel_version() {
        Some(version) if version < LEAST_KERNEL => Check::fail("kernel", release, "Linux 4.11 at least is needed"),
        Some(version) if version < FAST_KERNEL => {
            Check::warn("kernel", release, "forwarding is slower than on Linux 6.4 and later")
        }
        Some(_) => Check::ok("kernel", release),
        None => Check::warn("kernel", format!("`{release}`"), "not a version that is understood"),
    }
}

pub(super) fn tun_node() -> Check {
    match tun_node::check() {
        Ok(()) => Check::ok(TUN, "can be opened"),
        Err((detail, remedy)) => Check::fail(TUN, detail, remedy),
    }
}

pub(super) fn namespaces() -> Check {
    let how = if userns::is_privileged() { "as root" } else { "in a user namespace" };
    match Container::start(|| 0) {
        Ok(_) => Check::ok(NAMESPACES, format!("network and mount namespaces can be made, {how}")),
        Err(error) => {
            // Where a setting forbids them, the error names it; root needs no user namespaces.
            let is_for_users = !userns::is_privileged() && Limits::read().remedy().is_none();
            let remedy = is_for_users.then(|| "be root, or have user namespaces allowed".to_owned());
            Check { remedy, ..Check::fail(NAMESPACES, format!("{error:#}"), "") }
        }
    }
}

/// What ordinary users of this host may do, whoever asks. One of them who asks has tried it among the checks `so_far`: a
/// profile may give tapswitch what a setting takes from others.
pub(super) fn unprivileged(so_far: &[Check]) -> Check {
    let has_tried = !userns::is_privileged() && so_far.iter().any(|c| c.check == NAMESPACES && c.result == Level::Ok);
    judge_users(Limits::read(), has_tried)
}

fn judge_users(limits: Limits, has_tried: bool) -> Check {
    const CHECK: &str = "ordinary users";
    match limits.remedy() {
        Some(remedy) if has_tried => Check::ok(CHECK, format!("you can, though others may not: {remedy}")),
        Some(remedy) => Check::warn(CHECK, "cannot run the switch or containers", remedy),
        None => Check::ok(CHECK, "no setting keeps them from making user namespaces"),
    }
}

pub(super) fn io_uring() -> Check {
    let tried = without_capabilities(try_io_uring).unwrap_or_else(Err);
    judge_io_uring(tried, userns::number("/proc/sys/kernel/io_uring_disabled"))
}

/// What `what` comes to in a thread without capabilities, as all of the switch process are, root's too.
///
/// # Errors
/// There is no such thread.
fn without_capabilities<T: Send>(what: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let bare = thread::Builder::new().spawn_scoped(scope, || {
            caps::clear(None, CapSet::Effective).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(what())
        })?;
        bare.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn judge_io_uring(tried: io::Result<()>, setting: Option<u64>) -> Check {
    const WITHOUT: &str = "plain reads and writes are used, about a third slower";
    match (tried, setting) {
        (Ok(()), _) => Check::ok("io_uring", "permitted"),
        (Err(_), Some(2)) => {
            Check::warn("io_uring", format!("switched off; {WITHOUT}"), "sysctl -w kernel.io_uring_disabled=0")
        }
        (Err(_), Some(1)) => Check::warn(
            "io_uring",
            format!("for members of kernel.io_uring_group only, which the switch is not, as root neither; {WITHOUT}"),
            "sysctl -w kernel.io_uring_group=GID, a group of the daemon's, or sysctl -w kernel.io_uring_disabled=0",
        ),
        (Err(error), _) => Check::warn(
            "io_uring",
            format!("{error}; {WITHOUT}"),
            "the kernel lacks it, or a container's seccomp filter forbids it",
        ),
    }
}

/// Whether networks can have IPv6 here.
pub(super) fn ipv6() -> Check {
    judge_ipv6(has_ipv6())
}

fn judge_ipv6(has_it: bool) -> Check {
    const CHECK: &str = "ipv6";
    if has_it {
        return Check::ok(CHECK, "the kernel has it");
    }
    Check::warn(
        CHECK,
        "the kernel has none: networks are of IPv4 alone",
        "start the kernel without `ipv6.disable=1`, or one that has it",
    )
}

pub(super) fn directories() -> Vec<Check> {
    match Settings::load(&Flags::default()) {
        Ok(settings) => {
            vec![directory("state directory", &settings.state_dir), directory("run directory", &settings.run_dir)]
        }
        Err(error) => vec![Check::fail("directories", error.to_string(), "up --state DIR")],
    }
}

fn directory(check: &'static str, path: &Path) -> Check {
    let nearest = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    match access(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Check::ok(check, path.display().to_string()),
        Err(error) => Check::fail(
            check,
            format!("{}: {}", nearest.display(), error.desc().to_lowercase()),
            "choose another by `up --state DIR`",
        ),
    }
}

pub(super) fn open_files() -> Check {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if hard < OPEN_FILES => Check::warn(
            "open files",
            format!("limit {soft}, at most {hard}: some {} endpoints", hard / 2),
            "raise it: ulimit -Hn, or LimitNOFILE= of the unit",
        ),
        Ok((soft, hard)) => Check::ok("open files", format!("limit {soft}, at most {hard}")),
        Err(error) => Check::warn("open files", error.to_string(), "the limit is not known"),
    }
}

/// And whether one is there.
pub(super) fn daemon(client: &Client) -> (Check, bool) {
    let at = client.socket().display();
    match status::wait(client, Duration::ZERO) {
        Ok(status) => (Check::ok("daemon", format!("{} serves at {at}", status.version)), true),
        Err(error @ ClientError::NoDaemon(_)) => (Check::ok("daemon", error.to_string()), false),
        Err(error @ ClientError::Silent { .. }) => {
            (Check::warn("daemon", error.to_string(), "or look into its log"), true)
        }
        Err(error) => (Check::warn("daemon", error.to_string(), "be its user, or root"), true),
    }
}

/// What the switch does without: said because who asks the doctor often wonders. No line where nothing is known.
pub(super) fn alternatives() -> Option<Check> {
    name_alternatives(known_module)
}

fn name_alternatives(known: impl Fn(&str) -> Option<bool>) -> Option<Check> {
    let shown: Vec<String> = ["bridge", "veth", "nf_tables", "br_netfilter"]
        .iter()
        .filter_map(|module| Some(format!("{module} {}", if known(module)? { "yes" } else { "no" })))
        .collect();
    (!shown.is_empty()).then(|| Check::ok("not needed", shown.join(", ")))
}

/// Whether a module is loaded, built in, or on disk, as far as can be told.
pub(super) fn has_module(module: &str) -> bool {
    known_module(module).unwrap_or(false)
}

/// Whether there is such a module; `None` where that is not known: /sys/module lacks what is built in and has no parameter, and
/// the list of what is built in need not be there, as in containers and virtual machines.
fn known_module(module: &str) -> Option<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    known_module_of(Path::new("/sys/module"), &Path::new("/lib/modules").join(release.trim()), module)
}

fn known_module_of(loaded: &Path, on_disk: &Path, module: &str) -> Option<bool> {
    let file = format!("/{module}.ko");
    let lists = ["modules.builtin", "modules.dep"].map(|list| fs::read_to_string(on_disk.join(list)));
    if loaded.join(module).exists() || lists.iter().flatten().any(|text| text.contains(&file)) {
        return Some(true);
    }
    lists.iter().all(Result::is_ok).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_said_to_be_missing_only_where_that_is_known() {
        let root = tempfile::tempdir().unwrap();
        let (loaded, on_disk) = (root.path().join("sys"), root.path().join("lib"));
        fs::create_dir_all(loaded.join("bridge")).unwrap();
        let known = |module: &str| known_module_of(&loaded, &on_disk, module);
        assert_eq!((known("bridge"), known("veth")), (Some(true), None), "veth may be built in");
        assert_eq!(name_alternatives(known).unwrap().detail, "bridge yes");
        assert_eq!(name_alternatives(|_| None), None);
        fs::create_dir(&on_disk).unwrap();
        fs::write(on_disk.join("modules.builtin"), "kernel/drivers/net/veth.ko\n").unwrap();
        fs::write(on_disk.join("modules.dep"), "").unwrap();
        assert_eq!((known("veth"), known("nf_tables")), (Some(true), Some(false)));
    }

    #[test]
    fn io_uring_is_tried_without_capabilities_as_the_switch_does() {
        let may = || caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap();
        let before = may();
        assert!(!without_capabilities(may).unwrap());
        assert_eq!(may(), before, "this thread keeps its own");
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        for (setting, needle) in [(Some(2), "switched off"), (Some(1), "io_uring_group"), (None, "not permitted")] {
            let check = judge_io_uring(refused(), setting);
            assert!(check.result == Level::Warn && check.detail.contains(needle), "{check:?}");
        }
        assert_eq!(judge_io_uring(Ok(()), Some(1)).result, Level::Ok);
    }

    #[test]
    fn a_kernel_without_ipv6_is_said_to_be_one() {
        assert_eq!(judge_ipv6(true).result, Level::Ok);
        let check = judge_ipv6(false);
        assert!(check.result == Level::Warn && check.detail.contains("IPv4 alone"), "{check:?}");
    }

    #[test]
    fn ubuntus_restriction_is_explained_unless_a_profile_lifts_it() {
        let ubuntu = Limits { max: Some(63_000), clone: Some(1), apparmor: Some(1) };
        let check = judge_users(ubuntu, false);
        assert_eq!(check.result, Level::Warn);
        let remedy = check.remedy.unwrap();
        assert!(
            remedy.contains("kernel.apparmor_restrict_unprivileged_userns=0") && remedy.contains("userns,"),
            "{remedy}"
        );
        assert_eq!(judge_users(ubuntu, true).result, Level::Ok);
        assert_eq!(judge_users(Limits { apparmor: Some(0), ..ubuntu }, false).result, Level::Ok);
    }
}
