//! Port numbers, never given twice, not even by the process after this one.
//!
//! The run directory's file holds a number that was never given. It is moved on by a whole block at a time, so that an
//! attach seldom writes it; a process that dies wastes the rest of its block.

use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{PortIds, StateDir};
use crate::forwarding::PortId;

/// How far the file runs ahead. 2^32 numbers last four million starts.
const BLOCK: u32 = 1024;
const KEY: &str = "ports";

/// The numbers.
#[derive(Debug)]
pub(super) struct Ports {
    dir: StateDir,
    next: u32,
    /// First number that the file does not cover yet.
    covered: u32,
}

impl Ports {
    /// Goes on where the file in `dir` ends, and beyond every one of `used` in case the file is bad; a warning then.
    pub(super) fn open(dir: StateDir, used: impl Iterator<Item = PortId>) -> (Self, Option<String>) {
        let loaded = dir.read_all::<PortIds>();
        let (stored, warning) = match loaded {
            Ok(loaded) => {
                (loaded.entries.first().map_or(1, |(_, ids)| ids.next), loaded.bad.into_iter().next().map(|b| b.1))
            }
            Err(error) => (1, Some(error.to_string())),
        };
        let next = used.map(|id| id.0.saturating_add(1)).fold(stored, u32::max);
        (Ports { dir, next, covered: next }, warning)
    }

    /// A new number.
    pub(super) fn next(&mut self) -> Outcome<PortId> {
        if self.next == self.covered {
            let ahead =
                self.next.checked_add(BLOCK).ok_or_else(|| Refusal::Failed("port numbers are used up".into()))?;
            self.dir.write(KEY, &PortIds { next: ahead }).map_err(|e| Refusal::Failed(e.to_string()))?;
            self.covered = ahead;
        }
        let id = PortId(self.next);
        self.next += 1;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_across_starts() {
        let dir = tempfile::tempdir().unwrap();
        let open = |used: &[u32]| {
            let state = StateDir::open(dir.path()).unwrap();
            Ports::open(state, used.iter().copied().map(PortId).collect::<Vec<_>>().into_iter())
        };
        let mut given = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let (mut ports, warning) = open(&[]);
            assert_eq!(warning, None);
            for _ in 0..BLOCK + 1 {
                assert!(given.insert(ports.next().unwrap()));
            }
        }
        std::fs::write(dir.path().join("ports.json"), "torn").unwrap();
        let last = given.last().unwrap().0;
        let (mut ports, warning) = open(&[last]);
        assert!(warning.is_some());
        assert!(given.insert(ports.next().unwrap()));
    }
}
