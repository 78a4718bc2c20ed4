//! `tapswitch doctor`: what this host can and cannot do, and the remedy.

mod checks;
mod device;
mod docker;
mod engines;
mod podman;
mod sockets;

use std::process::ExitCode;

use serde::Serialize;

use super::{Outcome, output};
use crate::daemon::api::client::Client;

/// Show what this host can and cannot do, and the remedy; exit 1 if the switch cannot run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch doctor
  tapswitch doctor --json | jq -r '.[] | select(.result == \"fail\") | .remedy'

Run it as the user who is to run the switch.")]
pub(super) struct Args {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// The switch runs, with less.
    Warn,
    /// The switch cannot run.
    Fail,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at.
    check: &'static str,
    /// How it ended.
    result: Level,
    /// What was found.
    detail: String,
    /// What to do about it.
    remedy: Option<String>,
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Check { check, result: Level::Ok, detail: detail.into(), remedy: None }
    }

    fn warn(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { check, result: Level::Warn, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { check, result: Level::Fail, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// What stands on its line.
    fn line(&self) -> String {
        let level = match self.result {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|r| format!("; {r}")).unwrap_or_default();
        format!("{level:<5} {:<15} {}{remedy}\n", self.check, self.detail)
    }
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let checks = all(client);
    if args.json {
        output::json(&checks)?;
    } else {
        output::print(&checks.iter().map(Check::line).collect::<String>())?;
    }
    Ok(if checks.iter().any(|c| c.result == Level::Fail) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why containers cannot be attached on this host, in one line with the remedy; `None` where they can.
pub(super) fn obstacle() -> Option<String> {
    let failed = [checks::tun_node(), checks::namespaces()].into_iter().find(|c| c.result == Level::Fail)?;
    Some(match failed.remedy {
        Some(remedy) => format!("{} ({remedy})", failed.detail),
        None => failed.detail,
    })
}

fn all(client: &Client) -> Vec<Check> {
    let mut checks = vec![checks::kernel(), checks::tun_node(), checks::namespaces()];
    // Without a node or namespaces it cannot be tried, and the reason stands above already.
    if checks.iter().all(|c| c.result != Level::Fail) {
        checks.push(device::offload());
    }
    checks.push(checks::unprivileged(&checks));
    checks.push(checks::ipv6());
    checks.extend(sockets::checks());
    checks.push(checks::io_uring());
    checks.extend(checks::directories());
    checks.push(checks::open_files());
    let (daemon, serves) = checks::daemon(client);
    checks.push(daemon);
    checks.extend(engines::checks(serves));
    checks.extend(checks::alternatives());
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_with_its_remedy() {
        let check = Check::fail("/dev/net/tun", "permission denied", "chmod 0666 /dev/net/tun");
        assert_eq!(check.line(), "FAIL  /dev/net/tun    permission denied; chmod 0666 /dev/net/tun\n");
        assert_eq!(Check::ok("kernel", "6.1").line(), "ok    kernel          6.1\n");
    }

    #[test]
    fn json_names_the_result_in_lower_case() {
        let json = serde_json::to_value(Check::warn("io_uring", "off", "sysctl")).unwrap();
        assert_eq!(json["result"], "warn");
        assert_eq!(json["remedy"], "sysctl");
        assert!(serde_json::to_value(Check::ok("a", "b")).unwrap()["remedy"].is_null());
    }
}
