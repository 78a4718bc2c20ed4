use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

const A: PortId = PortId(10);
const B: PortId = PortId(20);
const C: PortId = PortId(30);

fn fdb(entries: usize, per_port: usize) -> Fdb {
    let fdb = Fdb::new(FdbLimits { ageing: Duration::from_secs(300), entries, per_port });
    fdb.prepare();
    fdb
}

fn at(second: u64) -> Instant {
    Instant(second * 1_000_000_000)
}

fn mac(n: u64) -> Mac {
    Mac::from_u64(0x0200_0000_0000 + n)
}

fn macs_of(fdb: &Fdb, port: PortId, now: Instant) -> Vec<Mac> {
    fdb.entries(now).into_iter().filter(|e| e.port == port).map(|e| e.mac).collect()
}

#[test]
fn a_mac_is_found_where_it_was_seen() {
    let fdb = fdb(8, 8);
    fdb.learn(mac(1), A, at(0));
    fdb.learn(mac(2), B, at(0));
    assert_eq!(fdb.lookup(mac(1), at(0)), Some(A));
    assert_eq!(fdb.lookup(mac(2), at(0)), Some(B));
    assert_eq!(fdb.lookup(mac(3), at(0)), None);
}

#[test]
fn an_unprepared_table_is_empty_and_learns_nothing() {
    let fdb = Fdb::new(FdbLimits::default());
    fdb.learn(mac(1), A, at(0));
    fdb.expire(at(0));
    fdb.forget_port(A);
    assert_eq!(fdb.lookup(mac(1), at(0)), None);
    assert!(fdb.entries(at(0)).is_empty());
}

#[test]
fn an_entry_ages_out_unless_it_is_seen_again() {
    let fdb = fdb(8, 8);
    fdb.learn(mac(1), A, at(0));
    fdb.learn(mac(2), A, at(0));
    fdb.learn(mac(2), A, at(200));
    assert_eq!(fdb.lookup(mac(1), at(300)), Some(A));
    assert_eq!(fdb.lookup(mac(1), at(301)), None);
    assert_eq!(fdb.lookup(mac(2), at(500)), Some(A));
    assert_eq!(macs_of(&fdb, A, at(301)), [mac(2)]);
}

