//! What must outlive a loss of power, brought to the disk by a thread of its own.
//!
//! A disk may take seconds for a sync, while it trims or has others' gigabytes to write. Control must not wait for that, since
//! everybody waits for control:
//!
//! ```text
//!  control ── the new file, beside the old ──▶ queue ──▶ disk: sync it, rename it, sync the directory
//!          ── the answer to who asked ───────▶   "   ──▶ disk: gives it
//! ```
//!
//! Control writes the new file beside the old one, which is where most of what can fail does: no space, no right. Then it goes by
//! it at once, and the answer to who asked waits behind it in the queue. Others are answered meanwhile, and may see what
//! is not kept yet. The queue keeps order, so that a file is what was written last.
//!
//! What fails on the disk itself cannot be taken back, since others may have built on it: it holds until the process ends, and
//! the answer says so.
//!
//! Limits: [`MAX_WAITING`], [`MAX_FAILURES`]. Writing beside the old file needs no disk, but waits where the kernel holds more
//! unwritten than it wants to.
//!
//! Threads: control orders, the thread `disk` carries out.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde::Serialize;

use super::StateDir;
use super::dir::Beside;

/// Most changes that wait for the disk: there are no more clients at a time, but Docker's give up and come again.
const MAX_WAITING: u64 = 256;
/// Most failures that control has not heard of; all are in the log.
const MAX_FAILURES: usize = 16;

/// Whether what was ordered is kept; one line where it is not.
pub(crate) type Kept = Result<(), String>;

/// The thread. Dropping it waits until all that was ordered is done.
#[derive(Debug)]
pub(crate) struct Disk {
    orders: Orders,
    failures: (Sender<String>, Receiver<String>),
    thread: Option<JoinHandle<()>>,
}

/// Where it takes orders, all of them of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// Has no more than [`MAX_WAITING`] changes, with a few answers to each.
    queue: Sender<Order>,
    counts: Arc<Counts>,
}

/// Numbers of changes.
#[derive(Debug, Default)]
struct Counts {
    /// Ordered. Relaxed, and so is the next: they are of the ordering thread alone.
    ordered: AtomicU64,
    /// Of these, before this turn.
    before: AtomicU64,
    /// Done, or failed. Relaxed: it bounds the queue, and nothing is read by it.
    done: AtomicU64,
}

enum Order {
    Replace(Beside),
    Remove(StateDir, String),
    /// Call this with what became of the changes after the first so many.
    Then(u64, Then),
    End,
}

type Then = Box<dyn FnOnce(Kept) + Send>;

