//! The control API: HTTP/1.1 + JSON on `api.sock`.

pub mod client;
pub mod types;
