use super::*;

const NOW: Duration = Duration::from_secs(1000);
const NOTHING: Wanted = Wanted { ipv4: None, ipv6: None };

fn subnet(net: &str, range: Option<&str>) -> Subnet {
    Subnet::new(net.parse().unwrap(), None, range.map(|r| r.parse().unwrap())).unwrap()
}

fn plain(net: &str) -> Leases {
    Leases::new(subnet(net, None), None)
}

fn dual(net: &str) -> Leases {
    let subnet = subnet(net, None);
    Leases::new(subnet, Some(SubnetV6::new("fd00::/64".parse().unwrap(), None, &subnet).unwrap()))
}

fn owner(name: &str) -> Owner {
    Owner::new(name)
}

fn v4(address: &str) -> Wanted {
    Wanted { ipv4: Some(address.parse().unwrap()), ipv6: None }
}

fn v6(address: &str) -> Wanted {
    Wanted { ipv4: None, ipv6: Some(address.parse().unwrap()) }
}

fn get(leases: &mut Leases, name: &str, wanted: Wanted) -> String {
    leases.request(&owner(name), wanted, NOW).unwrap().ipv4.to_string()
}

fn refused(leases: &mut Leases, name: &str, wanted: Wanted) -> String {
    leases.request(&owner(name), wanted, NOW).unwrap_err().to_string()
}

#[test]
fn the_first_container_gets_dockers_first_address() {
    let mut leases = plain("172.17.0.0/16");
    assert_eq!(get(&mut leases, "a", NOTHING), "172.17.0.2");
    assert_eq!(get(&mut leases, "b", NOTHING), "172.17.0.3");
}

#[test]
fn asking_again_gives_the_same_lease() {
    let mut leases = dual("172.17.0.0/16");
    let first = leases.request(&owner("a"), NOTHING, NOW).unwrap();
    assert_eq!(leases.request(&owner("a"), NOTHING, NOW), Ok(first.clone()));
    assert_eq!(leases.request(&owner("a"), v4("172.17.0.2"), NOW), Ok(first.clone()));
    assert_eq!(leases.request(&owner("a"), v6("fd00::2"), NOW), Ok(first));
    assert_eq!(leases.len(), 1);
}

#[test]
fn asking_for_another_address_than_one_has_is_refused() {
    let mut leases = dual("172.17.0.0/16");
    get(&mut leases, "a", NOTHING);
    let text = "a has address 172.17.0.2 and asks for 172.17.0.9; release the first";
    assert_eq!(refused(&mut leases, "a", v4("172.17.0.9")), text);
    assert!(refused(&mut leases, "a", v6("fd00::9")).contains("has address fd00::2"));
}

#[test]
fn a_static_request_is_passed_over_by_dynamic_ones() {
    let mut leases = plain("172.17.0.0/16");
    assert_eq!(get(&mut leases, "s", v4("172.17.0.3")), "172.17.0.3");
    assert_eq!(get(&mut leases, "a", NOTHING), "172.17.0.2");
    assert_eq!(get(&mut leases, "b", NOTHING), "172.17.0.4");
}

#[test]
fn static_requests_outside_reserved_or_taken_are_refused_by_name() {
    let mut leases = dual("10.0.0.0/24");
    get(&mut leases, "a", NOTHING);
    let cases = [
        (v4("10.0.1.1"), "address 10.0.1.1 is outside the subnet 10.0.0.0/24"),
        (v4("10.0.0.0"), "address 10.0.0.0 is reserved: it is the network address of 10.0.0.0/24"),
        (v4("10.0.0.255"), "address 10.0.0.255 is reserved: it is the broadcast address of 10.0.0.0/24"),
        (v4("10.0.0.1"), "address 10.0.0.1 is reserved: it is the gateway of 10.0.0.0/24"),
        (v4("10.0.0.2"), "address 10.0.0.2 is taken by a"),
        (v6("fd01::1"), "address fd01::1 is outside the subnet fd00::/64"),
        (v6("fd00::"), "address fd00:: is reserved: it is the subnet-router anycast address of fd00::/64"),
        (v6("fd00::1"), "address fd00::1 is reserved: it is the gateway of fd00::/64"),
        (v6("fd00::2"), "address fd00::2 is taken by a"),
    ];
    for (wanted, text) in cases {
        assert_eq!(refused(&mut leases, "b", wanted), text);
    }
    assert_eq!(leases.len(), 1);
    assert!(refused(&mut plain("10.0.0.0/24"), "b", v6("fd00::2")).contains("no IPv6"));
}

#[test]
fn a_range_confines_the_choice_but_not_the_wish() {
    let mut leases = Leases::new(subnet("172.20.0.0/16", Some("172.20.5.0/30")), None);
    assert_eq!(get(&mut leases, "s", v4("172.20.9.9")), "172.20.9.9");
    assert_eq!(get(&mut leases, "a", NOTHING), "172.20.5.0");
    for name in ["b", "c", "d"] {
        get(&mut leases, name, NOTHING);
    }
    assert!(refused(&mut leases, "e", NOTHING).starts_with("no free address left in 172.20.5.0/30 (5 leased)"));
    leases.release(&owner("s"), NOW);
    assert!(refused(&mut leases, "e", NOTHING).contains("no free address"));
}

