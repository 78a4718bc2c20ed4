//! What the host's settings say about namespaces of ordinary users, and what to do about it.

use std::fs;

use nix::errno::Errno;

/// Whether this process may make namespaces as it is; else it makes a user namespace around them.
pub(super) fn is_privileged() -> bool {
    // What cannot be read is not had.
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// The settings that stand in the way of user namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// `user.max_user_namespaces`.
    pub max: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's and Arch's kernels.
    pub clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    pub apparmor: Option<u64>,
}

impl Limits {
    /// As this host has them now.
    pub(super) fn read() -> Self {
        Limits {
            max: number("/proc/sys/user/max_user_namespaces"),
            clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        }
    }

    /// What an administrator does about the setting that forbids them; `None` where none does.
    pub(super) fn remedy(self) -> Option<&'static str> {
        if self.max == Some(0) {
            return Some("user namespaces are switched off: sysctl -w user.max_user_namespaces=15000");
        }
        if self.clone == Some(0) {
            return Some("ordinary users may not make them: sysctl -w kernel.unprivileged_userns_clone=1");
        }
        if self.apparmor.is_some_and(|value| value != 0) {
            return Some(
                "Ubuntu's AppArmor takes their capabilities away: give tapswitch a profile with `userns,` (docs/rootless.md has one), or \
                 sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            );
        }
        None
    }

    /// The same, of those settings that make this error: a number that is used up is not forbidden.
    fn remedy_of(self, error: Errno) -> Option<&'static str> {
        match error {
            Errno::ENOSPC | Errno::EUSERS => Limits { max: self.max, ..Limits::default() }.remedy(),
            Errno::EPERM | Errno::EACCES => Limits { max: None, ..self }.remedy(),
            _ => None,
        }
    }
}

/// Why making namespaces failed, with the remedy where one is known; `of_user`: in, or for, a user namespace.
pub(super) fn explain(step: &str, error: Errno, of_user: bool) -> String {
    explained(step, error, of_user.then(Limits::read))
}

/// The same where `limits` may be the reason.
fn explained(step: &str, error: Errno, limits: Option<Limits>) -> String {
    let kernel = format!("{step}: {}", error.desc().to_lowercase());
    match (limits, limits.and_then(|limits| limits.remedy_of(error))) {
        (_, Some(remedy)) => format!("{kernel} ({remedy})"),
        (Some(_), None) if error == Errno::EPERM => {
            format!("{kernel} (a container or a seccomp filter may forbid it; be root)")
        }
        (None, None) if error == Errno::EPERM => format!("{kernel} (a container or a seccomp filter may forbid it)"),
        _ => kernel,
    }
}

/// The number a file of /proc/sys holds; `None` where there is no such file.
pub(super) fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_the_one_that_is_named() {
        let fine = Limits { max: Some(96_365), clone: Some(1), apparmor: Some(0) };
        assert_eq!(fine.remedy(), None);
        assert_eq!(Limits::default().remedy(), None);
        for (limits, setting) in [
            (Limits { max: Some(0), ..fine }, "user.max_user_namespaces"),
            (Limits { clone: Some(0), ..fine }, "kernel.unprivileged_userns_clone=1"),
            (Limits { apparmor: Some(1), ..fine }, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ] {
            assert!(limits.remedy().unwrap().contains(setting), "{limits:?}");
        }
    }

    #[test]
    fn a_failure_says_what_was_being_done() {
        assert!(explain("make a user namespace", Errno::EPERM, true).starts_with("make a user namespace: "));
    }

    #[test]
    fn a_setting_of_user_namespaces_is_named_only_where_it_made_the_error() {
        let ubuntu = Limits { max: Some(96_365), clone: Some(1), apparmor: Some(1) };
        let none = Limits { max: Some(0), clone: None, apparmor: None };
        for (error, limits, remedy) in [
            (Errno::EPERM, Some(ubuntu), "apparmor_restrict"),
            (Errno::ENOSPC, Some(none), "max_user_namespaces"),
            (Errno::EPERM, None, "seccomp"),
        ] {
            let said = explained("make a network namespace", error, limits);
            assert!(said.contains(remedy), "{said}");
        }
        for (error, limits) in [(Errno::ENOSPC, Some(ubuntu)), (Errno::ENOMEM, Some(none)), (Errno::ENOSPC, None)] {
            let said = explained("make a network namespace", error, limits);
            assert!(!said.contains('('), "{said}");
        }
    }
}
