use proptest::prelude::*;

use super::*;

const NOWHERE: Result<(), DropReason> = Err(DropReason::NoUplink);
const HOST: Result<(), DropReason> = Err(DropReason::HostAccess);

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn refused() -> Refused {
    let local = nets(&["192.168.1.5/32", "10.77.0.0/16", "2001:db8::5/128", "2001:db8:77::/48", "127.0.0.0/8"]);
    let host = HostAddresses::new(local.into_iter(), ["192.168.1.255".parse().unwrap()].into_iter());
    Refused::new(host.into(), nets(&["172.17.0.0/16", "172.18.0.0/16", "fd00:1::/64"]).into_iter())
}

fn checked(to: &str) -> [Result<(), DropReason>; 2] {
    [false, true].map(|host_access| refused().check(to.parse().unwrap(), host_access))
}

#[test]
fn the_host_in_every_form_is_refused_without_host_access_and_reached_with_it() {
    for to in [
        "192.168.1.5",
        "127.0.0.1",
        "127.255.255.254",
        "10.77.8.9",
        "2001:db8::5",
        "2001:db8:77:8::9",
        "::1",
        "64:ff9b::192.168.1.5",
        "64:ff9b::7f00:1",
    ] {
        assert_eq!(checked(to), [HOST, Ok(())], "{to}");
    }
}

#[test]
fn neighbours_of_the_hosts_links_are_refused_without_host_access() {
    for to in ["169.254.169.254", "fe80::1", "febf::1", "64:ff9b::169.254.169.254"] {
        assert_eq!(checked(to), [HOST, Ok(())], "{to}");
    }
}

#[test]
fn what_is_no_stations_address_is_refused_whatever_the_network_may() {
    for to in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "192.168.1.255",
        "::",
        "::2",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0.0.0.0",
        "ff02::1",
        "ff0e::1",
        "64:ff9b::",
        "64:ff9b::255.255.255.255",
    ] {
        assert_eq!(checked(to), [NOWHERE, NOWHERE], "{to}");
    }
}

#[test]
fn our_own_subnets_are_refused_whatever_the_network_may() {
    for to in ["172.17.0.1", "172.18.255.255", "fd00:1::2", "64:ff9b::172.17.0.9"] {
        assert_eq!(checked(to), [NOWHERE, NOWHERE], "{to}");
    }
}

#[test]
fn the_rest_of_the_world_is_open() {
    for to in ["192.168.1.6", "8.8.8.8", "172.19.0.1", "2001:db8::6", "fd00:2::1", "64:ff9b::8.8.8.8", "10.78.0.1"] {
        assert_eq!(checked(to), [Ok(()), Ok(())], "{to}");
    }
}

#[test]
fn a_host_of_which_nothing_is_known_is_still_not_reached_by_its_usual_names() {
    let refused = Refused::default();
    for to in ["127.0.0.1", "::1", "169.254.1.1"] {
        assert_eq!(refused.check(to.parse().unwrap(), false), HOST, "{to}");
    }
}

proptest! {
    #[test]
    fn no_ipv4_address_is_reached_by_an_ipv6_form_that_is_refused_as_it_is(v4: u32, host_access: bool) {
        let refused = refused();
        let v4 = Ipv4Addr::from_bits(v4);
        let nat64 = Ipv6Addr::from_bits(0x0064_ff9b << 96 | u128::from(v4.to_bits()));
        prop_assert_eq!(refused.check(nat64.into(), host_access), refused.check(v4.into(), host_access));
        for form in [v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
            let open = refused.check(form.into(), host_access).is_ok();
            prop_assert_eq!(open, host_access && form == Ipv6Addr::LOCALHOST);
        }
    }
}
