//! Certificates made on the spot: good ones, and each with one thing wrong.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Somebody who signs.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// What a certificate is for, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Its time was over in 2020.
    Expired,
    /// Its time begins in 3000.
    NotYet,
    /// It is for another name.
    OtherName,
    /// The name is in the subject alone, where names were long ago.
    CommonName,
    /// It is for the other side of a connection.
    OtherUse,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, with this flaw.
    pub fn sign(&self, name: &str, is_server: bool, flaw: Flaw) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, is_server, flaw).signed_by(&key, &self.issuer).unwrap().der().clone();
        Pair { certificate, key: key.serialize_der() }
    }

    /// The certificate of the authority as a file.
    pub fn file(&self, folder: &Path, name: &str) -> PathBuf {
        write(folder, name, "CERTIFICATE", &self.certificate)
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }
}

impl Pair {
    /// Signed by itself.
    pub fn self_signed(name: &str, is_server: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, is_server, Flaw::None).self_signed(&key).unwrap().der().clone();
        Self { certificate, key: key.serialize_der() }
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// The two as files.
    pub fn files(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = write(folder, &format!("{name}.pem"), "CERTIFICATE", &self.certificate);
        (certificate, write(folder, &format!("{name}.key"), "PRIVATE KEY", &self.key))
    }
}

fn params(name: &str, is_server: bool, flaw: Flaw) -> CertificateParams {
    let names = match flaw {
        Flaw::OtherName => vec!["other.test".to_owned()],
        Flaw::CommonName => vec![],
        _ => vec![name.to_owned()],
    };
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let is_for_servers = is_server != (flaw == Flaw::OtherUse);
    params.extended_key_usages = vec![match is_for_servers {
        true => ExtendedKeyUsagePurpose::ServerAuth,
        false => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    match flaw {
        Flaw::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Flaw::NotYet => params.not_before = date_time_ymd(3000, 1, 1),
        _ => {}
    }
    params
}

fn write(folder: &Path, name: &str, label: &str, der: &[u8]) -> PathBuf {
    let path = folder.join(name);
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    std::fs::write(&path, format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))).unwrap();
    path
}
