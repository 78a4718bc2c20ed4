//! Ports that cannot be had: which exclude each other, and what is said of one that somebody has. Nothing here is control's
//! state.

use nix::errno::Errno;

use crate::daemon::keeper::message::{Holder, SocketKey};
use crate::daemon::name::printable;
use crate::daemon::refusal::Refusal;
use crate::uplink::Transport;

/// Whether the two cannot both be bound.
pub(super) fn overlap(a: SocketKey, b: SocketKey) -> bool {
    let (x, y) = (a.address, b.address);
    a.transport == b.transport
        && x.port() == y.port()
        && x.is_ipv4() == y.is_ipv4()
        && (x.ip() == y.ip() || x.ip().is_unspecified() || y.ip().is_unspecified())
}

/// A port, with its address where that says more.
pub(super) fn shown(key: SocketKey) -> String {
    if key.address.ip().is_unspecified() {
        format!("{}/{}", key.address.port(), key.transport)
    } else {
        format!("{}/{}", key.address, key.transport)
    }
}

/// Why a socket could not be bound, and what to do about it.
pub(super) fn refusal(key: SocketKey, errno: Errno, holder: Option<Holder>) -> Refusal {
    let port = shown(key);
    match errno {
        Errno::EADDRINUSE => Refusal::Conflict(format!("port {port} is in use by {}", who(holder, key.transport))),
        Errno::EACCES => Refusal::Impossible(format!(
            "port {port} is privileged: an ordinary user has those from {} on; publish such a one, or have root lower sysctl \
             net.ipv4.ip_unprivileged_port_start",
            first_unprivileged()
        )),
        Errno::EADDRNOTAVAIL => Refusal::Impossible(format!("{} is no address of this host", key.address.ip())),
        Errno::EAFNOSUPPORT => Refusal::Impossible(format!("{}: this host has no IPv6", key.address.ip())),
        Errno::EMFILE | Errno::ENFILE => {
            Refusal::Failed(format!("port {port}: too many ports are published, or too many files open"))
        }
        other => Refusal::Failed(format!("port {port}: {}", other.desc().to_lowercase())),
    }
}

fn who(holder: Option<Holder>, transport: Transport) -> String {
    let flag = if transport == Transport::Tcp { "-ltnp" } else { "-lunp" };
    match holder {
        Some(Holder { process: Some((name, pid)), .. }) => format!("{} (pid {pid})", printable(&name)),
        Some(Holder { uid, .. }) => format!("a process of user {uid} (`ss {flag}` as root names it)"),
        None => format!("another process (`ss {flag}` as root names it)"),
    }
}

fn first_unprivileged() -> String {
    let read = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    read.map_or_else(|_| "1024".into(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> SocketKey {
        SocketKey { transport: Transport::Tcp, address: address.parse().unwrap() }
    }

    #[test]
    fn all_addresses_overlap_each_of_their_family() {
        assert!(overlap(key("0.0.0.0:80"), key("127.0.0.1:80")) && overlap(key("[::1]:80"), key("[::]:80")));
        assert!(!overlap(key("0.0.0.0:80"), key("[::]:80")) && !overlap(key("0.0.0.0:80"), key("0.0.0.0:81")));
        assert!(!overlap(key("127.0.0.1:80"), key("127.0.0.2:80")));
        let udp = SocketKey { transport: Transport::Udp, address: "[::]:80".parse().unwrap() };
        assert!(!overlap(udp, key("[::]:80")));
    }

    #[test]
    fn a_refusal_says_who_has_the_port_or_what_to_do() {
        let of = |errno, holder| refusal(key("0.0.0.0:80"), errno, holder).to_string();
        let nginx = Holder { uid: 0, process: Some(("nginx".into(), 4711)) };
        assert_eq!(of(Errno::EADDRINUSE, Some(nginx)), "port 80/tcp is in use by nginx (pid 4711)");
        let hidden = Holder { uid: 7, process: None };
        assert!(of(Errno::EADDRINUSE, Some(hidden)).contains("a process of user 7 (`ss -ltnp` as root"));
        assert!(of(Errno::EACCES, None).contains("sysctl net.ipv4.ip_unprivileged_port_start"));
        assert!(refusal(key("192.0.2.1:80"), Errno::EADDRNOTAVAIL, None).to_string().starts_with("192.0.2.1 is no"));
    }
}
