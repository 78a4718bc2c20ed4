//! Another plugin that is run for the addresses: the same environment, the same configuration. CNI 1.1.0, section 4.
//!
//! There is no time limit of our own: a plugin may wait for a DHCP server, and the runtime ends us when it has waited enough.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use super::config::invalid;
use super::environment::is_cni_name;
use super::error::{CniError, Code};
use super::ipam::Given;
use crate::daemon::name::printable;
use crate::plugin::note;

/// A delegated plugin, found.
#[derive(Debug)]
pub(super) struct Delegate<'a> {
    name: &'a str,
    program: PathBuf,
    stdin: &'a [u8],
}

/// Addresses that a delegated plugin gave; dropped, they are given back.
#[derive(Debug)]
pub(super) struct Held<'a> {
    delegate: &'a Delegate<'a>,
    pub(super) given: Given,
    kept: bool,
}

impl<'a> Delegate<'a> {
    /// The plugin `name` in one of the folders `path`, to be given `stdin`.
    ///
    /// # Errors
    /// Code 7 for what cannot be a plugin's name, 5 where none is found.
    pub(super) fn find(name: &'a str, path: &[PathBuf], stdin: &'a [u8]) -> Result<Self, CniError> {
        if !is_cni_name(name) {
            return Err(invalid(format!("ipam: type `{}` is no plugin's name", printable(name))));
        }
        let program = path.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
            let folders: Vec<_> = path.iter().map(|folder| folder.display().to_string()).collect();
            CniError::new(Code::IO, format!("ipam: no plugin {name} in CNI_PATH ({})", folders.join(":")))
        })?;
        Ok(Delegate { name, program, stdin })
    }

    /// ADD. What was given in part by one that failed is given back.
    pub(super) fn add(&'a self) -> Result<Held<'a>, CniError> {
        let output = self.run("ADD").inspect_err(|_| self.give_back())?;
        let given = read(self.name, &output).inspect_err(|_| self.give_back())?;
        Ok(Held { delegate: self, given, kept: false })
    }

    /// DEL, CHECK, GC or STATUS.
    pub(super) fn ask(&self, command: &str) -> Result<(), CniError> {
        self.run(command).map(drop)
    }

    /// The same of what older plugins do not know: then there is nothing to be done.
    pub(super) fn ask_if_known(&self, command: &str) -> Result<(), CniError> {
        match self.ask(command) {
            Err(error) if error.code == Code::ENVIRONMENT => Ok(()),
            outcome => outcome,
        }
    }

    fn give_back(&self) {
        if let Err(error) = self.ask("DEL") {
            note(&format!("give addresses back: {error}"));
        }
    }

    fn run(&self, command: &str) -> Result<Vec<u8>, CniError> {
        let failed = |what: &str, error: &io::Error| {
            CniError::new(Code::IO, format!("ipam: {what} {}: {error}", self.program.display()))
        };
        let mut child = Command::new(&self.program)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed("start", &error))?;
        let mut stdin = child.stdin.take().expect("its stdin is a pipe");
        // A plugin that reads nothing may still answer.
        match stdin.write_all(self.stdin) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed("write to", &error)),
            _ => drop(stdin),
        }
        let output = child.wait_with_output().map_err(|error| failed("wait for", &error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said: Result<CniError, _> = serde_json::from_slice(&output.stdout);
        Err(said.map_or_else(
            |_| CniError::new(Code::IO, format!("ipam: {} {command}: {}", self.name, output.status)),
            |error| CniError { msg: format!("ipam: {}: {}", self.name, error.msg), ..error },
        ))
    }
}

impl Held<'_> {
    /// They stay.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.delegate.give_back();
        }
    }
}

fn read<T: DeserializeOwned>(name: &str, output: &[u8]) -> Result<T, CniError> {
    serde_json::from_slice(output).map_err(|e| CniError::new(Code::DECODE, format!("ipam: read {name}'s answer: {e}")))
}

/// The delegate of a section, if it has one.
///
/// # Errors
/// See [`Delegate::find`].
pub(super) fn of<'a>(
    name: Option<&'a str>,
    path: &[PathBuf],
    stdin: &'a [u8],
) -> Result<Option<Delegate<'a>>, CniError> {
    name.map(|name| Delegate::find(name, path, stdin)).transpose()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// A folder with a plugin `fake` that runs `script`, its log in `log`.
    fn fake(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fake");
        let log = folder.path().join("log");
        std::fs::write(&path, format!("#!/bin/sh\necho $CNI_COMMAND >>{}\n{script}\n", log.display())).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        folder
    }

    fn log(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("log")).unwrap_or_default()
    }

    #[test]
    fn what_is_not_kept_is_given_back() {
        let folder = fake(r#"cat >/dev/null; echo '{"ips":[{"address":"10.94.0.5/24"}]}'"#);
        let path = [folder.path().to_owned()];
        let delegate = Delegate::find("fake", &path, b"{}").unwrap();
        delegate.add().unwrap().keep();
        assert_eq!(log(folder.path()), "ADD\n");
        drop(delegate.add().unwrap());
        assert_eq!(log(folder.path()), "ADD\nADD\nDEL\n");
    }

    #[test]
    fn a_plugin_s_own_error_is_passed_on_and_its_work_undone() {
        let folder = fake(r#"echo '{"code":7,"msg":"no addresses"}'; exit 1"#);
        let path = [folder.path().to_owned()];
        let error = Delegate::find("fake", &path, b"{}").unwrap().add().unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::CONFIG, "ipam: fake: no addresses"));
        assert_eq!(log(folder.path()), "ADD\nDEL\n");
    }

    #[test]
    fn a_plugin_that_knows_no_gc_is_not_asked_in_vain() {
        let folder = fake(r#"echo '{"code":4,"msg":"unknown CNI_COMMAND: GC"}'; exit 1"#);
        let path = [folder.path().to_owned()];
        let delegate = Delegate::find("fake", &path, b"{}").unwrap();
        assert!(delegate.ask_if_known("GC").is_ok());
        assert!(delegate.ask("CHECK").is_err());
    }

    #[test]
    fn a_plugin_is_found_in_the_path_only() {
        for name in ["../fake", "a/b", "", "missing"] {
            assert!(Delegate::find(name, &[], b"").is_err(), "{name}");
        }
    }
}
