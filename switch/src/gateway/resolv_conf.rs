//! The nameservers that a resolv.conf names, and following them as the file changes.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer files are no resolv.conf.
const MAX_FILE: u64 = 64 << 10;
/// Most servers that are asked, the first ones: MAXNS of resolv.conf(5).
const MAX_SERVERS: usize = 3;
/// How often a file is looked at, at most, and only when somebody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A line `nameserver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    /// Its address.
    pub address: IpAddr,
    /// The interface of a link-local one.
    pub zone: Option<String>,
}

/// The nameservers of this file; none if it cannot be read: hosts without one are common.
pub fn read(path: &Path) -> Vec<Nameserver> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
        Ok(_) => parse(&String::from_utf8_lossy(&bytes)),
        Err(_) => Vec::new(),
    }
}

/// resolv.conf(5): a line is a keyword and its values; an IPv6 address may name a zone. What is no address is
/// passed over.
fn parse(text: &str) -> Vec<Nameserver> {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_one = words.next() == Some("nameserver");
        let word = words.next().filter(|_| is_one)?;
        let (address, zone) = word.split_once('%').map_or((word, None), |(address, zone)| (address, Some(zone)));
        Some(Nameserver { address: address.parse().ok()?, zone: zone.map(str::to_owned) })
    };
    text.lines().filter_map(value).collect()
}

/// What a file looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    changed: (i64, i64),
    size: u64,
}

impl Look {
    fn at(path: &Path) -> Option<Look> {
        let meta = fs::metadata(path).ok()?;
        Some(Look { inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()), size: meta.size() })
    }
}

/// The servers to ask.
#[derive(Debug)]
pub struct Resolvers {
    paths: Vec<PathBuf>,
    port: u16,
    looked: Option<Instant>,
    looks: Vec<Option<Look>>,
    servers: Vec<SocketAddr>,
}

impl Resolvers {
    /// Those that the first of these files names that names any; all are asked at `port`.
    pub fn new(paths: &[&Path], port: u16) -> Self {
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        Resolvers { paths, port, looked: None, looks: Vec::new(), servers: Vec::new() }
    }

    /// They, in order, and whether they are others than before. There is always one: where none is named it is this machine
    /// (resolv.conf(5)).
    pub(super) fn now(&mut self, now: Instant) -> (&[SocketAddr], bool) {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_EVERY) {
            return (&self.servers, false);
        }
        self.looked = Some(now);
        let looks: Vec<_> = self.paths.iter().map(|path| Look::at(path)).collect();
        if looks == self.looks && !self.servers.is_empty() {
            return (&self.servers, false);
        }
        self.looks = looks;
        let named = self.paths.iter().map(|path| read(path)).find(|servers| !servers.is_empty());
        let mut servers: Vec<_> = named.into_iter().flatten().map(|server| socket(&server, self.port)).collect();
        servers.truncate(MAX_SERVERS);
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, self.port).into());
        }
        let others = servers != self.servers;
        self.servers = servers;
        (&self.servers, others)
    }
}

/// A zone that is no interface any more leaves the address as it is, which then cannot be reached.
fn socket(server: &Nameserver, port: u16) -> SocketAddr {
    let interface = |zone: &str| nix::net::if_::if_nametoindex(zone).ok();
    match (server.address, server.zone.as_deref().and_then(interface)) {
        (IpAddr::V6(v6), Some(scope)) => SocketAddrV6::new(v6, port, 0, scope).into(),
        (address, _) => (address, port).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_with_zone_comment_and_nonsense() {
        let text = "# nameserver 1.1.1.1\nsearch lan\nnameserver 10.0.0.53 # the old one\n\tnameserver\tfe80::1%eth0\n\
                    nameserver nonsense\nnameserver\nnameservers 9.9.9.9\noptions ndots:0";
        let read: Vec<_> = parse(text).into_iter().map(|server| (server.address.to_string(), server.zone)).collect();
        assert_eq!(read, [("10.0.0.53".into(), None), ("fe80::1".into(), Some("eth0".into()))]);
    }

    #[test]
    fn a_resolv_conf_that_is_not_there_names_nobody_and_then_this_machine_is_asked() {
        let path = Path::new("/nonexistent/resolv.conf");
        assert_eq!(read(path), []);
        let mut resolvers = Resolvers::new(&[path], 53);
        assert_eq!(resolvers.now(Instant::now()), (&["127.0.0.1:53".parse().unwrap()][..], true));
    }

    #[test]
    fn changes_are_followed_a_second_later_and_a_touch_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let write = |text: &str| {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write("nameserver 192.0.2.1\n");
        let mut resolvers = Resolvers::new(&[&path], 53);
        let start = Instant::now();
        assert!(resolvers.now(start).1);
        write("nameserver 192.0.2.2\n");
        assert_eq!(resolvers.now(start), (&["192.0.2.1:53".parse().unwrap()][..], false));
        assert_eq!(resolvers.now(start + LOOK_EVERY), (&["192.0.2.2:53".parse().unwrap()][..], true));
        write("nameserver 192.0.2.2 # again\n");
        assert!(!resolvers.now(start + 2 * LOOK_EVERY).1);
    }

    #[test]
    fn the_first_file_that_names_any_counts_and_of_it_three() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, full) = (dir.path().join("empty"), dir.path().join("full"));
        fs::write(&empty, "search lan\n").unwrap();
        fs::write(&full, "nameserver ::1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n").unwrap();
        let mut resolvers = Resolvers::new(&[&empty, &full], 5353);
        let (servers, _) = resolvers.now(Instant::now());
        assert_eq!(
            servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["[::1]:5353", "192.0.2.1:5353", "192.0.2.2:5353"]
        );
    }
}
