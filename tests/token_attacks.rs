//! Tokens that must not get in, one row per trick, each with the reason (bypass cases group D, E1, E4, E6; fault rows
//! 42 to 44, 75).
//!
//! Every row is tried against a cold verifier, and twice against a cache that holds the good token it was made from.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that fails should stop where it fails"
)]

mod token_support;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis::domain::TokenFault::{
    self, Expired, Lifetime, Malformed, NotYetValid, Signature, UnknownKey, WrongKind,
};
use portcullis::domain::UnixSeconds;
use portcullis::token::{Cached, IssuerSettings, JwtVerifier, KeySource, MAX_TOKEN_BYTES, Meters, TokenVerifier};
use proptest::prelude::*;
use serde_json::{Value, json};
use token_support::*;

const ALL: [Algorithm; 5] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

#[test]
fn a_good_token_of_every_algorithm_is_accepted() {
    let verifier = verifier(|_| {});
    for algorithm in ALL {
        let principal = verifier.verify(&Signer::published(algorithm).token(&claims()), NOW).unwrap();
        assert_eq!(&*principal.issuer, "authkit");
        assert_eq!(principal.user.as_str(), "user_ada");
        assert_eq!(principal.session.as_ref().unwrap().as_str(), "session_1");
        assert_eq!(principal.organization.as_ref().unwrap().as_str(), "org_acme");
        assert_eq!(principal.membership.as_ref().unwrap().as_str(), "om_ada");
        assert_eq!(principal.role.as_ref().unwrap().as_str(), "admin");
        assert_eq!(principal.roles.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["admin", "member"]);
        let permissions: Vec<&str> = principal.permissions.iter().map(AsRef::as_ref).collect();
        assert_eq!(permissions, ["app:create", "project:edit", "project:view"], "sorted, each once");
        assert_eq!(principal.issued_at, Some(NOW.plus(-50)));
        assert_eq!(principal.expires_at, NOW.plus(250));
        assert_eq!(principal.ends(), NOW.plus(280), "leeway included");
        assert!(!principal.impersonated);
        assert!(principal.claims.is_empty(), "nothing is kept that nobody asked for");
    }
}

/// A DER element (X.690 §8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte > 0).unwrap_or(length.len() - 1)..];
    let mut element = vec![tag];
    if content.len() >= 0x80 {
        element.push(0x80 | u8::try_from(significant.len()).unwrap());
    }
    [&element[..], significant, content].concat()
}

