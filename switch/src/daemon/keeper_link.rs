//! The switch's end of the channel to the keeper.
//!
//! Control sends, a thread of its own receives and hands over. At most [`MAX_UNDER_WAY`] jobs are with the keeper at a
//! time, so that neither side ever waits for room in the socket while the other does; the rest wait here, in order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use crossbeam_channel::Sender;
use tapswitch_netns::message;

use super::keeper::message::{JobId, ToKeeper, ToSwitch};
use super::refusal::{Outcome, Refusal};

/// Most jobs that the keeper has not answered. Its answers fit the channel to control, and all of it the socket's buffers. What
/// the keeper says unasked waits with the keeper.
pub(crate) const MAX_UNDER_WAY: usize = 32;

/// What the receiving thread hands over.
#[derive(Debug)]
pub(crate) enum FromKeeper {
    /// A message, with the descriptors that came with it: one, but for [`ToSwitch::Moved`].
    Said(ToSwitch, Vec<OwnedFd>),
    /// The keeper is gone, and this is the last.
    Gone,
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct KeeperLink {
    /// `None` after the keeper died.
    socket: Option<OwnedFd>,
    pid: u32,
    waiting: VecDeque<(ToKeeper, Option<OwnedFd>)>,
    under_way: usize,
    next_job: u64,
}

impl KeeperLink {
    /// A link to the keeper `pid` behind `socket`.
    pub(crate) fn new(socket: OwnedFd, pid: u32) -> Self {
        KeeperLink { socket: Some(socket), pid, waiting: VecDeque::new(), under_way: 0, next_job: 1 }
    }

    /// The keeper's process; `None` after it died.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.socket.as_ref().map(|_| self.pid)
    }

    /// An error that says so after the keeper died.
    pub(crate) fn check(&self) -> Outcome<()> {
        match self.socket {
            Some(_) => Ok(()),
            None => Err(Refusal::Failed(
                "the keeper process is gone and devices cannot be made or removed: traffic goes on; \
                 start it again with `tapswitch up -d`"
                    .into(),
            )),
        }
    }

    /// Gives the keeper a job, now or when its turn comes. Every job is answered once, unless the keeper dies.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) fn submit(&mut self, job: impl FnOnce(JobId) -> ToKeeper, fd: Option<OwnedFd>) -> Outcome<JobId> {
        self.check()?;
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.waiting.push_back((job(id), fd));
        self.send_waiting();
        Ok(id)
    }

    /// Notes that a job was answered: the next one has its turn.
    pub(crate) fn answered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.send_waiting();
    }

    /// Tells the keeper what is no job. A keeper that is gone needs to be told nothing.
    pub(crate) fn tell(&self, what: &ToKeeper) {
        if let Some(socket) = &self.socket
            && let Err(error) = message::send(socket.as_fd(), what, None)
        {
            tracing::warn!("tell the keeper: {error}");
        }
    }

    /// Notes that the keeper is gone.
    pub(crate) fn gone(&mut self) {
        self.socket = None;
        self.waiting.clear();
    }

    fn send_waiting(&mut self) {
        while self.under_way < MAX_UNDER_WAY
            && let Some(socket) = &self.socket
            && let Some((message, fd)) = self.waiting.pop_front()
        {
            self.under_way += 1;
            if let Err(error) = message::send(socket.as_fd(), &message, fd.as_ref().map(AsFd::as_fd)) {
                // The receiving thread sees the end of the channel too, and then every open job fails.
                tracing::warn!("give the keeper a job: {error}");
            }
        }
    }
}

/// Starts the thread that receives from the keeper.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn listen(socket: OwnedFd, to: Sender<FromKeeper>) -> io::Result<()> {
    thread::Builder::new().name("keeper-link".into()).spawn(move || receive(&socket, &to))?;
    Ok(())
}

fn receive(socket: &OwnedFd, to: &Sender<FromKeeper>) {
    loop {
        let said = match message::recv_with::<ToSwitch>(socket.as_fd()) {
            Ok(Some((said, fds))) => FromKeeper::Said(said, fds),
            Ok(None) => FromKeeper::Gone,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!("a message of the keeper: {error}");
                continue;
            }
            Err(error) => {
                tracing::error!("receive from the keeper: {error}");
                FromKeeper::Gone
            }
        };
        let last = matches!(said, FromKeeper::Gone);
        // Control is gone only when the process ends.
        if to.send(said).is_err() || last {
            return;
        }
    }
}
