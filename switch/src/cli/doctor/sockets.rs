//! What the host's settings let the switch's sockets do: those of the uplink `user`, and those of published ports.
//!
//! The settings are read once and judged as data. Root is judged too: the switch process has no capability, whoever starts
//! it, so its pings go by the settings; only ports are bound by the keeper, which root gives the right.

use std::fs;

use nix::unistd::{Gid, geteuid, getgroups};

use super::Check;

const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";
const FIRST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

const PING_REMEDY: &str = "as root: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"";
const PORT_REMEDY: &str =
    "publish at another, as 8080:80; or as root: sysctl -w net.ipv4.ip_unprivileged_port_start=80";

/// The settings; `None` is one that this kernel has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The groups that may send echo requests, first and last: `net.ipv4.ping_group_range`.
    ping_groups: Option<(u32, u32)>,
    /// The first port that anybody may bind: `net.ipv4.ip_unprivileged_port_start`.
    first_port: Option<u32>,
}

impl Settings {
    /// As this host has them now.
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Settings::parse(&text(PING_GROUPS), &text(FIRST_PORT))
    }

    fn parse(ping_groups: &str, first_port: &str) -> Self {
        let mut bounds = ping_groups.split_whitespace().map(str::parse);
        let range = match (bounds.next(), bounds.next()) {
            (Some(Ok(first)), Some(Ok(last))) => Some((first, last)),
            _ => None,
        };
        Settings { ping_groups: range, first_port: first_port.trim().parse().ok() }
    }

    /// Whether containers can ping what is outside. `groups`: the daemon's own, any of which will do (`ping_init_sock` of
    /// net/ipv4/ping.c). It holds for IPv6 too.
    fn ping(self, groups: &[Gid]) -> Check {
        const CHECK: &str = "ping outside";
        let may = |(first, last): (u32, u32)| groups.iter().any(|group| (first..=last).contains(&group.as_raw()));
        match self.ping_groups {
            None => Check::warn(CHECK, "net.ipv4.ping_group_range cannot be read", "mount /proc"),
            Some(range) if may(range) => Check::ok(CHECK, "permitted (net.ipv4.ping_group_range)"),
            Some((first, last)) if first > last => {
                Check::warn(CHECK, "nobody may send echo requests; containers ping each other only", PING_REMEDY)
            }
            Some((first, last)) => Check::warn(
                CHECK,
                format!("groups {first} to {last} may, yours may not; containers ping each other only"),
                PING_REMEDY,
            ),
        }
    }

    /// From which port on `-p` works.
    fn ports(self, is_root: bool) -> Check {
        const CHECK: &str = "publish ports";
        match self.first_port {
            _ if is_root => Check::ok(CHECK, "any, as root"),
            Some(0 | 1) => Check::ok(CHECK, "any (net.ipv4.ip_unprivileged_port_start)"),
            Some(first) => Check::warn(CHECK, format!("{first} and above; those below are for root"), PORT_REMEDY),
            // Linux before 4.11 has no such setting, and no switch either.
            None => Check::warn(CHECK, "1024 and above; those below are for root", PORT_REMEDY),
        }
    }
}

pub(super) fn checks() -> Vec<Check> {
    let settings = Settings::read();
    let mut groups = getgroups().unwrap_or_default();
    groups.push(nix::unistd::getegid());
    vec![settings.ping(&groups), settings.ports(geteuid().is_root())]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const OURS: &[Gid] = &[Gid::from_raw(1000), Gid::from_raw(27)];

    fn of(ping_groups: &str, first_port: &str) -> Settings {
        Settings::parse(ping_groups, first_port)
    }

    #[test]
    fn ping_is_for_who_is_in_the_range_by_any_group() {
        for (range, level) in [
            ("0\t2147483647\n", Level::Ok),
            ("1000\t1000\n", Level::Ok),
            ("20\t30\n", Level::Ok),
            ("1\t0\n", Level::Warn),
            ("0\t0\n", Level::Warn),
            ("1001\t2147483647\n", Level::Warn),
            ("", Level::Warn),
        ] {
            assert_eq!(of(range, "").ping(OURS).result, level, "{range:?}");
        }
    }

    #[test]
    fn who_may_not_ping_is_told_the_setting() {
        for range in ["1 0", "0 0"] {
            let check = of(range, "").ping(OURS);
            assert!(check.remedy.unwrap().contains("net.ipv4.ping_group_range=\"0 2147483647\""), "{range}");
        }
        assert!(of("1 0", "").ping(&[Gid::from_raw(0)]).detail.contains("nobody"), "root neither");
    }

    #[test]
    fn low_ports_are_roots_and_the_setting_that_opens_them_is_named() {
        assert_eq!(of("", "1024").ports(true).result, Level::Ok);
        assert_eq!(of("", "0\n").ports(false).result, Level::Ok);
        let check = of("", "1024\n").ports(false);
        assert_eq!(check.result, Level::Warn);
        assert!(check.detail.contains("1024") && check.remedy.unwrap().contains("ip_unprivileged_port_start"));
    }

    #[test]
    fn what_is_no_setting_is_none() {
        for text in ["", "x", "1", "1 x", "-1 5"] {
            assert_eq!(of(text, text).ping_groups, None, "{text:?}");
        }
    }
}
