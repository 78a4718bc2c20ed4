//! Whether Docker Engine finds the switch, as it looks for its plugins, and what its settings mean here. dockerd's own API is
//! not asked: who may use that is root, and the doctor need not be.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Check;
use super::checks::has_module;
use crate::cli::install::places::{NAME, Places};
use crate::daemon::api::client::{Client, ClientError};

/// Where dockerd looks first: moby `pkg/plugins/discovery_unix.go`.
const SOCKETS: &str = "/run/docker/plugins";
/// Longer than a plugin that serves takes to say what it is.
const DEADLINE: Duration = Duration::from_secs(2);
const PLUGIN: &str = "docker plugin";

/// `serves`: a daemon is there.
pub(super) fn checks(places: &Places, serves: bool) -> Vec<Check> {
    vec![
        plugin(find(Path::new(SOCKETS), &places.docker_specs()), serves),
        settings(&places.docker_settings(), has_module("bridge") && has_netfilter()),
        names(has_iptables()),
    ]
}

/// The socket that dockerd would use for us: one of our name, or what a spec of our name says.
fn find(sockets: &Path, specs: &[PathBuf]) -> Option<PathBuf> {
    let is_socket = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let file = format!("{NAME}.sock");
    let found = [sockets.join(&file), sockets.join(NAME).join(&file)].into_iter().find(is_socket);
    found.or_else(|| {
        let file = format!("{NAME}.spec");
        let files = specs.iter().flat_map(|folder| [folder.join(&file), folder.join(NAME).join(&file)]);
        let text = files.filter_map(|path| fs::read_to_string(path).ok()).next()?;
        text.trim().strip_prefix("unix://").map(PathBuf::from)
    })
}

/// How there comes to be a plugin. A daemon that serves has none, or another socket: two on the same directories there cannot be.
fn remedy(serves: bool) -> &'static str {
    match serves {
        true => "tapswitch down, then tapswitch up -d --docker-plugin",
        false => "tapswitch up -d --docker-plugin, or the unit that tapswitch install --docker makes",
    }
}

/// Whether a plugin answers at `socket`, as dockerd asks it first.
fn plugin(socket: Option<PathBuf>, serves: bool) -> Check {
    let remedy = remedy(serves);
    let Some(socket) = socket else {
        return Check::warn(PLUGIN, "no socket and no spec where dockerd looks", remedy);
    };
    let at = socket.display().to_string();
    match Client::new(socket).within(DEADLINE).post::<_, Value>("/Plugin.Activate", &json!({})) {
        Ok(answer) if answer["Implements"].as_array().is_some_and(|roles| roles.contains(&"NetworkDriver".into())) => {
            Check::ok(PLUGIN, format!("answers at {at}"))
        }
        Ok(_) => Check::warn(PLUGIN, format!("what answers at {at} is no network driver"), remedy),
        Err(ClientError::NoDaemon(_)) => Check::warn(PLUGIN, format!("nobody answers at {at}"), remedy),
        Err(error) => Check::warn(PLUGIN, format!("{at}: {error}"), "ask as root, or start the switch anew"),
    }
}

/// What dockerd is told of its own bridge. `can`: whether this kernel has what that needs.
fn settings(path: &Path, can: bool) -> Check {
    const CHECK: &str = "docker settings";
    let at = path.display();
    let value = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let value = value.unwrap_or_default();
    match value["bridge"] == "none" && value["iptables"] == false {
        true => Check::ok(CHECK, format!("no docker0, no netfilter ({at})")),
        false if can => Check::ok(CHECK, "dockerd makes docker0 too, for `docker run` without --network"),
        false => Check::warn(
            CHECK,
            "this kernel has no bridge or no netfilter, without which dockerd does not start",
            format!("in {at}: {{\"bridge\":\"none\",\"iptables\":false,\"ip6tables\":false}}"),
        ),
    }
}

/// Who answers at 127.0.0.11: dockerd's resolver is led there by nat rules inside of each container.
fn names(iptables: bool) -> Check {
    let who = if iptables {
        "by dockerd, or by the switch where its nat rules cannot be made"
    } else {
        "by the switch; it knows containers' names with Docker 20.10, and as docs/docker.md says with newer ones"
    };
    Check::ok("docker names", format!("at 127.0.0.11 {who}"))
}

fn has_iptables() -> bool {
    let program =
        ["/usr/sbin/iptables", "/sbin/iptables", "/usr/local/sbin/iptables"].iter().any(|p| Path::new(p).exists());
    program && has_netfilter()
}

/// Whether the kernel can translate addresses, or could once something asks it to.
fn has_netfilter() -> bool {
    Path::new("/proc/sys/net/netfilter").is_dir() || has_module("nf_conntrack")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::super::Level;
    use super::*;

    /// A plugin that answers one request with `body`.
    fn serve(socket: &Path, body: &'static str) -> std::thread::JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"POST /Plugin.Activate HTTP/1.1"));
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        })
    }

    #[test]
    fn a_plugin_is_looked_for_as_dockerd_does() {
        let root = tempfile::tempdir().unwrap();
        let (sockets, specs) = (root.path().join("plugins"), [root.path().join("etc"), root.path().join("lib")]);
        for folder in specs.iter().chain([&sockets]) {
            fs::create_dir(folder).unwrap();
        }
        assert_eq!(find(&sockets, &specs), None);
        fs::write(specs[1].join("tapswitch.spec"), "unix:///x/docker.sock\n").unwrap();
        assert_eq!(find(&sockets, &specs), Some("/x/docker.sock".into()));
        fs::write(sockets.join("tapswitch.sock"), "no socket").unwrap();
        assert_eq!(find(&sockets, &specs), Some("/x/docker.sock".into()));
        fs::remove_file(sockets.join("tapswitch.sock")).unwrap();
        let _listener = UnixListener::bind(sockets.join("tapswitch.sock")).unwrap();
        assert_eq!(find(&sockets, &specs), Some(sockets.join("tapswitch.sock")), "a socket wins");
    }

    #[test]
    fn a_plugin_is_asked_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("s");
        let check = plugin(Some(socket.clone()), false);
        assert!(check.result == Level::Warn && check.detail.starts_with("nobody answers"), "{check:?}");
        for (body, level) in [
            (r#"{"Implements":["NetworkDriver","IpamDriver"]}"#, Level::Ok),
            (r#"{"Implements":["authz"]}"#, Level::Warn),
            ("x", Level::Warn),
        ] {
            let served = serve(&socket, body);
            assert_eq!(plugin(Some(socket.clone()), true).result, level, "{body}");
            served.join().unwrap();
            fs::remove_file(&socket).unwrap();
        }
        assert_eq!(plugin(None, false).remedy.as_deref(), Some(remedy(false)));
        for socket in [None, Some(socket)] {
            let remedy = plugin(socket, true).remedy.unwrap();
            assert_eq!(
                remedy, "tapswitch down, then tapswitch up -d --docker-plugin",
                "one runs, and a second is refused"
            );
        }
    }

    #[test]
    fn a_kernel_without_a_bridge_needs_settings() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("daemon.json");
        let check = settings(&path, false);
        let remedy = check.remedy.unwrap();
        assert!(check.result == Level::Warn && remedy.contains("daemon.json"), "{remedy}");
        assert_eq!(settings(&path, true).result, Level::Ok);
        fs::write(&path, &remedy[remedy.find('{').unwrap()..]).unwrap();
        assert!(settings(&path, false).detail.contains("no docker0"));
    }
}
