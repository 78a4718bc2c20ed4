//! The control API: HTTP/1.1 + JSON on `api.sock`.
//!
//! One current-thread runtime serves it and `attach.sock`; what is asked is done by control's thread ([`super::control`]).

pub mod client;
mod problem;
mod router;
mod server;
pub mod types;

pub(crate) use problem::{Problem, body};
pub(crate) use router::router;
pub(crate) use server::{Peer, Stop, admitted, serve, stop_pair};
