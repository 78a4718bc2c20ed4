//! Which engines of this host see the switch: what each of them would find where it looks. An engine that is not here has no
//! line.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::podman::Folders;
use super::{Check, Level, docker};
use crate::cli::install::engine::{Engine, Found, programs};
use crate::cli::install::places::{NAME, Places};

/// The plugin's name in lists.
const PLUGIN: &str = "tapswitch-cni";

/// `serves`: a daemon is there.
pub(super) fn checks(serves: bool) -> Vec<Check> {
    match Places::of_caller() {
        Ok(places) => {
            // A user's engines also read what root put.
            let host = (!matches!(places, Places::Host(_))).then(|| Places::Host("/".into()));
            let podman = Folders::read(&places, host.as_ref().unwrap_or(&places));
            of(&Found::here(), &places, host.as_ref(), &podman, serves)
        }
        Err(error) => vec![Check::warn("engines", format!("{error:#}"), "set it")],
    }
}

/// What `found` sees in `places`, and in the host's besides; podman, in its own folders.
fn of(found: &Found, places: &Places, host: Option<&Places>, podman: &Folders, serves: bool) -> Vec<Check> {
    if found.programs.is_empty() {
        return vec![Check::ok("engines", format!("none here ({})", programs()))];
    }
    let mut checks = vec![Check::ok("engines", found.programs.join(", "))];
    let all = || std::iter::once(places).chain(host);
    if found.has(Engine::Docker) {
        checks.extend(docker::checks(places, serves));
    }
    if found.has(Engine::Cni) {
        let plugins = all().flat_map(Places::cni_bin).map(|folder| folder.join(PLUGIN));
        checks.push(program("cni plugin", plugins, "tapswitch install --cni"));
        checks.push(list(&places.cni_conf()));
    }
    if found.has(Engine::Podman) {
        if found.netavark.is_some() {
            let judge = |folders: &[PathBuf]| program("podman driver", at(folders, NAME), "tapswitch install --podman");
            checks.push(seen(judge, &podman.drivers, &places.drivers(), "[network]: netavark_plugin_dirs"));
        }
        let judge = |folders: &[PathBuf]| hook(at(folders, "tapswitch.json"));
        checks.push(seen(judge, &podman.hooks, &[places.hooks()], "[engine]: hooks_dir"));
    }
    checks
}

/// Paths of one name.
fn at(folders: &[PathBuf], name: &str) -> impl Iterator<Item = PathBuf> {
    folders.iter().map(move |folder| folder.join(name))
}

/// `judge` of the folders that podman `looks` in; what is well in a folder of `ours` alone, podman does not see.
fn seen(judge: impl Fn(&[PathBuf]) -> Check, looks: &[PathBuf], ours: &[PathBuf], setting: &str) -> Check {
    let check = judge(looks);
    let unseen = || ours.iter().find(|folder| judge(std::slice::from_ref(folder)).result == Level::Ok);
    match (check.result, unseen()) {
        (Level::Warn, Some(folder)) if !looks.contains(folder) => Check::warn(
            check.check,
            format!("it is in {}, where podman does not look", folder.display()),
            format!("name that in containers.conf, {setting} = [{folder:?}]"),
        ),
        _ => check,
    }
}

/// The first of `paths` that is there, and whether it leads to a program.
fn program(check: &'static str, paths: impl Iterator<Item = PathBuf>, remedy: &str) -> Check {
    let there: Vec<PathBuf> = paths.filter(|path| path.is_symlink() || path.exists()).collect();
    match there.iter().find(|path| !path.is_file()) {
        Some(broken) => Check::warn(check, format!("{} leads to no program", broken.display()), remedy),
        None => match there.first() {
            Some(path) => Check::ok(check, path.display().to_string()),
            None => Check::warn(check, "not set up", remedy),
        },
    }
}

/// Which of CNI's lists in `folder` name us.
fn list(folder: &Path) -> Check {
    const CHECK: &str = "cni network";
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_list =
        |path: &PathBuf| path.extension().is_some_and(|end| ["conf", "conflist", "json"].iter().any(|e| end == *e));
    let mut files: Vec<PathBuf> = files.filter(is_list).collect();
    files.sort();
    let ours: Vec<String> =
        files.iter().filter_map(|path| Some(format!("{} in {}", network(path)?, path.display()))).collect();
    if ours.is_empty() {
        return Check::warn(
            CHECK,
            format!("no list in {} names {PLUGIN}", folder.display()),
            "tapswitch install --cni",
        );
    }
    // The default of containerd and CRI-O is the first.
    let first = if files.first().is_some_and(|path| network(path).is_some()) { ", the default" } else { "" };
    Check::ok(CHECK, format!("{}{first}", ours.join(", ")))
}

/// The network of a list, or of one plugin's configuration, that names us.
fn network(path: &Path) -> Option<String> {
    let value: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let alone = std::slice::from_ref(&value);
    let plugins = value["plugins"].as_array().map_or(alone, Vec::as_slice);
    plugins.iter().any(|plugin| plugin["type"] == PLUGIN).then(|| value["name"].as_str().unwrap_or("-").to_owned())
}

