//! The resolv.conf of a container: the names at its gateway, with the host's search list and options.
//!
//! `run` mounts it over /etc/resolv.conf in the mount namespace that it makes anyway; a symbolic link there is followed, and where
//! there is no such file an overlay on /etc makes place for one. It stays there when the host's is replaced ([`Watch`]). For a
//! named namespace (`ip netns`) `attach` writes the file that `ip netns exec` mounts, /etc/netns/NAME/resolv.conf, unless somebody
//! else has written one; `detach` and `down` remove it. The first line of a file of ours says whose it is. Other namespaces have no
//! file that would be ours to write.
//!
//! The host's files are never changed, and nothing here keeps a container from running: what fails is said on stderr.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, geteuid};

use super::{args, output};
use crate::daemon::api::client::{Client, encoded};
use crate::daemon::api::types::{EndpointInfo, NetworkInfo};

mod watch;

pub(super) use watch::Watch;

const PATH: &str = "/etc/resolv.conf";
/// Where `ip netns exec` looks.
const NETNS_ETC: &str = "/etc/netns";
/// Where `ip netns` keeps its namespaces, by either name.
const NETNS_RUN: [&str; 2] = ["/run/netns/", "/var/run/netns/"];
/// Longer files are no resolv.conf.
const MAX_FILE: u64 = 64 << 10;
/// How a file of ours begins.
const MARK: &str = "# Written by tapswitch for ";

/// What a container of this endpoint is to have.
fn text(endpoint: &EndpointInfo, network: &NetworkInfo, host: &str) -> String {
    let mut text = format!("{}\nnameserver {}\n", mark(endpoint), network.gateway);
    // resolv.conf(5): of several search lists the last counts, and `domain` is one too.
    let search = host.lines().rfind(|line| matches!(keyword(line), Some("search" | "domain")));
    search.into_iter().for_each(|line| text.extend([line.trim(), "\n"]));
    // Without dots is what a name of ours is: it is to be asked as it is before it is looked for in the search list, so
    // that it leaves the host in no form.
    let options = host.lines().filter(|line| keyword(line) == Some("options"));
    let kept = options.flat_map(|line| line.split_ascii_whitespace().skip(1));
    let kept = kept.filter(|option| !option.starts_with("ndots:"));
    text.extend(["options ndots:0"]);
    kept.for_each(|option| text.extend([" ", option]));
    text.push('\n');
    text
}

fn keyword(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().next()
}

fn mark(endpoint: &EndpointInfo) -> String {
    format!("{MARK}{}/{}", endpoint.network, endpoint.name)
}

/// Made from the daemon's word and the host's file.
fn made(client: &Client, endpoint: &EndpointInfo) -> anyhow::Result<String> {
    let network: NetworkInfo = client.get(&format!("/v1/networks/{}", encoded(&endpoint.network)), &[])?;
    let mut host = Vec::new();
    // A host without the file has no search list.
    let _ = File::open(PATH).and_then(|file| file.take(MAX_FILE).read_to_end(&mut host));
    Ok(text(endpoint, &network, &String::from_utf8_lossy(&host)))
}

/// Tells a process in namespaces of its own what to mount there. Both ends are made before it is forked.
pub(super) struct Teller(UnixDatagram);

/// That process's end.
pub(super) struct Told(UnixDatagram);

/// A pair.
///
/// # Errors
/// As `socketpair(2)`.
pub(super) fn channel() -> io::Result<(Teller, Told)> {
    let (teller, told) = UnixDatagram::pair()?;
    told.set_nonblocking(true)?;
    Ok((Teller(teller), Told(told)))
}

impl Teller {
    /// Before the process `container` is released: what mounts it again whenever the host unmounts it, if it can be.
    pub(super) fn tell(&self, client: &Client, endpoint: &EndpointInfo, container: Pid) -> Option<Watch> {
        let watched = made(client, endpoint).and_then(|text| {
            self.0.send(text.as_bytes())?;
            Watch::begin(container, text.into_bytes()).with_context(|| format!("watch {PATH}"))
        });
        watched.inspect_err(|error| output::complain(&format!("names: {error:#}"))).ok()
    }
}

