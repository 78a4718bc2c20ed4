//! A host with a way out, and what is out there: two namespaces joined by a cable.
//!
//! ```text
//!  containers ── switch ── host: wan 198.51.100.2, 2001:db8:100::2 ──veth── far: 198.51.100.1, 2001:db8:100::1
//!                                                                          on lo: 203.0.113.7, 2001:db8:7::7
//! ```
//!
//! The daemon's session has that host for its own; far is one namespace that plays every host of the world, each an address of
//! documentation (RFC 5737, RFC 3849), and routes as a router does: some addresses swallow all, some are refused. Nothing of the
//! machine changes. Needs root, for a session of an ordinary user too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::container::Container;
use crate::process::Background;
use crate::session::{Session, Who};
use crate::switch::Switch;

/// A host out there that serves.
const FAR: [IpAddr; 2] = [v4(203, 0, 113, 7), v6(7, 7)];
/// One whose packets vanish on the way.
const SILENT: [IpAddr; 2] = [v4(203, 0, 113, 66), v6(7, 0x66)];
/// One to which the last router knows no way, and says so.
const UNREACHABLE: [IpAddr; 2] = [v4(203, 0, 113, 99), v6(7, 0x99)];
/// The far namespace's own on the cable, from which it asks the host.
/// The host's own.
const HOST: [IpAddr; 2] = [v4(198, 51, 100, 2), v6(0x100, 2)];

/// See the head of this file.
#[derive(Debug)]
pub struct Internet {
    // Its host holds one end of the cable, so that it goes with either.
    session: Rc<Session>,
    far: Container,
}

impl Internet {
    /// A host of `who`'s daemon, and the rest of the world.
    ///
    /// # Panics
    /// When this is not root.
    #[track_caller]
    pub fn new(who: Who) -> Internet {
        let far = Container::of_the_machine();
        let host = format!(
            "ip link add wan type veth peer name wan netns {}
             echo 0 >/proc/sys/net/ipv6/conf/wan/accept_dad
             ip address add 198.51.100.2/24 dev wan; ip address add 2001:db8:100::2/64 dev wan nodad; ip link set wan up
             echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range",
            far.pid()
        );
        let resolv_conf = format!("nameserver {}\n", FAR[0]);
        let session = Session::with_own_host_and_names(who, &host, &resolv_conf);
        far.ok(&["sh", "-ec", FAR_SETUP]);
        let host = session.host().expect("it was made with one");
        host.ok(&["sh", "-ec", "ip route add default via 198.51.100.1; ip route add default via 2001:db8:100::1"]);
        Internet { session: Rc::new(session), far }
    }

    /// `tapswitch up FLAGS` on the host, serving.
    #[track_caller]
    pub fn switch(&self, flags: &[&str]) -> Switch {
        Switch::start_in(Rc::clone(&self.session), flags)
    }

    /// The host's session.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// The host's network.
    pub fn host(&self) -> &Container {
        self.session.host().expect("it was made with one")
    }

    /// The far hosts' network.
    pub fn far(&self) -> &Container {
        &self.far
    }

    /// A far host, of each IP version; as a client it has these addresses too.
    pub fn addresses(&self) -> [IpAddr; 2] {
        FAR
    }

    /// One that swallows all.
    pub fn silent(&self) -> [IpAddr; 2] {
        SILENT
    }

    /// One to which there is no way.
    pub fn unreachable(&self) -> [IpAddr; 2] {
        UNREACHABLE
    }

    /// The host's own, which far hosts reach.
    pub fn host_addresses(&self) -> [IpAddr; 2] {
        HOST
    }

    /// `tapswitch-probe VERB ADDR.. WORDS` at both addresses of the far host, ready.
    #[track_caller]
    pub fn serve(&self, verb: &str, port: u16, words: &[&str]) -> Background {
        let at = FAR.map(|address| SocketAddr::new(address, port).to_string());
        let mut service = self.far.spawn(&[&["tapswitch-probe", verb, &at[0], &at[1]], words].concat());
        service.wait_until_ready();
        service
    }
}

/// The far host's own packets have its address, not the router's. Forwarding is what makes it tell of routes it has not. Its
/// answers are not limited to one a second. Without duplicate detection of its link-local address, from which it asks for
/// neighbours, it need not wait for that before its first packet.
const FAR_SETUP: &str = "
    echo 0 >/proc/sys/net/ipv6/conf/wan/accept_dad
    ip link set lo up; ip link set wan up
    echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit
    ip address add 198.51.100.1/32 dev wan; ip address add 2001:db8:100::1/128 dev wan nodad
    ip address add 203.0.113.7/32 dev lo; ip address add 2001:db8:7::7/128 dev lo nodad
    ip route add 198.51.100.0/24 dev wan src 203.0.113.7
    ip route add 2001:db8:100::/64 dev wan src 2001:db8:7::7
    ip route add blackhole 203.0.113.66/32; ip route add blackhole 2001:db8:7::66/128
    ip route add unreachable 203.0.113.99/32; ip route add unreachable 2001:db8:7::99/128";

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host))
}
