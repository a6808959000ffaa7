//! Tokens of the store: who gets them, what they say, and the keys to verify them by (WorkOS contract, section 5).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{ISSUER, READER, Running, on_every_engine, on_sqlite};

const TOKENS: &str = "/portcullis/v1/tokens";
const TEMPLATE: &str = "/user_management/jwt_template";

/// What a token says, after its signature was verified with the store's own key set.
async fn claims(store: &Running, token: &str) -> Value {
    let set = store.send("GET", "/sso/jwks/client_test", None, &[("authorization", "")]).await.is(200);
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(set).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = set.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_issuer(&[ISSUER]);
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims
}

async fn mint(store: &Running, membership: &str) -> Value {
    store.post(TOKENS, json!({"organization_membership_id": membership})).await.is(200)
}

/// The key set is public, has the key that signs now and the one that signs next, and no private part.
#[test]
fn the_key_set_has_the_current_and_the_next_key() {
    on_sqlite(async |store| {
        let set = store.send("GET", "/sso/jwks/client_test", None, &[("authorization", "")]).await.is(200);
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0]["kid"], keys[1]["kid"]);
        for key in keys {
            assert_eq!((&key["alg"], &key["kty"], &key["use"]), (&json!("RS256"), &json!("RSA"), &json!("sig")));
            for name in ["kid", "n", "e", "x5t#S256"] {
                assert!(key[name].is_string(), "{name}: {key}");
            }
            assert_eq!(key["x5c"].as_array().map(Vec::len), Some(1));
            assert!(key.get("d").is_none(), "{key}");
        }
        store.get("/sso/jwks/client_other").await.is_error(404, "entity_not_found");
    });
}

/// Section 5: `iss`, `sub`, `sid`, `jti`, `org_id`, `role`, `roles`, `permissions`, `exp`, `iat`, and nothing else that is asked for.
#[test]
fn a_token_says_what_the_membership_has_now() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        store.assign(&ada, "billing-admin", &root).await;
        store.assign(&ada, "admin", &root).await;
        let project = store.resource(&organization, "project", "p1", None).await;
        store.assign(&ada, "project-editor", &project).await;
        let minted = mint(store, &ada).await;
        assert!(minted.get("warning").is_none(), "{minted}");
        let claims = claims(store, minted["access_token"].as_str().unwrap()).await;
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["org_id"], organization.as_str());
        assert_eq!(claims["organization_membership_id"], ada.as_str());
        assert_eq!(claims["sid"], minted["session_id"]);
        assert_eq!(claims["client_id"], "client_test");
        assert!(claims["sub"].as_str().is_some_and(|user| user.starts_with("user_")));
        assert_eq!(claims["role"], "admin", "the highest-priority one");
        assert_eq!(claims["roles"], json!(["admin", "billing-admin", "member"]));
        let permissions = json!(["billing:manage", "org:manage", "project:edit", "project:view"]);
        assert_eq!(claims["permissions"], permissions, "roles on resources are never in a token");
        let (issued_at, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert_eq!(expires - issued_at, 300);
        assert!(claims["jti"].is_string() && claims.get("aud").is_none(), "{claims}");
    });
}

/// R10: a role that is given or taken is in the next token, and stays in those that were made before.
#[test]
fn the_next_token_follows_a_change_of_roles() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        let roles =
            async || claims(store, mint(store, &ada).await["access_token"].as_str().unwrap()).await["roles"].clone();
        assert_eq!(roles().await, json!(["member"]));
        let earlier = mint(store, &ada).await["access_token"].as_str().unwrap().to_owned();
        let admin = store.assign(&ada, "admin", &root).await;
        assert_eq!(roles().await, json!(["admin", "member"]));
        let path = format!("/authorization/organization_memberships/{ada}/role_assignments/{admin}");
        let earlier = [earlier, mint(store, &ada).await["access_token"].as_str().unwrap().to_owned()];
        store.delete(&path).await.is(204);
        assert_eq!(roles().await, json!(["member"]));
        // What was signed stays as it is until it ends.
        assert_eq!(claims(store, &earlier[0]).await["permissions"], json!([]));
        assert_eq!(claims(store, &earlier[1]).await["permissions"][0], "billing:manage");
    });
}

/// R11 and D4: whoever is not active gets no token; nor does anybody without the scope.
#[test]
fn no_token_for_strangers_and_inactive_memberships() {
    on_every_engine(async |store| {
        let body = json!({"organization_membership_id": "om_nobody"});
        store.post(TOKENS, body.clone()).await.is_error(404, "entity_not_found");
        store.post(TOKENS, json!({})).await.is_error(422, "invalid_request_parameters");
        let reader = format!("Bearer {READER}");
        let reader = [("authorization", reader.as_str())];
        store.send("POST", TOKENS, Some(body), &reader).await.is_error(403, "forbidden");
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        store.put(&format!("/user_management/organization_memberships/{ada}/deactivate"), json!({})).await.is(200);
        let answer = store.post(TOKENS, json!({"organization_membership_id": ada})).await;
        answer.is_error(422, "organization_membership_inactive");
    });
}

