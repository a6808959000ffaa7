//! The claims of a token whose signature holds, in the order in which they are judged (RFC 7519 §4.1, RFC 8725 §3).
//!
//! A claim that is null counts as absent, a date or a `jti` that is null does not: other verifiers refuse it. A claim that
//! is used and has the wrong type makes the token malformed, and so does a `sub` or `jti` that is no text (RFC 7519 §4.1.2,
//! §4.1.7); any other that nobody looks at may be anything.

use super::json::{Json, Object};
use super::settings::{Audience, IssuerSettings, Organizations, RequiredClaim};
use super::{Quoted, TokenError, Window, fault};
use crate::domain::id::Kind;
use crate::domain::{Id, OrganizationId, Principal, TokenFault, UnixSeconds};

/// The last second of the year 9999. A later date is no date: milliseconds, most likely.
const MOST_SECONDS: i64 = 253_402_300_799;

/// What an ID token has and an access token has not (OpenID Connect Core §2 and §3.3.2.11).
const ID_TOKEN_CLAIMS: [&str; 3] = ["nonce", "at_hash", "c_hash"];

/// Judges `claims` by the settings of their issuer at the time `now`.
///
/// # Errors
/// The first thing that is wrong: time, lifetime, audience, required claims, organization, identity.
pub(super) fn judge(
    claims: &Object<'_>,
    issuer: &IssuerSettings,
    now: UnixSeconds,
) -> Result<(Principal, Window), TokenError> {
    let expires_at = date(claims, "exp", f64::floor)?.ok_or_else(|| missing("exp"))?;
    let not_before = date(claims, "nbf", f64::ceil)?;
    let issued_at = date(claims, "iat", f64::floor)?;
    let leeway = i64::try_from(issuer.leeway.as_secs()).unwrap_or(i64::MAX);
    let begins = not_before.max(issued_at).map_or(UnixSeconds(i64::MIN), |date| date.plus(-leeway));
    let window = Window { begins, ends: expires_at.plus(leeway) };
    window.check(now)?;
    lifetime(issued_at, expires_at, issuer)?;
    audience(claims, &issuer.audience)?;
    for required in &issuer.required_claims {
        require(claims, required)?;
    }
    let names = &issuer.claims;
    let organization = id(claims, &names.organization)?;
    if let Some(organization) = &organization {
        may_speak_for(organization, &issuer.organizations)?;
    }
    let mut permissions = slugs(claims, &names.permissions)?;
    permissions.sort_unstable();
    permissions.dedup();
    let user = id(claims, &names.user)?.ok_or_else(|| missing(&names.user))?;
    for name in ["sub", "jti"] {
        if claims.member(name).is_some_and(|value| value.as_text().is_none()) {
            return Err(wrong_type(name, "a text"));
        }
    }
    let kept = issuer.keep.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.to_value())));
    let principal = Principal {
        issuer: issuer.name.clone(),
        user,
        session: id(claims, &names.session)?,
        organization,
        membership: id(claims, &names.membership)?,
        role: text(claims, &names.role)?.and_then(|slug| Id::new(slug).ok()),
        roles: slugs(claims, &names.roles)?.into(),
        permissions: permissions.into(),
        issued_at,
        expires_at,
        impersonated: claims.get("act").is_some(),
        claims: kept.collect(),
    };
    Ok((principal, window))
}

/// A `NumericDate` (RFC 7519 §2): a plain number that is not negative and before the year 10000. Fractions of a second,
/// which the RFC permits, are rounded so that the token is valid for less time, not for more.
fn date(claims: &Object<'_>, name: &str, round: fn(f64) -> f64) -> Result<Option<UnixSeconds>, TokenError> {
    let seconds = match claims.member(name) {
        None => return Ok(None),
        Some(Json::Number(number)) => whole_seconds(number, round),
        Some(_) => None,
    };
    let in_range = seconds.filter(|seconds| (0..=MOST_SECONDS).contains(seconds));
    match in_range {
        Some(seconds) => Ok(Some(UnixSeconds(seconds))),
        None => Err(wrong_type(name, "a number of seconds since 1970")),
    }
}

fn whole_seconds(number: &serde_json::Number, round: fn(f64) -> f64) -> Option<i64> {
    // The cast saturates; what lies outside the range of dates is refused by the caller.
    number.as_i64().or_else(|| number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| round(seconds) as i64))
}

