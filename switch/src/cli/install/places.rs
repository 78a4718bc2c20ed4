//! Where engines look: the host's folders, which root fills, and a user's own.
//!
//! Paths are as the engines' own sources have them: nerdctl `pkg/defaults`, containers-common `containers.conf(5)`, moby
//! `pkg/plugins`. Hooks: podman 4.3 and 5.4 were seen to read `/usr/share/containers/oci/hooks.d` and not that of /etc.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

/// The name of what podman, Docker and a CNI list call us.
pub(in crate::cli) const NAME: &str = "tapswitch";
/// The folders of CNI plugins, in nerdctl's order; it uses the first that is there and no other.
const CNI_BIN: [&str; 5] =
    ["opt/cni/bin", "usr/local/libexec/cni", "usr/local/lib/cni", "usr/libexec/cni", "usr/lib/cni"];
/// The same below a user's home.
const CNI_BIN_OF_USER: [&str; 3] = ["opt/cni/bin", ".local/libexec/cni", ".local/lib/cni"];
/// Of these one is made: the usual one, in which containerd and CRI-O look; for a user, who has neither, nerdctl's own choice.
const CNI_BIN_MADE: usize = 0;
const CNI_BIN_OF_USER_MADE: usize = 1;
/// Where netavark's drivers are looked for: `netavark_plugin_dirs` of containers.conf(5).
const NETAVARK: [&str; 4] =
    ["usr/local/libexec/netavark", "usr/libexec/netavark", "usr/local/lib/netavark", "usr/lib/netavark"];
/// A file that sorts behind others: runtimes take the first list of the folder for their default network.
const LIST: &str = "99-tapswitch.conflist";

/// Whose folders are filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Places {
    /// The host's, below a root: `/`, or that of an image.
    Host(PathBuf),
    /// A user's.
    User {
        /// HOME.
        home: PathBuf,
        /// `XDG_CONFIG_HOME`, or `.config` in it.
        config: PathBuf,
        /// The daemon's state directory.
        state: PathBuf,
        /// The daemon's run directory.
        run: PathBuf,
    },
}

impl Places {
    /// Those of whoever this is.
    ///
    /// # Errors
    /// For a user without a home.
    pub(in crate::cli) fn of_caller() -> anyhow::Result<Self> {
        if nix::unistd::geteuid().is_root() {
            return Ok(Places::Host("/".into()));
        }
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
        let home = variable("HOME").context("HOME is not set")?;
        let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let settings = crate::daemon::settings::Settings::load(&Default::default())?;
        Ok(Places::User { home, config, state: settings.state_dir, run: settings.run_dir })
    }

    /// What stands before the paths that are said inside of files and links.
    pub(in crate::cli) fn root(&self) -> &Path {
        match self {
            Places::Host(root) => root,
            Places::User { .. } => Path::new("/"),
        }
    }

    pub(super) fn is_user(&self) -> bool {
        matches!(self, Places::User { .. })
    }

    /// Every folder of CNI plugins that an engine may look in.
    pub(in crate::cli) fn cni_bin(&self) -> Vec<PathBuf> {
        match self {
            Places::Host(root) => CNI_BIN.map(|folder| root.join(folder)).into(),
            Places::User { home, .. } => CNI_BIN_OF_USER.map(|folder| home.join(folder)).into(),
        }
    }

    /// Those to put a link in: that are there, and one that is to be made. It is not made where it would come between `nerdctl` and
    /// the folder that has its other plugins.
    pub(super) fn cni_bin_used(&self, nerdctl: bool) -> Vec<PathBuf> {
        let made = if self.is_user() { CNI_BIN_OF_USER_MADE } else { CNI_BIN_MADE };
        let all = self.cni_bin();
        let is_there: Vec<bool> = all.iter().map(|folder| folder.is_dir()).collect();
        let wanted = |index: usize| {
            is_there[index] || (index == made && !(is_there.contains(&true) && (nerdctl || self.is_user())))
        };
        (0..all.len()).filter(|index| wanted(*index)).map(|index| all[index].clone()).collect()
    }

    /// The folder of CNI's lists of plugins.
    pub(in crate::cli) fn cni_conf(&self) -> PathBuf {
        match self {
            Places::Host(root) => root.join("etc/cni/net.d"),
            Places::User { config, .. } => config.join("cni/net.d"),
        }
    }

    /// Our list in it.
    pub(super) fn cni_list(&self) -> PathBuf {
        self.cni_conf().join(LIST)
    }

    /// The folders where podman looks for drivers; a user's own only where `containers.conf` says so. The first is ours.
    pub(in crate::cli) fn drivers(&self) -> Vec<PathBuf> {
        match self {
            Places::Host(root) => NETAVARK.map(|folder| root.join(folder)).into(),
            Places::User { home, .. } => vec![home.join(".local/libexec/netavark")],
        }
    }

