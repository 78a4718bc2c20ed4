//! CNI, versions 0.3.0 to 1.1.0: what containerd, CRI-O, nerdctl and podman 4 start for each container.
//!
//! `CNI_COMMAND` says what is to be done, the configuration comes on stdin, result or error go to stdout as JSON. The daemon
//! keeps everything: an endpoint's holder is `cni:CONTAINERID`, so that DEL needs no namespace, no previous result and no file of
//! ours, and GC knows which endpoints are the runtimes'. The switch's network is made by the first ADD.
//!
//! What fails in the middle of ADD is undone in reverse. Runtimes start several at once, for different containers: the daemon
//! decides, there is no lock here. No limit of its own but the daemon's and [`super::MAX_REQUEST`].

mod add;
mod check;
mod config;
mod del;
mod delegate;
mod environment;
mod error;
mod ipam;
mod result;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use self::config::Config;
use self::delegate::Delegate;
use self::environment::{Attachment, Command, Environment};
use self::error::{CniError, Code};
use super::holder::Holder;
use super::switch::Switch;

/// The face's word in a holder.
const FACE: &str = "cni";

/// A command with all that it needs.
struct Job<'a> {
    environment: &'a Environment,
    config: &'a Config,
    delegate: Result<Option<Delegate<'a>>, CniError>,
    switch: Switch,
}

/// Does what the environment says.
pub(super) fn main(socket: Option<PathBuf>) -> ExitCode {
    let variable = |name: &str| std::env::var_os(name);
    if variable("CNI_COMMAND").is_none_or(|command| command.is_empty()) {
        super::note(concat!(
            "a CNI plugin, for container runtimes: CNI_COMMAND is not set. Versions 0.3.0 to 1.1.0; tapswitch ",
            env!("CARGO_PKG_VERSION")
        ));
        return ExitCode::SUCCESS;
    }
    let stdin = match super::request() {
        Ok(stdin) => stdin,
        Err(error) => return fail(&CniError::new(Code::IO, format!("read stdin: {error}")), &[]),
    };
    match run(&variable, &stdin, socket) {
        Ok(Some(object)) => super::answer(&object),
        Ok(None) => {}
        Err(error) => return fail(&error, &stdin),
    }
    ExitCode::SUCCESS
}

fn fail(error: &CniError, stdin: &[u8]) -> ExitCode {
    super::answer(&error.object(Config::version_of(stdin)));
    ExitCode::FAILURE
}

fn run(
    variable: &dyn Fn(&str) -> Option<OsString>,
    stdin: &[u8],
    socket: Option<PathBuf>,
) -> Result<Option<Value>, CniError> {
    let environment = Environment::read(variable)?;
    if environment.command == Command::Version {
        return Ok(Some(version::answer(stdin)));
    }
    let config = Config::read(stdin)?;
    let ipam = config.ipam();
    let known = match environment.command {
        Command::Check => config.version.has_check(),
        Command::Gc | Command::Status => config.version.has_status(),
        _ => true,
    };
    if !known {
        let msg = format!("CNI {} has no {}", config.version.as_str(), environment.command.as_str());
        return Err(CniError::new(Code::VERSION, msg));
    }
    let socket = super::socket::find(config.socket().or(socket)).map_err(|e| config::invalid(e.to_string()))?;
    let job = Job {
        environment: &environment,
        config: &config,
        delegate: delegate::of(ipam.delegate(), &environment.path, stdin),
        switch: Switch::new(&socket),
    };
    match environment.command {
        Command::Add => job.add(&ipam).map(Some),
        Command::Del => job.del().map(|()| None),
        Command::Check => job.check().map(|()| None),
        Command::Gc => job.gc().map(|()| None),
        Command::Status => job.status().map(|()| None),
        Command::Version => unreachable!("answered above"),
    }
}

impl Job<'_> {
    /// The plugin that gives the addresses; `None` where the switch leases.
    ///
    /// # Errors
    /// When it is not there: DEL takes the device away all the same, and then says so.
    fn delegate(&self) -> Result<Option<&Delegate<'_>>, CniError> {
        self.delegate.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }
}

/// Whose the endpoint of an attachment is.
fn holder(attachment: &Attachment) -> Holder {
    Holder::new(FACE, &attachment.container)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `command` is refused with, for a configuration of version `version` and a daemon that is not there.
    fn refusal(command: &str, version: &str) -> CniError {
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some(command.into()),
            "CNI_CONTAINERID" => Some("t1".into()),
            "CNI_NETNS" => Some("/proc/self/ns/net".into()),
            "CNI_IFNAME" => Some("eth0".into()),
            _ => None,
        };
        let stdin = format!(r#"{{"cniVersion": "{version}", "name": "web", "type": "tapswitch-cni"}}"#);
        run(&variable, stdin.as_bytes(), Some("/nowhere/api.sock".into())).unwrap_err()
    }

    #[test]
    fn a_command_of_a_newer_version_is_refused_by_its_name() {
        for (command, version) in [("STATUS", "1.0.0"), ("GC", "0.4.0"), ("CHECK", "0.3.1")] {
            let wanted = CniError::new(Code::VERSION, format!("CNI {version} has no {command}"));
            assert_eq!(refusal(command, version), wanted);
        }
    }

    #[test]
    fn check_without_the_result_of_add_says_what_is_missing() {
        let error = refusal("CHECK", "1.0.0");
        assert_eq!(error.code, Code::CONFIG);
        assert!(error.msg.starts_with("prevResult is missing: CHECK compares"), "{error}");
    }
}