/// The first of `paths` that is there, and whether what it names is.
fn hook(mut paths: impl Iterator<Item = PathBuf>) -> Check {
    const CHECK: &str = "podman hook";
    const REMEDY: &str = "tapswitch install --podman";
    let read = |path: PathBuf| Some((fs::read_to_string(&path).ok()?, path));
    let Some((text, path)) = paths.find_map(read) else {
        return Check::warn(CHECK, "not set up", REMEDY);
    };
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    match value["hook"]["path"].as_str() {
        Some(program) if Path::new(program).is_file() => Check::ok(CHECK, path.display().to_string()),
        Some(program) => Check::warn(CHECK, format!("{}: there is no program {program}", path.display()), REMEDY),
        None => Check::warn(CHECK, format!("{} is no hook", path.display()), REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/cni/net.d")).unwrap();
        root
    }

    #[test]
    fn engines_that_are_not_here_have_no_line() {
        let root = root();
        let places = Places::Host(root.path().into());
        let folders = Folders::said_by(&[], &places);
        assert_eq!(of(&Found::default(), &places, None, &folders, false).len(), 1);
        let podman = Found { programs: vec!["podman"], netavark: Some("/x".into()) };
        let names: Vec<&str> = of(&podman, &places, None, &folders, false).iter().map(|check| check.check).collect();
        assert_eq!(names, ["engines", "podman driver", "podman hook"]);
        let podman4 = Found { programs: vec!["podman"], netavark: None };
        let names: Vec<&str> = of(&podman4, &places, None, &folders, false).iter().map(|check| check.check).collect();
        assert_eq!(names, ["engines", "cni plugin", "cni network", "podman hook"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let root = root();
        let (good, bad, none) = (root.path().join("good"), root.path().join("bad"), root.path().join("none"));
        symlink(std::env::current_exe().unwrap(), &good).unwrap();
        symlink("/nowhere/tapswitch", &bad).unwrap();
        let judge = |paths: &[&PathBuf]| program("cni plugin", paths.iter().map(|path| path.to_path_buf()), "install");
        assert_eq!(judge(&[&none, &good]).result, Level::Ok);
        assert!(judge(&[&good, &bad]).detail.contains("bad leads to no program"));
        assert_eq!(judge(&[&none]).detail, "not set up");
    }

    #[test]
    fn a_list_that_names_us_is_found_and_said_to_be_the_default_where_it_is_first() {
        let root = root();
        let folder = root.path().join("etc/cni/net.d");
        assert_eq!(list(&folder).result, Level::Warn);
        assert_eq!(list(&root.path().join("none")).result, Level::Warn);
        fs::write(folder.join("99-t.conflist"), r#"{"name": "t", "plugins": [{"type": "tapswitch-cni"}]}"#).unwrap();
        assert!(list(&folder).detail.ends_with("99-t.conflist, the default"));
        fs::write(folder.join("10-b.conf"), r#"{"name": "b", "type": "bridge"}"#).unwrap();
        let check = list(&folder);
        assert!(check.result == Level::Ok && check.detail.ends_with("99-t.conflist"), "{check:?}");
        fs::write(folder.join("50-u.conf"), r#"{"name": "u", "type": "tapswitch-cni"}"#).unwrap();
        assert!(list(&folder).detail.starts_with("u in "));
    }

    #[test]
    fn what_is_in_a_user_s_own_folders_counts_where_podman_looks_there() {
        let root = root();
        let host = Places::Host(root.path().into());
        let home = root.path().join("home");
        let user = Places::User { config: home.join(".config"), state: home.clone(), run: home.clone(), home };
        let (driver, hook) = (user.drivers()[0].clone(), user.hooks());
        fs::create_dir_all(&driver).unwrap();
        fs::create_dir_all(&hook).unwrap();
        let program = std::env::current_exe().unwrap();
        symlink(&program, driver.join(NAME)).unwrap();
        fs::write(hook.join("tapswitch.json"), format!(r#"{{"hook": {{"path": {program:?}}}}}"#)).unwrap();
        let found = Found { programs: vec!["podman"], netavark: Some("/x".into()) };
        let judge = |folders: &Folders| of(&found, &user, Some(&host), folders, false).split_off(1);
        for (check, setting) in judge(&Folders::said_by(&[], &host)).iter().zip(["netavark_plugin_dirs", "hooks_dir"]) {
            assert!(check.result == Level::Warn && check.detail.contains("does not look"), "{check:?}");
            assert!(check.remedy.as_ref().unwrap().contains(setting), "{check:?}");
        }
        let named = judge(&Folders { drivers: vec![driver], hooks: vec![hook] });
        assert!(named.iter().all(|check| check.result == Level::Ok), "{named:?}");
    }

    #[test]
    fn a_hook_without_its_program_is_named() {
        let root = root();
        let path = root.path().join("tapswitch.json");
        let judge = || hook(std::iter::once(path.clone()));
        assert_eq!(judge().detail, "not set up");
        for (text, level) in [
            ("x".to_owned(), Level::Warn),
            (r#"{"hook": {"path": "/nowhere/tapswitch-oci"}}"#.to_owned(), Level::Warn),
            (format!(r#"{{"hook": {{"path": {:?}}}}}"#, std::env::current_exe().unwrap()), Level::Ok),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(judge().result, level, "{text}");
        }
    }
}
