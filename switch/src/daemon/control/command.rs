//! How other threads have control do something: a closure that runs in its thread, and a place for the answer.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use super::Control;
use crate::daemon::refusal::{Outcome, Refusal};

/// Most commands that wait: as many as connections are served at a time, and as many again whose clients gave up.
const MAX_WAITING: usize = 256;

/// Something for control to do.
pub(crate) type Command = Box<dyn FnOnce(&mut Control) + Send>;

/// Where an answer is awaited.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<Outcome<T>>);

impl<T> Reply<T> {
    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Answers. A client that gave up is told nothing.
    pub(crate) fn send(self, outcome: Outcome<T>) {
        let _ = self.0.send(outcome);
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
        let (sender, receiver) = oneshot::channel();
        let reply = Reply(sender);
        match self.0.try_send(Box::new(move |control| command(control, reply))) {
            Ok(()) => receiver.await.unwrap_or_else(|_| Err(ending())),
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

fn ending() -> Refusal {
    Refusal::Failed("the daemon is ending".into())
}
