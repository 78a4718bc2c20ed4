//! What is to be there for some engines: links, files, and what remains to be done by others. Reads which folders are there,
//! and changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::engine::Engine;
use super::places::{NAME, Places};
use super::unit::Unit;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A symbolic link.
    Link(PathBuf),
    /// A file, readable for all.
    File(String),
}

/// One thing that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub what: What,
}

/// From what a plan is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// Where.
    pub places: &'a Places,
    /// For whom.
    pub engines: &'a BTreeSet<Engine>,
    /// The program, as links and units call it.
    pub program: &'a Path,
    /// The daemon's socket, if not at its usual place.
    pub socket: Option<&'a Path>,
    /// Whether nerdctl is here.
    pub nerdctl: bool,
}

impl Order<'_> {
    /// What is to be there.
    ///
    /// # Errors
    /// When a path cannot be written where it has to stand.
    pub(super) fn items(&self) -> anyhow::Result<Vec<Item>> {
        let mut items = Vec::new();
        for engine in self.engines {
            items.extend(match engine {
                Engine::Docker => self.docker(),
                Engine::Cni => self.cni()?,
                Engine::Podman => self.podman()?,
            });
        }
        if !self.engines.is_empty() {
            let docker = self.engines.contains(&Engine::Docker);
            let unit = Unit { program: self.program, socket: self.socket, docker, user: self.places.is_user() };
            items.push(file(self.places.units().join("tapswitch.service"), unit.text()?));
        }
        Ok(items)
    }

    fn link(&self, path: PathBuf) -> Item {
        Item { path, what: What::Link(self.program.to_owned()) }
    }

    fn cni(&self) -> anyhow::Result<Vec<Item>> {
        let mut plugin = json!({"type": "tapswitch-cni", "network": "default"});
        // Rootless engines publish by themselves: a port claimed here would be bound twice.
        plugin["capabilities"] = match self.places.is_user() {
            true => json!({"ips": true, "mac": true, "aliases": true, "bandwidth": true}),
            false => json!({"portMappings": true, "ips": true, "mac": true, "aliases": true, "bandwidth": true}),
        };
        if let Some(socket) = self.socket {
            plugin["socket"] = text(socket)?.into();
        }
        let list = json!({"cniVersion": "1.0.0", "name": NAME, "plugins": [plugin]});
        let links =
            self.places.cni_bin_used(self.nerdctl).into_iter().map(|folder| self.link(folder.join("tapswitch-cni")));
        Ok(links.chain([file(self.places.cni_list(), pretty(&list))]).collect())
    }

    fn podman(&self) -> anyhow::Result<Vec<Item>> {
        let hook_link = self.places.bin().join("tapswitch-oci");
        let mut hook = json!({"path": text(&self.places.inside(&hook_link))?});
        if let Some(socket) = self.socket {
            // A hook has no environment but what is said here.
            hook["args"] = json!(["tapswitch-oci", "--socket", text(socket)?]);
        }
        let hook = json!({
            "version": "1.0.0",
            "hook": hook,
            // All of ours: the hook itself says of one that is mistyped.
            "when": {"annotations": {"^org[.]tapswitch[.]": ".*"}},
            "stages": ["createRuntime", "poststop"],
        });
        Ok(vec![
            self.link(self.places.drivers()[0].join(NAME)),
            self.link(hook_link),
            file(self.places.hooks().join("tapswitch.json"), pretty(&hook)),
        ])
    }

    /// root's daemon has its socket where dockerd looks first, and a spec would be a second word about the same thing, to be
    /// wrong one day. A rootless dockerd has a `/run` of its own: it is told.
    fn docker(&self) -> Vec<Item> {
        let Places::User { run, .. } = self.places else { return Vec::new() };
        let spec = format!("unix://{}\n", run.join("docker.sock").display());
        vec![file(self.places.docker_specs()[0].join("tapswitch.spec"), spec)]
    }

    /// What is left to do for whoever called, a line each: no engine's own settings are changed here.
    pub(super) fn next(&self) -> Vec<String> {
        let user = self.places.is_user();
        let by_hand =
            if self.engines.contains(&Engine::Docker) { "tapswitch up -d --docker-plugin" } else { "tapswitch up -d" };
        let by_systemd = match self.places {
            Places::User { .. } => {
                "start the switch: systemctl --user daemon-reload; systemctl --user enable --now tapswitch; \
                loginctl enable-linger"
            }
            Places::Host(_) => "start the switch: systemctl daemon-reload; systemctl enable --now tapswitch",
        };
        let mut next = vec![format!("{by_systemd}. Without systemd: {by_hand}")];
        let settings = if user { "~/.config/containers/containers.conf" } else { "/etc/containers/containers.conf" };
        for engine in self.engines {
            match engine {
                Engine::Docker => {
                    next.push(
                        "docker: docker network create -d tapswitch --ipam-driver tapswitch web; docker run --network web ... \
                        (`docker run` without --network does not use the switch)"
                            .into(),
                    );
                    next.push(format!(
                        "docker: where the kernel has no bridge or no netfilter, dockerd starts with this in {}: \
                        {{\"bridge\":\"none\",\"iptables\":false,\"ip6tables\":false}}",
                        if user { "~/.config/docker/daemon.json" } else { "/etc/docker/daemon.json" },
                    ));
                    if user {
                        next.push("docker: 20.10 reads no spec of a user's: as root put it in /etc/docker/plugins".into());
                    }
                }
                Engine::Cni if user => next.push(format!(
                    "cni: podman 4 finds the plugin with cni_plugin_dirs = [{:?}] in {settings}; rootless nerdctl looks for \
                    all plugins in the first such folder",
                    self.places.cni_bin_used(self.nerdctl)[0]
                )),
                Engine::Cni => {}
                Engine::Podman if user => next.push(format!(
                    "podman: in {settings}, [network]: netavark_plugin_dirs = [{:?}]; [engine]: hooks_dir = [{:?}]",
                    self.places.drivers()[0],
                    self.places.hooks()
                )),
                Engine::Podman => next.push(format!(
                    "podman: for -p, in {settings}, [engine]: enable_port_reservation = false (podman itself binds each \
                    port otherwise)"
                )),
            }
        }
        if self.socket.is_some() && self.engines.contains(&Engine::Podman) {
            next.push("podman: TAPSWITCH_SOCKET must be in podman's environment; a driver has no settings".into());
        }
        next
    }

    /// What is left to do when all was taken away.
    pub(super) fn farewell(&self) -> &'static str {
        match self.places {
            Places::User { .. } => "a switch that systemd runs: systemctl --user disable --now tapswitch",
            Places::Host(_) => "a switch that systemd runs: systemctl disable --now tapswitch",
        }
    }
}