#[test]
fn expiring_frees_what_aged_out_and_nothing_else() {
    let fdb = fdb(2, 2);
    fdb.learn(mac(1), A, at(0));
    fdb.learn(mac(2), B, at(100));
    fdb.expire(at(350));
    assert_eq!(fdb.index.lock().total, 1);
    fdb.learn(mac(3), C, at(350));
    assert_eq!(fdb.lookup(mac(2), at(350)), Some(B), "nobody had to be evicted");
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port_only() {
    let fdb = fdb(8, 8);
    fdb.learn(mac(1), A, at(0));
    fdb.learn(mac(1), B, at(0));
    assert_eq!(fdb.lookup(mac(1), at(0)), Some(B));
    assert!(macs_of(&fdb, A, at(0)).is_empty());
    assert_eq!(fdb.index.lock().total, 1);
}

#[test]
fn a_port_at_its_limit_loses_its_own_oldest() {
    let fdb = fdb(64, 4);
    fdb.learn(mac(100), B, at(0));
    for n in 0..5 {
        fdb.learn(mac(n), A, at(n));
    }
    assert_eq!(macs_of(&fdb, A, at(5)), [mac(1), mac(2), mac(3), mac(4)]);
    assert_eq!(fdb.lookup(mac(100), at(5)), Some(B));
}

#[test]
fn a_station_that_moves_to_a_full_port_costs_that_port_its_oldest() {
    let fdb = fdb(64, 2);
    fdb.learn(mac(1), A, at(1));
    fdb.learn(mac(2), A, at(2));
    fdb.learn(mac(3), B, at(0));
    fdb.learn(mac(3), A, at(3));
    assert_eq!(macs_of(&fdb, A, at(3)), [mac(2), mac(3)]);
    assert_eq!(fdb.index.lock().total, 2);
}

#[test]
fn a_full_table_evicts_from_the_port_with_most() {
    let fdb = fdb(4, 16);
    for n in 0..3 {
        fdb.learn(mac(n), A, at(n));
    }
    fdb.learn(mac(10), B, at(3));
    fdb.learn(mac(11), B, at(4));
    assert_eq!(macs_of(&fdb, A, at(4)), [mac(1), mac(2)]);
    assert_eq!(macs_of(&fdb, B, at(4)), [mac(10), mac(11)]);
}

#[test]
fn a_million_source_macs_of_one_port_cost_nobody_else() {
    let fdb = fdb(64, 16);
    for n in 0..8 {
        fdb.learn(mac(n), B, at(0));
    }
    for n in 0..1_000_000 {
        fdb.learn(mac(1000 + n), A, at(1));
    }
    assert_eq!(macs_of(&fdb, B, at(1)).len(), 8);
    assert_eq!(macs_of(&fdb, A, at(1)).len(), 16);
}

#[test]
fn forgetting_a_port_forgets_its_macs_only() {
    let fdb = fdb(8, 8);
    fdb.learn(mac(1), A, at(0));
    fdb.learn(mac(2), B, at(0));
    fdb.forget_port(A);
    assert_eq!(fdb.lookup(mac(1), at(0)), None);
    assert_eq!(fdb.lookup(mac(2), at(0)), Some(B));
}

#[test]
fn entries_are_sorted_by_mac_and_say_their_age() {
    let fdb = fdb(8, 8);
    for n in [3, 1, 2] {
        fdb.learn(mac(n), A, at(n));
    }
    let entries = fdb.entries(at(10));
    assert_eq!(entries.iter().map(|e| e.mac).collect::<Vec<_>>(), [mac(1), mac(2), mac(3)]);
    assert_eq!(entries[0].age, Duration::from_secs(9));
}

#[test]
fn ageing_outside_its_range_is_brought_to_the_nearer_end() {
    for (asked, got) in [(1, 15), (15, 15), (3600, 3600), (100_000, 3600)] {
        let fdb = Fdb::new(FdbLimits { ageing: Duration::from_secs(asked), ..FdbLimits::default() });
        assert_eq!(fdb.ageing, got);
    }
}

#[test]
fn a_table_filled_to_its_limit_finds_every_mac() {
    let fdb = fdb(8192, 8192);
    for n in 0..8192 {
        fdb.learn(mac(n * 257), A, at(0));
    }
    assert!((0..8192).all(|n| fdb.lookup(mac(n * 257), at(0)) == Some(A)));
}

#[test]
fn limits_of_nothing_learn_nothing() {
    for fdb in [fdb(0, 4), fdb(4, 0)] {
        fdb.learn(mac(1), A, at(0));
        assert!(fdb.entries(at(0)).is_empty());
    }
}

/// Every MAC is only ever learned behind ports congruent to it, so a reader that sees another port read a torn slot.
#[test]
fn readers_never_see_another_macs_port_while_writers_learn_move_and_evict() {
    const MACS: u64 = 64;
    const WRITES: u64 = 40_000;
    let fdb = fdb(16, 4);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (fdb, done) = (&fdb, &done);
            scope.spawn(move || {
                let mut n = reader;
                // Relaxed: only says when to stop.
                while !done.load(Ordering::Relaxed) {
                    n = (n + 1) % MACS;
                    if let Some(port) = fdb.lookup(mac(n), at(0)) {
                        assert_eq!(u64::from(port.0) % MACS, n, "a torn read");
                    }
                }
            });
        }
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let fdb = &fdb;
                scope.spawn(move || {
                    for n in 0..WRITES {
                        let which = (n * 31 + writer * 7) % MACS;
                        let port = which + MACS * (n / 3 % 4);
                        fdb.learn(mac(which), PortId(u32::try_from(port).unwrap()), at(n / 1000));
                        if n % 97 == 0 {
                            fdb.forget_port(PortId(u32::try_from(port).unwrap()));
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let index = fdb.index.lock();
    assert!(index.total <= 16);
    assert_eq!(index.total, index.ports.iter().map(|(_, held)| held.len()).sum::<usize>());
    assert_eq!(index.total, fdb.slots.get().unwrap().occupied());
}

/// The table by its words: a list of (mac, port, second).
#[derive(Default)]
struct Model {
    held: BTreeMap<Mac, (PortId, u64)>,
}

impl Model {
    fn of(&self, port: PortId) -> usize {
        self.held.values().filter(|(p, _)| *p == port).count()
    }

    fn evict(&mut self, port: PortId) {
        let oldest = self.held.iter().filter(|(_, (p, _))| *p == port).map(|(m, (_, s))| (*s, *m)).min();
        self.held.remove(&oldest.unwrap().1);
    }

    fn learn(&mut self, mac: Mac, port: PortId, second: u64, entries: usize, per_port: usize) {
        if let Some((p, s)) = self.held.get_mut(&mac)
            && *p == port
        {
            *s = second.max(*s);
            return;
        }
        if self.of(port) >= per_port {
            self.evict(port);
        }
        if !self.held.contains_key(&mac) && self.held.len() >= entries {
            let most = [A, B, C].map(|p| self.of(p)).into_iter().max().unwrap();
            let fullest = [port, A, B, C].into_iter().find(|&p| self.of(p) == most).unwrap();
            self.evict(fullest);
        }
        self.held.insert(mac, (port, second));
    }
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(
        entries in 1_usize..12, per_port in 1_usize..6,
        steps in proptest::collection::vec((0_u8..20, 0_u64..20, 0_usize..3, 0_u64..60), 0..200),
    ) {
        let fdb = fdb(entries, per_port);
        let mut model = Model::default();
        let mut second = 0;
        for (verb, n, port, gap) in steps {
            let port = [A, B, C][port];
            match verb {
                0 => { fdb.forget_port(port); model.held.retain(|_, (p, _)| *p != port); }
                1 => { fdb.expire(at(second)); model.held.retain(|_, (_, s)| second - *s <= 300); }
                2 => second += gap * 3,
                _ => { fdb.learn(mac(n), port, at(second)); model.learn(mac(n), port, second, entries, per_port); }
            }
            let got: Vec<_> = fdb.entries(at(second)).into_iter().map(|e| (e.mac, e.port)).collect();
            let want: Vec<_> =
                model.held.iter().filter(|(_, (_, s))| second - s <= 300).map(|(m, (p, _))| (*m, *p)).collect();
            prop_assert_eq!(&got, &want);
            for n in 0..20 {
                let want = want.iter().find(|(m, _)| *m == mac(n)).map(|(_, p)| *p);
                prop_assert_eq!(fdb.lookup(mac(n), at(second)), want);
            }
        }
    }
}
