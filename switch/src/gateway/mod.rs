//! What speaks at the gateway's own addresses: names.
//!
//! ```text
//!  worker ── Link::query, Link::stream ─▶ Service ─▶ answer (ours: Zones)
//!     ▲                                      └─────▶ Upstream (the host's resolvers, and a cache)
//!     └──────────── Link::reply ◀───────────────────────┘
//! ```
//!
//! Workers only pass messages: they never read one, and never wait. One thread answers them all. DNS messages are read and
//! written by `hickory-proto`; its server is not used, for what it listens on are sockets, and here are none.

mod answer;
mod cache;
mod link;
pub mod resolv_conf;
mod service;
mod stream;
mod upstream;
mod zone;

pub use link::{Asker, Link, Reply};
pub use resolv_conf::Resolvers;
pub use service::{Names, Service, service};
pub use zone::{Found, Station, Zone, ZoneSpec, Zones};

/// The port of the names. RFC 1035 4.2.
pub const DNS: u16 = 53;

/// Longest message that is taken from a container, in bytes: a question, with every option there is, is shorter.
const MAX_QUERY: usize = 4096;