#[test]
fn a_released_address_cools_for_a_minute() {
    let mut leases = plain("10.0.0.0/24");
    get(&mut leases, "a", NOTHING);
    leases.release(&owner("a"), NOW).unwrap();
    let soon = leases.request(&owner("b"), NOTHING, NOW + Duration::from_secs(59)).unwrap();
    let later = leases.request(&owner("c"), NOTHING, NOW + Duration::from_secs(60)).unwrap();
    assert_eq!((soon.ipv4.to_string(), later.ipv4.to_string()), ("10.0.0.3".into(), "10.0.0.2".into()));
}

#[test]
fn a_cooling_address_is_given_when_nothing_else_is_left() {
    let mut leases = plain("10.0.0.0/30");
    get(&mut leases, "a", NOTHING);
    assert!(refused(&mut leases, "b", NOTHING).contains("no free address"));
    leases.release(&owner("a"), NOW);
    assert_eq!(get(&mut leases, "b", NOTHING), "10.0.0.2");
}

#[test]
fn a_cooling_address_is_given_to_who_asks_for_it() {
    let mut leases = plain("10.0.0.0/24");
    get(&mut leases, "a", NOTHING);
    leases.release(&owner("a"), NOW);
    assert_eq!(get(&mut leases, "b", v4("10.0.0.2")), "10.0.0.2");
}

#[test]
fn a_release_of_nothing_is_nothing() {
    assert_eq!(plain("10.0.0.0/24").release(&owner("a"), NOW), None);
}

#[test]
fn the_ipv6_address_has_the_same_host_number() {
    let lease = dual("172.17.0.0/16").request(&owner("a"), v4("172.17.1.5"), NOW).unwrap();
    assert_eq!(lease.ipv6.unwrap().to_string(), "fd00::105");
}

#[test]
fn an_ipv6_address_asked_for_keeps_its_ipv4_original_from_being_chosen() {
    let mut leases = dual("10.0.0.0/24");
    let a = leases.request(&owner("a"), v6("fd00::3"), NOW).unwrap();
    assert_eq!(a.ipv4.to_string(), "10.0.0.2");
    assert_eq!(get(&mut leases, "b", NOTHING), "10.0.0.4");
    assert_eq!(refused(&mut leases, "c", v4("10.0.0.3")), "address fd00::3 is taken by a");
    let both = Wanted { ipv6: v6("fd00::77").ipv6, ..v4("10.0.0.3") };
    assert_eq!(get(&mut leases, "c", both), "10.0.0.3");
}

#[test]
fn a_gateway_of_another_host_number_reserves_its_ipv4_original() {
    let subnet = subnet("10.0.0.0/24", None);
    let subnet6 = SubnetV6::new("fd00::/64".parse().unwrap(), "fd00::2".parse().ok(), &subnet).unwrap();
    assert_eq!(get(&mut Leases::new(subnet, Some(subnet6)), "a", NOTHING), "10.0.0.3");
}

#[test]
fn stored_leases_are_had_again_and_a_clash_costs_the_later_one() {
    let mut before = dual("10.0.0.0/24");
    for name in ["a", "b"] {
        get(&mut before, name, NOTHING);
    }
    let mut stored: Vec<Lease> = before.iter().cloned().collect();
    stored.push(Lease { owner: owner("c"), ..stored[0].clone() });
    let (after, refused) = Leases::restore(*before.subnet(), before.subnet6().copied(), stored.clone());
    assert_eq!(after.iter().cloned().collect::<Vec<_>>(), stored[..2]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0.owner, owner("c"));
    assert!(matches!(&refused[0].1, LeaseError::Taken { by, .. } if *by == owner("a")));
}

#[test]
fn a_slash_16_is_leased_to_the_last_address_and_100_000_leases_come_and_go_quickly() {
    let mut leases = dual("172.17.0.0/16");
    let capacity = leases.subnet().capacity();
    for i in 0..capacity {
        let lease = leases.request(&owner(&i.to_string()), NOTHING, NOW).unwrap();
        assert_eq!(lease.ipv4, leases.subnet().address(i + 2));
    }
    assert!(matches!(
        leases.request(&owner("one more"), NOTHING, NOW),
        Err(LeaseError::Exhausted { leased: 65533, .. })
    ));
    for i in 0..100_000u32 {
        leases.release(&owner(&(i % capacity).to_string()), NOW).unwrap();
        leases.request(&owner(&(i % capacity).to_string()), NOTHING, NOW + Duration::from_millis(i.into())).unwrap();
    }
    assert_eq!(leases.len(), 65533);
}

#[test]
fn a_hundred_thousand_leases_fit_a_slash_8() {
    let mut leases = plain("10.0.0.0/8");
    for i in 0..100_000u32 {
        leases.request(&owner(&i.to_string()), NOTHING, NOW).unwrap();
    }
    assert_eq!(leases.owner_of("10.1.134.161".parse().unwrap()), Some(&owner("99999")));
}
