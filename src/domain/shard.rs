//! One organization's facts.

/// One organization's facts: immutable, dense, indexed.
#[derive(Debug)]
pub struct Shard {}

/// By which grant an ask was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {}
