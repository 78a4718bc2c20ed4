//! The keeper: single-threaded, small, holds the rights and a duplicate of every TAP descriptor.
//!
//! `tapswitch up` becomes the keeper by [`run`], before any thread exists. The keeper locks the run and state
//! directories, binds the control sockets, and forks the switch, which renounces every capability before its first line
//! of work. They speak over one socketpair ([`message`]).
//!
//! | dies | then |
//! |---|---|
//! | a job's child | that job fails; its device was not persistent and is gone |
//! | the switch | a new one is forked at once and handed every descriptor: no carrier is lost, no namespace entered, no client of a published port refused |
//! | the keeper | the switch forwards on; the next `up` takes every descriptor from it by `keeper.sock` ([`serve_takeover`]) |
//! | both | the TAPs are persistent: the next switch asks for each by name (`Reattach`) |
//!
//! What the switch may ask for is little, since it may be compromised: a device in a namespace it holds a descriptor of, or
//! changes to the devices the keeper holds. In the keeper's own namespace, the host's, nothing is ever done but to bind the
//! sockets of published ports, for the uplink `host` to make devices named `ts-` and their routing, and for an engine that takes
//! devices to its containers itself to make those: named `tsd`, down, without an address, in the namespace of the process that the
//! switch names, the one thing the keeper opens by a path ([`follow`]).

mod bind;
mod error;
mod follow;
mod holder;
mod host_routing;
mod job;
mod kept;
mod listen;
mod lock;
mod log_file;
pub mod message;
mod ready;
mod renounce;
mod run;
mod start;
mod switch;
mod takeover;

pub(crate) use bind::SOCKETS_MAX;
pub use error::{Error, Result};
pub(crate) use follow::PREFIX as ENGINE_PREFIX;
pub(crate) use host_routing::PREFIX as HOST_PREFIX;
pub use run::{STOP_PATIENCE, run};
pub use start::{Config, SwitchStart};
pub use takeover::serve_takeover;
