//! A container's state, as a runtime writes it to a hook. OCI runtime specification 1.2, runtime.md, "State".

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde::Deserialize;

/// The parts of it that are needed here.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    /// The runtime's id of the container.
    pub(super) id: String,
    status: String,
    #[serde(default)]
    pid: i32,
    /// What the container was made with.
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

impl State {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none, or its id could not be kept.
    pub(super) fn read(stdin: &[u8]) -> anyhow::Result<Self> {
        let state: State = serde_json::from_slice(stdin).context("read the container's state")?;
        if state.id.is_empty() || state.id.contains(char::is_control) {
            bail!("read the container's state: its id is no word");
        }
        Ok(state)
    }

    /// Whether the container's process has ended.
    pub(super) fn is_over(&self) -> bool {
        self.status == "stopped"
    }

    /// The process whose namespaces are the container's.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn pid(&self) -> anyhow::Result<i32> {
        if self.pid <= 0 {
            bail!("container {}: its state ({}) names no process", self.id, self.status);
        }
        Ok(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_follows_from_the_status() {
        let read = |status: &str, pid| {
            State::read(
                format!(r#"{{"ociVersion":"1.0.2","id":"c1","status":"{status}","pid":{pid},"bundle":"/b"}}"#)
                    .as_bytes(),
            )
            .unwrap()
        };
        for status in ["creating", "created", "running"] {
            assert!(!read(status, 7).is_over(), "{status}");
        }
        assert!(read("stopped", 0).is_over());
        assert_eq!(read("creating", 7).pid().unwrap(), 7);
        assert!(read("creating", 0).pid().is_err());
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for text in ["", "{}", r#"{"id":"","status":"creating"}"#, r#"{"id":"a\nb","status":"creating"}"#, "[]"] {
            assert!(State::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
