//! What can go wrong, one clear line each: what was being done, to whom, and what to do about it.
//!
//! Errors cross from a forked child to its parent, so they serialise: what the kernel said is kept as its number.

use std::fmt;

use ipnet::IpNet;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What the kernel said: an errno, shown in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os(pub i32);

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing by that name.
    #[error("namespace {name}: not found (give a pid, a name under /run/netns, or a path)")]
    UnknownNamespace {
        /// As the user wrote it.
        name: String,
    },
    /// It exists and may not be opened.
    #[error("namespace {name}: permission denied (it belongs to another user)")]
    NamespaceDenied {
        /// As the user wrote it.
        name: String,
    },
    /// It exists and is something else.
    #[error("namespace {name}: not a network namespace")]
    NotANamespace {
        /// As the user wrote it.
        name: String,
    },
    /// Any other failure to open or examine it.
    #[error("namespace {name}: {os}")]
    Namespace {
        /// As the user wrote it.
        name: String,
        /// What the kernel said.
        os: Os,
    },
    /// It cannot be entered.
    #[error("enter {what}: {os}{}", enter_remedy(*.os))]
    Enter {
        /// Which part.
        what: String,
        /// What the kernel said.
        os: Os,
    },
    /// `/dev/net/tun` is missing or may not be opened.
    #[error("open /dev/net/tun: {os}{}", tun_remedy(*.os))]
    TunNode {
        /// What the kernel said.
        os: Os,
    },
    /// A TAP could not be made or set.
    #[error("make TAP {ifname}: {step}: {os}")]
    Tap {
        /// The device.
        ifname: String,
        /// What was being done to it.
        step: String,
        /// What the kernel said.
        os: Os,
    },
    /// `--offload on`, and the kernel cannot.
    #[error("make TAP {ifname}: this kernel grants no offload (use --offload auto)")]
    NoOffload {
        /// The device.
        ifname: String,
    },
    /// The target has a device by this name.
    #[error("make TAP {ifname}: the namespace has a device of that name already (choose another ifname)")]
    NameTaken {
        /// The device.
        ifname: String,
    },
    /// No such device where one was.
    #[error("device {ifname}: no such device in the namespace")]
    NoDevice {
        /// The device.
        ifname: String,
    },
    /// It exists and is not the TAP that was made.
    #[error("device {ifname}: it is not the TAP made for this endpoint")]
    NotOurTap {
        /// The device.
        ifname: String,
    },
    /// The kernel would not take this name.
    #[error("device name {ifname:?}: want 1 to 15 characters without space, '/', ':' or '%'")]
    BadName {
        /// The device.
        ifname: String,
    },
    /// Out of range.
    #[error("MTU {mtu}: want {min} to {max}")]
    BadMtu {
        /// Asked for.
        mtu: u32,
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// A route netlink request failed.
    #[error("{step}: {os}")]
    Netlink {
        /// What was being done, to whom.
        step: String,
        /// What the kernel said.
        os: Os,
    },
    /// An address could not be set.
    #[error("set address {address} on {ifname}: {os}{}", address_remedy(*.address, .ifname, *.os))]
    Address {
        /// The address.
        address: IpNet,
        /// The device.
        ifname: String,
        /// What the kernel said.
        os: Os,
    },
    /// A socket for names could not be made.
    #[error("answer names in the container: {step}: {os}")]
    Names {
        /// What was being done.
        step: String,
        /// What the kernel said.
        os: Os,
    },
    /// The forked child gave no answer.
    #[error("{step}: {why}")]
    Child {
        /// What was being done.
        step: String,
        /// Why there is none.
        why: String,
    },
}

impl Error {
    /// A netlink step that failed.
    pub(crate) fn netlink(step: impl Into<String>, os: impl Into<Os>) -> Error {
        Error::Netlink { step: step.into(), os: os.into() }
    }
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Errno::from_raw(self.0).desc().to_lowercase())
    }
}

impl From<Errno> for Os {
    fn from(errno: Errno) -> Os {
        Os(errno as i32)
    }
}

impl From<std::io::Error> for Os {
    /// An error that came from no system call shows as EIO.
    fn from(error: std::io::Error) -> Os {
        Os(error.raw_os_error().unwrap_or(Errno::EIO as i32))
    }
}

fn enter_remedy(os: Os) -> &'static str {
    match Errno::from_raw(os.0) {
        Errno::EPERM | Errno::EACCES => {
            " (it is owned by another user; run the daemon as root, or make the namespace as the daemon's user)"
        }
        Errno::ENOSPC => " (no more namespaces allowed; see /proc/sys/user/max_net_namespaces)",
        _ => "",
    }
}

fn tun_remedy(os: Os) -> &'static str {
    match Errno::from_raw(os.0) {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => " (load the tun module: modprobe tun)",
        Errno::EPERM | Errno::EACCES => " (is the node 0666? see docs/rootless.md)",
        _ => "",
    }
}

/// The two ways of having no IPv6: of the kernel's, and of the namespace's where /proc/sys may not be written.
fn address_remedy(address: IpNet, ifname: &str, os: Os) -> String {
    match (address, Errno::from_raw(os.0)) {
        (IpNet::V6(_), Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => {
            " (this host's kernel has no IPv6: make the network anew with `--ipv6 off`)".into()
        }
        (IpNet::V6(_), Errno::EACCES) => format!(
            " (IPv6 is switched off in the namespace: set net.ipv6.conf.default.disable_ipv6=0 there, let the daemon write \
             /proc/sys/net/ipv6/conf/{ifname}, or make the network anew with `--ipv6 off`)"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_that_cannot_be_says_what_is_switched_off() {
        let said = |address: &str, errno: Errno| {
            let address = address.parse().unwrap();
            Error::Address { address, ifname: "eth0".into(), os: errno.into() }.to_string()
        };
        assert!(said("fd00::2/64", Errno::EOPNOTSUPP).contains("kernel has no IPv6"));
        assert!(said("fd00::2/64", Errno::EACCES).contains("net.ipv6.conf.default.disable_ipv6=0"));
        assert_eq!(said("10.0.0.2/8", Errno::EACCES), "set address 10.0.0.2/8 on eth0: permission denied");
    }

    #[test]
    fn a_missing_node_names_the_module() {
        let error = Error::TunNode { os: Errno::ENOENT.into() };
        assert_eq!(
            error.to_string(),
            "open /dev/net/tun: no such file or directory (load the tun module: modprobe tun)"
        );
    }

    #[test]
    fn a_closed_node_names_the_mode() {
        let error = Error::TunNode { os: Errno::EACCES.into() };
        assert_eq!(error.to_string(), "open /dev/net/tun: permission denied (is the node 0666? see docs/rootless.md)");
    }
}
