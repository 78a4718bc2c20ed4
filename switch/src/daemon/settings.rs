//! The daemon's settings: a TOML file, the flags of `up` over it, defaults under both.
//!
//! ```toml
//! state = "/var/lib/tapswitch"   # where networks are kept
//! workers = 2                    # forwarding threads; one per core
//! offload = "auto"               # auto, on or off
//! io = "auto"                    # auto, io_uring or plain
//! docker_plugin = "/run/docker/plugins/tapswitch.sock"   # a socket for dockerd; none
//!
//! [[network]]                    # any number of them
//! name = "default"
//! subnet = "192.168.227.0/24"    # or auto
//! icc = false
//! ```
//!
//! The network flags of `up` speak of the network that `--name` names, `default` where it is absent: they win over the
//! file's table of that name, or make one. That network is left out only where the file has networks and no flag
//! speaks of one. What a settings file says is checked here as far as it can be without the host and the other
//! networks; every error is one line that names the file and the line in it.

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tapswitch_netns::OffloadMode;

use super::api::types::NetworkCreate;
use super::name::Name;
use super::wanted;
use crate::engine::IoChoice;

/// Most forwarding threads: more than any machine the switch was measured on has cores.
const MAX_WORKERS: usize = 64;
/// Longest configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The kernel's `sun_path` holds 108 bytes with the final zero.
const MAX_SOCKET: usize = 108 - 1;
/// `/attach.sock` is the longest name in the run directory.
const MAX_RUN_DIR: usize = MAX_SOCKET - "/attach.sock".len();
/// Where root's daemon has its sockets.
const ROOTS_RUN_DIR: &str = "/run/tapswitch";
/// Where dockerd looks for a plugin, and finds its name.
const PLUGIN_SOCKET: &str = "/run/docker/plugins/tapswitch.sock";