    /// The folder of hooks that podman and CRI-O read; a user's own only where `containers.conf` says so.
    pub(in crate::cli) fn hooks(&self) -> PathBuf {
        match self {
            Places::Host(root) => root.join("usr/share/containers/oci/hooks.d"),
            Places::User { config, .. } => config.join("containers/oci/hooks.d"),
        }
    }

    /// The folder of programs of the administrator's, or the user's.
    pub(super) fn bin(&self) -> PathBuf {
        match self {
            Places::Host(root) => root.join("usr/local/bin"),
            Places::User { home, .. } => home.join(".local/bin"),
        }
    }

    /// The folders of Docker's plugin specs, in dockerd's order but for the first, which is ours to fill.
    pub(in crate::cli) fn docker_specs(&self) -> Vec<PathBuf> {
        match self {
            Places::Host(root) => vec![root.join("etc/docker/plugins"), root.join("usr/lib/docker/plugins")],
            Places::User { home, .. } => vec![home.join(".local/lib/docker/plugins"), "/etc/docker/plugins".into()],
        }
    }

    /// Docker's own settings.
    pub(in crate::cli) fn docker_settings(&self) -> PathBuf {
        match self {
            Places::Host(root) => root.join("etc/docker/daemon.json"),
            Places::User { config, .. } => config.join("docker/daemon.json"),
        }
    }

    /// The folder of units.
    pub(super) fn units(&self) -> PathBuf {
        match self {
            Places::Host(root) => root.join("etc/systemd/system"),
            Places::User { config, .. } => config.join("systemd/user"),
        }
    }

    /// The daemon's state directory, where the record of what was put is kept.
    pub(super) fn state(&self) -> PathBuf {
        match self {
            Places::Host(root) => root.join("var/lib/tapswitch"),
            Places::User { state, .. } => state.clone(),
        }
    }

    /// Whether what is done at `path` is done below the root: a link on the way may lead elsewhere in there, and not out. What `path`
    /// itself is, is not followed by who makes and removes.
    ///
    /// Limits: who changes folders meanwhile is not kept from it; nobody else's image is filled while it runs.
    ///
    /// # Errors
    /// It leads out, or cannot be followed.
    pub(super) fn check_below(&self, path: &Path) -> anyhow::Result<()> {
        let root = self.root();
        if root == Path::new("/") {
            return Ok(());
        }
        if path.components().any(|part| part == Component::ParentDir) {
            bail!("{} leads out of {} by `..`", path.display(), root.display());
        }
        let is_there = |folder: &&Path| folder.symlink_metadata().is_ok();
        let folder = path.ancestors().skip(1).find(is_there).unwrap_or(root);
        let real = folder.canonicalize().with_context(|| format!("follow {}", folder.display()))?;
        if !real.starts_with(root.canonicalize()?) {
            bail!("{} is {}, out of {}: a link leads there", folder.display(), real.display(), root.display());
        }
        Ok(())
    }

    /// `path` as it is called by whoever has our root for `/`.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(self.root()) {
            Ok(rest) => Path::new("/").join(rest),
            Err(_) => path.to_owned(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    pub(in crate::cli::install) fn user(home: &Path) -> Places {
        Places::User {
            home: home.into(),
            config: home.join(".config"),
            state: home.join(".local/state/tapswitch"),
            run: "/run/user/1000/tapswitch".into(),
        }
    }

    #[test]
    fn a_folder_of_plugins_is_made_where_it_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::Host(root.path().into());
        let (opt, lib) = (root.path().join("opt/cni/bin"), root.path().join("usr/lib/cni"));
        assert_eq!(places.cni_bin_used(true), std::slice::from_ref(&opt));
        fs::create_dir_all(&lib).unwrap();
        assert_eq!(places.cni_bin_used(false), [opt.clone(), lib.clone()]);
        assert_eq!(places.cni_bin_used(true), std::slice::from_ref(&lib));
        fs::create_dir_all(&opt).unwrap();
        assert_eq!(places.cni_bin_used(true), [opt, lib]);

        let of_user = user(root.path());
        // The host's folder above is also this user's.
        assert_eq!(of_user.cni_bin_used(false), [root.path().join("opt/cni/bin")]);
        let home = root.path().join("home");
        assert_eq!(user(&home).cni_bin_used(false), [home.join(".local/libexec/cni")]);
    }

    #[test]
    fn paths_are_said_as_those_see_them_whose_root_it_is() {
        let places = Places::Host("/srv/image".into());
        assert_eq!(places.inside(Path::new("/srv/image/usr/bin/x")), Path::new("/usr/bin/x"));
        assert_eq!(places.inside(Path::new("/usr/bin/x")), Path::new("/usr/bin/x"));
        assert_eq!(Places::Host("/".into()).inside(Path::new("/usr/bin/x")), Path::new("/usr/bin/x"));
    }
}
