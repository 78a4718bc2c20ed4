//! The link-local address that follows from a MAC (RFC 4291 appendix A, modified EUI-64), and back.

use std::net::Ipv6Addr;

use crate::frame::Mac;

/// fe80:: and the modified EUI-64 of `mac`.
pub(super) const fn eui64(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The MAC that `address` follows from, if it is of that form.
pub(super) fn mac_of(address: Ipv6Addr) -> Option<Mac> {
    let [.., a, b, c, _, _, d, e, f] = address.octets();
    let mac = Mac::new([a ^ 2, b, c, d, e, f]);
    (eui64(mac) == address).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_and_address_are_inverse() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(eui64(mac), "fe80::42:acff:fe11:2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(mac_of(eui64(mac)), Some(mac));
    }

    #[test]
    fn other_addresses_follow_from_no_mac() {
        for text in ["fe80::1", "fe80:0:0:1:42:acff:fe11:2", "fd00::42:acff:fe11:2", "::"] {
            assert_eq!(mac_of(text.parse().unwrap()), None, "{text}");
        }
    }
}