/// What `up` was told on the command line. What is absent was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--state DIR`: state in DIR, and the run directory in DIR/run.
    pub state: Option<PathBuf>,
    /// What its network flags say; the network is that of `--name`, which is empty where it was not given: `default`.
    pub network: NetworkCreate,
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--offload`.
    pub offload: Option<OffloadMode>,
    /// `--docker-plugin`.
    pub docker_plugin: Option<DockerPlugin>,
}

/// Where Docker's socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerPlugin {
    /// Where dockerd looks for it, if this is root's daemon in root's directories; else `docker.sock` beside `api.sock`.
    Usual,
    /// There.
    At(PathBuf),
}

/// What a daemon goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where networks are kept.
    pub state_dir: PathBuf,
    /// Where sockets and endpoints are kept.
    pub run_dir: PathBuf,
    /// Forwarding threads.
    pub workers: usize,
    /// How TAPs are opened.
    pub offload: OffloadMode,
    /// How workers read and write.
    pub io: IoChoice,
    /// The networks asked for. One that is stored already stays as it is stored.
    pub networks: Vec<NetworkCreate>,
    /// Docker's socket, where it is served.
    pub docker_socket: Option<PathBuf>,
    /// What gave the directories, in the words of a remedy: the state directory, and the run directory.
    pub given_by: [&'static str; 2],
    /// What flags alone said of one of them: a stored network must not contradict it.
    pub flags: Option<NetworkCreate>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    state: Option<PathBuf>,
    workers: Option<usize>,
    offload: Option<OffloadMode>,
    io: IoChoice,
    docker_plugin: Option<PathBuf>,
    network: Vec<toml::Spanned<NetworkCreate>>,
}

/// Settings that cannot be gone by: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(String);

impl Settings {
    /// Reads the configuration file, where there is one, and puts `flags` over it.
    ///
    /// # Errors
    /// When the file cannot be read or parsed, or a value is impossible; the message names file, line and value.
    pub fn load(flags: &Flags) -> Result<Settings, BadSettings> {
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let (state_dir, run_dir) = directories(flags.state.as_ref().or(file.state.as_ref()))?;
        let given_by = match (&flags.state, &file.state) {
            (Some(_), _) => ["give another --state"; 2],
            (None, Some(_)) => ["name another `state` in the settings file"; 2],
            (None, None) if nix::unistd::geteuid().is_root() => ["remove it, or give --state"; 2],
            (None, None) => ["remove it, or set XDG_STATE_HOME", "remove it, or set XDG_RUNTIME_DIR"],
        };
        let docker_socket =
            docker_socket(flags.docker_plugin.clone().or(file.docker_plugin.map(DockerPlugin::At)), &run_dir)?;
        let tables = file.network.into_iter().map(toml::Spanned::into_inner).collect();
        let alone = networks(&flags.network, Vec::new())?.into_iter().next();
        Ok(Settings {
            state_dir,
            run_dir,
            workers: workers(flags.workers.or(file.workers))?,
            offload: flags.offload.or(file.offload).unwrap_or_default(),
            io: file.io,
            docker_socket,
            networks: networks(&flags.network, tables)?,
            given_by,
            flags: alone.filter(|_| speaks_of_a_network(&flags.network)),
        })
    }

    /// Refuses directories of another user's.
    ///
    /// # Errors
    /// One line that names the directory and what led there.
    pub fn refuse_others_directories(&self) -> Result<(), BadSettings> {
        let us = nix::unistd::geteuid().as_raw();
        for (path, remedy) in [&self.state_dir, &self.run_dir].into_iter().zip(self.given_by) {
            // One that is not there will be made, and is looked at once more then.
            if let Some(owner) = fs::metadata(path).ok().map(|metadata| metadata.uid()).filter(|owner| *owner != us) {
                return Err(BadSettings(format!("{}: belongs to user {owner} ({remedy})", path.display())));
            }
        }
        Ok(())
    }

    /// The control API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir.join("api.sock")
    }

    /// The socket that takes namespaces.
    pub fn attach_socket(&self) -> PathBuf {
        self.run_dir.join("attach.sock")
    }
}

/// The run directory of a daemon that was started without `--state`, where its clients look for it.
///
/// # Errors
/// For an ordinary user with neither a runtime directory nor a home.
pub fn default_run_dir() -> Result<PathBuf, BadSettings> {
    if nix::unistd::geteuid().is_root() {
        return Ok(ROOTS_RUN_DIR.into());
    }
    fitting(user_run_dir(&|name| env::var_os(name).map(PathBuf::from))?)
}

fn read_file(path: &Path) -> Result<File, BadSettings> {
    let shown = path.display();
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|e| BadSettings(format!("read configuration {shown}: {e}")))?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|e| BadSettings(format!("read configuration {shown}: {e}")))?;
    if text.len() as u64 > MAX_FILE {
        return Err(BadSettings(format!("read configuration {shown}: longer than {MAX_FILE} bytes")));
    }
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<File, BadSettings> {
    let at = |span: Option<std::ops::Range<usize>>, what: &str| {
        let line = span.map_or(1, |s| 1 + text.bytes().take(s.start).filter(|b| *b == b'\n').count());
        BadSettings(format!("{}:{line}: {}", path.display(), what.replace('\n', " ")))
    };
    let file: File = toml::from_str(text).map_err(|e| at(e.span(), e.message()))?;
    let mut names: Vec<&str> = Vec::new();
    for network in &file.network {
        let what = network.as_ref();
        wanted::check(what).map_err(|e| at(Some(network.span()), &e))?;
        if names.contains(&what.name.as_str()) {
            return Err(at(Some(network.span()), &format!("a second network named {}", what.name)));
        }
        names.push(&what.name);
    }
    Ok(file)
}

/// Checks a number of forwarding threads.
///
/// # Errors
/// One line that names it and its limits.
pub fn check_workers(workers: usize) -> Result<(), BadSettings> {
    match workers {
        1..=MAX_WORKERS => Ok(()),
        n => Err(BadSettings(format!("workers {n}: must be 1 to {MAX_WORKERS}"))),
    }
}

/// Checks the path of a daemon's api.sock: attach.sock, which lies beside it, has a longer name.
///
/// # Errors
/// One line that names it and its limit.
pub fn check_socket(path: &Path) -> Result<(), BadSettings> {
    let length = path.with_file_name("attach.sock").as_os_str().len();
    if length > MAX_SOCKET {
        return Err(BadSettings(format!(
            "{length} bytes for attach.sock beside it, and a socket's path holds {MAX_SOCKET}"
        )));
    }
    Ok(())
}

fn workers(given: Option<usize>) -> Result<usize, BadSettings> {
    match given {
        Some(n) => check_workers(n).map(|()| n),
        None => Ok(std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS))),
    }
}

fn networks(flags: &NetworkCreate, mut networks: Vec<NetworkCreate>) -> Result<Vec<NetworkCreate>, BadSettings> {
    if !networks.is_empty() && !speaks_of_a_network(flags) {
        return Ok(networks);
    }
    let name = if flags.name.is_empty() { Name::default_network().to_string() } else { flags.name.clone() };
    let at = networks.iter().position(|n| n.name == name).unwrap_or_else(|| {
        networks.push(NetworkCreate { name, ..NetworkCreate::default() });
        networks.len() - 1
    });
    overlay(&mut networks[at], flags);
    wanted::check(&networks[at]).map_err(BadSettings)?;
    Ok(networks)
}

fn speaks_of_a_network(flags: &NetworkCreate) -> bool {
    *flags != NetworkCreate::default()
}

fn overlay(network: &mut NetworkCreate, flags: &NetworkCreate) {
    network.subnet = flags.subnet.or(network.subnet);
    network.gateway = flags.gateway.or(network.gateway);
    network.range = flags.range.or(network.range);
    network.ipv6 = flags.ipv6.or(network.ipv6);
    network.gateway6 = flags.gateway6.or(network.gateway6);
    network.icc = flags.icc.or(network.icc);
    network.mtu = flags.mtu.or(network.mtu);
    network.uplink = flags.uplink.or(network.uplink);
    network.host_access = flags.host_access.or(network.host_access);
}

/// Docker's socket.
fn docker_socket(wanted: Option<DockerPlugin>, run_dir: &Path) -> Result<Option<PathBuf>, BadSettings> {
    match wanted {
        None => Ok(None),
        Some(DockerPlugin::Usual) if run_dir == Path::new(ROOTS_RUN_DIR) => Ok(Some(PLUGIN_SOCKET.into())),
        Some(DockerPlugin::Usual) => Ok(Some(run_dir.join("docker.sock"))),
        Some(DockerPlugin::At(path)) => {
            let path = std::path::absolute(&path)
                .map_err(|e| BadSettings(format!("Docker's socket {}: {e}", path.display())))?;
            if path.as_os_str().len() > MAX_SOCKET {
                return Err(BadSettings(format!(
                    "Docker's socket {}: longer than the {MAX_SOCKET} bytes of a socket's path",
                    path.display()
                )));
            }
            Ok(Some(path))
        }
    }
}

/// State and run directory.
fn directories(state: Option<&PathBuf>) -> Result<(PathBuf, PathBuf), BadSettings> {
    let (state_dir, run_dir) = match state {
        Some(dir) => {
            let dir =
                std::path::absolute(dir).map_err(|e| BadSettings(format!("state directory {}: {e}", dir.display())))?;
            (dir.clone(), dir.join("run"))
        }
        None if nix::unistd::geteuid().is_root() => ("/var/lib/tapswitch".into(), ROOTS_RUN_DIR.into()),
        None => user_directories(&|name| env::var_os(name).map(PathBuf::from))?,
    };
    Ok((state_dir, fitting(run_dir)?))
}

/// `run_dir`, in which the name of a socket has room.
fn fitting(run_dir: PathBuf) -> Result<PathBuf, BadSettings> {
    let length = run_dir.as_os_str().len();
    if length > MAX_RUN_DIR {
        return Err(BadSettings(format!(
            "run directory {}: {length} bytes, and a socket's path leaves {MAX_RUN_DIR}: give a shorter --state",
            run_dir.display()
        )));
    }
    Ok(run_dir)
}

/// An ordinary user's.
fn user_directories(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<(PathBuf, PathBuf), BadSettings> {
    let state = user_state_dir(variable)
        .ok_or_else(|| BadSettings("neither XDG_STATE_HOME nor HOME is set: give --state DIR".into()))?;
    Ok((state, user_run_dir(variable)?))
}

fn user_state_dir(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let state = absolute(variable, "XDG_STATE_HOME").or_else(|| Some(absolute(variable, "HOME")?.join(".local/state")));
    Some(state?.join("tapswitch"))
}

/// Without XDG_RUNTIME_DIR, as after `su`, it is in the state directory; with it no home is needed.
fn user_run_dir(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, BadSettings> {
    absolute(variable, "XDG_RUNTIME_DIR")
        .map(|dir| dir.join("tapswitch"))
        .or_else(|| Some(user_state_dir(variable)?.join("run")))
        .ok_or_else(|| {
            BadSettings("none of XDG_RUNTIME_DIR, XDG_STATE_HOME and HOME is set: give --socket PATH".into())
        })
}

/// XDG Base Directory Specification 0.8: a relative path is to be ignored.
fn absolute(variable: &dyn Fn(&str) -> Option<PathBuf>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::types::Subnet4;

    const PATH: &str = "/etc/tapswitch.toml";

    fn error(text: &str) -> String {
        parse(text, Path::new(PATH)).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn without_a_file_or_a_flag_there_is_the_default_network() {
        let networks = networks(&NetworkCreate::default(), Vec::new()).unwrap();
        assert_eq!(networks, [NetworkCreate { name: "default".into(), ..NetworkCreate::default() }]);
    }

    #[test]
    fn flags_win_over_the_table_of_their_network_and_leave_the_others() {
        let file =
            parse("[[network]]\nname='default'\nmtu=9000\nicc=true\n[[network]]\nname='blue'\n", Path::new(PATH));
        let tables = file.unwrap().network.into_iter().map(toml::Spanned::into_inner).collect();
        let flags = NetworkCreate { icc: Some(false), ..NetworkCreate::default() };
        let networks = networks(&flags, tables).unwrap();
        assert_eq!((networks[0].icc, networks[0].mtu), (Some(false), Some(9000)));
        assert_eq!((networks[1].name.as_str(), networks[1].icc), ("blue", None));
    }

    #[test]
    fn a_subnet_that_is_to_be_chosen_wins_over_one_of_the_file_only_where_a_flag_says_so() {
        let given = Some(Subnet4::Given("10.0.0.0/24".parse().unwrap()));
        let tables = vec![NetworkCreate { name: "default".into(), subnet: given, ..NetworkCreate::default() }];
        for (flag, subnet) in [(None, given), (Some(Subnet4::Auto), Some(Subnet4::Auto))] {
            let flags = NetworkCreate { subnet: flag, icc: Some(true), ..NetworkCreate::default() };
            assert_eq!(networks(&flags, tables.clone()).unwrap()[0].subnet, subnet);
        }
    }

    #[test]
    fn a_file_with_networks_needs_no_default_one() {
        let tables = vec![NetworkCreate { name: "blue".into(), ..NetworkCreate::default() }];
        assert_eq!(networks(&NetworkCreate::default(), tables.clone()).unwrap(), tables);
        let flags = NetworkCreate { mtu: Some(1400), ..NetworkCreate::default() };
        assert_eq!(networks(&flags, tables).unwrap()[1].name, "default");
    }

    #[test]
    fn an_error_in_the_file_names_file_and_line_in_one_line() {
        for (text, line, needle) in [
            ("workers = 1\nwrokers = 2\n", 2, "wrokers"),
            ("[[network]]\nname = 'a'\n\nsubnet = '10.0.0.0/33'\n", 4, "10.0.0.0/33"),
            ("a = = 1", 1, ""),
            ("\n[[network]]\nname = 'a'\nmtu = 67\n", 2, "67"),
            ("\n[[network]]\nname = 'a b'\n", 2, "a b"),
            ("[[network]]\nname = 'a'\n[[network]]\nname = 'a'\n", 3, "second"),
            ("[[network]]\nicc = true\n", 1, "name"),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("{PATH}:{line}: ")), "{error}");
            assert!(error.contains(needle) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn workers_have_a_limit() {
        assert!(workers(Some(0)).is_err());
        assert!(workers(Some(MAX_WORKERS + 1)).is_err());
        assert_eq!(workers(Some(2)), Ok(2));
    }

    #[test]
    fn state_given_holds_the_run_directory() {
        let (state, run) = directories(Some(&PathBuf::from("/srv/s"))).unwrap();
        assert_eq!((state, run), ("/srv/s".into(), "/srv/s/run".into()));
        assert!(directories(Some(&PathBuf::from(format!("/{}", "d".repeat(91))))).is_err());
    }

    #[test]
    fn a_directory_of_another_user_s_is_refused_by_what_led_there() {
        let root = tempfile::tempdir().unwrap();
        let given = Flags { state: Some(root.path().join("state")), ..Flags::default() };
        let mut settings = Settings::load(&given).unwrap();
        settings.refuse_others_directories().unwrap();
        // /proc/1 is root's; who is root has no directory of another's at hand, but one to give away.
        let theirs = if nix::unistd::geteuid().is_root() {
            let theirs = root.path().join("theirs");
            fs::create_dir(&theirs).unwrap();
            std::os::unix::fs::chown(&theirs, Some(7), None).unwrap();
            theirs
        } else {
            PathBuf::from("/proc/1")
        };
        settings.run_dir = theirs;
        let error = settings.refuse_others_directories().unwrap_err().to_string();
        assert!(error.contains("belongs to user ") && error.ends_with("(give another --state)"), "{error}");
    }

    #[test]
    fn a_user_has_the_xdg_directories() {
        let all = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/u")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/7")),
            _ => None,
        };
        assert_eq!(
            user_directories(&all).unwrap(),
            ("/home/u/.local/state/tapswitch".into(), "/run/user/7/tapswitch".into())
        );
        let home = |name: &str| all(name).filter(|_| name == "HOME");
        assert_eq!(user_directories(&home).unwrap().1, PathBuf::from("/home/u/.local/state/tapswitch/run"));
        assert!(user_directories(&|_| None).is_err());
    }

    #[test]
    fn a_user_with_a_runtime_directory_needs_no_home_to_find_the_daemon() {
        let runtime = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| PathBuf::from("/run/user/7"));
        assert_eq!(user_run_dir(&runtime).unwrap(), PathBuf::from("/run/user/7/tapswitch"));
        assert!(user_directories(&runtime).unwrap_err().to_string().contains("--state"));
        assert!(user_run_dir(&|_| None).unwrap_err().to_string().contains("--socket"));
    }
}