fn file(path: PathBuf, text: String) -> Item {
    Item { path, what: What::File(text) }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A path as JSON has it.
fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{}: not UTF-8, and so not for JSON", path.display()))
}

/// The program that runs now, as whoever has the places' root for `/` calls it.
///
/// # Errors
/// When it is not there any more.
pub(super) fn program(places: &Places) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("find this program")?;
    if !path.exists() {
        bail!("{}: this program is not there any more: start the new one", path.display());
    }
    Ok(places.inside(&path))
}

/// Why a program at `path` is not one to link to, if it is so.
pub(super) fn doubt(path: &Path) -> Option<&'static str> {
    let has = |name: &str| path.components().any(|part| part.as_os_str() == name);
    let temporary = ["/tmp", "/var/tmp", "/dev/shm"].iter().any(|folder| path.starts_with(folder));
    if temporary {
        Some("is in a folder for temporary files")
    } else if has("target") && (has("debug") || has("release")) {
        Some("is in a folder of builds")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::tests::user;
    use super::*;

    const PROGRAM: &str = "/usr/bin/tapswitch";

    fn items(places: &Places, engines: &[Engine], socket: Option<&str>) -> Vec<Item> {
        let engines = engines.iter().copied().collect();
        let socket = socket.map(Path::new);
        Order { places, engines: &engines, program: Path::new(PROGRAM), socket, nerdctl: false }.items().unwrap()
    }

    fn paths(items: &[Item], root: &Path) -> Vec<String> {
        items.iter().map(|item| item.path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    fn content(items: &[Item], name: &str) -> String {
        match &items.iter().find(|item| item.path.ends_with(name)).unwrap_or_else(|| panic!("{name}: {items:?}")).what {
            What::File(text) => text.clone(),
            What::Link(target) => panic!("{name} is a link to {}", target.display()),
        }
    }

    #[test]
    fn one_unit_serves_all_engines() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::Host(root.path().into());
        assert_eq!(items(&places, &[], None), []);
        let all = items(&places, &[Engine::Docker, Engine::Cni, Engine::Podman], None);
        assert_eq!(
            paths(&all, root.path()),
            [
                "opt/cni/bin/tapswitch-cni",
                "etc/cni/net.d/99-tapswitch.conflist",
                "usr/local/libexec/netavark/tapswitch",
                "usr/local/bin/tapswitch-oci",
                "usr/share/containers/oci/hooks.d/tapswitch.json",
                "etc/systemd/system/tapswitch.service",
            ]
        );
        assert!(content(&all, "tapswitch.service").contains("--docker-plugin"));
        let cni = items(&places, &[Engine::Cni], None);
        assert!(!content(&cni, "tapswitch.service").contains("--docker-plugin"));
    }

    #[test]
    fn files_name_paths_as_they_will_be_seen() {
        let root = tempfile::tempdir().unwrap();
        let all = items(&Places::Host(root.path().into()), &[Engine::Cni, Engine::Podman], None);
        let hook: Value = serde_json::from_str(&content(&all, "tapswitch.json")).unwrap();
        assert_eq!(hook["hook"], json!({"path": "/usr/local/bin/tapswitch-oci"}));
        assert_eq!(hook["when"], json!({"annotations": {"^org[.]tapswitch[.]": ".*"}}), "a mistyped one is to be seen");
        assert!(all.iter().all(|item| match &item.what {
            What::Link(target) => target == Path::new(PROGRAM),
            What::File(text) => !text.contains(root.path().to_str().unwrap()),
        }));
    }

    #[test]
    fn dockerd_is_told_of_a_socket_only_where_it_would_not_look() {
        let root = tempfile::tempdir().unwrap();
        let host = Places::Host(root.path().into());
        assert_eq!(items(&host, &[Engine::Docker], None).len(), 1, "the unit");
        let of_user = items(&user(root.path()), &[Engine::Docker], None);
        let spec = content(&of_user, "docker/plugins/tapswitch.spec");
        assert_eq!(spec, "unix:///run/user/1000/tapswitch/docker.sock\n");
    }

    #[test]
    fn a_socket_elsewhere_is_said_to_all_that_can_be_told() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::Host(root.path().into());
        let all = items(&places, &[Engine::Cni, Engine::Podman], Some("/srv/ts/api.sock"));
        for name in ["99-tapswitch.conflist", "tapswitch.json", "tapswitch.service"] {
            assert!(content(&all, name).contains("/srv/ts/api.sock"), "{name}");
        }
    }

    #[test]
    fn a_user_s_list_claims_no_ports() {
        let root = tempfile::tempdir().unwrap();
        for (places, claims) in [(user(root.path()), false), (Places::Host(root.path().into()), true)] {
            assert_eq!(
                content(&items(&places, &[Engine::Cni], None), "99-tapswitch.conflist").contains("portMappings"),
                claims
            );
        }
    }

    #[test]
    fn a_program_that_may_go_is_doubted() {
        for path in
            ["/home/me/tapswitch/target/debug/tapswitch", "/x/target/x86_64-unknown-linux-musl/release/tapswitch"]
        {
            assert!(doubt(Path::new(path)).is_some(), "{path}");
        }
        assert!(doubt(Path::new("/tmp/x/tapswitch")).is_some());
        for path in ["/usr/local/bin/tapswitch", "/home/me/.cargo/bin/tapswitch", "/srv/target/tapswitch"] {
            assert!(doubt(Path::new(path)).is_none(), "{path}");
        }
    }
}
