//! Who has a port that could not be bound: from the kernel's table of sockets, and from the descriptors of the processes
//! that may be looked at, which are all of them for root and the user's own for a user.
//!
//! Asked only after a failure. Looking at every descriptor of a large host takes a while, so it ends after [`LIMIT`]
//! with what is known by then.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::message::{Holder, SocketKey};
use crate::uplink::Transport;

/// The keeper answers nobody else meanwhile.
const LIMIT: Duration = Duration::from_millis(500);
/// include/net/tcp_states.h: of TCP, who listens has the port.
const LISTENS: &str = "0A";

/// Who has the port; `None` when nobody is seen.
pub(super) fn find(key: SocketKey) -> Option<Holder> {
    find_by(Instant::now() + LIMIT, key)
}

fn find_by(end: Instant, key: SocketKey) -> Option<Holder> {
    let tables = match key.transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    let read = |table| fs::read_to_string(Path::new("/proc/self/net").join(table)).unwrap_or_default();
    let sockets: Vec<Socket> =
        tables.iter().flat_map(|table| sockets(&read(table), key.transport)).filter(|s| s.conflicts(key)).collect();
    let socket = sockets.first()?;
    let process = process_of(socket.inode, end);
    Some(Holder { uid: socket.uid, process })
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Socket {
    /// Whether it keeps `key` from being bound. One of `::` may have both families.
    fn conflicts(&self, key: SocketKey) -> bool {
        let (ours, theirs) = (key.address.ip(), self.address.ip());
        self.address.port() == key.address.port()
            && (ours == theirs
                || theirs == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                || (ours.is_ipv4() == theirs.is_ipv4() && (ours.is_unspecified() || theirs.is_unspecified())))
    }
}

/// Lines of /proc/net/{tcp,udp}{,6} that hold a port.
fn sockets(table: &str, transport: Transport) -> Vec<Socket> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
        if transport == Transport::Tcp && state != LISTENS {
            return None;
        }
        let (ip, port) = local.split_once(':')?;
        let address = SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?);
        Some(Socket { address, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The kernel writes each 32-bit word of the address as it lies in memory.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, bytes) in octets.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// A process that has a descriptor of socket `inode`, by name and pid.
fn process_of(inode: u64, end: Instant) -> Option<(String, u32)> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let numbered = processes.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    for (pid, path) in numbered {
        if Instant::now() > end {
            return None;
        }
        let Ok(descriptors) = fs::read_dir(path.join("fd")) else { continue };
        // What `stat` says of a descriptor is the socket itself.
        let is_it = |entry: fs::DirEntry| fs::metadata(entry.path()).is_ok_and(|m| m.ino() == inode && is_socket(&m));
        if descriptors.filter_map(Result::ok).any(is_it) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some((name.trim_end().to_owned(), pid));
        }
    }
    None
}

fn is_socket(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn key(transport: Transport, address: SocketAddr) -> SocketKey {
        SocketKey { transport, address }
    }

    #[test]
    fn a_listener_and_a_bound_socket_are_found_with_their_process() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        for key in [key(Transport::Tcp, tcp.local_addr().unwrap()), key(Transport::Udp, udp.local_addr().unwrap())] {
            // A machine that is busy with other tests takes its time.
            let holder = find_by(Instant::now() + 100 * LIMIT, key).unwrap_or_else(|| panic!("nobody has {key:?}"));
            assert_eq!(holder.uid, nix::unistd::geteuid().as_raw());
            assert_eq!(holder.process.unwrap().1, std::process::id());
        }
    }

    #[test]
    fn whoever_has_all_addresses_has_each_of_them() {
        let all = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = all.local_addr().unwrap().port();
        assert!(find(key(Transport::Tcp, ([127, 0, 0, 1], port).into())).is_some());
        drop(all);
        assert_eq!(find(key(Transport::Udp, ([127, 0, 0, 1], 1).into())), None);
    }

    #[test]
    fn the_tables_are_read_as_the_kernel_writes_them() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n   \
                     1: 0100007F:1F91 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 100 0 0 10 0\n";
        let address = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(sockets(table, Transport::Tcp), [Socket { address, uid: 1000, inode: 4711 }]);
        assert_eq!(super::address("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
    }
}
