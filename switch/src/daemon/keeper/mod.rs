//! The keeper: single-threaded, small, holds the rights and a duplicate of every TAP descriptor.

pub mod message;
