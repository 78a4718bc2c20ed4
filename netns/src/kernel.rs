//! Which kernel this is, for what it does not tell otherwise.

/// The first two numbers of the running kernel's release.
pub fn kernel_version() -> Option<(u32, u32)> {
    version(nix::sys::utsname::uname().ok()?.release().to_str()?)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_kinds_are_understood() {
        for (release, expected) in [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("5.10.0-28-amd64", Some((5, 10))),
            ("4.4-rc1", Some((4, 4))),
            ("6", None),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(kernel_version().is_some());
    }
}
