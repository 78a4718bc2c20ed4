//! The switch, from the folder this program was built into: with icc off and a rule, so that every check is made.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Switch;
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

pub(super) fn join(ends: &[Namespace; 2]) -> Result<([Ipv4Addr; 2], Switch)> {
    let program = built()?;
    let state = State(std::env::temp_dir().join(format!("tapswitch-bench-{}", std::process::id())));
    let command = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.env("TAPSWITCH_SOCKET", state.0.join("run/api.sock")).args(words);
        command
    };

    let mut up = command(&["up", "--icc", "false", "--state"]);
    up.arg(&state.0);
    let daemon = Running::start(up)?;
    run(command(&["status", "--wait", "10"]), "tapswitch up")?;
    let mut addresses = [Ipv4Addr::UNSPECIFIED; 2];
    for (end, (name, address)) in ends.iter().zip(["a", "b"].into_iter().zip(&mut addresses)) {
        run(command(&["attach", &end.pid().to_string(), "--name", name]), "tapswitch attach")?;
        let list: Value = serde_json::from_str(&run(command(&["ls", "--json"]), "tapswitch ls")?)?;
        let line = list.as_array().into_iter().flatten().find(|line| line["name"] == name);
        let text = line.and_then(|line| line["ipv4"].as_str()).context("tapswitch ls shows no address")?;
        *address = text.parse().context("tapswitch ls shows no address")?;
    }
    run(command(&["allow", "a", "b"]), "tapswitch allow")?;

    let status: Value = serde_json::from_str(&run(command(&["status", "--json"]), "tapswitch status")?)?;
    let pids = ["keeper_pid", "switch_pid"].iter().filter_map(|name| u32::try_from(status[name].as_u64()?).ok());
    let pids: Vec<u32> = pids.collect();
    ensure!(pids.len() == 2, "tapswitch status names {} processes instead of 2", pids.len());
    wait("the two ends to reach each other", Duration::from_secs(10), || {
        let mut ping = ends[0].command("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "1", &addresses[1].to_string()]);
        Ok(run(ping, "ping").is_ok().then_some(()))
    })?;
    Ok((addresses, Switch::Processes(pids, vec![daemon], Some(state))))
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
