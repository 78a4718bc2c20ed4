//! A disk that takes its time, or fails, as a test says.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::daemon::state::Disk;

/// What a sync waits for at most, so that a test that fails ends.
const AT_MOST: Duration = Duration::from_secs(60);

/// Says what becomes of syncs. At first they succeed at once.
pub(crate) struct SlowDisk {
    is_slow: Arc<AtomicBool>,
    begun: Receiver<()>,
    outcome: Sender<io::Result<()>>,
}

impl SlowDisk {
    pub(crate) fn new() -> (SlowDisk, Disk) {
        let is_slow = Arc::new(AtomicBool::new(false));
        let ((begin, begun), (outcome, outcomes)) = (unbounded(), unbounded());
        let asked = Arc::clone(&is_slow);
        let sync = move |_: &File| match asked.load(Ordering::SeqCst) {
            false => Ok(()),
            true => {
                // Of a test that is over nobody listens.
                let _ = begin.send(());
                outcomes.recv_timeout(AT_MOST).unwrap_or(Ok(()))
            }
        };
        (SlowDisk { is_slow, begun, outcome }, Disk::start(sync).unwrap())
    }

    /// From now on each sync waits for its outcome.
    pub(crate) fn slow(&self) {
        self.is_slow.store(true, Ordering::SeqCst);
    }

    /// Waits until one does.
    pub(crate) fn await_sync(&self) {
        self.begun.recv_timeout(AT_MOST).expect("the disk is asked");
    }

    /// The outcome of the one that waits, or of the next.
    pub(crate) fn end(&self, outcome: io::Result<()>) {
        self.outcome.send(outcome).unwrap();
    }

    /// The one that waits succeeds, and all that follow, at once.
    pub(crate) fn hurry(&self) {
        self.is_slow.store(false, Ordering::SeqCst);
        self.end(Ok(()));
    }
}
