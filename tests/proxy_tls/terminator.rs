//! A server that speaks TLS and hands what it deciphers, byte for byte, to another.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Pair};

pub struct Terminator {
    pub address: SocketAddr,
    begun: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
}

impl Terminator {
    /// In front of the server at `to`; `clients` must have signed the certificates of those who connect.
    pub fn start(pair: &Pair, clients: Option<&Authority>, to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, finished) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let acceptor = TlsAcceptor::from(Arc::new(config(pair, clients)));
        let (starts, ends) = (Arc::clone(&begun), Arc::clone(&finished));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    starts.fetch_add(1, Ordering::SeqCst);
                    let (acceptor, ends) = (acceptor.clone(), Arc::clone(&ends));
                    connections.spawn(async move {
                        let accepted = acceptor.accept(stream).await;
                        ends.fetch_add(1, Ordering::SeqCst);
                        let Ok(mut stream) = accepted else { return };
                        let mut to = TcpStream::connect(to).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
                    });
                }
            });
        });
        Self { address, begun, finished }
    }

    /// How many connections there were, each with its handshake done or given up.
    pub fn connections(&self) -> usize {
        self.finished.load(Ordering::SeqCst).min(self.begun.load(Ordering::SeqCst))
    }
}

fn config(pair: &Pair, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.certificate()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            )
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(vec![pair.certificate.clone()], pair.key()).unwrap()
}
