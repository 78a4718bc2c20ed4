//! Link-local IPv6 addresses beyond the EUI-64 one, claimed first-come.
//!
//! A container may form its link-local address otherwise than from its MAC (RFC 7217, privacy, by hand). The first to use
//! one, or to ask whether anybody does (RFC 4862 5.4), has it until its port is forgotten, at most [`PER_PORT`] each; a second
//! claimant is refused. Nothing ages: an address that fell silent must not become another's.
//!
//! Thread-safety: one lock guards both maps. It is read for a frame with such a source, written for the first one only;
//! a container has at most four of those, so a flood of new addresses only ever reads.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use parking_lot::RwLock;

use super::PortId;

/// Most that a port may claim. A stack has one, and privacy extensions do not apply to fe80::; four leave room for
/// interfaces set up again by hand.
pub(super) const PER_PORT: usize = 4;

/// Who claimed which.
#[derive(Debug, Default)]
pub(super) struct Claims(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    holders: BTreeMap<Ipv6Addr, PortId>,
    /// The other way round.
    claimed: BTreeMap<PortId, Vec<Ipv6Addr>>,
}

impl Claims {
    /// Nobody claimed anything yet.
    pub(super) fn new() -> Self {
        Claims::default()
    }

    /// Whether `port` may use `address`; if it is free and the port has claims left, it is the port's from now on.
    pub(super) fn claim(&self, address: Ipv6Addr, port: PortId) -> bool {
        {
            let maps = self.0.read();
            if let Some(&holder) = maps.holders.get(&address) {
                return holder == port;
            }
            if maps.claimed.get(&port).is_some_and(|own| own.len() >= PER_PORT) {
                return false;
            }
        }
        // Somebody else may have been quicker between the two locks: look again.
        let mut maps = self.0.write();
        let Maps { holders, claimed } = &mut *maps;
        let own = claimed.entry(port).or_default();
        if own.len() < PER_PORT {
            let holder = *holders.entry(address).or_insert_with(|| {
                own.push(address);
                port
            });
            return holder == port;
        }
        holders.get(&address) == Some(&port)
    }

    /// Who claimed `address`.
    pub(super) fn holder(&self, address: Ipv6Addr) -> Option<PortId> {
        self.0.read().holders.get(&address).copied()
    }

    /// Frees what `port` claimed.
    pub(super) fn forget_port(&self, port: PortId) {
        let mut maps = self.0.write();
        for address in maps.claimed.remove(&port).unwrap_or_default() {
            maps.holders.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId(1);
    const B: PortId = PortId(2);

    fn address(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
    }

    #[test]
    fn the_first_claimant_has_it_and_a_second_is_refused() {
        let claims = Claims::new();
        assert!(claims.claim(address(1), A));
        assert!(!claims.claim(address(1), B));
        assert!(claims.claim(address(1), A));
    }

    #[test]
    fn a_port_claims_four_and_no_more() {
        let claims = Claims::new();
        for n in 0..4 {
            assert!(claims.claim(address(n), A));
        }
        assert!(!claims.claim(address(4), A));
        assert!(claims.claim(address(0), A), "what it has stays usable");
        assert!(claims.claim(address(4), B), "another may claim what was refused");
    }

    #[test]
    fn a_refused_claim_does_not_count() {
        let claims = Claims::new();
        assert!(claims.claim(address(9), B));
        for _ in 0..10 {
            assert!(!claims.claim(address(9), A));
        }
        for n in 0..4 {
            assert!(claims.claim(address(n), A));
        }
    }

    #[test]
    fn forgetting_a_port_frees_its_addresses_only() {
        let claims = Claims::new();
        assert!(claims.claim(address(1), A));
        assert!(claims.claim(address(2), B));
        claims.forget_port(A);
        assert!(claims.claim(address(1), B));
        assert!(!claims.claim(address(2), A));
    }

    #[test]
    fn of_many_threads_claiming_one_address_exactly_one_gets_it() {
        let claims = Claims::new();
        let got = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (claims, got) = (&claims, &got);
                scope.spawn(move || {
                    if claims.claim(address(7), PortId(n)) {
                        got.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(got.into_inner(), 1);
    }
}
