//! The switch, from the folder this program was built into, or another build. Between containers with icc off and a rule, so that every check is
//! made; on the way out by its user uplink.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::host::{FAR, Host};
use super::{Carrier, LIMIT};
use crate::folder::Folder;
use crate::namespace::Namespace;
use crate::process::{Running, run, wait};

/// Joins containers two by two.
pub(super) fn join(ends: &[Namespace], program: &Path) -> Result<(Vec<Ipv4Addr>, Carrier)> {
    let daemon = Daemon::up(program, None, "join", &["--icc", "false"])?;
    let names: Vec<_> = (0..ends.len()).map(|at| format!("c{at}")).collect();
    let attach = |(end, name): (&Namespace, &String)| daemon.attach(&end.pid().to_string(), name);
    let addresses = ends.iter().zip(&names).map(attach).collect::<Result<Vec<_>>>()?;
    for at in (1..ends.len()).step_by(2) {
        daemon.ask(&["allow", &names[at - 1], &names[at]])?;
        wait_until_reached(&ends[at - 1], addresses[at])?;
    }
    Ok((addresses, daemon.carrier(None)?))
}

/// Leads one container out by the user uplink, its MTU the ordinary 1500.
pub(super) fn lead_out(client: &Namespace, host: Host, program: &Path) -> Result<(Namespace, Ipv4Addr, Carrier)> {
    let daemon = Daemon::up(program, Some(&host.inside), "out", &["--uplink", "user"])?;
    daemon.attach(&client.pid().to_string(), "a")?;
    wait("tapswitch to give the container a way out", LIMIT, || Ok(client.has_default_route().then_some(())))?;
    Ok((host.far, FAR, daemon.carrier(Some(host.inside))?))
}

/// Waits for a ping to be answered.
pub(crate) fn wait_until_reached(from: &Namespace, to: Ipv4Addr) -> Result<()> {
    wait("two containers to reach each other", LIMIT, || {
        let mut ping = from.command("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "1", &to.to_string()]);
        Ok(run(ping, "ping").is_ok().then_some(()))
    })
}

/// A switch of our own.
#[derive(Debug)]
pub(crate) struct Daemon {
    program: PathBuf,
    running: Running,
    state: Folder,
}

impl Daemon {
    /// Starts it in a namespace, or in this program's.
    pub(crate) fn up(program: &Path, within: Option<&Namespace>, purpose: &str, flags: &[&str]) -> Result<Daemon> {
        let state = Folder::new(purpose);
        let mut up = match within {
            Some(namespace) => namespace.command(program.to_str().context("the switch's path is text")?),
            None => Command::new(program),
        };
        up.arg("up").args(flags).arg("--state").arg(state.path());
        let daemon = Daemon { running: Running::start(up)?, program: program.to_owned(), state };
        daemon.ask(&["status", "--wait", "10"])?;
        Ok(daemon)
    }

    /// One of its commands, to be run.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("TAPSWITCH_SOCKET", self.state.path().join("run/api.sock")).args(words);
        command
    }

    /// What one of its commands prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        run(self.command(words), &format!("tapswitch {}", words[0]))
    }

    /// Gives a container, as the command line names its namespace, a device; the address that it has.
    fn attach(&self, container: &str, name: &str) -> Result<Ipv4Addr> {
        self.ask(&["attach", container, "--name", name])?;
        self.addresses()?.remove(name).context("tapswitch ls does not show it")
    }

    /// The address of each endpoint.
    pub(crate) fn addresses(&self) -> Result<BTreeMap<String, Ipv4Addr>> {
        let list: Value = serde_json::from_str(&self.ask(&["ls", "--json"])?)?;
        let lines = list.as_array().into_iter().flatten();
        let addresses =
            lines.map(|line| Some((line["name"].as_str()?.to_owned(), line["ipv4"].as_str()?.parse().ok()?)));
        addresses.collect::<Option<_>>().context("tapswitch ls shows an endpoint without an address")
    }

    /// Keeper and switch.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let status: Value = serde_json::from_str(&self.ask(&["status", "--json"])?)?;
        let pids = ["keeper_pid", "switch_pid"].iter().filter_map(|name| u32::try_from(status[name].as_u64()?).ok());
        let pids: Vec<u32> = pids.collect();
        ensure!(pids.len() == 2, "tapswitch status names {} processes instead of 2", pids.len());
        Ok(pids)
    }

    fn carrier(self, host: Option<Namespace>) -> Result<Carrier> {
        let pids = self.pids()?;
        Ok(Carrier { pids, _running: vec![self.running], _folder: Some(self.state), host, _within: None })
    }
}

/// The switch beside this program. `cargo run` builds only what it runs, so cargo, which then names itself to us, is asked
/// for the switch too.
pub(crate) fn built() -> Result<PathBuf> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--package", "tapswitch"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        ensure!(build.status().context("start cargo")?.success(), "tapswitch does not build");
    }
    let program = std::env::current_exe().context("find this program")?.with_file_name("tapswitch");
    ensure!(program.is_file(), "{} is not built: cargo build --release", program.display());
    Ok(program)
}
