//! The switch process gives up what it must not have, before its first line of work.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use caps::CapSet;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use tapswitch_netns::close_all_but;

use super::error::{Error, Result};

/// Leaves the process with no capability and no way to one, undumpable, and with only the descriptors `keep` above the
/// standard three.
///
/// PR_SET_PDEATHSIG is deliberately absent: the switch forwards on when its keeper is killed.
pub(super) fn renounce(name: &CStr, keep: &[BorrowedFd<'_>]) -> Result<()> {
    prctl::set_no_new_privs().map_err(|errno| Error::system("set no_new_privs", errno))?;
    drop_capabilities()?;
    prctl::set_dumpable(false).map_err(|errno| Error::system("set undumpable", errno))?;
    prctl::set_name(name).map_err(|errno| Error::system("set the process's name", errno))?;
    close_all_but(keep);
    reset_signals()
}

fn drop_capabilities() -> Result<()> {
    let failed =
        |error: caps::errors::CapsError| Error::system("drop capabilities", io::Error::other(error.to_string()));
    // The bounding set takes CAP_SETPCAP, which an ordinary user has not; with no_new_privs it gives nothing anyway.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(failed)? {
        for capability in caps::runtime::thread_all_supported() {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::clear(None, CapSet::Effective).map_err(failed)?;
    caps::clear(None, CapSet::Permitted).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)
}

/// Ctrl-C and a closed terminal reach every process of the terminal; the keeper tells the switch what to do about them.
fn reset_signals() -> Result<()> {
    let failed = |errno: nix::Error| Error::system("reset signals", errno);
    for ignored in [Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: ignores it; no handler of ours.
        unsafe { signal(ignored, SigHandler::SigIgn) }.map_err(failed)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(failed)
}
