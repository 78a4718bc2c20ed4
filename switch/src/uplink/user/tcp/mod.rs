//! TCP flows: a container's connections, each joined to a socket.
//!
//! There is no second TCP: the container's window is the far end's, and the other way round. Upload goes from the frame
//! straight into the socket ([`upload`]); download is peeked from the socket, sent in frames of 64 KB, and left in the socket until
//! the container has acknowledged it ([`download`]). [`flow`] joins the two, [`table`] finds a segment's flow and gives each its turn.
//!
//! Limits: [`account`] has those of a container. A flow that is idle costs less than a kilobyte here, and no timer.
//!
//! Threads: all of it belongs to one worker.

mod account;
mod download;
mod farewells;
mod flow;
mod gaps;
mod headers;
mod options;
mod pool;
mod segment;
mod sequence;
mod slab;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod upload;

pub(crate) use table::{Baggage, Tcp};
