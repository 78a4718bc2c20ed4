//! The switch on in-memory cables and virtual time, with smoltcp in the containers.
//!
//! One thread turns the worker by hand and polls the hosts; nothing sleeps and nothing depends on the machine, so a
//! seed gives the same run each time. Every scenario ends with both laws of conservation, and with the cables' own count of what the
//! ports say they read and sent.

mod attach_detach;
mod coming_and_going;
mod host;
mod hostile;
mod icc;
mod lan;
mod line;
mod loops;
mod rates;
mod rng;
mod stream;
mod traffic;