impl Told {
    /// Mounts what was told. The process has a mount namespace of its own.
    pub(super) fn mount(&self) {
        let mut text = vec![0; 2 * MAX_FILE as usize];
        // Nothing was told: why, was said.
        let Ok(len) = self.0.recv(&mut text) else { return };
        if let Err(error) = mount_text(&text[..len]) {
            output::complain(&format!("names: mount {PATH}: {error}; the host's is used"));
        }
    }
}

/// Through a temporary file, which has no name any more once it is mounted.
fn mount_text(text: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix("tapswitch-").tempfile()?;
    file.write_all(text)?;
    fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
    match bind(file.path()) {
        Err(Errno::ENOENT) => {
            overlay_etc()?;
            // It may be a link to nowhere.
            let _ = fs::remove_file(PATH);
            fs::write(PATH, text)
        }
        bound => Ok(bound?),
    }
}

fn bind(file: &Path) -> nix::Result<()> {
    mount(Some(file), PATH, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Makes /etc writable without a trace on the host: what is written goes to a tmpfs of this mount namespace.
fn overlay_etc() -> io::Result<()> {
    let dir = tempfile::Builder::new().prefix("tapswitch-").tempdir()?;
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=1m"))?;
    let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
    let mounted = mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    umount2(dir.path(), MntFlags::MNT_DETACH)?;
    Ok(mounted?)
}

/// The name by which `ip netns` knows the endpoint's namespace.
fn netns_name(netns: &str) -> Option<&str> {
    let name = match NETNS_RUN.iter().find_map(|dir| netns.strip_prefix(dir)) {
        Some(name) => name,
        // As a client's argument, digits are a process.
        None if netns.bytes().all(|b| b.is_ascii_digit()) => return None,
        None => netns,
    };
    (!name.is_empty() && !name.starts_with('.') && !name.contains(['/', ':'])).then_some(name)
}

fn netns_file(endpoint: &EndpointInfo) -> Option<PathBuf> {
    Some(Path::new(NETNS_ETC).join(netns_name(&endpoint.netns)?).join("resolv.conf"))
}

/// Writes the file of a named namespace, as root, unless it is somebody else's: not of tapswitch, or of an endpoint that this
/// namespace has too.
pub(super) fn write_netns(client: &Client, endpoint: &EndpointInfo) {
    let Some(path) = netns_file(endpoint).filter(|_| geteuid().is_root()) else { return };
    sweep();
    let written = || -> anyhow::Result<()> {
        if !is_free(&path, endpoint, client)? {
            return Ok(());
        }
        let text = made(client, endpoint)?;
        let dir = path.parent().expect("a file in a directory");
        fs::create_dir_all(dir)?;
        let mut file = tempfile::Builder::new().prefix(".tapswitch-").tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
        file.persist(&path)?;
        Ok(())
    };
    if let Err(error) = written() {
        output::complain(&format!("names: write {}: {error}", path.display()));
    }
}

/// Whether the file may be written: none is there, or one of ours. A link is an administrator's, wherever it leads.
fn is_free(path: &Path, endpoint: &EndpointInfo, client: &Client) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_file() => Ok(false),
        Ok(_) => Ok(is_free_text(&String::from_utf8_lossy(&fs::read(path)?), endpoint, client)),
    }
}

/// Whether a file with this text may be written again.
fn is_free_text(text: &str, endpoint: &EndpointInfo, client: &Client) -> bool {
    let Some(owner) = text.lines().next().and_then(|line| line.strip_prefix(MARK)?.parse().ok()) else { return false };
    // One that is left of an endpoint that ended with its namespace is nobody's.
    let other = args::endpoint(client, &owner);
    other.map_or(true, |other| other.namespace != endpoint.namespace || mark(&other) == mark(endpoint))
}

