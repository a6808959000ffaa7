//! The checksum that only whoever has the key can make.

use std::io::{self, Read, Write};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, Tag, sign};

/// How long a seal is.
pub(super) const SEAL_BYTES: u64 = 32;
/// What the key is for: the sync key itself is shown to the store.
const PURPOSE: &[u8] = b"portcullis facts on disk";

/// What seals are made with.
pub(super) struct SealKey(Key);

/// Reads or writes, and keeps the seal of what went through.
pub(super) struct Sealed<T> {
    inner: T,
    context: Context,
}

/// A seal.
pub(super) struct Seal(Tag);

impl SealKey {
    /// The key that is made from this secret, for facts of the store at this URL.
    pub(super) fn of(secret: &str, store: &str) -> Self {
        let purpose = [PURPOSE, store.as_bytes()].join(&b'\n');
        Self(Key::new(HMAC_SHA256, sign(&Key::new(HMAC_SHA256, secret.as_bytes()), &purpose).as_ref()))
    }

    pub(super) fn sealed<T>(&self, inner: T) -> Sealed<T> {
        Sealed { inner, context: Context::with_key(&self.0) }
    }
}

impl<T> Sealed<T> {
    /// The seal of what went through until now.
    pub(super) fn seal(&self) -> Seal {
        Seal(self.context.clone().sign())
    }

    pub(super) fn into_inner(self) -> T {
        self.inner
    }
}

impl Seal {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// Whether these bytes are this seal; how long that takes to find out tells nothing.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        verify_slices_are_equal(self.bytes(), bytes).is_ok()
    }
}

impl<T: Read> Read for Sealed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.context.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

impl<T: Write> Write for Sealed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.context.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
