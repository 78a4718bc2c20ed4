//! Where podman looks for drivers and hooks: podman's own settings, read as podman does (containers.conf(5), `pkg/config` of
//! containers-common): the distribution's file, the administrator's and those in its folder, a user's and those in its folder, each
//! over the one before; or that of `CONTAINERS_CONF` alone; and that of `CONTAINERS_CONF_OVERRIDE` over all. A file that is no TOML
//! says nothing here, and podman itself does not start by it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::cli::install::places::Places;

/// The folders that podman looks in, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folders {
    /// For drivers of netavark: `netavark_plugin_dirs`.
    pub drivers: Vec<PathBuf>,
    /// For hooks: `hooks_dir`.
    pub hooks: Vec<PathBuf>,
}

impl Folders {
    /// As the settings of whoever `places` are say; `host`: the host's places, where podman looks by default.
    pub(super) fn read(places: &Places, host: &Places) -> Self {
        Folders::said_by(&files(places, host, &|name| std::env::var_os(name)), host)
    }

    /// The same for these settings. A later file's word wins.
    pub(super) fn said_by(files: &[PathBuf], host: &Places) -> Self {
        let mut folders = Folders { drivers: host.drivers(), hooks: vec![host.hooks()] };
        for text in files.iter().filter_map(|file| fs::read_to_string(file).ok()) {
            let Ok(settings) = toml::from_str::<Table>(&text) else { continue };
            let list = |table: &str, key: &str| settings.get(table)?.get(key)?.as_array().cloned();
            amend(&mut folders.drivers, list("network", "netavark_plugin_dirs"));
            amend(&mut folders.hooks, list("engine", "hooks_dir"));
        }
        folders
    }
}

/// A list replaces the one before, or with `{append=true}` among its elements is added to it.
fn amend(folders: &mut Vec<PathBuf>, said: Option<Vec<Value>>) {
    let Some(said) = said else { return };
    if !said.iter().any(|element| element.get("append").and_then(Value::as_bool) == Some(true)) {
        folders.clear();
    }
    folders.extend(said.iter().filter_map(Value::as_str).map(PathBuf::from));
}

/// The files of settings in the order in which they are read.
fn files(places: &Places, host: &Places, variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut files = match path("CONTAINERS_CONF") {
        Some(only) => vec![only],
        None => {
            let settings = |folder: &Path| folder.join("containers/containers.conf");
            let mut files = vec![settings(&host.root().join("usr/share"))];
            files.extend(with_folder(settings(&host.root().join("etc"))));
            if let Places::User { config, .. } = places {
                files.extend(with_folder(settings(config)));
            }
            files
        }
    };
    files.extend(path("CONTAINERS_CONF_OVERRIDE"));
    files
}

/// A file, and those in the folder beside it, in the order of their names.
fn with_folder(file: PathBuf) -> Vec<PathBuf> {
    let folder = file.with_extension("conf.d");
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut further: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    further.sort();
    std::iter::once(file).chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_s_list_replaces_the_one_before_or_is_added_to_it() {
        let root = tempfile::tempdir().unwrap();
        let host = Places::Host("/".into());
        let file = |name: &str, text: &str| {
            fs::write(root.path().join(name), text).unwrap();
            root.path().join(name)
        };
        let ours =
            file("a", "[network]\nnetavark_plugin_dirs = [\"/home/u/n\"]\n[engine]\nhooks_dir = [\"/home/u/h\"]\n");
        let silent = file("b", "[containers]\nannotations = []\n");
        let bad = file("c", "[network\n");
        let more = file("d", "[network]\nnetavark_plugin_dirs = [\"/srv/n\", {append=true}]\n");
        let none = root.path().join("none");
        let default = Folders::said_by(&[none.clone(), silent.clone(), bad.clone()], &host);
        assert_eq!(default, Folders { drivers: host.drivers(), hooks: vec![host.hooks()] });
        let said = Folders::said_by(&[silent.clone(), ours, bad, more], &host);
        assert_eq!(
            said,
            Folders { drivers: vec!["/home/u/n".into(), "/srv/n".into()], hooks: vec!["/home/u/h".into()] }
        );
    }

    #[test]
    fn the_files_are_read_in_podman_s_order() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/containers/containers.conf.d")).unwrap();
        for name in ["20.conf", "10.conf", "30.conf.old"] {
            fs::write(at("etc/containers/containers.conf.d").join(name), "").unwrap();
        }
        let host = Places::Host(root.path().into());
        let (home, config) = (at("home"), at("home/.config"));
        let user = Places::User { config, state: home.clone(), run: home.clone(), home };
        let of_host = [
            at("usr/share/containers/containers.conf"),
            at("etc/containers/containers.conf"),
            at("etc/containers/containers.conf.d/10.conf"),
            at("etc/containers/containers.conf.d/20.conf"),
        ];
        assert_eq!(files(&host, &host, &|_| None), of_host);
        let of_user = [&of_host[..], &[at("home/.config/containers/containers.conf")]].concat();
        assert_eq!(files(&user, &host, &|_| None), of_user);
        let variables = |name: &str| (name == "CONTAINERS_CONF").then(|| OsString::from("/only"));
        assert_eq!(files(&user, &host, &variables), [Path::new("/only")]);
        let variables = |name: &str| (name == "CONTAINERS_CONF_OVERRIDE").then(|| OsString::from("/last"));
        assert_eq!(files(&host, &host, &variables), [&of_host[..], &["/last".into()]].concat());
    }
}