impl Disk {
    /// Starts the thread. Files and directories are synced by `sync`, which is [`File::sync_all`] but for tests.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(sync: impl FnMut(&File) -> io::Result<()> + Send + 'static) -> io::Result<Disk> {
        let (queue, orders) = unbounded();
        let failures = bounded(MAX_FAILURES);
        let orders_to = Orders { queue, counts: Arc::default() };
        let (counts, failed) = (Arc::clone(&orders_to.counts), failures.0.clone());
        let thread =
            thread::Builder::new().name("disk".into()).spawn(move || carry_out(&orders, &counts, &failed, sync))?;
        Ok(Disk { orders: orders_to, failures, thread: Some(thread) })
    }

    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// One line about each change that is not kept.
    pub(crate) fn failures(&self) -> &Receiver<String> {
        &self.failures.1
    }

    /// Waits for what was ordered in this turn.
    pub(crate) fn settle(&self) -> Kept {
        let (done, all_done) = bounded(1);
        self.orders.then(move |kept| drop(done.send(kept)));
        all_done.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A thread that panicked has said so on stderr already.
        let _ = self.orders.queue.send(Order::End);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Orders {
    /// A new turn begins: what is ordered from now on is for somebody else.
    pub(crate) fn turn(&self) {
        self.counts.before.store(self.counts.ordered.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Has `value` be the file of `key` in `dir`.
    ///
    /// # Errors
    /// It cannot be written beside the old one, or too much waits for the disk; the old file is unchanged then.
    pub(crate) fn write<T: Serialize>(&self, dir: &StateDir, key: &str, value: &T) -> io::Result<()> {
        let number = self.next()?;
        // By its number, for the one before it may wait still.
        self.order(Order::Replace(dir.write_beside(key, &number.to_string(), value)?))
    }

    /// Has the file of `key` in `dir` removed; a missing one is well.
    ///
    /// # Errors
    /// Too much waits for the disk; it stays then.
    pub(crate) fn remove(&self, dir: &StateDir, key: &str) -> io::Result<()> {
        self.next()?;
        self.order(Order::Remove(dir.clone(), key.to_owned()))
    }

    /// Calls `then` with what becomes of this turn's changes: at once if there are none, else from the disk's thread, later.
    pub(crate) fn then(&self, then: impl FnOnce(Kept) + Send + 'static) {
        let before = self.counts.before.load(Ordering::Relaxed);
        if self.counts.ordered.load(Ordering::Relaxed) == before {
            return then(Ok(()));
        }
        if let Err(unsent) = self.queue.send(Order::Then(before, Box::new(then)))
            && let Order::Then(_, then) = unsent.into_inner()
        {
            then(Err(ended()));
        }
    }

    /// The number of the next change.
    fn next(&self) -> io::Result<u64> {
        let ordered = self.counts.ordered.load(Ordering::Relaxed);
        if ordered - self.counts.done.load(Ordering::Relaxed) >= MAX_WAITING {
            return Err(io::Error::other(format!("{MAX_WAITING} changes wait for the disk already: try again")));
        }
        Ok(ordered + 1)
    }

    fn order(&self, change: Order) -> io::Result<()> {
        self.queue.send(change).map_err(|_| io::Error::other(ended()))?;
        self.counts.ordered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn ended() -> String {
    "the thread that writes to the disk has ended: see the log, and start tapswitch again".into()
}

fn carry_out(
    orders: &Receiver<Order>,
    counts: &Counts,
    failures: &Sender<String>,
    mut sync: impl FnMut(&File) -> io::Result<()>,
) {
    let mut done = 0;
    let mut last_failure = None;
    for order in orders {
        let outcome = match order {
            Order::Replace(beside) => {
                let held = |e| format!("{e}; the change holds until the switch ends, and not after");
                beside.replace(&mut sync).map_err(held)
            }
            Order::Remove(dir, key) => {
                let back = |e| format!("{e}; what it speaks of is gone until the switch starts again");
                dir.remove(&key).and_then(|()| dir.sync(&mut sync)).map_err(back)
            }
            Order::Then(before, then) => {
                let failure = last_failure.as_ref().filter(|(number, _)| *number > before);
                then(failure.map_or(Ok(()), |(_, text): &(u64, String)| Err(text.clone())));
                continue;
            }
            Order::End => return,
        };
        done += 1;
        counts.done.store(done, Ordering::Relaxed);
        if let Err(text) = outcome {
            // Control warns of it; where it is behind, the log has it.
            if failures.try_send(text.clone()).is_err() {
                tracing::error!("{text}");
            }
            last_failure = Some((done, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::TryRecvError;

    use super::*;

    /// A directory, and a disk whose each sync takes its outcome from the sender.
    fn slow() -> (tempfile::TempDir, StateDir, Disk, Sender<io::Result<()>>) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (sync, syncs) = unbounded();
        let disk = Disk::start(move |_: &File| syncs.recv().unwrap_or(Ok(()))).unwrap();
        (dir, state, disk, sync)
    }

    /// What becomes of this turn's changes, when it is known.
    fn kept(disk: &Disk) -> Receiver<Kept> {
        let (done, kept) = bounded(1);
        disk.orders().then(move |what| done.send(what).unwrap());
        kept
    }

    #[test]
    fn what_is_ordered_is_in_its_place_when_both_syncs_are_done_and_not_before() {
        let (_dir, state, disk, sync) = slow();
        disk.orders().write(&state, "k", &1).unwrap();
        let kept = kept(&disk);
        assert_eq!((kept.try_recv(), state.read::<u32>("k").is_err()), (Err(TryRecvError::Empty), true));
        sync.send(Ok(())).unwrap();
        sync.send(Ok(())).unwrap();
        assert_eq!((kept.recv(), state.read("k")), (Ok(Ok(())), Ok(1)));
    }

    #[test]
    fn a_turn_without_a_change_waits_for_nobody_s() {
        let (_dir, state, disk, sync) = slow();
        disk.orders().write(&state, "k", &1).unwrap();
        disk.orders().turn();
        assert_eq!(kept(&disk).try_recv(), Ok(Ok(())));
        // The disk goes on, and the end with it.
        drop(sync);
    }

    #[test]
    fn what_is_written_last_is_what_is_kept_and_what_is_removed_last_is_gone() {
        let (dir, state, disk, sync) = slow();
        for value in 0..5 {
            disk.orders().write(&state, "k", &value).unwrap();
            disk.orders().write(&state, "gone", &value).unwrap();
        }
        disk.orders().remove(&state, "gone").unwrap();
        disk.orders().remove(&state, "never").unwrap();
        (0..22).for_each(|_| sync.send(Ok(())).unwrap());
        // As a process ends.
        drop(disk);
        assert_eq!(state.read_all::<u32>().unwrap().entries, [("k".to_owned(), 4)]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_sync_that_fails_is_told_to_whose_it_was_and_leaves_the_old_file() {
        let (_dir, state, disk, sync) = slow();
        let answers = [Ok(()), Err(io::Error::other("bad sector")), Ok(())].map(|outcome| {
            disk.orders().turn();
            disk.orders().write(&state, "k", &u32::from(outcome.is_ok())).unwrap();
            let kept = kept(&disk);
            let has_failed = outcome.is_err();
            sync.send(outcome).unwrap();
            if !has_failed {
                sync.send(Ok(())).unwrap();
            }
            (kept.recv().unwrap(), state.read::<u32>("k"))
        });
        let [(Ok(()), Ok(1)), (Err(text), Ok(1)), (Ok(()), Ok(1))] = answers else { panic!("{answers:?}") };
        assert!(text.contains("k.json") && text.contains("bad sector") && text.contains("until the switch ends"));
        assert_eq!(disk.failures().try_iter().collect::<Vec<_>>(), [text]);
    }

    #[test]
    fn more_than_so_many_are_refused_and_change_nothing() {
        let (_dir, state, disk, sync) = slow();
        (0..MAX_WAITING).for_each(|value| disk.orders().write(&state, "k", &value).unwrap());
        let refused = [disk.orders().write(&state, "k", &0), disk.orders().remove(&state, "k")];
        assert!(refused.iter().all(|refused| refused.as_ref().unwrap_err().to_string().contains("try again")));
        (0..2 * MAX_WAITING).for_each(|_| sync.send(Ok(())).unwrap());
        assert_eq!(disk.settle(), Ok(()));
        disk.orders().remove(&state, "k").unwrap();
        sync.send(Ok(())).unwrap();
        assert_eq!((disk.settle(), state.read::<u64>("k").is_err()), (Ok(()), true));
    }
}
