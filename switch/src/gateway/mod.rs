//! What speaks at the gateway's own addresses: names.

mod link;

pub use link::{Asker, Link, Reply};
