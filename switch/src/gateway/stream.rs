//! Names over a connection: RFC 7766. Each message has its length in two bytes before it; a connection carries many, several at
//! a time, and their answers come as they are known.
//!
//! Limits: [`MAX_AT_ONCE`] questions at a time, the others wait in the socket; a connection on which nothing comes for
//! [`IDLE`], or that does not take an answer for [`TAKEN_WITHIN`], ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::MAX_QUERY;
use super::link::Asker;
use super::service::{Shared, Way};

/// Most questions of one connection under way.
const MAX_AT_ONCE: usize = 8;
/// How long a connection may be silent. RFC 7766 6.2.3: a few seconds.
const IDLE: Duration = Duration::from_secs(10);
/// How long the asker may take for an answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Serves one connection until it ends.
pub(super) async fn serve(stream: UnixStream, asker: Asker, shared: Arc<Shared>) {
    let (mut from, to) = stream.into_split();
    let to = Arc::new(Mutex::new(to));
    let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
    while let Ok(Ok(question)) = timeout(IDLE, read(&mut from)).await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (shared, asker, to) = (shared.clone(), asker.clone(), to.clone());
        tokio::spawn(async move {
            if let Some(answer) = shared.answer(&asker, &question, Way::Stream).await {
                write(&to, &answer).await;
            }
            drop(place);
        });
    }
    // What is under way is answered before the write side closes with its last holder, and until then the connection counts.
    let _ = places.acquire_many(MAX_AT_ONCE as u32).await;
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
