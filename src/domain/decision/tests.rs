use super::*;
use crate::domain::id::PermissionSlug;
use crate::domain::requirement::Asks;

fn requirement<'a>(organization: Option<&'a str>, scope: Scope<'a>) -> Requirement<'a> {
    Requirement { organization: organization.map(Into::into), scope }
}

fn denied(decision: Decision) -> Option<DenyReason> {
    match decision {
        Decision::Allow(_) => None,
        Decision::Deny(denial) => Some(denial.reason),
    }
}

/// Asks for `held` and `missing` under `grants`, of a token that claims the first.
struct Asker {
    held: PermissionSlug,
    missing: PermissionSlug,
    claims: Vec<PermissionSlug>,
}

impl Asker {
    fn new() -> Self {
        let held: PermissionSlug = "a:held".parse().unwrap();
        Self { claims: vec![held.clone()], held, missing: "a:missing".parse().unwrap() }
    }

    fn asks<'a>(&'a self, wanted: &[(bool, Grants)]) -> Asks<'a> {
        let ask = |&(held, grants): &(bool, Grants)| {
            let permission = if held { &self.held } else { &self.missing };
            Ask { permission, resource: None, grants }
        };
        wanted.iter().map(ask).collect()
    }

    fn decide(&self, organization: Option<&str>, requirement: &Requirement<'_>) -> Option<DenyReason> {
        let organization = organization.map(|id| id.parse().unwrap());
        let user = "user_1".parse().unwrap();
        let caller =
            Caller { user: &user, organization: organization.as_ref(), membership: None, permissions: &self.claims };
        denied(decide(requirement, Some(caller), Facts::Unavailable))
    }
}

#[test]
fn public_and_preflight_pass_without_a_token_and_nothing_else_does() {
    let asker = Asker::new();
    let asks = asker.asks(&[(true, Grants::Token)]);
    for (scope, expected) in [
        (Scope::Public, None),
        (Scope::Preflight, None),
        (Scope::Authenticated, Some(DenyReason::MissingToken)),
        (Scope::All(asks.clone()), Some(DenyReason::MissingToken)),
        (Scope::Any(asks), Some(DenyReason::MissingToken)),
    ] {
        assert_eq!(denied(decide(&requirement(None, scope.clone()), None, Facts::Unavailable)), expected, "{scope:?}");
    }
    let tied = requirement(Some("org_1"), Scope::Public);
    assert_eq!(denied(decide(&tied, None, Facts::Unavailable)), Some(DenyReason::MissingToken));
    let preflight = requirement(Some("org_1"), Scope::Preflight);
    assert_eq!(denied(decide(&preflight, None, Facts::Unavailable)), None);
}

#[test]
fn the_organization_is_compared_byte_for_byte_before_any_permission() {
    let asker = Asker::new();
    let missing = Some(DenyReason::BadToken(TokenFault::MissingClaim));
    for (claim, value, expected) in [
        (Some("org_1"), "org_1", None),
        (Some("org_1"), "org_2", Some(DenyReason::WrongOrganization)),
        (Some("org_1"), "ORG_1", Some(DenyReason::WrongOrganization)),
        (Some("org_1"), "org_1 ", Some(DenyReason::WrongOrganization)),
        (Some("org_1"), "", Some(DenyReason::WrongOrganization)),
        (None, "org_1", missing),
    ] {
        assert_eq!(asker.decide(claim, &requirement(Some(value), Scope::Authenticated)), expected, "{value}");
        let all = Scope::All(asker.asks(&[(true, Grants::Token)]));
        assert_eq!(asker.decide(claim, &requirement(Some(value), all)), expected, "{value}");
    }
    let not_held = Scope::All(asker.asks(&[(false, Grants::Live)]));
    assert_eq!(asker.decide(Some("org_1"), &requirement(Some("org_2"), not_held)), Some(DenyReason::WrongOrganization));
}

#[test]
fn a_token_without_organization_passes_where_only_a_token_is_asked_for() {
    let asker = Asker::new();
    let missing = Some(DenyReason::BadToken(TokenFault::MissingClaim));
    assert_eq!(asker.decide(None, &requirement(None, Scope::Authenticated)), None);
    let asks = asker.asks(&[(true, Grants::Token)]);
    assert_eq!(asker.decide(None, &requirement(None, Scope::All(asks.clone()))), missing);
    assert_eq!(asker.decide(None, &requirement(None, Scope::Any(asks))), missing);
}