/// A token that does not fit into a cookie is made, and the answer says so.
#[test]
fn a_large_token_comes_with_a_warning() {
    on_sqlite(async |store| {
        store.put(TEMPLATE, json!({"content": json!({"padding": "x".repeat(2900)}).to_string()})).await.is(200);
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        assert!(mint(store, &ada).await["warning"].as_str().is_some_and(|text| text.contains("cookie")));
    });
}

/// A role that permits much does not fit either: what is warned of is the size of the token, whatever fills it. Below 3 KiB nothing is said.
#[test]
fn many_permissions_come_with_a_warning() {
    on_sqlite(async |store| {
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let mut sizes = Vec::new();
        for count in 0..80 {
            let slug = format!("{count:02}:{}", "x".repeat(45));
            store.post("/authorization/permissions", json!({"slug": slug, "name": "P"})).await.is(201);
            store.post("/authorization/roles/member/permissions", json!({"slug": slug})).await.is(200);
            let minted = mint(store, &ada).await;
            sizes.push((minted["access_token"].as_str().unwrap().len(), minted.get("warning").is_some()));
        }
        assert!(sizes.iter().all(|(bytes, warned)| *warned == (*bytes > 3 * 1024)), "{sizes:?}");
        assert!(sizes[0].0 < 3 * 1024 && sizes[79].0 > 3 * 1024, "{sizes:?}");
    });
}

/// Section 5: expressions are filled in, nulls are dropped, and what the template says wins over the usual claims.
#[test]
fn the_template_is_applied_to_the_claims() {
    on_every_engine(async |store| {
        let content = r#"{"who": "{{ user.email }} at {{ organization.name }}", "tier": {{ organization.metadata.tier || 'free' }},
                          "nick": {{ user.metadata.nick }}, "role": "theirs", "om": "{{ organization_membership.id }}"}"#;
        store.put(TEMPLATE, json!({"content": content})).await.is(200);
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let claims = claims(store, mint(store, &ada).await["access_token"].as_str().unwrap()).await;
        assert_eq!(claims["who"], "ada@example.com at Acme");
        assert_eq!((&claims["tier"], &claims["role"], &claims["om"]), (&json!("free"), &json!("theirs"), &json!(ada)));
        assert!(claims.get("nick").is_none(), "{claims}");
    });
}

/// The template can be read and replaced; reserved claims, other syntax and more than 3072 bytes are refused.
#[test]
fn a_template_is_checked_before_it_is_kept() {
    on_every_engine(async |store| {
        store.get(TEMPLATE).await.is_error(404, "entity_not_found");
        let content = r#"{"email": {{ user.email }}}"#;
        let first = store.put(TEMPLATE, json!({"content": content})).await;
        let revision = first.revision();
        let first = first.is(200);
        assert_eq!((&first["object"], &first["content"]), (&json!("jwt_template"), &json!(content)));
        assert_eq!(store.get(TEMPLATE).await.is(200), first);
        let again = store.put(TEMPLATE, json!({"content": content})).await;
        assert_eq!(again.revision(), revision, "nothing was written");
        let large = json!({"a": "x".repeat(3072)}).to_string();
        for reserved in ["iss", "sub", "exp", "iat", "nbf", "jti"] {
            let content = json!({reserved: 1}).to_string();
            store.put(TEMPLATE, json!({"content": content})).await.is_error(422, "invalid_request_parameters");
        }
        for wrong in ["", "[]", "{", r#"{"a": {{ user.email }"#, r#"{"a": {{ env.HOME }}}"#, &large] {
            store.put(TEMPLATE, json!({"content": wrong})).await.is_error(422, "invalid_request_parameters");
        }
        assert_eq!(store.get(TEMPLATE).await.is(200), first);
    });
}

/// D14: the same request again is the same session.
#[test]
fn a_repeated_request_makes_one_session() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let body = json!({"organization_membership_id": ada});
        let again = [("idempotency-key", "once")];
        let first = store.send("POST", TOKENS, Some(body.clone()), &again).await.is(200);
        let second = store.send("POST", TOKENS, Some(body), &again).await.is(200);
        assert_eq!(first["session_id"], second["session_id"]);
        assert_eq!(first["expires_at"], second["expires_at"]);
    });
}

/// The first bytes of the certificate in the key set are a certificate of that very key.
#[test]
fn the_certificate_is_of_the_key() {
    on_sqlite(async |store| {
        let set = store.get("/sso/jwks/client_test").await.is(200);
        let key = &set["keys"][0];
        let certificate = key["x5c"][0].as_str().unwrap();
        let certificate = base64::engine::general_purpose::STANDARD.decode(certificate).unwrap();
        let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
        assert!(certificate.windows(modulus.len()).any(|window| window == modulus));
    });
}