/// A public key in every form that a library has taken for a secret.
fn public_forms(signer: &Signer) -> Vec<(Vec<u8>, String)> {
    let jwk = &signer.jwk;
    let raw = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let sequence = |parts: &[&[u8]]| der(0x30, &parts.concat());
    let bits = |content: &[u8]| der(0x03, &[&[0], content].concat());
    let mut forms = Vec::new();
    let (identifier, key, pkcs1) = match signer.algorithm {
        Algorithm::RS256 | Algorithm::PS256 => {
            let number = |bytes: &[u8]| der(0x02, &[&[0], bytes].concat());
            let key = sequence(&[&number(&raw("n")), &der(0x02, &raw("e"))]);
            forms.push((raw("n"), "the modulus".to_owned()));
            forms.push((jwk["n"].as_str().unwrap().as_bytes().to_vec(), "the modulus as text".to_owned()));
            let oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
            (der(0x30, oid), key.clone(), Some(key))
        }
        Algorithm::ES256 | Algorithm::ES384 => {
            let curve: &[u8] = match signer.algorithm {
                Algorithm::ES256 => b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
                _ => b"\x06\x05\x2b\x81\x04\x00\x22",
            };
            forms.push((raw("x"), "one coordinate".to_owned()));
            forms.push(([raw("x"), raw("y")].concat(), "both coordinates".to_owned()));
            let point = [vec![4], raw("x"), raw("y")].concat();
            forms.push((point.clone(), "the point".to_owned()));
            (sequence(&[b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", curve]), point, None)
        }
        _ => {
            forms.push((raw("x"), "the point".to_owned()));
            (der(0x30, b"\x06\x03\x2b\x65\x70"), raw("x"), None)
        }
    };
    let spki = sequence(&[&identifier, &bits(&key)]);
    let ders = [Some((spki, "PUBLIC KEY")), pkcs1.map(|der| (der, "RSA PUBLIC KEY"))];
    for (der, label) in ders.into_iter().flatten() {
        let text = base64::engine::general_purpose::STANDARD.encode(&der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", lines.join("\n"));
        forms.push((format!("{pem}\n").into_bytes(), format!("{label} in PEM")));
        forms.push((format!("{pem}\n\n").into_bytes(), format!("{label} in PEM, and an empty line")));
        forms.push((pem.replace('\n', "\r\n").into_bytes(), format!("{label} in PEM with carriage returns")));
        forms.push((pem.replace('\n', "").into_bytes(), format!("{label} in PEM on one line")));
        forms.push((pem.into_bytes(), format!("{label} in PEM without its last line end")));
        forms.push((text.into_bytes(), format!("{label} in base64")));
        forms.push((der, format!("{label} in DER")));
    }
    let jwk = Value::from(jwk.clone());
    let set = json!({"keys": [jwk.clone()]});
    for (value, what) in [(jwk, "the JWK"), (set, "the key set")] {
        forms.push((value.to_string().into_bytes(), what.to_owned()));
        forms.push((serde_json::to_vec_pretty(&value).unwrap(), format!("{what}, for people")));
    }
    forms.push((signer.kid().as_bytes().to_vec(), "the key id".to_owned()));
    forms
}

#[test]
fn d1_a_public_key_is_no_shared_secret() {
    let mut rows = Vec::new();
    let published = document(ALL.map(|algorithm| &Signer::published(algorithm).jwk));
    for signer in ALL.map(Signer::published) {
        let mut secrets = public_forms(signer);
        secrets.push((signer.pem.clone(), "the private key in PEM".to_owned()));
        secrets.push((published.clone().into_bytes(), "the whole key set, as it is published".to_owned()));
        secrets.push((vec![], "the empty key".to_owned()));
        secrets.push((vec![0; 32], "zeros".to_owned()));
        for (secret, trick) in secrets {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT", "kid": signer.kid()});
                let signed = format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
                let key = EncodingKey::from_secret(&secret);
                let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
                let trick = format!("{trick} of {:?}", signer.algorithm);
                rows.push((format!("{signed}.{signature}"), TokenFault::Algorithm, trick));
                // The same under the name of the key's own algorithm.
                let signed = format!("{}.{}", encode(signer.header().to_string()), encode(claims().to_string()));
                let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
                rows.push((
                    format!("{signed}.{signature}"),
                    Signature,
                    format!("{algorithm:?} by the name of another"),
                ));
            }
        }
    }
    assert!(rows.len() > 400, "{}", rows.len());
    let rows: Vec<_> = rows.iter().map(|(token, fault, trick)| (token.clone(), *fault, trick.as_str())).collect();
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);
}

/// The forms above are those of the key: what is signed by it verifies by what they say, read by another library.
#[test]
fn d1_the_forms_are_those_of_the_key() {
    let signed = "header.payload";
    for signer in ALL.map(Signer::published) {
        let signature = signer.signature(signed, signer.algorithm);
        let forms = public_forms(signer);
        let (der, _) = forms.iter().find(|(_, what)| what == "PUBLIC KEY in DER").unwrap();
        let (pem, _) = forms.iter().find(|(_, what)| what == "PUBLIC KEY in PEM").unwrap();
        let key = match signer.algorithm {
            Algorithm::EdDSA => jsonwebtoken::DecodingKey::from_ed_pem(pem),
            Algorithm::ES256 | Algorithm::ES384 => jsonwebtoken::DecodingKey::from_ec_pem(pem),
            _ => jsonwebtoken::DecodingKey::from_rsa_pem(pem),
        };
        let is_good = jsonwebtoken::crypto::verify(&signature, signed.as_bytes(), &key.unwrap(), signer.algorithm);
        assert!(is_good.unwrap(), "{:?}", signer.algorithm);
        assert!(der.starts_with(&[0x30]));
    }
}

#[test]
fn d2_no_spelling_of_none_is_an_algorithm() {
    let good = rsa().token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let mut rows = Vec::new();
    for spelling in ["none", "None", "NONE", "nOnE", "none ", "", "rs256", "RS256 ", "HS256", "dir", "PS512"] {
        let header = encode(json!({"alg": spelling, "kid": rsa().kid()}).to_string());
        rows.push((format!("{header}.{payload}."), TokenFault::Algorithm, "without a signature"));
        rows.push((format!("{header}.{payload}.{signature}"), TokenFault::Algorithm, "with the old signature"));
    }
    rows.push((format!("{signed}."), Signature, "a good header, and no signature"));
    rows.push((signed.to_owned(), Malformed, "two parts"));
    all_refused(verifier(|_| {}), &good, &rows);
}

#[test]
fn d3_key_and_issuer_fix_the_algorithm() {
    let with_algorithm = |signer: &Signer, algorithm: Algorithm, by: Algorithm| {
        let header = json!({"alg": format!("{algorithm:?}"), "kid": signer.kid()});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims().to_string()));
        format!("{signed}.{}", signer.signature(&signed, by))
    };
    let elliptic = Signer::published(Algorithm::ES256);
    let rows = rows([
        (with_algorithm(rsa(), Algorithm::PS256, Algorithm::PS256), TokenFault::Algorithm, "PSS by the PKCS #1 key"),
        (with_algorithm(rsa(), Algorithm::RS512, Algorithm::RS512), TokenFault::Algorithm, "RS512 is not configured"),
        (with_algorithm(rsa(), Algorithm::ES256, Algorithm::RS256), TokenFault::Algorithm, "ES256 by an RSA key"),
        (with_algorithm(elliptic, Algorithm::EdDSA, Algorithm::ES256), TokenFault::Algorithm, "EdDSA by a P-256 key"),
        (with_algorithm(elliptic, Algorithm::ES384, Algorithm::ES256), TokenFault::Algorithm, "ES384 by a P-256 key"),
    ]);
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);

    let only_elliptic = verifier(|issuer| issuer.algorithms = vec![Algorithm::ES256]);
    assert_eq!(refused(&only_elliptic, &rsa().token(&claims())), TokenFault::Algorithm);
    only_elliptic.verify(&elliptic.token(&claims()), NOW).unwrap();
}

