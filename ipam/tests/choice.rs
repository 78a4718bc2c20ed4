//! Which range is chosen, against a model that counts addresses one interval at a time.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use tapswitch_ipam::{NetworkName, Occupied, OwnNetwork, Pool, Route, RouteKind, check, choose, collisions};

/// First and last address of something, and whether it stands in the way in the second pass too.
type Taken = (u32, u32, bool);

fn interval(net: Ipv4Net) -> (u32, u32) {
    let size = 1u64 << (32 - net.prefix_len());
    let first = u64::from(u32::from(net.addr())) / size * size;
    (first as u32, (first + size - 1) as u32)
}

fn v4(net: IpNet) -> Ipv4Net {
    match net {
        IpNet::V4(net) => net,
        IpNet::V6(_) => panic!("only IPv4 is made here"),
    }
}

fn taken(occupied: &Occupied) -> Vec<Taken> {
    let mut all = Vec::new();
    for route in &occupied.routes {
        let (first, last) = interval(v4(route.prefix));
        match route.kind {
            _ if route.prefix.prefix_len() < 2 => {}
            RouteKind::OnLink => all.push((first, last, true)),
            RouteKind::Gateway => all.push((first, last, false)),
            _ => {}
        }
    }
    for address in occupied.addresses.iter().chain(&occupied.nameservers) {
        let std::net::IpAddr::V4(address) = address else { panic!("only IPv4 is made here") };
        all.push((u32::from(*address), u32::from(*address), true));
    }
    for own in &occupied.networks {
        let (first, last) = interval(v4(own.subnet));
        all.push((first, last, true));
    }
    all
}

/// The naive choice: the range, and whether with a warning.
fn model(pool: Pool, occupied: &Occupied) -> Option<(Ipv4Net, bool)> {
    let taken = taken(occupied);
    let free = |net: &Ipv4Net, second: bool| {
        let (first, last) = interval(*net);
        !taken.iter().any(|(a, b, hard)| (*hard || !second) && first <= *b && *a <= last)
    };
    let list: Vec<Ipv4Net> = pool.subnets().map(|subnet| subnet.net()).collect();
    let one = list.iter().find(|net| free(net, false)).map(|net| (*net, false));
    one.or_else(|| list.iter().find(|net| free(net, true)).map(|net| (*net, true)))
}

/// Mostly where the default pools are, of every length, host bits included.
fn net() -> impl Strategy<Value = Ipv4Net> {
    let near = prop_oneof![
        (16u8..32, any::<u16>()).prop_map(|(b, low)| u32::from_be_bytes([172, b, 0, 0]) | u32::from(low)),
        any::<u16>().prop_map(|low| u32::from_be_bytes([192, 168, 0, 0]) | u32::from(low)),
        any::<u32>(),
    ];
    (near, prop_oneof![4 => 12u8..=32, 1 => 0u8..=12])
        .prop_map(|(address, len)| Ipv4Net::new(Ipv4Addr::from(address), len).unwrap())
}

fn route() -> impl Strategy<Value = Route> {
    let kind = prop_oneof![
        4 => Just(RouteKind::OnLink),
        4 => Just(RouteKind::Gateway),
        1 => Just(RouteKind::Blackhole),
        1 => Just(RouteKind::Unreachable),
        1 => Just(RouteKind::Prohibit),
        1 => Just(RouteKind::Throw),
    ];
    (net(), kind).prop_map(|(prefix, kind)| Route { prefix: prefix.into(), kind })
}

fn occupied() -> impl Strategy<Value = Occupied> {
    let address = || net().prop_map(|net| std::net::IpAddr::V4(net.addr()));
    let own = net().prop_map(|net| OwnNetwork { name: NetworkName::new("other"), subnet: net.into() });
    (
        prop::collection::vec(route(), 0..40),
        prop::collection::vec(address(), 0..8),
        prop::collection::vec(address(), 0..4),
        prop::collection::vec(own, 0..8),
    )
        .prop_map(|(routes, addresses, nameservers, networks)| Occupied {
            routes,
            addresses,
            nameservers,
            networks,
            ..Occupied::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_choice_is_the_models(occupied in occupied(), old in any::<bool>()) {
        let pool = if old { Pool::Docker2013 } else { Pool::Docker };
        let chosen = choose(pool, &occupied).ok().map(|choice| (choice.subnet.net(), choice.warning.is_some()));
        prop_assert_eq!(chosen, model(pool, &occupied));
    }

    #[test]
    fn the_order_of_the_hosts_lists_does_not_matter(occupied in occupied()) {
        let mut reversed = occupied.clone();
        reversed.routes.reverse();
        reversed.addresses.reverse();
        reversed.nameservers.reverse();
        reversed.networks.reverse();
        prop_assert_eq!(choose(Pool::Docker, &occupied), choose(Pool::Docker, &reversed));
    }

    #[test]
    fn a_choice_without_warning_collides_with_nothing_and_passes_the_check(occupied in occupied()) {
        if let Ok(choice) = choose(Pool::Docker, &occupied) {
            let net = choice.subnet.net().into();
            prop_assert_eq!(collisions(net, &occupied).is_empty(), choice.warning.is_none());
            prop_assert_eq!(check(net, &occupied), Ok(choice.warning));
        }
    }

    #[test]
    fn there_is_a_collision_where_the_model_sees_an_overlap(occupied in occupied(), net in net()) {
        let (first, last) = interval(net);
        let overlapped = taken(&occupied).iter().any(|(a, b, _)| first <= *b && *a <= last);
        prop_assert_eq!(!collisions(net.trunc().into(), &occupied).is_empty(), overlapped);
    }
}
