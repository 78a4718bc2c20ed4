//! What can be said of a wanted network or device without knowing the host: every value's own limits.
//!
//! Whether addresses fit the subnet and the subnet the host is `tapswitch_ipam`'s to say.

use super::api::types::{NetworkCreate, Subnet4, Subnet6};
use super::name::{Name, printable};
use super::state::RulePortRecord;
use crate::frame::Mac;

/// Full-sized Ethernet payload.
pub const DEFAULT_MTU: u32 = 1500;
/// IEEE 802.1D-2004 7.9.2: ageing time 300 s.
pub const DEFAULT_AGEING: u32 = 300;
/// Learned MACs.
pub const DEFAULT_FDB_LIMIT: u32 = 8192;
/// Flooded copies a second per port.
pub const DEFAULT_FLOOD_LIMIT: u32 = 500;

/// RFC 791: what every IPv4 host must take. The upper end is the largest IP packet, less the Ethernet header that the
/// kernel counts into a TAP's longest frame.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_521;
/// RFC 8200 5: the least link MTU of IPv6.
const MIN_MTU_IPV6: u32 = 1280;
/// Seconds.
const AGEING: std::ops::RangeInclusive<u32> = 15..=3600;
/// Its entries take 32 bytes: 2 MiB at most for each network.
const FDB_LIMIT: std::ops::RangeInclusive<u32> = 1..=65_536;
/// Copies a second.
const FLOOD_LIMIT: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// IFNAMSIZ less the final zero.
const MAX_IFNAME: usize = 15;

/// Checks each value of `network` by itself.
///
/// # Errors
/// One line that names the value and its limits.
pub fn check(network: &NetworkCreate) -> Result<Name, String> {
    if network.name.is_empty() {
        return Err("a network without `name`".into());
    }
    let name: Name = network.name.parse().map_err(|e| format!("network: {e}"))?;
    let mtu = network.mtu.unwrap_or(DEFAULT_MTU);
    check_mtu(mtu, network.ipv6 != Some(Subnet6::Off)).map_err(|e| format!("network {name}: {e}"))?;
    let in_range = |what: &str, value: Option<u32>, range: std::ops::RangeInclusive<u32>| match value {
        Some(v) if !range.contains(&v) => {
            Err(format!("network {name}: {what} {v}: must be {} to {}", range.start(), range.end()))
        }
        _ => Ok(()),
    };
    in_range("ageing", network.ageing, AGEING)?;
    in_range("fdb_limit", network.fdb_limit, FDB_LIMIT)?;
    in_range("flood_limit", network.flood_limit, FLOOD_LIMIT)?;
    if !matches!(network.subnet, Some(Subnet4::Given(_))) && (network.gateway.is_some() || network.range.is_some()) {
        return Err(format!("network {name}: a gateway or a range needs a given subnet, and it is `auto`"));
    }
    let ipv6 = network.ipv6.unwrap_or_default();
    if network.gateway6.is_some() && !matches!(ipv6, Subnet6::Given(_)) {
        return Err(format!("network {name}: an IPv6 gateway needs a given IPv6 subnet, and it is `{ipv6}`"));
    }
    Ok(name)
}

/// Checks an MTU.
///
/// # Errors
/// One line that names the value and its limits.
pub fn check_mtu(mtu: u32, ipv6: bool) -> Result<(), String> {
    if !MTU.contains(&mtu) {
        return Err(format!("mtu {mtu}: must be {} to {}", MTU.start(), MTU.end()));
    }
    if ipv6 && mtu < MIN_MTU_IPV6 {
        return Err(format!(
            "mtu {mtu}: IPv6 needs {MIN_MTU_IPV6} at least: raise it, or make the network with ipv6 `off`"
        ));
    }
    Ok(())
}

/// Checks a device's name by the kernel's rules (`dev_valid_name`), and that it is nobody's already.
///
/// # Errors
/// One line that names it.
pub fn check_ifname(ifname: &str) -> Result<(), String> {
    let fits = !ifname.is_empty() && ifname.len() <= MAX_IFNAME;
    // The kernel has settings of every device under these names in /proc/sys/net.
    let is_free = !matches!(ifname, "." | ".." | "lo" | "all" | "default");
    if fits && is_free && ifname.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%')) {
        return Ok(());
    }
    Err(format!(
        "`{}` cannot name a device (1 to {MAX_IFNAME} printable characters without `/`, `:` and `%`, not `lo`, `all` or `default`)",
        printable(ifname)
    ))
}

/// Checks what a rule opens, as `tcp/5432`.
///
/// # Errors
/// One line that names it.
pub fn check_rule(what: &str) -> Result<(), String> {
    what.parse::<RulePortRecord>().map(drop)
}

/// Checks a MAC that a device is to have.
///
/// # Errors
/// One line that names it.
pub fn check_mac(mac: Mac) -> Result<(), String> {
    if mac.is_group() || mac.to_u64() == 0 {
        return Err(format!("mac {mac}: a group address or zero, which no device can have"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NetworkCreate {
        NetworkCreate { name: "n".into(), ..NetworkCreate::default() }
    }

    #[test]
    fn defaults_pass() {
        assert_eq!(check(&network()).unwrap().as_str(), "n");
    }

    #[test]
    fn mtu_has_a_floor_of_its_own_with_ipv6() {
        for (mtu, ipv6, ok) in [
            (67, false, false),
            (68, false, true),
            (68, true, false),
            (1279, true, false),
            (1280, true, true),
            (65_521, true, true),
            (65_522, false, false),
            (0, false, false),
        ] {
            assert_eq!(check_mtu(mtu, ipv6).is_ok(), ok, "{mtu} {ipv6}");
        }
    }

    #[test]
    fn every_number_out_of_its_range_is_refused_by_name() {
        for (wanted, needle) in [
            (NetworkCreate { ageing: Some(14), ..network() }, "ageing 14"),
            (NetworkCreate { ageing: Some(3601), ..network() }, "ageing 3601"),
            (NetworkCreate { fdb_limit: Some(0), ..network() }, "fdb_limit 0"),
            (NetworkCreate { flood_limit: Some(0), ..network() }, "flood_limit 0"),
            (NetworkCreate { gateway: Some([10, 0, 0, 1].into()), ..network() }, "given subnet"),
            (NetworkCreate { gateway6: Some("fd00::1".parse().unwrap()), ..network() }, "given IPv6 subnet"),
            (NetworkCreate::default(), "name"),
        ] {
            let error = check(&wanted).unwrap_err();
            assert!(error.contains(needle), "{error}");
        }
    }

    #[test]
    fn device_names_follow_the_kernel() {
        for name in ["eth0", "a", "fifteen-letters"] {
            assert!(check_ifname(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:1", "sixteen--letters", "lo", "tap%d", "é"] {
            assert!(check_ifname(name).is_err(), "{name}");
        }
    }
}
