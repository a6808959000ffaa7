//! `portcullis`: parse arguments, run the command, exit.

use std::process::ExitCode;

/// A sidecar allocates and frees small pieces all day: an allocator made for that saves several per cent of the processor time
/// of a request (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::run()
}
