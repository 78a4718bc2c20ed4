//! Names over a connection: RFC 7766. Each message has its length in two bytes before it; a connection carries many, several at
//! a time, and their answers come as they are known.
//!
//! Limits: [`MAX_STREAMS`] connections, of which whoever has the most gives one up for an asker who has fewer;
//! [`MAX_AT_ONCE`] questions at a time, the others wait in the socket; a connection on which nothing comes for [`IDLE`], or
//! that does not take an answer for [`TAKEN_WITHIN`], ends.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;

use super::MAX_QUERY;
use super::link::Asker;
use super::service::{Shared, Way};
use crate::forwarding::PortId;

/// Most connections of all askers: each holds a descriptor here and one in its worker.
pub(super) const MAX_STREAMS: usize = 128;
/// Most questions of one connection under way.
const MAX_AT_ONCE: usize = 8;
/// How long a connection may be silent. RFC 7766 6.2.3: a few seconds.
const IDLE: Duration = Duration::from_secs(10);
/// How long the asker may take for an answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// The connections that are served, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<(PortId, AbortHandle)>);

impl Streams {
    /// Makes sure that there is room for one more of `asker`. Where all is taken, the oldest connection of whoever has the most
    /// ends at once, as RFC 7766 6.2.3 has it; unless that would only turn him and the asker about. Its client connects again.
    pub(super) fn make_room(&mut self, asker: PortId) -> bool {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() < MAX_STREAMS {
            return true;
        }
        let mut counts = BTreeMap::<PortId, usize>::new();
        self.0.iter().for_each(|(port, _)| *counts.entry(*port).or_default() += 1);
        let most = counts.values().copied().max().unwrap_or(0);
        if most < counts.get(&asker).map_or(0, |mine| *mine) + 2 {
            return false;
        }
        let oldest = self.0.iter().position(|(port, _)| counts[port] == most);
        let (_, task) = self.0.remove(oldest.expect("somebody has the most"));
        task.abort();
        true
    }

    /// Adds the one that `task` serves.
    pub(super) fn add(&mut self, asker: PortId, task: JoinHandle<()>) {
        self.0.push((asker, task.abort_handle()));
    }
}

/// Serves one connection until it ends. Dropped before, it ends at once, with what is under way.
pub(super) async fn serve(stream: UnixStream, asker: Asker, shared: Arc<Shared>) {
    let (mut from, to) = stream.into_split();
    let to = Arc::new(Mutex::new(to));
    let mut under_way = JoinSet::new();
    while let Ok(Ok(question)) = timeout(IDLE, read(&mut from)).await {
        if under_way.len() == MAX_AT_ONCE {
            under_way.join_next().await;
        }
        let (shared, asker, to) = (shared.clone(), asker.clone(), to.clone());
        under_way.spawn(async move {
            if let Some(answer) = shared.answer(&asker, &question, Way::Stream).await {
                write(&to, &answer).await;
            }
        });
    }
    // What is under way is answered before the write side closes with its last holder, and until then the connection counts.
    while under_way.join_next().await.is_some() {}
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let len = usize::from(from.read_u16().await?);
    if len > MAX_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut question = vec![0; len];
    from.read_exact(&mut question).await?;
    Ok(question)
}

async fn write(to: &Mutex<OwnedWriteHalf>, answer: &[u8]) {
    let Ok(len) = u16::try_from(answer.len()) else { return };
    let framed = [&len.to_be_bytes(), answer].concat();
    let mut to = to.lock().await;
    if !matches!(timeout(TAKEN_WITHIN, to.write_all(&framed)).await, Ok(Ok(()))) {
        // Half an answer makes the rest unreadable; an end that cannot be told is one already.
        let _ = to.shutdown().await;
    }
}
