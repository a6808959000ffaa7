//! Stands in for `libz-ng-sys`, so that the whole program builds with cargo and a C compiler alone.
//!
//! Pingora asks `flate2` for its `zlib-ng` backend, and the real `libz-ng-sys` compiles zlib-ng with cmake, which a fresh
//! machine lacks. Both packages offer the same zlib functions under the same names, so `flate2` cannot tell them apart.
//! Portcullis never compresses anything: no speed is lost.

pub use libz_sys::*;
