//! The assigned MACs of a published network: an immutable hash table from MAC to port.
