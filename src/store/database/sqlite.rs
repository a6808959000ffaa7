//! What only SQLite needs to be told.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

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

/// The elements of the JSON array `$1`.
pub(super) const ARRAY: &str = "json_each($1)";

/// What stands at a place of an element that is an array; a number is one, a text is one.
pub(super) fn element(place: usize) -> String {
    format!("json_extract(value, '$[{place}]')")
}

/// The file of the database, which must stay where it is: SQLite goes on writing to one that was removed, and nobody would ever find it.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: PathBuf,
    /// Device and number of what was opened.
    identity: (u64, u64),
}

impl File {
    /// # Errors
    /// It was removed, or another has taken its place.
    pub(super) fn require_in_place(&self) -> io::Result<()> {
        let there = fs::metadata(&self.path)?;
        if (there.dev(), there.ino()) == self.identity {
            return Ok(());
        }
        Err(io::Error::other(format!("`{}` is not the file that was opened: restart the store", self.path.display())))
    }
}

/// Makes the folder and the file where they are missing; nothing that is opened later is made anew when it was removed. The address to open.
pub(super) fn prepare(url: &str) -> Result<(String, File), DatabaseError> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let path = address.trim_start_matches("sqlite:").trim_start_matches("//");
    if path.is_empty() || path.contains(":memory:") {
        return Err(DatabaseError::Url(url.to_owned()));
    }
    let path = PathBuf::from(percent_decode_str(path).decode_utf8_lossy().into_owned());
    let failed = |source| DatabaseError::File { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // An empty file is an empty database. Whoever may only read it learns that from SQLite.
    let made = fs::OpenOptions::new().append(true).create(true).open(&path).and_then(|file| file.metadata());
    let metadata = made.or_else(|_| fs::metadata(&path)).map_err(failed)?;
    let identity = (metadata.dev(), metadata.ino());
    let query = if query.is_empty() { "mode=rw" } else { query };
    Ok((format!("{address}?{query}"), File { path, identity }))
}
