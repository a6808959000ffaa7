//! A client that speaks TLS, and trusts one authority.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certificates::{Authority, Pair};

/// Asks for `path` and shows `pair`: what was answered, from the status line on, or why there was no answer.
pub fn ask(
    address: SocketAddr,
    trusts: &Authority,
    pair: Option<&Pair>,
    is_old: bool,
    path: &str,
) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusts.certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let version = if is_old { &TLS12 } else { &TLS13 };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match pair {
        Some(pair) => builder.with_client_auth_cert(vec![pair.certificate.clone()], pair.key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    match (read, answer.is_empty()) {
        (Err(error), true) => Err(error.to_string()),
        (Ok(_), true) => Err("closed".to_owned()),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}
