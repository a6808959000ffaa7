//! The catalog: what an environment declares.

/// Permissions, environment roles, resource types, settings.
#[derive(Debug)]
pub struct Catalog {}
