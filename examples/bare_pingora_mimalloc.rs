//! A bare Pingora pass-through on the allocator that Portcullis uses. `benches/proxy_overhead` measures Portcullis
//! against it.
//!
//! `cargo run --release --example bare_pingora_mimalloc -- 127.0.0.1:8080 127.0.0.1:3000`

#[path = "bare_pingora/pass_through.rs"]
mod pass_through;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    pass_through::run()
}
