//! The engines, and which of them a host has.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What containers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Engine {
    /// Docker Engine.
    Docker,
    /// What runs CNI plugins.
    Cni,
    /// podman, by its driver and its hook.
    Podman,
}

/// The programs of each. podman 4 without netavark is one of CNI's too.
const DOCKER: &[&str] = &["dockerd"];
const CNI: &[&str] = &["containerd", "crio", "nerdctl"];
const PODMAN: &[&str] = &["podman"];
/// Where podman looks for netavark, below the root: `helper_binaries_dir` of containers.conf(5).
const HELPERS: &[&str] = &["usr/local/libexec/podman", "usr/local/lib/podman", "usr/libexec/podman", "usr/lib/podman"];
/// Where programs are, below the root, whatever PATH says: daemons are not in that of every user.
const PROGRAMS: &[&str] = &["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// What was found of them below one root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Found {
    /// Names of their programs.
    pub programs: Vec<&'static str>,
    /// podman's program for networks.
    pub netavark: Option<PathBuf>,
}

impl Found {
    /// What the host has whose files are below `root`; `path`: further folders, as PATH has them.
    pub(in crate::cli) fn below(root: &Path, path: &[PathBuf]) -> Self {
        let folders: Vec<PathBuf> = PROGRAMS.iter().map(|f| root.join(f)).chain(path.iter().cloned()).collect();
        let is_there = |name: &&&str| folders.iter().any(|folder| folder.join(name).is_file());
        let programs = [DOCKER, CNI, PODMAN].concat().iter().filter(is_there).copied().collect();
        let netavark = HELPERS.iter().map(|folder| root.join(folder).join("netavark")).find(|path| path.is_file());
        Found { programs, netavark }
    }

    /// On this host.
    pub(in crate::cli) fn here() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Found::below(Path::new("/"), &std::env::split_paths(&path).collect::<Vec<_>>())
    }

    /// Whether it is among them.
    pub(in crate::cli) fn has(&self, engine: Engine) -> bool {
        let any = |names: &[&str]| names.iter().any(|name| self.programs.contains(name));
        match engine {
            Engine::Docker => any(DOCKER),
            Engine::Cni => any(CNI) || (any(PODMAN) && self.netavark.is_none()),
            Engine::Podman => any(PODMAN),
        }
    }

    /// All that are there.
    pub(in crate::cli) fn engines(&self) -> Vec<Engine> {
        [Engine::Docker, Engine::Cni, Engine::Podman].into_iter().filter(|engine| self.has(*engine)).collect()
    }
}

/// What was looked for.
pub(in crate::cli) fn programs() -> String {
    [DOCKER, CNI, PODMAN].concat().join(", ")
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Docker => "docker",
            Engine::Cni => "cni",
            Engine::Podman => "podman",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with(files: &[&str]) -> Found {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        Found::below(root.path(), &[root.path().join("home/bin")])
    }

    #[test]
    fn engines_are_known_by_their_programs() {
        assert_eq!(with(&[]).engines(), []);
        assert_eq!(with(&["usr/sbin/dockerd", "usr/bin/containerd"]).engines(), [Engine::Docker, Engine::Cni]);
        assert_eq!(with(&["home/bin/nerdctl"]).engines(), [Engine::Cni]);
        assert_eq!(with(&["usr/bin/docker"]).engines(), [], "a client alone");
    }

    #[test]
    fn podman_without_netavark_uses_cni() {
        assert_eq!(with(&["usr/bin/podman"]).engines(), [Engine::Cni, Engine::Podman]);
        assert_eq!(with(&["usr/bin/podman", "usr/lib/podman/netavark"]).engines(), [Engine::Podman]);
    }
}
