//! The source guard: what a container may claim to be.
