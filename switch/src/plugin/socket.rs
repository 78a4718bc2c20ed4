//! Where the daemon's socket is, seen from an engine's child: a rootless engine starts it as uid 0 of the engine's own user
//! namespace, with a `/run` of its own and the user's runtime directory where it always is.

use std::path::{Path, PathBuf};

use crate::daemon::settings;

/// `given`, or where the daemon of whoever this is outside listens.
///
/// # Errors
/// When neither a runtime directory nor a home is known.
pub(super) fn find(given: Option<PathBuf>) -> Result<PathBuf, settings::BadSettings> {
    if let Some(path) = given {
        return Ok(path);
    }
    if let Some(uid) = rootless() {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let runtime = runtime.unwrap_or_else(|| Path::new("/run/user").join(uid.to_string()));
        return Ok(runtime.join("tapswitch/api.sock"));
    }
    Ok(settings::default_run_dir()?.join("api.sock"))
}

/// The user whose engine runs this as uid 0 of a user namespace; `None` where nobody does.
pub(super) fn rootless() -> Option<u32> {
    // Without /proc there is no engine.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outer_uid(&map).filter(|uid| *uid != 0)
}

/// Who uid 0 is outside, by this process's `uid_map`, where it alone is mapped to him, as rootless engines do. `None` in the
/// initial namespace, and as root of an unprivileged system container, whose uids are a range of nobody's.
fn outer_uid(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse::<u32>().ok());
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(0), Some(outside), Some(1)) => Some(outside),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rootless_engine_s_uid_0_is_its_user() {
        assert_eq!(outer_uid("         0       1000          1\n         1     100000      65536\n"), Some(1000));
        assert_eq!(outer_uid("         0          0 4294967295\n"), None);
        assert_eq!(outer_uid("         0     100000      65536\n"), None, "root of an unprivileged LXC container");
        assert_eq!(outer_uid(""), None);
    }

    #[test]
    fn what_is_given_wins() {
        assert_eq!(find(Some("/x".into())).unwrap(), PathBuf::from("/x"));
    }
}