#[test]
fn d5_nothing_in_a_header_brings_along_a_key_or_causes_a_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let thief = Signer::new(Algorithm::ES256);
    let forged = |kid: &str, changes: Value| {
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": kid});
        header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        thief.sign(&header.to_string(), &claims().to_string())
    };
    let known = Signer::published(Algorithm::ES256).kid();
    let rows = rows([
        (forged("mine", json!({"jwk": thief.jwk})), UnknownKey, "an embedded key"),
        (forged(known, json!({"jwk": thief.jwk})), Signature, "an embedded key under a known id"),
        (forged("mine", json!({"jku": url})), UnknownKey, "a key set of its own"),
        (forged(known, json!({"jku": url})), Signature, "a key set of its own, known id"),
        (forged(known, json!({"x5u": url})), Signature, "a certificate of its own"),
        (forged(known, json!({"x5c": ["MIIB"]})), Signature, "an embedded certificate"),
        (forged(&url, json!({})), UnknownKey, "a URL as key id"),
        (forged("../../../../dev/null", json!({})), UnknownKey, "a path as key id"),
    ]);
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody called");
}

#[test]
fn d5_headers_that_change_the_meaning_are_refused() {
    let with = |header: &str| {
        let kid = rsa().kid();
        rsa().sign(&header.replace("KID", kid), &claims().to_string())
    };
    let rows = rows([
        (with(r#"{"alg":"RS256","kid":"KID","crit":["exp"]}"#), Malformed, "a critical header"),
        (with(r#"{"alg":"RS256","kid":null}"#), Malformed, "a key id that is null"),
        (with(r#"{"alg":"RS256","kid":"KID","crit":[]}"#), Malformed, "an empty list of critical headers"),
        (with(r#"{"alg":"RS256","kid":"KID","crit":null}"#), Malformed, "no critical headers, said aloud"),
        (with(r#"{"alg":"RS256","kid":"KID","b64":false}"#), Malformed, "an unencoded payload"),
        (with(r#"{"alg":"RS256","kid":"KID","zip":"DEF"}"#), Malformed, "a compressed payload"),
        (with(r#"{"alg":"RS256","alg":"none","kid":"KID"}"#), Malformed, "two algorithms"),
        (with(r#"{"alg":"RS256","kid":"x","\u006bid":"KID"}"#), Malformed, "two key ids, one escaped"),
        (with(r#"{"alg":["RS256"],"kid":"KID"}"#), Malformed, "a list of algorithms"),
        (with(r#"{"kid":"KID"}"#), Malformed, "no algorithm"),
        (with(r#"{"alg":"RS256","kid":7}"#), Malformed, "a number as key id"),
        (with(r#"{"alg":"RS256","kid":["KID"]}"#), Malformed, "a list as key id"),
        (with(r#"{"alg":"RS256","kid":"KID","typ":1}"#), Malformed, "a number as kind"),
        (with(r#"{"alg":"RS256","kid":"KID","typ":"id+jwt"}"#), WrongKind, "another kind"),
        (with(r#"{"alg":"RS256","kid":"KID","typ":"logout+jwt"}"#), WrongKind, "a logout token"),
        (with(r#"{"alg":"RS256","kid":"KID","typ":"dpop+jwt"}"#), WrongKind, "a proof of possession"),
        (with(r#"["RS256"]"#), Malformed, "a list as header"),
        (with(r#"{"alg":"RS256","kid":"KID"}x"#), Malformed, "trailing bytes"),
        (with("{\"alg\":\"RS256\",\"kid\":\"KID\",\"x\":\"\u{0}\"}"), Malformed, "a raw NUL"),
        (with(""), Malformed, "an empty header"),
    ]);
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);
    let accepted = verifier(|_| {});
    for kind in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        let header = json!({"alg": "RS256", "kid": rsa().kid(), "typ": kind, "b64": true});
        accepted.verify(&rsa().sign(&header.to_string(), &claims().to_string()), NOW).unwrap();
    }
}

#[test]
fn a_token_without_a_key_id_means_the_only_key_of_its_algorithm() {
    let anonymous = rsa().sign(r#"{"alg":"RS256"}"#, &claims().to_string());
    verifier(|_| {}).verify(&anonymous, NOW).unwrap();

    let (folder, second) = (Folder::new(), Signer::new(Algorithm::ES256));
    let two = document([&second.jwk, &Signer::published(Algorithm::ES256).jwk]);
    let path = folder.file("two.json", &two);
    let verifier = verifier(|issuer| issuer.keys = KeySource::File(path));
    let anonymous = second.sign(r#"{"alg":"ES256"}"#, &claims().to_string());
    assert_eq!(refused(&verifier, &anonymous), UnknownKey, "two keys of one algorithm");
    let anonymous = rsa().sign(r#"{"alg":"RS256"}"#, &claims().to_string());
    assert_eq!(refused(&verifier, &anonymous), UnknownKey, "no key of that algorithm");
}

#[test]
fn d8_a_known_signature_under_another_payload_or_header_is_refused_with_a_warm_cache() {
    for algorithm in ALL {
        let signer = Signer::published(algorithm);
        let good = signer.token(&claims());
        let parts: Vec<&str> = good.split('.').collect();
        let payload = encode(claims_with(json!({"sub": "user_eve"})).to_string());
        let header = encode(json!({"alg": format!("{algorithm:?}"), "kid": signer.kid(), "x": 1}).to_string());
        let other = signer.token(&claims_with(json!({"sub": "user_eve"})));
        let other_signature = other.rsplit_once('.').unwrap().1;
        let raw = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let rows = rows([
            (format!("{}.{payload}.{}", parts[0], parts[2]), Signature, "another payload"),
            (format!("{header}.{}.{}", parts[1], parts[2]), Signature, "another header"),
            (format!("{}.{}.{other_signature}", parts[0], parts[1]), Signature, "another signature"),
            (format!("{good}!"), Malformed, "one more character"),
            (format!("{good}="), Malformed, "padding"),
            (format!("{good} "), Malformed, "a trailing space"),
            (format!(" {good}"), Malformed, "a leading space"),
            (format!("{good}."), Malformed, "a fourth part"),
            (format!("{}.{}.{}", parts[0], parts[1], encode(&raw[..raw.len() - 1])), Signature, "a shorter signature"),
        ]);
        all_refused(verifier(|_| {}), &good, &rows);
    }
}

#[test]
fn base64_has_one_spelling() {
    // A 64-byte signature leaves four unused bits in its last character.
    let signer = Signer::published(Algorithm::EdDSA);
    let good = signer.token(&claims());
    let last = good.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let other = alphabet.chars().nth(alphabet.find(last).unwrap() ^ 1).unwrap();
    let mut rows = rows([
        (format!("{}{other}", &good[..good.len() - 1]), Malformed, "unused bits that are not zero"),
        (good.replacen('.', "\n.", 1), Malformed, "a line break"),
        (good.replacen('.', "==.", 1), Malformed, "padding of the header"),
        (good.replace(['-', '_'], "+"), Malformed, "the other alphabet"),
    ]);
    rows.retain(|(token, ..)| *token != good);
    all_refused(verifier(|_| {}), &good, &rows);
}

#[test]
fn row_42_size_and_depth_are_bounded() {
    let good = rsa().token(&claims());
    let with = |claim: &str| {
        let text = claims().to_string();
        rsa().sign(&rsa().header().to_string(), &format!("{},{claim}}}", text.strip_suffix('}').unwrap()))
    };
    let deep = |levels: usize| format!("\"x\":{}{}", "[".repeat(levels), "]".repeat(levels));
    let rows = rows([
        ("a".repeat(64 * 1024), Malformed, "64 KB"),
        ("a".repeat(1024 * 1024), Malformed, "1 MB"),
        (".".repeat(10_000), Malformed, "ten thousand dots"),
        (String::new(), Malformed, "nothing"),
        ("..".to_owned(), Malformed, "two dots"),
        (with(&deep(32)), Malformed, "33 levels"),
        (with(&deep(5_000)), Malformed, "five thousand levels"),
        (with("\"exp\":99999999999"), Malformed, "exp twice"),
        (with("\"\\u0065xp\":99999999999"), Malformed, "exp twice, once escaped"),
        (with("\"x\":{\"a\":1,\"a\":2}"), Malformed, "a repetition further down"),
        (with("\"x\":1e400"), Malformed, "a number that is none"),
        (with("\"x\":-1e999"), Malformed, "a negative one"),
        (with("\"x\":\"\\ud800\""), Malformed, "half a character"),
        (with("\"x\":NaN"), Malformed, "not a number"),
        (with("\"x\":1}{\"y\":1"), Malformed, "two documents"),
        (with(&format!("\"x\":\"{}\"", "x".repeat(MAX_TOKEN_BYTES))), Malformed, "a long claim"),
        (rsa().sign(&rsa().header().to_string(), "[]"), Malformed, "a list as payload"),
        (rsa().sign(&rsa().header().to_string(), "null"), Malformed, "null as payload"),
        (rsa().sign(&rsa().header().to_string(), ""), Malformed, "an empty payload"),
        (rsa().sign(&rsa().header().to_string(), &format!("\u{feff}{}", claims())), Malformed, "a byte order mark"),
    ]);
    all_refused(verifier(|_| {}), &good, &rows);
    verifier(|_| {}).verify(&with(&deep(31)), NOW).unwrap();
    verifier(|_| {}).verify(&with("\"x\":18446744073709551616"), NOW).unwrap();
}

#[test]
fn row_44_cleartext_that_is_not_utf8_is_refused() {
    let payload = [br#"{"sub":""#.as_slice(), b"\xff", br#""}"#].concat();
    let signed = format!("{}.{}", encode(rsa().header().to_string()), encode(payload));
    let token = format!("{signed}.{}", rsa().signature(&signed, Algorithm::RS256));
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &[(token, Malformed, "not UTF-8")]);
}

#[test]
fn row_75_signatures_have_one_form() {
    let signer = Signer::published(Algorithm::ES256);
    let good = signer.token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let with = |bytes: &[u8]| format!("{signed}.{}", encode(bytes));
    let integer = |number: &[u8]| {
        let mut bytes = if number[0] & 0x80 == 0 { vec![] } else { vec![0] };
        bytes.extend_from_slice(number);
        [vec![0x02, bytes.len() as u8], bytes].concat()
    };
    let der = [integer(r), integer(s)].concat();
    let der = [vec![0x30, der.len() as u8], der].concat();
    let order = ORDER_OF_P256.as_slice();
    let rows = rows([
        (with(&[0; 64]), Signature, "r = s = 0"),
        (with(&[r, &[0; 32]].concat()), Signature, "s = 0"),
        (with(&[&[0; 32], s].concat()), Signature, "r = 0"),
        (with(&[order, order].concat()), Signature, "r = s = n"),
        (with(&[r, order].concat()), Signature, "s = n"),
        (with(&[0xff; 64]), Signature, "r and s out of range"),
        (with(&der), Signature, "DER"),
        (with(&raw[..63]), Signature, "one byte less"),
        (with(&[&raw[..], &[0]].concat()), Signature, "one byte more"),
        (with(&[&[0; 16], r, &[0; 16], s].concat()), Signature, "the length of P-384"),
        (with(&[s, r].concat()), Signature, "r and s swapped"),
        (with(&[]), Signature, "nothing"),
    ]);
    all_refused(verifier(|_| {}), &good, &rows);
}

/// RFC 7518 §3.4 does not ask for the smaller `s`, and half of what honest signers write has the larger one. So both
/// are accepted; they prove the same, and the cache tells them apart.
#[test]
fn row_75_a_signature_with_the_larger_s_proves_the_same() {
    let signer = Signer::published(Algorithm::ES256);
    let good = signer.token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let (mut other, mut borrow) = ([0_u8; 32], 0_i16);
    for at in (0..32).rev() {
        let difference = i16::from(ORDER_OF_P256[at]) - i16::from(s[at]) - borrow;
        (other[at], borrow) = (difference.rem_euclid(256) as u8, i16::from(difference < 0));
    }
    let mirrored = format!("{signed}.{}", encode([r, &other].concat()));
    let verifier = verifier(|_| {});
    assert_eq!(*verifier.verify(&mirrored, NOW).unwrap(), *verifier.verify(&good, NOW).unwrap());
}

const ORDER_OF_P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[test]
fn expired_token_is_refused_even_when_cached() {
    let cached = Cached::new(verifier(|_| {}), 1 << 20, Meters::unregistered());
    let token = rsa().token(&claims_with(json!({"nbf": NOW.0 - 10})));
    cached.verify(&token, NOW).unwrap();
    cached.verify(&token, NOW.plus(279)).unwrap();
    assert_eq!(fault_of(cached.verify(&token, NOW.plus(280))), Expired);
    assert_eq!(fault_of(cached.verify(&token, NOW.plus(-41))), NotYetValid, "the clock was set back");
    cached.verify(&token, NOW.plus(-40)).unwrap();
}

#[test]
fn e1_what_one_verifier_remembers_another_does_not_know() {
    let token = rsa().token(&claims());
    let lax = Cached::new(verifier(|_| {}), 1 << 20, Meters::unregistered());
    let strict = |issuer: &mut IssuerSettings| {
        issuer.max_lifetime = Some(Duration::from_secs(299));
    };
    let strict = Cached::new(verifier(strict), 1 << 20, Meters::unregistered());
    lax.verify(&token, NOW).unwrap();
    assert_eq!(refused(&strict, &token), Lifetime);
}

#[test]
fn faults_say_what_is_wrong_and_never_repeat_the_token() {
    let verifier = verifier(|_| {});
    let canary = "canary4711canary";
    let token = rsa().token(&claims_with(json!({"exp": 1, "secret": canary})));
    let payload = token.split('.').nth(1).unwrap();
    let error = verifier.verify(&token, NOW).unwrap_err();
    assert_eq!(error.to_string(), "the token ended 1799999969 s ago");
    for text in [format!("{error:?}"), error.to_string()] {
        assert!(!text.contains(canary) && !text.contains(payload), "{text}");
    }
    let loud = rsa().token(&claims_with(json!({"iss": format!("\u{1b}[31m{}", "x".repeat(2000))})));
    let text = verifier.verify(&loud, NOW).unwrap_err().to_string();
    assert!(text.len() < 120 && !text.contains('\u{1b}'), "{text}");
}

/// Any single change of a byte is refused, whatever byte it is.
#[test]
fn no_single_byte_can_be_changed() {
    for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
        let verifier = verifier(|_| {});
        let good = Signer::published(algorithm).token(&claims());
        for at in 0..good.len() {
            for replacement in [b'A', b'z', b'_', b'.', b'=', b' '] {
                let mut bytes = good.clone().into_bytes();
                if bytes[at] != replacement {
                    bytes[at] = replacement;
                    let changed = String::from_utf8(bytes).unwrap();
                    assert!(verifier.verify(&changed, NOW).is_err(), "byte {at} as {replacement}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// However a token is cut up, it is refused or says exactly what it said.
    #[test]
    fn mutation_never_changes_who_somebody_is(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
        seconds in -1000_i64..1000,
    ) {
        thread_local! {
            static WORLD: (Cached<JwtVerifier>, String) =
                (Cached::new(verifier(|_| {}), 1 << 20, Meters::unregistered()),
                 Signer::published(Algorithm::ES256).token(&claims()));
        }
        WORLD.with(|(verifier, good)| {
            let truth = verifier.verify(good, NOW).unwrap();
            let mut bytes = good.clone().into_bytes();
            for (at, byte, kind) in edits {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte & 0x7f,
                    1 => bytes.insert(at, byte & 0x7f),
                    _ => { bytes.remove(at); }
                }
            }
            let changed = String::from_utf8(bytes).unwrap();
            if let Ok(principal) = verifier.verify(&changed, NOW) {
                prop_assert_eq!(&*principal, &*truth);
            }
            let now = UnixSeconds(NOW.0 + seconds);
            prop_assert_eq!(verifier.verify(good, now).is_ok(), (-80..280).contains(&seconds));
            Ok(())
        })?;
    }
}
