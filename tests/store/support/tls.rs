//! Certificates of the tests' own authority, and a client that shows and checks them. The files in `tls/` are good from 2020 to 2120.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::KEY;

/// Why there was no answer.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A file of the tests' own authority.
pub fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/support/tls").join(name)
}

/// The lines of a store's configuration that make it listen over TLS.
pub fn section(asks_for_certificates: bool) -> String {
    let clients = match asks_for_certificates {
        true => format!(", client_ca: {}", file("ca.pem").display()),
        false => String::new(),
    };
    format!("tls: {{certificate: {}, key: {}{clients}}}\n", file("server.pem").display(), file("server.key").display())
}

/// How a client connects.
#[derive(Debug, Clone, Copy)]
pub struct Connecting<'a> {
    /// What it offers (ALPN).
    pub offers: &'a [&'a str],
    /// Whether it trusts the authority that the server's certificate is from.
    pub trusts: bool,
    /// Whether it shows a certificate.
    pub shows: bool,
}

/// Sends one request with the key of tests over a connection of its own: what was agreed upon (ALPN), the status, the body.
///
/// # Errors
/// No connection, or no answer.
pub async fn ask(
    address: SocketAddr,
    connecting: Connecting<'_>,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<(Option<String>, u16, Value), Failed> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    if connecting.trusts {
        roots.add(CertificateDer::from_pem_file(file("ca.pem"))?)?;
    }
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots);
    let mut config = match connecting.shows {
        true => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(file("client.pem"))?],
            PrivateKeyDer::from_pem_file(file("client.key"))?,
        )?,
        false => config.with_no_client_auth(),
    };
    config.alpn_protocols = connecting.offers.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1")?, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let http2 = agreed.as_deref() == Some("h2");
    let request = hyper::Request::builder().method(method).header("authorization", format!("Bearer {KEY}"));
    let request = match http2 {
        true => request.uri(format!("https://{address}{path}")),
        false => request.uri(path).header("host", address.to_string()),
    };
    let body = Full::new(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default()));
    let request = request.header("content-type", "application/json").body(body)?;
    let stream = TokioIo::new(stream);
    let response = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((agreed, status, serde_json::from_slice(&bytes).unwrap_or_default()))
}
