//! The host's ephemeral ports, as far as containers' UDP flows may have them.
//!
//! A UDP socket has its port for itself, whomever it speaks with, of either family: so the flows of all containers together
//! could leave the host none, and its own resolver would not find a port to ask from. They have half. TCP's connections share a
//! port where their far ends differ, and ping's sockets have identifiers, which are no ports.

use std::fs;
use std::sync::Arc;

use crate::forwarding::Permits;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// That of the range that Linux begins with, for where nobody can read it.
const USUAL_HALF: usize = 14_116;

/// Half of what the host has now, for the UDP flows of all workers.
pub fn udp_permits() -> Arc<Permits> {
    let half = fs::read_to_string(RANGE).ok().and_then(|text| half(&text));
    Permits::new(half.unwrap_or(USUAL_HALF))
}

/// Half of the ports of the range `text`, at least one.
fn half(text: &str) -> Option<usize> {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse::<u16>().ok());
    let (first, last) = (words.next()??, words.next()??);
    let count = usize::from(last.checked_sub(first)?) + 1;
    Some((count / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_range_is_for_containers() {
        assert_eq!(half("32768\t60999\n"), Some(14_116));
        assert_eq!(half("40000 40199"), Some(100));
        assert_eq!((half("5 5"), half("0 65535")), (Some(1), Some(32_768)));
    }

    #[test]
    fn what_is_no_range_is_none() {
        for text in ["", "1024", "60999 32768", "a b", "1 65536"] {
            assert_eq!(half(text), None, "{text:?}");
        }
    }

    #[test]
    fn there_are_some_on_every_host() {
        assert!(udp_permits().take(crate::forwarding::PortId(1)).is_some());
    }
}
