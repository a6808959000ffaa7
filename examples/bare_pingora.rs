//! A bare Pingora pass-through on the system's allocator: what the framework itself costs. `benches/proxy_overhead`
//! measures Portcullis against it.
//!
//! `cargo run --release --example bare_pingora -- 127.0.0.1:8080 127.0.0.1:3000`

#[path = "bare_pingora/pass_through.rs"]
mod pass_through;

fn main() -> anyhow::Result<()> {
    pass_through::run()
}
