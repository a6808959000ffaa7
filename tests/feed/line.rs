//! The line between a sidecar and its store, with its faults.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How a line behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Open,
    /// Bytes pass late.
    Slow(Duration),
    /// Connections stay and nothing passes.
    Silent,
    /// Connections are cut, and new ones refused.
    Cut,
    /// Every connection is cut after so many bytes from the store.
    CutAfter(usize),
    /// One byte of every chunk from the store is another one.
    Corrupt,
}

/// A line. Dropping it cuts it.
pub struct Line {
    pub address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    store: Arc<watch::Sender<SocketAddr>>,
    _tasks: JoinSet<()>,
}

impl Line {
    /// A line to a store at this address.
    pub async fn to(store: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let store = Arc::new(watch::Sender::new(store));
        let (modes, stores) = (Arc::clone(&mode), Arc::clone(&store));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if *modes.borrow() == Mode::Cut {
                    continue;
                }
                let store = *stores.borrow();
                let Ok(far) = TcpStream::connect(store).await else { continue };
                let modes = modes.subscribe();
                connections.spawn(carry(near, far, modes));
            }
        });
        Self { address, mode, store, _tasks: tasks }
    }

    /// Leads new connections to another store.
    pub fn lead_to(&self, store: SocketAddr) {
        self.store.send_replace(store);
    }

    /// Cuts every connection.
    pub async fn break_off(&self) {
        self.set(Mode::Cut);
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.set(Mode::Open);
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn carry(near: TcpStream, far: TcpStream, mut modes: watch::Receiver<Mode>) {
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let (up, down) = (modes.clone(), modes.clone());
    tokio::select! {
        () = pump(near_read, far_write, up, false) => {}
        () = pump(far_read, near_write, down, true) => {}
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    from_store: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let _ = modes.wait_for(|mode| *mode != Mode::Silent).await;
        let mode = *modes.borrow();
        let mut bytes = buffer[..length].to_vec();
        match mode {
            Mode::Slow(delay) => tokio::time::sleep(delay).await,
            Mode::Corrupt if from_store => bytes[length / 2] ^= 0x20,
            Mode::CutAfter(limit) if from_store => {
                bytes.truncate(limit.saturating_sub(passed));
                if bytes.is_empty() {
                    return;
                }
            }
            Mode::Open | Mode::Silent | Mode::Cut | Mode::Corrupt | Mode::CutAfter(_) => {}
        }
        passed += bytes.len();
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
