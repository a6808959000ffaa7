//! The one call to mimalloc for which the crate of that name has no function: a crate of its own, because the code of Portcullis has no
//! `unsafe` in it.

/// Gives back to the system what the calling thread has freed, or others have freed of it, and what no thread has. Takes milliseconds.
/// Where mimalloc is not the allocator there is nothing to give back.
pub fn collect() {
    // SAFETY: it takes no pointers, may be called by any thread at any time, and changes nothing but what is free.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
