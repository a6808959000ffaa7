//! One public key, taken apart once and kept ready.
//!
//! `jsonwebtoken` builds its verifiers from a [`DecodingKey`] and parses that again for every signature; ours
//! implements the same trait, [`JwtVerifier`], over a key that `aws-lc` has already parsed. A key has exactly one
//! algorithm, and says which.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// A public key for one algorithm.
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// Prepares `key` for signatures of `algorithm`.
    ///
    /// # Errors
    /// What is wrong with the key, as the end of a sentence that begins with it.
    pub(super) fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, &'static str> {
        if key.family() != algorithm.family() {
            return Err("is of another type than its algorithm");
        }
        let curve_point = |scheme: &'static dyn VerificationAlgorithm| {
            let bytes = key.try_get_as_bytes().map_err(|_| "has no public point")?;
            ParsedPublicKey::new(scheme, bytes).map_err(|_| "is not a point of its curve")
        };
        let key = match algorithm {
            Algorithm::RS256 => rsa(key, &RSA_PKCS1_2048_8192_SHA256)?,
            Algorithm::RS384 => rsa(key, &RSA_PKCS1_2048_8192_SHA384)?,
            Algorithm::RS512 => rsa(key, &RSA_PKCS1_2048_8192_SHA512)?,
            Algorithm::PS256 => rsa(key, &RSA_PSS_2048_8192_SHA256)?,
            Algorithm::ES256 => curve_point(&ECDSA_P256_SHA256_FIXED)?,
            Algorithm::ES384 => curve_point(&ECDSA_P384_SHA384_FIXED)?,
            Algorithm::EdDSA => curve_point(&ED25519)?,
            _ => return Err("has an algorithm that is not supported"),
        };
        Ok(Self { algorithm, key })
    }
}

impl Verifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.key.verify_sig(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.key.as_ref() == other.key.as_ref()
    }
}

/// RFC 7518 §3.3 asks for 2048 bits or more; above 8192 one signature would cost too much. An even modulus or exponent,
/// an exponent of one, or one of more than 33 bits is no honest key.
fn rsa(key: &DecodingKey, scheme: &'static RsaParameters) -> Result<ParsedPublicKey, &'static str> {
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
        return Err("has no modulus and exponent");
    };
    let (modulus, exponent) = (without_leading_zeros(n), without_leading_zeros(e));
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    match bits(modulus) {
        0..2048 => return Err("has fewer than 2048 bits"),
        2048..=8192 if odd(modulus) => {}
        2048..=8192 => return Err("has an even modulus"),
        _ => return Err("has more than 8192 bits"),
    }
    if !odd(exponent) || exponent == [1] || bits(exponent) > 33 {
        return Err("has an exponent that is even, one, or longer than 33 bits");
    }
    RsaPublicKeyComponents { n: modulus, e: exponent }
        .to_parsed_public_key(scheme)
        .map_err(|_| "is not an RSA public key")
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
