//! How other threads have control do something: a closure that runs in its thread, and a place for the answer.
//!
//! An answer leaves when what it speaks of is kept: when the disk has what was ordered as the command began, and as its answer was
//! given. Control itself goes on.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use super::Control;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{Kept, Orders};

/// Most commands that wait: as many as connections are served at a time, and as many again whose clients gave up.
const MAX_WAITING: usize = 256;

/// Something for control to do.
pub(crate) type Command = Box<dyn FnOnce(&mut Control) + Send>;

/// Where an answer is awaited.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    to: oneshot::Sender<Outcome<T>>,
    disk: Orders,
}

impl<T: Send + 'static> Reply<T> {
    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// Answers, when the disk has what control ordered in this turn. A client that gave up is told nothing.
    pub(crate) fn send(self, outcome: Outcome<T>) {
        let Reply { to, disk } = self;
        disk.then(move |kept| drop(to.send(outcome.and_then(|done| if_kept(done, kept)))));
    }
}

/// Reaches control from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Sender<Command>);

/// A handle, and control's end of it.
pub(crate) fn channel() -> (Handle, Receiver<Command>) {
    let (sender, receiver) = bounded(MAX_WAITING);
    (Handle(sender), receiver)
}

impl Handle {
    /// Has control do what may be answered later.
    ///
    /// # Errors
    /// As the command; and `Failed` when too many wait, or the daemon is ending.
    pub(crate) async fn ask<T, F>(&self, command: F) -> Outcome<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Control, Reply<T>) + Send + 'static,
    {
        let (to, outcome) = oneshot::channel();
        let (kept, is_kept) = oneshot::channel();
        let begun = move |control: &mut Control| {
            let disk = control.disk.orders().clone();
            command(control, Reply { to, disk: disk.clone() });
            // The answer may come in a later turn, which has ordered nothing.
            disk.then(move |done| drop(kept.send(done)));
        };
        match self.0.try_send(Box::new(begun)) {
            Ok(()) => {
                let done = outcome.await.unwrap_or_else(|_| Err(ending()))?;
                if_kept(done, is_kept.await.unwrap_or_else(|_| Err(ending().to_string())))
            }
            Err(TrySendError::Full(_)) => Err(Refusal::Failed("the daemon is busy: try again".into())),
            Err(TrySendError::Disconnected(_)) => Err(ending()),
        }
    }

    /// Has control do what is answered at once.
    ///
    /// # Errors
    /// See [`Handle::ask`].
    pub(crate) async fn call<T, F>(&self, command: F) -> Outcome<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Control) -> Outcome<T> + Send + 'static,
    {
        self.ask(move |control, reply| {
            let outcome = command(control);
            reply.send(outcome);
        })
        .await
    }
}

fn if_kept<T>(done: T, kept: Kept) -> Outcome<T> {
    kept.map(|()| done).map_err(Refusal::Failed)
}

fn ending() -> Refusal {
    Refusal::Failed("the daemon is ending".into())
}
