use super::*;

fn section(json: &str) -> Section {
    serde_json::from_str(json).unwrap()
}

fn own(json: &str) -> Result<Addresses, CniError> {
    section(json).own(&[], None)
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn without_a_section_the_switch_chooses() {
    assert_eq!(own("{}").unwrap(), Addresses::default());
    assert_eq!(section("{}").delegate(), None);
    assert_eq!(section(r#"{"type":"tapswitch"}"#).delegate(), None);
    assert_eq!(section(r#"{"type":"host-local"}"#).delegate(), Some("host-local"));
}

#[test]
fn host_local_s_two_ways_of_writing_mean_the_same() {
    let short = own(r#"{"subnet":"10.94.0.0/24","gateway":"10.94.0.9"}"#).unwrap();
    let long = own(r#"{"ranges":[[{"subnet":"10.94.0.0/24","gateway":"10.94.0.9"}]]}"#).unwrap();
    assert_eq!(short, long);
    assert_eq!((short.subnet, short.ipv6), (Subnet4::Given(net("10.94.0.0/24")), Subnet6::Off));
}

#[test]
fn both_families_can_be_given() {
    let both = own(r#"{"ranges":[[{"subnet":"10.94.0.0/24"}],[{"subnet":"fd00:94::/64"}]]}"#).unwrap();
    assert_eq!(both.ipv6, Subnet6::Given("fd00:94::/64".parse().unwrap()));
    let more = r#"{"ranges":[[{"subnet":"10.94.0.0/24"}],[{"subnet":"10.95.0.0/24"}]]}"#;
    assert_eq!(own(more).unwrap_err().code, Code::UNSUPPORTED);
    let alternatives = r#"{"ranges":[[{"subnet":"10.94.0.0/24"},{"subnet":"10.95.0.0/24"}]]}"#;
    assert_eq!(own(alternatives).unwrap_err().code, Code::UNSUPPORTED);
}

#[test]
fn a_range_that_is_a_block_but_for_what_is_never_leased_is_taken() {
    for (start, end, want) in [
        ("10.94.0.1", "10.94.0.254", None),
        ("10.94.0.2", "10.94.0.254", None),
        ("10.94.0.128", "10.94.0.254", Some("10.94.0.128/25")),
        ("10.94.0.64", "10.94.0.127", Some("10.94.0.64/26")),
        ("10.94.0.7", "10.94.0.7", Some("10.94.0.7/32")),
    ] {
        let found = block(net("10.94.0.0/24"), None, Some(start.parse().unwrap()), Some(end.parse().unwrap()));
        assert_eq!(found.unwrap(), want.map(net), "{start} to {end}");
    }
    let error = own(r#"{"subnet":"10.94.0.0/24","rangeStart":"10.94.0.20","rangeEnd":"10.94.0.50"}"#).unwrap_err();
    assert!(error.msg.contains("host-local"), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    for json in [
        r#"{"gateway":"10.94.0.1"}"#,
        r#"{"subnet":"10.94.0.0/24","gateway":"10.95.0.1"}"#,
        r#"{"subnet":"10.94.0.0/24","rangeStart":"fd00::1"}"#,
        r#"{"subnet":"10.94.0.0/24","rangeStart":"10.94.0.9","rangeEnd":"10.94.0.8"}"#,
    ] {
        assert_eq!(own(json).unwrap_err().code, Code::CONFIG, "{json}");
    }
}

#[test]
fn a_delegated_plugin_s_addresses_say_the_network() {
    let given: Given = serde_json::from_str(
        r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.94.0.75/24","gateway":"10.94.0.1"}],"dns":{}}"#,
    )
    .unwrap();
    let addresses = given.addresses().unwrap();
    assert_eq!(addresses.subnet, Subnet4::Given(net("10.94.0.0/24")));
    assert_eq!((addresses.ip, addresses.gateway), ("10.94.0.75".parse().ok(), "10.94.0.1".parse().ok()));
    assert_eq!(Given::default().addresses().unwrap_err().code, Code::UNSUPPORTED);
}

#[test]
fn a_container_has_one_address_of_a_family() {
    let asked = ["10.94.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    let addresses = Section::default().own(&asked, None).unwrap();
    assert_eq!((addresses.ip, addresses.ip6), ("10.94.0.7".parse().ok(), "fd00::7".parse().ok()));
    let two = ["10.94.0.7".parse().unwrap(), "10.94.0.8".parse().unwrap()];
    assert_eq!(Section::default().own(&two, None).unwrap_err().code, Code::UNSUPPORTED);
}
