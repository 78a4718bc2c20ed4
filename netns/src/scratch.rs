//! The namespace devices are born in.
//!
//! It holds nothing but devices on their way: each is moved out within milliseconds of its birth. One serves every target
//! owned by the same user namespace. It costs 208 kB and lives while this value or a TAP born in it does.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::child::in_child;
use crate::error::{Error, Result};
use crate::namespace::{Namespace, NamespaceId};

/// An empty network namespace, and whom it serves.
#[derive(Debug)]
pub struct Scratch {
    namespace: Namespace,
    owner: NamespaceId,
}

impl Scratch {
    /// Makes one for targets of the same owner as `target`, in a forked child that must be done within `limit`.
    pub fn beside(target: &Namespace, limit: Duration) -> Result<Scratch> {
        let owner = target.owner()?;
        let ((), fd) = in_child("make a scratch namespace", &[target.as_fd()], limit, || {
            // Asked again: the descriptor of the parent's `owner` is closed in here.
            target.owner()?.enter()?;
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|os| Error::Enter { what: "a scratch namespace".into(), os: os.into() })?;
            Ok(((), Some(Namespace::current()?.into())))
        })?;
        let fd = fd.ok_or_else(|| Error::Child {
            step: "make a scratch namespace".into(),
            why: "no descriptor came back".into(),
        })?;
        Ok(Scratch { namespace: Namespace::from_fd(fd)?, owner: owner.id() })
    }

    /// The user namespace that owns it, and every target it serves.
    pub fn owner(&self) -> NamespaceId {
        self.owner
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
