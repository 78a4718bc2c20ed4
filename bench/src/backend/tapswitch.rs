//! The switch, from the folder this program was built into. Between containers with icc off and a rule, so that every check is
//! made; on the way out by its user uplink.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::host::{FAR, Host};
use super::{Carrier, LIMIT};
use crate::namespace::Namespace;
use crate::process::{Running, run, wait};

/// A state folder of its own. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct State(PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        // A folder in the temporary one that cannot be removed is no reason to lose the figures.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Joins two containers.
pub(super) fn join(ends: &[Namespace; 2]) -> Result<([Ipv4Addr; 2], Carrier)> {
    let daemon = Daemon::up(None, "join", &["--icc", "false"])?;
    let mut addresses = [Ipv4Addr::UNSPECIFIED; 2];
    for (end, (name, address)) in ends.iter().zip(["a", "b"].into_iter().zip(&mut addresses)) {
        *address = daemon.attach(end, name)?;
    }
    daemon.ask(&["allow", "a", "b"])?;
    wait("the two ends to reach each other", LIMIT, || {
        let mut ping = ends[0].command("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "1", &addresses[1].to_string()]);
        Ok(run(ping, "ping").is_ok().then_some(()))
    })?;
    Ok((addresses, daemon.carrier(None)?))
}

/// Leads one container out by the user uplink, its MTU the ordinary 1500.
pub(super) fn lead_out(client: &Namespace, host: Host) -> Result<(Namespace, Ipv4Addr, Carrier)> {
    let daemon = Daemon::up(Some(&host.inside), "out", &["--uplink", "user"])?;
    daemon.attach(client, "a")?;
    wait("tapswitch to give the container a way out", LIMIT, || Ok(client.has_default_route().then_some(())))?;
    Ok((host.far, FAR, daemon.carrier(Some(host.inside))?))
}

/// A switch of our own.
#[derive(Debug)]
struct Daemon {
    program: PathBuf,
    running: Running,
    state: State,
}

impl Daemon {
    /// Starts it in a namespace, or in this program's.
    fn up(within: Option<&Namespace>, purpose: &str, flags: &[&str]) -> Result<Daemon> {
        let program = built()?;
        let folder = format!("tapswitch-bench-{purpose}-{}", std::process::id());
        let state = State(std::env::temp_dir().join(folder));
        let mut up = match within {
            Some(namespace) => namespace.command(program.to_str().context("the switch's path is text")?),
            None => Command::new(&program),
        };
        up.arg("up").args(flags).arg("--state").arg(&state.0);
        let daemon = Daemon { running: Running::start(up)?, program, state };
        daemon.ask(&["status", "--wait", "10"])?;
        Ok(daemon)
    }

    /// One of its commands; what that prints.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.env("TAPSWITCH_SOCKET", self.state.0.join("run/api.sock")).args(words);
        run(command, &format!("tapswitch {}", words[0]))
    }

    /// Gives a container its device; the address that it has.
    fn attach(&self, container: &Namespace, name: &str) -> Result<Ipv4Addr> {
        self.ask(&["attach", &container.pid().to_string(), "--name", name])?;
        let list: Value = serde_json::from_str(&self.ask(&["ls", "--json"])?)?;
        let line = list.as_array().into_iter().flatten().find(|line| line["name"] == name);
        let text = line.and_then(|line| line["ipv4"].as_str()).context("tapswitch ls shows no address")?;
        text.parse().context("tapswitch ls shows no address")
    }

    fn carrier(self, host: Option<Namespace>) -> Result<Carrier> {
        let status: Value = serde_json::from_str(&self.ask(&["status", "--json"])?)?;
        let pids = ["keeper_pid", "switch_pid"].iter().filter_map(|name| u32::try_from(status[name].as_u64()?).ok());
        let pids: Vec<u32> = pids.collect();
        ensure!(pids.len() == 2, "tapswitch status names {} processes instead of 2", pids.len());
        Ok(Carrier { pids, _running: vec![self.running], _state: Some(self.state), host, _within: None })
    }
}

/// The switch beside this program. `cargo run` builds only what it runs, so cargo, which then names itself to us, is asked
/// for the switch too.
fn built() -> Result<PathBuf> {
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
