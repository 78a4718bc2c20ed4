//! Attaching, timed beside what a container gets without the switch: a veth pair, one end moved into its namespace.
//!
//! Both are commands, as people and plugins run them. The kernel's two only make and move; the switch's also gives addresses,
//! a route and a name.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use super::figure::Figure;
use super::report::Report;
use super::site::{Container, Site};
use crate::namespace::Namespace;
use crate::process::interrupted;

/// Attaches as many containers as the site shall have; after each, or before, the same container gets a veth too.
pub(super) fn fill(site: &mut Site, report: &mut Report, bar: &ProgressBar) -> Result<()> {
    let host = Namespace::new()?;
    for number in 0..site.ports() {
        let container = site.next_container()?;
        let veth = |report: &mut Report| -> Result<()> {
            let millis = veth(&host, number, &container)?;
            report.add(site.ports(), Figure::Veth, millis);
            Ok(())
        };
        // By turns the first one.
        if number % 2 == 0 {
            veth(report)?;
        }
        let (millis, address) = attach(site, number, &container)?;
        report.add(site.ports(), Figure::Attach, millis);
        if number % 2 == 1 {
            veth(report)?;
        }
        site.keep(container, address);
        bar.inc(1);
        ensure!(!interrupted(), "interrupted");
    }
    Ok(())
}

/// Milliseconds, and the address that it has now.
fn attach(site: &Site, number: u32, container: &Container) -> Result<(f64, Ipv4Addr)> {
    let name = format!("c{number}");
    let (millis, text) = timed(site.daemon().command(&["attach", &container.path(), "--name", &name, "--json"]))?;
    let endpoint: Value = serde_json::from_str(&text).context("read what tapswitch attach printed")?;
    let address = endpoint["ipv4"].as_str().and_then(|text| text.parse().ok());
    Ok((millis, address.context("tapswitch attach names no address")?))
}

/// Milliseconds of both commands.
fn veth(host: &Namespace, number: u32, container: &Container) -> Result<f64> {
    let (near, far) = (format!("near{number}"), format!("far{number}"));
    let (making, _) = timed(inside(host, &["link", "add", &near, "type", "veth", "peer", "name", &far])?)?;
    let (moving, _) = timed(inside(host, &["link", "set", &far, "netns", &container.path()])?)?;
    Ok(making + moving)
}

/// `ip` in a namespace, with no program between that would take time of its own.
fn inside(host: &Namespace, words: &[&str]) -> Result<Command> {
    let namespace = File::open(format!("/proc/{}/ns/net", host.pid())).context("open a namespace")?;
    let mut command = Command::new("ip");
    command.args(words);
    // SAFETY: setns is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?));
    }
    Ok(command)
}

/// Runs it to its end; milliseconds, and what it printed.
fn timed(mut command: Command) -> Result<(f64, String)> {
    command.stdin(Stdio::null());
    let start = Instant::now();
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    let millis = start.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {}", command.get_program().display(), output.status, said.trim());
    Ok((millis, String::from_utf8(output.stdout).context("a command printed no text")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_timed_to_its_end_and_heard() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.02; echo done"]);
        let (millis, text) = timed(command).unwrap();
        assert!(millis >= 20.0);
        assert_eq!(text, "done\n");
    }

    #[test]
    fn what_a_failed_command_said_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        assert!(timed(command).unwrap_err().to_string().ends_with("no such thing"));
    }
}