#[test]
fn in_all_the_first_denial_answers() {
    let asker = Asker::new();
    for (wanted, expected) in [
        (&[(true, Grants::Token), (true, Grants::Token)][..], None),
        (&[(true, Grants::Token), (false, Grants::Token)], Some(DenyReason::NotGranted)),
        (&[(false, Grants::Token), (true, Grants::Live)], Some(DenyReason::NotGranted)),
        (&[(true, Grants::Live), (false, Grants::Token)], Some(DenyReason::FactsUnavailable)),
        (&[], Some(DenyReason::NotGranted)),
    ] {
        let scope = Scope::All(asker.asks(wanted));
        assert_eq!(asker.decide(Some("org_1"), &requirement(None, scope)), expected, "{wanted:?}");
    }
}

#[test]
fn in_any_it_is_not_granted_unless_every_branch_is_an_outage() {
    let asker = Asker::new();
    for (wanted, expected) in [
        (&[(false, Grants::Live), (true, Grants::Token)][..], None),
        (&[(false, Grants::Token), (false, Grants::Token)], Some(DenyReason::NotGranted)),
        (&[(false, Grants::Token), (true, Grants::Live)], Some(DenyReason::NotGranted)),
        (&[(true, Grants::Live), (false, Grants::Token)], Some(DenyReason::NotGranted)),
        (&[(true, Grants::Live), (true, Grants::Both)], Some(DenyReason::FactsUnavailable)),
        (&[], Some(DenyReason::NotGranted)),
    ] {
        let scope = Scope::Any(asker.asks(wanted));
        assert_eq!(asker.decide(Some("org_1"), &requirement(None, scope)), expected, "{wanted:?}");
    }
}

#[test]
fn shadow_mode_overrides_who_is_calling_and_what_they_may_and_nothing_about_the_request() {
    let kept: Vec<_> = DenyReason::ALL.iter().filter(|&&reason| Denial::new(reason).overridden().is_err()).collect();
    assert_eq!(
        kept.iter().map(|reason| reason.code()).collect::<Vec<_>>(),
        [
            "bad_path",
            "bad_request",
            "ambiguous_credentials",
            "bad_value",
            "bad_revision",
            "no_route",
            "timeout",
            "body_too_large",
            "target_too_long",
            "unsupported_body",
            "headers_too_large",
            "internal",
            "keys_unavailable",
            "overloaded",
            "upstream_unreachable",
            "upstream_timeout",
        ]
    );
    let denial = Denial::because(DenyReason::NotGranted, "why");
    let permit = denial.clone().overridden().unwrap();
    assert_eq!(permit.grounds(), &Grounds::ShadowOverride(denial));
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = DenyReason::ALL.iter().map(|reason| reason.reason()).collect();
    assert_eq!(names.len(), DenyReason::ALL.len());
}

#[test]
fn a_decision_is_a_permit_or_a_reason() {
    let public = decide(&requirement(None, Scope::Public), None, Facts::Unavailable);
    assert!(public.is_allowed());
    assert_eq!(public.into_result().unwrap().grounds(), &Grounds::Public);
    let refused = decide(&requirement(None, Scope::Authenticated), None, Facts::Unavailable);
    assert!(!refused.is_allowed());
    assert_eq!(refused.into_result().unwrap_err().reason, DenyReason::MissingToken);
}

#[test]
fn the_faults_of_a_token_keep_their_names() {
    for (fault, name) in [
        (TokenFault::Malformed, "malformed"),
        (TokenFault::Algorithm, "algorithm"),
        (TokenFault::Signature, "signature"),
        (TokenFault::UnknownKey, "unknown_key"),
        (TokenFault::Issuer, "issuer"),
        (TokenFault::Audience, "audience"),
        (TokenFault::Expired, "expired"),
        (TokenFault::NotYetValid, "not_yet_valid"),
        (TokenFault::Lifetime, "lifetime"),
        (TokenFault::WrongKind, "wrong_kind"),
        (TokenFault::MissingClaim, "missing_claim"),
        (TokenFault::IdentityMismatch, "identity_mismatch"),
    ] {
        assert_eq!(fault.code(), name);
    }
}
