//! What only SQLite needs to be told.

use std::path::Path;

use super::DatabaseError;

/// Takes the write lock at once, so that a reader never has to become a writer half-way.
pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";
/// The first read fixes the moment.
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN DEFERRED";
pub(super) const LOCK_HEAD: &str = "SELECT epoch, seq, chain, oldest FROM head WHERE one = 1";
/// A commit is on the disk before it is acknowledged.
pub(super) const GREETING: [&str; 5] = [
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
];

/// Makes the folder of the file, and asks for the file to be created when it is missing.
pub(super) fn prepare(url: &str) -> Result<String, DatabaseError> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let path = address.trim_start_matches("sqlite:").trim_start_matches("//");
    if path.is_empty() || path.contains(":memory:") {
        return Err(DatabaseError::Url(url.to_owned()));
    }
    if let Some(folder) = Path::new(path).parent() {
        std::fs::create_dir_all(folder).map_err(|source| DatabaseError::Folder { path: path.to_owned(), source })?;
    }
    Ok(if query.is_empty() { format!("sqlite://{path}?mode=rwc") } else { url.to_owned() })
}