/// Removes what [`write_netns`] wrote for this endpoint, and for namespaces that ended without a `detach`; as root, as it did.
pub(super) fn remove_netns(endpoint: &EndpointInfo) {
    if !geteuid().is_root() {
        return;
    }
    if let Some(path) = netns_file(endpoint)
        && first_line(&path).is_some_and(|line| line == mark(endpoint))
    {
        remove(&path);
    }
    sweep();
}

/// Removes files of ours whose namespace is no more: the next one of its name would be misled by them.
fn sweep() {
    // No such directory: nothing to sweep.
    for entry in fs::read_dir(NETNS_ETC).into_iter().flatten().flatten() {
        let path = entry.path().join("resolv.conf");
        let is_there = Path::new(NETNS_RUN[0]).join(entry.file_name()).exists();
        if !is_there && first_line(&path).is_some_and(|line| line.starts_with(MARK)) {
            remove(&path);
        }
    }
}

fn first_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        // The directories stay where they hold anything else.
        Ok(()) => path.ancestors().skip(1).take(2).for_each(|dir| drop(fs::remove_dir(dir))),
        Err(error) => output::complain(&format!("names: remove {}: {error}", path.display())),
    }
}

/// Has this process, which is in a named namespace, see that namespace's file, as `ip netns exec` does.
pub(super) fn enter_netns(endpoint: &EndpointInfo) {
    let Some(path) = netns_file(endpoint).filter(|path| geteuid().is_root() && path.exists()) else { return };
    let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, flags, None::<&str>))
        .and_then(|()| bind(&path));
    if let Err(error) = mounted {
        output::complain(&format!("names: mount {}: {}", path.display(), error.desc().to_lowercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::web_of;
    use super::*;

    fn network() -> NetworkInfo {
        serde_json::from_value(serde_json::json!({
            "name": "default", "subnet": "172.17.0.0/16", "gateway": "172.17.0.1", "range": null, "subnet6": null,
            "gateway6": null, "gateway_mac": "02:42:ac:11:00:01", "mtu": 1500, "icc": true, "uplink": "user",
            "host_access": false, "endpoints": [], "warnings": [],
        }))
        .unwrap()
    }

    #[test]
    fn the_gateway_is_asked_with_the_host_s_search_list_and_options() {
        let host = "nameserver 127.0.0.53\ndomain old\noptions edns0 ndots:2\nsearch lan example.org\noptions rotate\n";
        assert_eq!(
            text(&web_of("default"), &network(), host),
            "# Written by tapswitch for default/web\nnameserver 172.17.0.1\nsearch lan example.org\n\
             options ndots:0 edns0 rotate\n"
        );
        assert_eq!(
            text(&web_of("default"), &network(), ""),
            "# Written by tapswitch for default/web\nnameserver 172.17.0.1\noptions ndots:0\n"
        );
    }

    #[test]
    fn only_our_own_file_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("api.sock"));
        let path = dir.path().join("resolv.conf");
        let free = || is_free(&path, &web_of("default"), &client).unwrap();
        assert!(free(), "there is none");
        fs::write(&path, b"# G\xe9rard's\nnameserver 10.0.0.1\n").unwrap();
        assert!(!free(), "it is not UTF-8");
        fs::write(&path, text(&web_of("default"), &network(), "")).unwrap();
        assert!(free(), "it is ours");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &path).unwrap();
        assert!(!free(), "it is a link to nowhere");
    }

    #[test]
    fn only_a_named_namespace_has_a_file() {
        for (netns, name) in [
            ("blue", Some("blue")),
            ("/run/netns/blue", Some("blue")),
            ("/var/run/netns/4711", Some("4711")),
            ("4711", None),
            ("/proc/4711/ns/net", None),
            ("run:4711", None),
            ("/run/netns/", None),
            ("/run/netns/../x", None),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(netns_name(netns), name, "{netns}");
        }
    }
}
