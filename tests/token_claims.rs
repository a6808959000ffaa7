//! Claims that must not get in though their signature holds, one row per trick, each with the reason (bypass case D6, fault
//! row 45), and those that must.
//!
//! Every row is tried against a cold verifier, and twice against a cache that holds a good token.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that fails should stop where it fails"
)]

mod token_support;

use portcullis::domain::OrganizationId;
use portcullis::domain::TokenFault::{
    self, Expired, Issuer, Lifetime, Malformed, MissingClaim, NotYetValid, WrongKind,
};
use portcullis::token::{self, IssuerSettings, Organizations, RequiredClaim, TokenVerifier};
use serde_json::{Value, json};
use token_support::*;

#[test]
fn d6_the_audience_is_never_skipped() {
    let of = |audience: Value| rsa().token(&claims_with(json!({"aud": audience})));
    let for_api = |issuer: &mut IssuerSettings| {
        issuer.audience = token::Audience::AnyOf(vec!["api".into(), "admin".into()]);
    };
    let rows = rows([
        (rsa().token(&claims()), TokenFault::Audience, "no audience"),
        (of(json!("")), TokenFault::Audience, "an empty audience"),
        (of(json!([])), TokenFault::Audience, "an empty list"),
        (of(json!([""])), TokenFault::Audience, "a list of an empty text"),
        (of(json!("API")), TokenFault::Audience, "another case"),
        (of(json!("api,admin")), TokenFault::Audience, "two in one text"),
        (of(json!("api ")), TokenFault::Audience, "a trailing space"),
        (of(json!(["billing", "api2"])), TokenFault::Audience, "a list of others"),
        (of(json!([["api"]])), Malformed, "a nested list"),
        (of(json!(["api", 1])), Malformed, "a list with a number"),
        (of(json!({"api": true})), Malformed, "an object"),
        (of(json!(1)), Malformed, "a number"),
        (
            rsa().sign(
                &rsa().header().to_string(),
                &claims_with(json!({"aud": "x"})).to_string().replace("\"x\"", "null"),
            ),
            TokenFault::Audience,
            "null",
        ),
    ]);
    all_refused(verifier(for_api), &of(json!("api")), &rows);
    verifier(for_api).verify(&of(json!(["billing", "admin"])), NOW).unwrap();
}

#[test]
fn without_an_audience_id_tokens_are_refused_by_their_claims() {
    let with = |claim: &str| rsa().token(&claims_with(json!({claim: "x"})));
    let good = rsa().token(&claims_with(json!({"aud": 7})));
    let null_nonce = claims_with(json!({"nonce": "x"})).to_string().replace("\"nonce\":\"x\"", "\"nonce\":null");
    let rows = rows([
        (with("nonce"), WrongKind, "nonce"),
        (with("at_hash"), WrongKind, "at_hash"),
        (with("c_hash"), WrongKind, "c_hash"),
        (rsa().sign(&rsa().header().to_string(), &null_nonce), WrongKind, "a nonce that is null"),
        (rsa().token(&claims_with(json!({"sid": null}))), MissingClaim, "the required claim is missing"),
    ]);
    all_refused(verifier(|_| {}), &good, &rows);
}

