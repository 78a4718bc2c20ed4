//! An in-memory pair of ends, for simulations and tests: what is sent into one comes out of the other.
//!
//! Each direction is a queue of fixed length whose buffers are reused, so that a run on cables allocates nothing per
//! frame. A cable has no descriptor: it is read when a worker's turn is called by hand, never by a waiting thread.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// Most frames under way in one direction; the length of a TAP's ring (`tx_queue_len`).
const QUEUE_FRAMES: usize = 1000;

/// Makes pairs.
#[derive(Debug)]
pub struct Cable;

impl Cable {
    /// Two connected ends: one to [`super::open_cable`], one for whoever plays the container.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> (Plug, Plug) {
        let (a, b) = (Arc::new(Mutex::new(Queue::default())), Arc::new(Mutex::new(Queue::default())));
        (Plug { incoming: a.clone(), outgoing: b.clone() }, Plug { incoming: b, outgoing: a })
    }
}

/// One end.
#[derive(Clone, Debug)]
pub struct Plug {
    /// Guards one queue, for the length of one copy.
    incoming: Arc<Mutex<Queue>>,
    outgoing: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    /// Buffers of frames that were taken out.
    spare: Vec<Vec<u8>>,
    /// Longer ones are lost.
    #[cfg(test)]
    most: Option<usize>,
}

impl Plug {
    /// Sends the concatenation of `parts` as one frame. False: the queue is full, or it is empty, and the frame is lost.
    pub fn send(&self, parts: &[&[u8]]) -> bool {
        let mut queue = self.outgoing.lock();
        if queue.frames.len() >= QUEUE_FRAMES || parts.iter().all(|part| part.is_empty()) {
            return false;
        }
        #[cfg(test)]
        if queue.most.is_some_and(|most| parts.iter().map(|part| part.len()).sum::<usize>() > most) {
            return false;
        }
        let mut buffer = queue.spare.pop().unwrap_or_default();
        buffer.clear();
        parts.iter().for_each(|part| buffer.extend_from_slice(part));
        queue.frames.push_back(buffer);
        true
    }

    /// Takes the next frame into `out`, cut to its length as a TAP cuts it; its copied length, or nothing to read.
    pub fn receive(&self, out: &mut [u8]) -> Option<usize> {
        let mut queue = self.incoming.lock();
        let frame = queue.frames.pop_front()?;
        let len = frame.len().min(out.len());
        out[..len].copy_from_slice(&frame[..len]);
        queue.spare.push(frame);
        Some(len)
    }

    /// From now on there is no memory for longer frames that come to this end.
    #[cfg(test)]
    pub(crate) fn refuse_longer(&self, most: usize) {
        self.incoming.lock().most = Some(most);
    }

    /// Frames waiting at this end.
    pub fn waiting(&self) -> usize {
        self.incoming.lock().frames.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_into_one_end_comes_out_of_the_other_in_order() {
        let (a, b) = Cable::new();
        assert!(a.send(&[b"one"]) && a.send(&[b"tw", b"o"]));
        let mut out = [0; 8];
        assert_eq!(b.receive(&mut out), Some(3));
        assert_eq!(&out[..3], b"one");
        assert_eq!(b.receive(&mut out), Some(3));
        assert_eq!(&out[..3], b"two");
        assert_eq!(b.receive(&mut out), None);
        assert_eq!(a.receive(&mut out), None);
    }

    #[test]
    fn a_full_cable_loses_the_frame() {
        let (a, b) = Cable::new();
        assert!((0..QUEUE_FRAMES).all(|_| a.send(&[b"x"])));
        assert!(!a.send(&[b"x"]));
        assert_eq!(b.waiting(), QUEUE_FRAMES);
    }
}
