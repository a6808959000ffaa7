//! Certificates and keys: read and checked when the configuration is, because Pingora panics on a bad file when it starts.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::listen::ListenerTls;
use crate::yaml::{Placed, Problem};

/// A certificate with its key, which another can take the place of while it is shown.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// Shows what `other` shows from now on. Connections that are open stay as they are.
    pub fn follow(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// TLS towards clients; client certificates are asked for when `client_ca` is given.
///
/// # Errors
/// A problem at the place that names the file.
pub fn server(
    certificate: &Placed<PathBuf>,
    key: &Placed<PathBuf>,
    client_ca: Option<&Placed<PathBuf>>,
) -> Result<ListenerTls, Problem> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pair = CertifiedKey::from_der(certificates(certificate)?, private_key(key)?, &provider);
    let pair = pair.map_err(|error| wrong(key, error))?;
    let clients = match client_ca {
        None => None,
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(file)? {
                roots.add(authority).map_err(|error| wrong(file, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            Some(verifier.map_err(|error| wrong(file, error))?)
        }
    };
    Ok(ListenerTls { certificate: Arc::new(Certificate(ArcSwap::from_pointee(pair))), clients })
}

/// The same for a listener that speaks HTTP/1.1 and is not Pingora's.
///
/// # Errors
/// A problem at the place that names the file.
pub fn server_config(
    certificate: &Placed<PathBuf>,
    key: &Placed<PathBuf>,
    client_ca: Option<&Placed<PathBuf>>,
) -> Result<rustls::ServerConfig, Problem> {
    let ListenerTls { certificate: chain, clients } = server(certificate, key, client_ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(certificate, error))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(chain);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Authorities that an upstream's certificate must come from.
///
/// # Errors
/// A problem at the place that names the file.
pub fn authorities(file: &Placed<PathBuf>) -> Result<Arc<CaType>, Problem> {
    Ok(certificates(file)?.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect())
}

/// What we show an upstream that asks who we are.
///
/// # Errors
/// A problem at the place that names the file.
pub fn client(certificate: &Placed<PathBuf>, key: &Placed<PathBuf>) -> Result<Arc<CertKey>, Problem> {
    let chain = certificates(certificate)?.iter().map(|der| der.to_vec()).collect();
    Ok(Arc::new(CertKey::new(chain, private_key(key)?.secret_der().to_vec())))
}

/// At least one certificate, each with a readable subject: Pingora parses them again and panics on what is none.
fn certificates(file: &Placed<PathBuf>) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read = CertificateDer::pem_file_iter(file.as_path()).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| wrong(file, error))?;
    if certificates.is_empty() {
        return Err(wrong(file, "there is no certificate in it"));
    }
    for certificate in &certificates {
        rustls::server::ParsedCertificate::try_from(certificate).map_err(|error| wrong(file, error))?;
    }
    Ok(certificates)
}

fn private_key(file: &Placed<PathBuf>) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_file(file.as_path()).map_err(|error| wrong(file, error))
}

fn wrong(file: &Placed<PathBuf>, error: impl Display) -> Problem {
    file.problem(format!("`{}`: {error}", file.display()))
}