#[test]
fn row_45_times_are_numbers_and_are_kept_to() {
    let raw = |name: &str, value: &str| {
        let text = claims_with(json!({name: "TIME"})).to_string().replace("\"TIME\"", value);
        rsa().sign(&rsa().header().to_string(), &text)
    };
    let at = |name: &str, offset: i64| raw(name, &(NOW.0 + offset).to_string());
    let rows = rows([
        (rsa().token(&claims_with(json!({"exp": null}))), MissingClaim, "no exp"),
        (raw("exp", "null"), Malformed, "exp null"),
        (raw("nbf", "null"), Malformed, "nbf null"),
        (raw("iat", "null"), Malformed, "iat null"),
        (raw("jti", "null"), Malformed, "jti null"),
        (raw("jti", "7"), Malformed, "jti a number"),
        (raw("nbf", "1800000030.5"), NotYetValid, "not begun, by a fraction of a second"),
        (raw("exp", "\"1800000250\""), Malformed, "exp as text"),
        (raw("exp", "-1"), Malformed, "negative exp"),
        (raw("exp", "-0.5"), Malformed, "negative exp, a little"),
        (raw("exp", "1e400"), Malformed, "exp out of range"),
        (raw("exp", "1e300"), Malformed, "exp in no year"),
        (raw("exp", "18446744073709551615"), Malformed, "exp = 2^64 - 1"),
        (raw("exp", "1800000250000"), Malformed, "exp in milliseconds"),
        (raw("exp", "true"), Malformed, "exp true"),
        (raw("exp", "[1800000250]"), Malformed, "exp in a list"),
        (raw("exp", "0"), Expired, "exp 0"),
        (at("exp", -30), Expired, "ended, leeway included"),
        (raw("exp", "1799999970.999"), Expired, "ended, and the fraction does not count"),
        (at("nbf", 31), NotYetValid, "not begun"),
        (raw("nbf", "\"0\""), Malformed, "nbf as text"),
        (raw("nbf", "1e400"), Malformed, "nbf out of range"),
        (raw("nbf", "-1"), Malformed, "negative nbf"),
        (at("iat", 31), NotYetValid, "issued in the future"),
        (raw("iat", "\"0\""), Malformed, "iat as text"),
        (raw("iat", "{}"), Malformed, "iat as object"),
        (rsa().token(&claims_with(json!({"iat": null}))), MissingClaim, "no iat where the lifetime is bounded"),
        (at("exp", 24 * 3600 - 49), Lifetime, "one second too long"),
    ]);
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);
    let accepted = verifier(|_| {});
    for token in [
        at("exp", -29),
        raw("exp", "1800000000.5"),
        raw("exp", "1.8e9"),
        raw("nbf", "1800000029.5"),
        at("nbf", 30),
        at("iat", 30),
    ] {
        accepted.verify(&token, NOW).unwrap();
    }
    accepted.verify(&at("exp", 24 * 3600 - 50), NOW).unwrap();
    let unbounded = verifier(|issuer| issuer.max_lifetime = None);
    unbounded.verify(&rsa().token(&claims_with(json!({"iat": null, "exp": 4_000_000_000_i64}))), NOW).unwrap();
}

#[test]
fn the_issuer_is_compared_byte_for_byte() {
    let by = |iss: Value| rsa().token(&claims_with(json!({"iss": iss})));
    let rows = rows([
        (by(json!(format!("{ISS}/"))), Issuer, "a trailing slash"),
        (by(json!(ISS.to_uppercase())), Issuer, "another case"),
        (by(json!(ISS.replace("https", "http"))), Issuer, "another scheme"),
        (by(json!(&ISS[..ISS.len() - 1])), Issuer, "a prefix"),
        (by(json!(format!("{ISS}\u{0}"))), Issuer, "a NUL behind it"),
        (by(json!([ISS])), Issuer, "a list"),
        (by(json!("")), Issuer, "an empty text"),
        (rsa().token(&claims_with(json!({"iss": null}))), Issuer, "no issuer"),
    ]);
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);
}

#[test]
fn claims_that_are_used_have_their_type() {
    let with = |changes: Value| rsa().token(&claims_with(changes));
    let rows = rows([
        (with(json!({"sub": null})), MissingClaim, "no subject"),
        (with(json!({"sub": ""})), Malformed, "an empty subject"),
        (with(json!({"sub": 7})), Malformed, "a number as subject"),
        (with(json!({"sub": ["user_ada"]})), Malformed, "a list as subject"),
        (with(json!({"sub": "a\u{0}b"})), Malformed, "a control character in the subject"),
        (with(json!({"sub": "u".repeat(257)})), Malformed, "a subject that is too long"),
        (with(json!({"org_id": ["org_acme"]})), Malformed, "a list of organizations"),
        (with(json!({"org_id": ""})), Malformed, "an empty organization"),
        (with(json!({"org_id": "org\r\nx"})), Malformed, "a line break in the organization"),
        (with(json!({"organization_membership_id": false})), Malformed, "a boolean as membership"),
        (with(json!({"sid": 1})), Malformed, "a number as session"),
        (with(json!({"permissions": "project:edit"})), Malformed, "permissions as text"),
        (with(json!({"permissions": {"project:edit": true}})), Malformed, "permissions as object"),
        (with(json!({"permissions": ["project:edit", 1]})), Malformed, "a number among the permissions"),
        (with(json!({"permissions": ["project:edit", null]})), Malformed, "null among the permissions"),
        (with(json!({"roles": "admin"})), Malformed, "roles as text"),
        (with(json!({"role": ["admin"]})), Malformed, "a list as role"),
    ]);
    all_refused(verifier(|_| {}), &rsa().token(&claims()), &rows);
    let with_null = |name: &str| {
        let text = claims_with(json!({name: "NULL", "uid": "user_ada"})).to_string().replace("\"NULL\"", "null");
        rsa().sign(&rsa().header().to_string(), &text)
    };
    let by_uid = verifier(|issuer| issuer.claims.user = "uid".to_owned());
    let good = with(json!({"uid": "user_ada"}));
    let rows = self::rows([
        (with(json!({"uid": "user_ada", "sub": 7})), Malformed, "a subject that nobody looks at, and no text"),
        (with_null("sub"), Malformed, "the same, null"),
        (with_null("jti"), Malformed, "a null that nobody looks at"),
    ]);
    all_refused(by_uid, &good, &rows);

    let lenient = verifier(|_| {});
    let odd = json!({
        "permissions": ["Project:Edit", "project:edit ", "*", "", "пр:x"],
        "role": "Org Admin",
        "roles": ["x", "Y"],
    });
    let principal = lenient.verify(&with(odd), NOW).unwrap();
    assert_eq!(
        principal.permissions.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        ["*"],
        "what is no slug is no grant"
    );
    assert_eq!((principal.role.as_ref(), principal.roles.len()), (None, 1));
    let bare =
        lenient.verify(&with(json!({"org_id": null, "permissions": null, "roles": null, "role": null})), NOW).unwrap();
    assert!(bare.organization.is_none() && bare.permissions.is_empty() && bare.roles.is_empty());
}