/// `iat` has to be there when the lifetime is checked: what does not say when it began could be of any age.
fn lifetime(issued: Option<UnixSeconds>, expires: UnixSeconds, issuer: &IssuerSettings) -> Result<(), TokenError> {
    let Some(most) = issuer.max_lifetime else {
        return Ok(());
    };
    let found = expires.since(issued.ok_or_else(|| missing("iat"))?);
    let most = i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
    if found > most {
        let detail = format!("the token is valid for {found} s, at most {most} s are allowed");
        return Err(fault(TokenFault::Lifetime, detail));
    }
    Ok(())
}

fn audience(claims: &Object<'_>, expected: &Audience) -> Result<(), TokenError> {
    let Audience::AnyOf(expected) = expected else {
        return match ID_TOKEN_CLAIMS.iter().find(|name| claims.member(name).is_some()) {
            None => Ok(()),
            Some(name) => Err(fault(TokenFault::WrongKind, format!("claim `{name}` says that this is an ID token"))),
        };
    };
    let is_expected = |text: &str| expected.iter().any(|other| other == text);
    let detail = match claims.get("aud") {
        None => format!("there is no audience, expected one of {expected:?}"),
        Some(Json::Text(text)) if is_expected(text) => return Ok(()),
        Some(Json::Text(text)) => format!("audience is {}, expected one of {expected:?}", Quoted(text)),
        Some(Json::List(entries)) => {
            let texts: Option<Vec<&str>> = entries.iter().map(Json::as_text).collect();
            let texts = texts.ok_or_else(|| wrong_type("aud", "a text or an array of texts"))?;
            if texts.iter().any(|text| is_expected(text)) {
                return Ok(());
            }
            format!("none of {} audiences is one of {expected:?}", texts.len())
        }
        Some(_) => return Err(wrong_type("aud", "a text or an array of texts")),
    };
    Err(fault(TokenFault::Audience, detail))
}

fn require(claims: &Object<'_>, required: &RequiredClaim) -> Result<(), TokenError> {
    let found = claims.get(&required.name).ok_or_else(|| missing(&required.name))?;
    let is_expected = |value: &Json<'_>| required.values.iter().any(|expected| value.is_scalar(expected));
    let holds = match found {
        _ if required.values.is_empty() => true,
        Json::List(entries) => entries.iter().any(is_expected),
        scalar => is_expected(scalar),
    };
    if holds {
        return Ok(());
    }
    Err(fault(TokenFault::MissingClaim, format!("claim `{}` has not the required value", required.name)))
}

fn may_speak_for(organization: &OrganizationId, allowed: &Organizations) -> Result<(), TokenError> {
    let allowed = match allowed {
        Organizations::Any => true,
        Organizations::Only(ids) => ids.contains(organization),
        Organizations::Prefix(prefix) => organization.as_str().starts_with(prefix.as_str()),
    };
    if allowed {
        return Ok(());
    }
    let organization = Quoted(organization.as_str());
    Err(fault(TokenFault::Issuer, format!("the issuer may not speak for organization {organization}")))
}

fn text<'c>(claims: &'c Object<'_>, name: &str) -> Result<Option<&'c str>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name, "a text")),
    }
}

fn id<K: Kind>(claims: &Object<'_>, name: &str) -> Result<Option<Id<K>>, TokenError> {
    let parse = |text| Id::new(text).map_err(|error| fault(TokenFault::Malformed, format!("claim `{name}`: {error}")));
    text(claims, name)?.map(parse).transpose()
}

/// An array of slugs. A text in it that is no slug is left out: no rule can ask for it, so it could never grant
/// anything, and an issuer may have permissions that are none of ours.
fn slugs<K: Kind>(claims: &Object<'_>, name: &str) -> Result<Vec<Id<K>>, TokenError> {
    let entries = match claims.get(name) {
        None => return Ok(Vec::new()),
        Some(Json::List(entries)) => entries,
        Some(_) => return Err(wrong_type(name, "an array of texts")),
    };
    let mut slugs = Vec::with_capacity(entries.len());
    for entry in entries {
        let text = entry.as_text().ok_or_else(|| wrong_type(name, "an array of texts"))?;
        slugs.extend(Id::new(text));
    }
    Ok(slugs)
}

fn missing(name: &str) -> TokenError {
    fault(TokenFault::MissingClaim, format!("claim `{name}` is missing"))
}

fn wrong_type(name: &str, expected: &str) -> TokenError {
    fault(TokenFault::Malformed, format!("claim `{name}` is not {expected}"))
}
