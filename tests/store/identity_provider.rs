//! Organization roles that an identity provider gives (WorkOS contract R27, our decision D19).

use serde_json::{Value, json};

use crate::support::{Running, on_every_engine};

async fn map(store: &Running, organization: &str, roles: &[(&str, &str)]) -> Value {
    let list: Vec<_> =
        roles.iter().map(|(group, role)| json!({"identity_provider_group": group, "role_slug": role})).collect();
    let path = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
    store.put(&path, json!({"identity_provider_roles": list})).await.is(200)
}

async fn groups(store: &Running, membership: &str, groups: &[&str]) -> Value {
    let path = format!("/portcullis/v1/organization_memberships/{membership}/identity_provider_groups");
    store.put(&path, json!({"groups": groups})).await.is(200)
}

/// R27: a role of the identity provider stands in for the direct one, and leaves it as it was.
#[test]
fn r27_a_mapped_role_overrides_the_direct_one() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        store.assign(&ada, "admin", &root).await;
        assert!(store.may(&ada, "org:manage", &root).await);
        groups(store, &ada, &["staff", "finance"]).await;
        assert_eq!(store.roles(&ada).await, ["admin"], "nothing is mapped yet");
        map(store, &organization, &[("finance", "billing-admin")]).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        assert!(!store.may(&ada, "org:manage", &root).await);
        assert!(store.may(&ada, "billing:manage", &root).await);
        // Of two the highest priority wins in single-role mode, over the order of the list and that of the names.
        map(store, &organization, &[("finance", "member"), ("staff", "billing-admin")]).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        map(store, &organization, &[("staff", "member"), ("finance", "billing-admin")]).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        groups(store, &ada, &["staff"]).await;
        assert_eq!(store.roles(&ada).await, ["member"]);
        groups(store, &ada, &[]).await;
        assert_eq!(store.roles(&ada).await, ["admin"], "the direct role was kept");
        assert!(store.may(&ada, "org:manage", &root).await);
    });
}

/// D19: base is what the provider gives, else the direct role; groups come on top.
#[test]
fn d19_group_roles_come_on_top() {
    on_every_engine(async |store| {
        for (mode, expected) in [("multiple", vec!["admin", "billing-admin"]), ("single", vec!["admin"])] {
            store.usual_model(mode).await;
            let organization = store.organization(mode).await;
            let ada = store.member(&organization, mode).await;
            let group = store.group(&organization, "g", &[&ada]).await;
            store.assign_group(&group, "admin", None).await;
            map(store, &organization, &[("finance", "billing-admin")]).await;
            groups(store, &ada, &["finance"]).await;
            assert_eq!(store.roles(&ada).await, expected, "{mode}");
            let root = store.root(&organization).await;
            assert!(store.may(&ada, "org:manage", &root).await);
        }
    });
}

/// R27: roles on resources are never touched.
#[test]
fn roles_on_resources_are_never_touched() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        let project = store.resource(&organization, "project", "p", None).await;
        store.assign(&ada, "project-editor", &project).await;
        map(store, &organization, &[("finance", "billing-admin")]).await;
        groups(store, &ada, &["finance"]).await;
        assert!(store.may(&ada, "project:edit", &project).await);
    });
}

/// Mappings are read back; only organization-wide roles of the organization can be mapped, each group once.
#[test]
fn mappings_are_checked_and_read_back() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let path = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
        let set = map(store, &organization, &[("staff", "member"), ("finance", "billing-admin")]).await;
        assert_eq!(set["data"][0], json!({"identity_provider_group": "finance", "role_slug": "billing-admin"}));
        assert_eq!(store.get(&path).await.is(200), set);
        for (role, status, code) in [
            ("project-viewer", 422, "invalid_role"),
            ("nobody", 404, "entity_not_found"),
            ("A", 422, "invalid_request_parameters"),
        ] {
            let body = json!({"identity_provider_roles": [{"identity_provider_group": "g", "role_slug": role}]});
            store.put(&path, body).await.is_error(status, code);
        }
        let twice = json!({"identity_provider_group": "g", "role_slug": "member"});
        store.put(&path, json!({"identity_provider_roles": [twice, twice]})).await.is_error(422, "duplicate");
        let before = store.put(&path, json!({"identity_provider_roles": set["data"]})).await;
        let again = store.put(&path, json!({"identity_provider_roles": set["data"]})).await;
        assert_eq!(before.revision(), again.revision(), "what changes nothing writes nothing");
        store
            .get("/portcullis/v1/organizations/org_none/identity_provider_roles")
            .await
            .is_error(404, "entity_not_found");
        let nobody = "/portcullis/v1/organization_memberships/om_none/identity_provider_groups";
        store.put(nobody, json!({"groups": []})).await.is_error(404, "entity_not_found");
        store.get(nobody).await.is_error(404, "entity_not_found");
    });
}

/// The groups of a membership are read back with the roles they stand for.
#[test]
fn groups_are_read_back_with_their_roles() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        map(store, &organization, &[("finance", "billing-admin")]).await;
        let set = groups(store, &ada, &["staff", "finance", "staff"]).await;
        assert_eq!((&set["groups"], &set["role_slugs"]), (&json!(["finance", "staff"]), &json!(["billing-admin"])));
        let path = format!("/portcullis/v1/organization_memberships/{ada}/identity_provider_groups");
        assert_eq!(store.get(&path).await.is(200), set);
        // Another organization's mapping means nothing here.
        let other = store.organization("globex").await;
        map(store, &other, &[("staff", "admin")]).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
    });
}

/// R25: a role that goes leaves the mappings; the direct role counts again.
#[test]
fn a_deleted_role_leaves_the_mappings() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        let root = store.root(&organization).await;
        store.assign(&ada, "admin", &root).await;
        map(store, &organization, &[("finance", "billing-admin")]).await;
        groups(store, &ada, &["finance"]).await;
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        store.delete("/portcullis/v1/roles/billing-admin").await.is(204);
        assert_eq!(store.roles(&ada).await, ["admin"]);
        assert!(store.may(&ada, "org:manage", &root).await);
        let path = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
        assert_eq!(store.get(&path).await.is(200)["data"], json!([]));
    });
}
