//! The nameservers a resolv.conf names.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

/// Longer files are no resolv.conf.
const MAX: u64 = 64 << 10;

/// The nameservers of this file; none if it cannot be read: hosts without one are common, and ask nobody.
pub(super) fn read(path: &Path) -> Vec<IpAddr> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX).read_to_end(&mut bytes)) {
        Ok(_) => parse(&String::from_utf8_lossy(&bytes)),
        Err(_) => Vec::new(),
    }
}

/// resolv.conf(5): a line is a keyword and its values; an IPv6 address may name a zone. What is no address is
/// passed over.
fn parse(text: &str) -> Vec<IpAddr> {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_one = words.next() == Some("nameserver");
        let address = words.next().filter(|_| is_one)?;
        address.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_with_zone_comment_and_nonsense() {
        let text = "# nameserver 1.1.1.1\nsearch lan\nnameserver 10.0.0.53 # the old one\n\tnameserver\tfe80::1%eth0\n\
                    nameserver nonsense\nnameserver\nnameservers 9.9.9.9\noptions ndots:0";
        let read: Vec<String> = parse(text).iter().map(|a| a.to_string()).collect();
        assert_eq!(read, ["10.0.0.53", "fe80::1"]);
    }

    #[test]
    fn a_resolv_conf_that_is_not_there_names_nobody() {
        assert_eq!(read(Path::new("/nonexistent/resolv.conf")), Vec::<IpAddr>::new());
    }
}
