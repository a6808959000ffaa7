//! Files that are looked at again, and files that not everybody may read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The most bytes that a secret in a file may have.
pub const MOST_SECRET_BYTES: u64 = 64 * 1024;

/// What the file system says of a file, seen through symbolic links; after a change it says something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Files that were read, and what the file system said of each before; `None` = it was not there, or no regular file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted(Vec<(PathBuf, Option<Stamp>)>);

/// Why a secret cannot be had from a file, as the end of a sentence that begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there, or not ours to read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Others may read it, or change it.
    #[error("has mode {0:04o}, expected 0600, or 0640 where a group reads it")]
    Mode(u32),
    /// It is no secret.
    #[error("has more than {MOST_SECRET_BYTES} bytes")]
    Size,
    /// It is no text.
    #[error("is not UTF-8 text")]
    NotText,
}

impl Stamp {
    /// The stamp in `metadata`. Only regular files have one: opening a pipe would wait for a writer.
    ///
    /// # Errors
    /// [`io::Error`] for whatever is no regular file.
    pub fn of(metadata: &Metadata) -> io::Result<Self> {
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Noted {
    /// Notes `path`, which is read next. What was noted of it first stays.
    pub fn note(&mut self, path: &Path) {
        if !self.0.iter().any(|(known, _)| known == path) {
            self.0.push((path.to_owned(), look(path)));
        }
    }

    /// The same files as they are now.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(self.0.iter().map(|(path, _)| (path.clone(), look(path))).collect())
    }
}

fn look(path: &Path) -> Option<Stamp> {
    Stamp::of(&fs::metadata(path).ok()?).ok()
}

/// Whether only its owner may write a file, and nobody but a group read it besides; the mode otherwise.
///
/// # Errors
/// The permission bits.
pub fn is_private(metadata: &Metadata) -> Result<(), u32> {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o037 == 0 { Ok(()) } else { Err(mode) }
}

/// The secret in the file at `path`, without a line end after it.
///
/// # Errors
/// [`SecretError`], also when others may read it.
pub fn secret(path: &Path) -> Result<String, SecretError> {
    Stamp::of(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    is_private(&file.metadata()?).map_err(SecretError::Mode)?;
    let mut bytes = Vec::new();
    file.take(MOST_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).map_or(true, |found| found > MOST_SECRET_BYTES) {
        return Err(SecretError::Size);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| SecretError::NotText)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn said(content: &[u8], mode: u32) -> Result<String, String> {
        let (_folder, path) = file(content, mode);
        secret(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn one_line_end_after_a_secret_is_no_part_of_it() {
        for (content, expected) in
            [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a\nb\n", " a\nb"), ("", "")]
        {
            assert_eq!(said(content.as_bytes(), 0o600).as_deref(), Ok(expected), "{content:?}");
        }
    }

    #[test]
    fn what_others_may_read_or_is_no_secret_is_refused() {
        for mode in [0o400, 0o440, 0o600, 0o640, 0o700] {
            assert!(said(b"a", mode).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o620, 0o660, 0o601, 0o610, 0o777] {
            let message = format!("has mode {mode:04o}, expected 0600, or 0640 where a group reads it");
            assert_eq!(said(b"a", mode), Err(message));
        }
        assert_eq!(said(&[b'a'; 65_536], 0o600).map(|text| text.len()), Ok(65_536));
        assert_eq!(said(&[b'a'; 65_537], 0o600), Err("has more than 65536 bytes".to_owned()));
        assert_eq!(said(&[0xff], 0o600), Err("is not UTF-8 text".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        assert!(secret(folder.path()).unwrap_err().to_string().contains("not a regular file"));
        assert!(secret(&folder.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn a_change_behind_a_symbolic_link_is_seen() {
        let (folder, path) = file(b"a", 0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut noted = Noted::default();
        noted.note(&link);
        noted.note(&folder.path().join("none"));
        assert_eq!((noted.now(), noted.0.len()), (noted.clone(), 2));
        fs::write(&path, "ab").unwrap();
        assert_ne!(noted.now(), noted);
        let noted = noted.now();
        fs::write(folder.path().join("none"), "").unwrap();
        assert_ne!(noted.now(), noted);
    }
}