#[test]
fn impersonation_is_seen() {
    let verifier = verifier(|_| {});
    let impersonated =
        |act: Value| verifier.verify(&rsa().token(&claims_with(json!({"act": act}))), NOW).unwrap().impersonated;
    assert!(impersonated(json!({"sub": "admin@example.com"})));
    assert!(impersonated(json!({})));
    assert!(impersonated(json!(false)), "what it says does not matter");
}

#[test]
fn required_claims_have_to_be_there_with_one_of_their_values() {
    let require = |name: &str, values: Vec<Value>| {
        let required = RequiredClaim { name: name.into(), values };
        verifier(move |issuer| issuer.required_claims = vec![required])
    };
    let token =
        rsa().token(&claims_with(json!({"plan": "pro", "level": 3, "beta": true, "flags": ["a", "b"], "o": {}})));
    for (name, value) in [
        ("plan", json!("pro")),
        ("level", json!(3)),
        ("beta", json!(true)),
        ("flags", json!("b")),
        ("plan", json!("pro")),
    ] {
        require(name, vec![json!("else"), value]).verify(&token, NOW).unwrap();
        require(name, vec![]).verify(&token, NOW).unwrap();
    }
    for (name, value) in [
        ("plan", json!("Pro")),
        ("plan", json!("pr")),
        ("level", json!("3")),
        ("level", json!(4)),
        ("beta", json!(1)),
        ("beta", json!("true")),
        ("flags", json!("c")),
        ("flags", json!("a,b")),
        ("o", json!("{}")),
        ("absent", json!("pro")),
    ] {
        assert_eq!(refused(&require(name, vec![value]), &token), MissingClaim, "{name}");
    }
}

#[test]
fn an_issuer_speaks_for_its_organizations_only() {
    let only = |organizations: Organizations| verifier(move |issuer| issuer.organizations = organizations);
    let acme = || Organizations::Only(vec![OrganizationId::new("org_acme").unwrap()]);
    let prefix = || Organizations::Prefix("org_ac".into());
    let of = |organization: &str| rsa().token(&claims_with(json!({"org_id": organization})));
    only(acme()).verify(&of("org_acme"), NOW).unwrap();
    only(prefix()).verify(&of("org_acme"), NOW).unwrap();
    for other in ["org_acme2", "org_acm", "ORG_ACME", "org_other"] {
        assert_eq!(refused(&only(acme()), &of(other)), Issuer, "{other}");
    }
    assert_eq!(refused(&only(prefix()), &of("xorg_acme")), Issuer);
    let none = rsa().token(&claims_with(json!({"org_id": null})));
    assert!(only(acme()).verify(&none, NOW).unwrap().organization.is_none(), "it speaks for none");
}

#[test]
fn claim_names_and_kept_claims_are_those_configured() {
    let verifier = verifier(|issuer| {
        issuer.claims.organization = "https://example.com/org".into();
        issuer.keep = vec!["plan".into(), "absent".into(), "nothing".into()];
    });
    let claims = claims_with(json!({"https://example.com/org": "org_2", "plan": {"name": "pro"}, "other": 1}));
    let token = rsa().token(&claims);
    let principal = verifier.verify(&token, NOW).unwrap();
    assert_eq!(principal.organization.as_ref().unwrap().as_str(), "org_2");
    assert_eq!(Value::from(principal.claims.clone()), json!({"plan": {"name": "pro"}}));
}
