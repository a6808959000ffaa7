//! A certificate around a signing key, for readers of key sets that look at `x5c` (RFC 7517 §4.7). It is signed by the key itself and
//! says nothing but which key it is; the same key always has the same certificate.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// `sha256WithRSAEncryption`, without parameters other than NULL (RFC 4055 §5).
const SHA256_WITH_RSA: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];
/// `rsaEncryption` (RFC 3279 §2.3.1).
const RSA_ENCRYPTION: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// From 2020-01-01 until further notice (RFC 5280 §4.1.2.5).
const VALIDITY: &[u8] = b"\x30\x20\x17\x0d200101000000Z\x18\x0f99991231235959Z";
/// `CN=portcullis`
const NAME: &[u8] = b"\x30\x15\x31\x13\x30\x11\x06\x03\x55\x04\x03\x0c\x0aportcullis";
/// X.509 version 3.
const VERSION: [u8; 5] = [0xa0, 0x03, 0x02, 0x01, 0x02];

/// The certificate of an RSA key, in DER; `None` for keys of other kinds.
pub(super) fn certificate(jwk: &Jwk, key: &EncodingKey) -> Option<Vec<u8>> {
    let AlgorithmParameters::RSA(public) = &jwk.algorithm else { return None };
    let number = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().map(|bytes| unsigned(&bytes));
    let public = element(SEQUENCE, &[number(&public.n)?, number(&public.e)?].concat());
    let public = element(SEQUENCE, &[RSA_ENCRYPTION.to_vec(), bits(&public)].concat());
    let serial: Vec<u8> =
        jwk.common.key_id.as_deref().and_then(|id| URL_SAFE_NO_PAD.decode(id).ok())?.into_iter().take(16).collect();
    let content = [&VERSION, unsigned(&serial).as_slice(), &SHA256_WITH_RSA, NAME, VALIDITY, NAME, &public].concat();
    let content = element(SEQUENCE, &content);
    let signature = jsonwebtoken::crypto::sign(&content, key, Algorithm::RS256).ok()?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    Some(element(SEQUENCE, &[content, SHA256_WITH_RSA.to_vec(), bits(&signature)].concat()))
}

/// A DER element: tag, length, content (X.690 §8.1).
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut element = vec![tag];
    match significant.as_slice() {
        [] => element.push(0),
        [short] if *short < 0x80 => element.push(*short),
        long => {
            element.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            element.extend_from_slice(long);
        }
    }
    element.extend_from_slice(content);
    element
}

fn bits(content: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], content].concat())
}

/// A number that is not negative: without leading zeros, but with one where the first bit would be taken for a sign.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if digits.first().is_none_or(|first| *first >= 0x80) {
        digits.insert(0, 0);
    }
    element(INTEGER, &digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Issuer;

    #[test]
    fn the_certificate_of_a_key_is_well_formed_and_always_the_same() {
        let issuer = Issuer::ephemeral("https://issuer.test", Algorithm::RS256).unwrap();
        let set: serde_json::Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        let text = set["keys"][0]["x5c"][0].as_str().unwrap();
        let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let der = rustls::pki_types::CertificateDer::from(der);
        rustls::server::ParsedCertificate::try_from(&der).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der).unwrap();
        assert!(set["keys"][0]["x5t#S256"].as_str().is_some_and(|text| text.len() == 43), "{set}");
    }

    #[test]
    fn lengths_and_numbers_are_distinguished_encodings() {
        assert_eq!(element(SEQUENCE, &[0; 3]).get(..2), Some([0x30, 3].as_slice()));
        assert_eq!(element(SEQUENCE, &[0; 128]).get(..3), Some([0x30, 0x81, 128].as_slice()));
        assert_eq!(element(SEQUENCE, &[0; 300]).get(..4), Some([0x30, 0x82, 1, 44].as_slice()));
        assert_eq!(unsigned(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0x7f]), [2, 1, 0x7f]);
    }
}
