use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::token::inspect::inspect;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn ada() -> NewToken {
    NewToken {
        organization: Some(OrganizationId::new("org_acme").unwrap()),
        membership: Some(MembershipId::new("om_ada").unwrap()),
        permissions: vec![PermissionSlug::new("project:edit").unwrap()],
        ..NewToken::of(UserId::new("user_ada").unwrap(), NOW)
    }
}

#[test]
fn the_key_file_is_created_once_for_its_owner_only_and_used_again() {
    for algorithm in ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/issuer.pem");
        let first = Issuer::open("https://issuer.test", &path, algorithm).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        let second = Issuer::open("https://issuer.test", &path, algorithm).unwrap();
        assert_eq!(first.key_id(), second.key_id());
        assert_eq!(first.jwks().unwrap(), second.jwks().unwrap());
    }
}

/// A group may read it: a secret that a cluster mounts for a group is 0440 or 0640.
#[test]
fn a_key_file_that_others_may_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("issuer.pem");
    Issuer::open("https://issuer.test", &path, Algorithm::EdDSA).unwrap();
    for (mode, accepted) in
        [(0o400, true), (0o440, true), (0o640, true), (0o644, false), (0o660, false), (0o620, false), (0o601, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match Issuer::open("https://issuer.test", &path, Algorithm::EdDSA) {
            Ok(_) => assert!(accepted, "{mode:o}"),
            Err(error) => {
                assert!(
                    !accepted && matches!(error, IssuerError::Mode { mode: found, .. } if found == mode),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("issuer.pem");
    Issuer::open("https://issuer.test", &path, Algorithm::EdDSA).unwrap();
    for other in [Algorithm::RS256, Algorithm::ES256, Algorithm::HS256] {
        let error = Issuer::open("https://issuer.test", &path, other).unwrap_err();
        assert!(matches!(error, IssuerError::Key { .. }), "{error}");
    }
    assert!(Issuer::from_pem("https://issuer.test", b"nonsense", Algorithm::RS256).is_err());
    assert!(Issuer::ephemeral("https://issuer.test", Algorithm::HS256).is_err(), "there are no shared secrets");
}

#[test]
fn tokens_carry_the_claims_of_authkit_and_no_others() {
    let issuer = Issuer::ephemeral("https://issuer.test", Algorithm::EdDSA).unwrap();
    let mut token = ada();
    token.further.insert("act".into(), serde_json::json!({"sub": "support@example.com"}));
    let said = inspect(&issuer.mint(&token).unwrap()).unwrap();
    assert!(!said.verified);
    assert_eq!(said.header["kid"], issuer.key_id());
    let mut claims = Value::from(said.claims);
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 26);
    assert_eq!(
        claims,
        serde_json::json!({
            "iss": "https://issuer.test",
            "sub": "user_ada",
            "org_id": "org_acme",
            "organization_membership_id": "om_ada",
            "roles": [],
            "permissions": ["project:edit"],
            "iat": NOW.0,
            "exp": NOW.0 + 300,
            "act": {"sub": "support@example.com"},
        })
    );
    assert_ne!(issuer.mint(&token).unwrap(), issuer.mint(&token).unwrap(), "each has an id of its own");
}

#[test]
fn token_ids_are_ordered_by_time_and_well_formed() {
    let ids: Vec<String> = (0..3).map(|seconds| unique(NOW.plus(seconds))).collect();
    assert!(ids.is_sorted());
    assert!(ids.iter().flat_map(|id| id.bytes()).all(|byte| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&byte)));
    assert_eq!(unique(UnixSeconds(0)).get(..10), Some("0000000000"));
    // 1 800 000 000 000 ms = 0x1A3_185C_5000.
    assert!(unique(NOW).starts_with("01MCC5RM00"), "{}", unique(NOW));
}

#[test]
fn the_published_key_set_holds_no_secret() {
    for algorithm in ALL {
        let issuer = Issuer::ephemeral("https://issuer.test", algorithm).unwrap();
        let document: Value = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        let key = document["keys"][0].as_object().unwrap();
        assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|secret| !key.contains_key(*secret)));
        assert_eq!(key["use"], "sig");
        assert_eq!(key["alg"], format!("{algorithm:?}"));
        assert!(!format!("{issuer:?}").contains("content"));
    }
}
