//! The sample company, put into a store through its public API.

use std::collections::HashMap;

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

use crate::cli::store_client::StoreClient;
use crate::domain::record::MembershipStatus;
use crate::wire::{Grant, GroupSpec, MembershipSpec, Model, OrganizationSpec, ResourceName, RoleSpec};
use crate::yaml::{self, Node};

/// The ids that the store gave to what the sample company calls `om_alice`, `group_finance` and so on.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<String, String>);

impl Ids {
    /// The store's id for a name of the sample.
    pub(super) fn of(&self, name: &str) -> anyhow::Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("the sample company has no `{name}`"))
    }

    fn note(&mut self, name: impl ToString, object: &Value) -> anyhow::Result<String> {
        let id = object.get("id").and_then(Value::as_str).context("the store gave no id")?;
        self.0.insert(name.to_string(), id.to_owned());
        Ok(id.to_owned())
    }
}

/// Puts everything that `facts` describes into an empty store.
pub(super) async fn seed(store: &StoreClient, facts: &str) -> anyhow::Result<Ids> {
    let document = yaml::parse("config/demo/facts.yaml", facts, None)?;
    let model: Model = document.get("model").context("the sample has no model")?.read_all()?;
    store.expect(Method::PUT, "/portcullis/v1/model", Some(&serde_json::to_value(&model)?)).await?;
    let mut seeding = Seeding { store, ids: Ids::default() };
    for node in document.get("organizations").map(Node::items).unwrap_or_default() {
        seeding.organization(&node.read_all()?).await?;
    }
    Ok(seeding.ids)
}

struct Seeding<'a> {
    store: &'a StoreClient,
    ids: Ids,
}

impl Seeding<'_> {
    async fn organization(&mut self, spec: &OrganizationSpec) -> anyhow::Result<()> {
        let name = spec.name.as_deref().unwrap_or(spec.id.as_str());
        let organization = self.post("/organizations", json!({"name": name})).await?;
        let organization = self.ids.note(&spec.id, &organization)?;
        for role in &spec.roles {
            self.role(&organization, role).await?;
        }
        for membership in &spec.memberships {
            self.membership(&organization, membership).await?;
        }
        for group in &spec.groups {
            self.group(&organization, group).await?;
        }
        for resource in &spec.resources {
            let mut body = json!({
                "organization_id": organization,
                "resource_type_slug": resource.resource_type,
                "external_id": resource.id,
                "name": resource.name.as_deref().unwrap_or(resource.id.as_str()),
            });
            if let ResourceName::Named { resource_type, external_id } = &resource.parent {
                set(&mut body, "parent_resource_type_slug", resource_type);
                set(&mut body, "parent_resource_external_id", external_id);
            }
            self.post("/authorization/resources", body).await?;
        }
        for grant in &spec.assignments {
            let membership = self.ids.of(grant.subject.as_str())?;
            let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
            self.post(&path, target(grant, &organization)).await?;
        }
        for grant in &spec.group_assignments {
            let group = self.ids.of(grant.subject.as_str())?;
            let path = format!("/authorization/groups/{group}/role_assignments");
            let assignment = self.post(&path, target(grant, &organization)).await?;
            self.ids.note(format!("{} {}", grant.subject, grant.role), &assignment)?;
        }
        Ok(())
    }

    async fn role(&self, organization: &str, role: &RoleSpec) -> anyhow::Result<()> {
        let path = format!("/authorization/organizations/{organization}/roles");
        let name = role.name.as_deref().unwrap_or(role.slug.as_str());
        let body = json!({"slug": role.slug, "name": name, "resource_type_slug": role.resource_type});
        self.post(&path, body).await?;
        let path = format!("{path}/{}/permissions", role.slug);
        self.store.expect(Method::PUT, &path, Some(&json!({"permissions": role.permissions}))).await?;
        Ok(())
    }

    async fn membership(&mut self, organization: &str, spec: &MembershipSpec) -> anyhow::Result<()> {
        let user = match self.ids.of(spec.user.as_str()) {
            Ok(user) => user.to_owned(),
            Err(_) => {
                let name = spec.user.as_str().trim_start_matches("user_");
                let user = self.post("/user_management/users", json!({"email": format!("{name}@example.com")})).await?;
                self.ids.note(&spec.user, &user)?
            }
        };
        let mut body = json!({"user_id": user, "organization_id": organization});
        if !spec.roles.is_empty() {
            set(&mut body, "role_slugs", &spec.roles);
        }
        let membership = self.post("/user_management/organization_memberships", body).await?;
        let id = self.ids.note(&spec.id, &membership)?;
        if spec.status == MembershipStatus::Inactive {
            let path = format!("/user_management/organization_memberships/{id}/deactivate");
            self.store.expect(Method::PUT, &path, None).await?;
        }
        Ok(())
    }

    async fn group(&mut self, organization: &str, spec: &GroupSpec) -> anyhow::Result<()> {
        let path = format!("/organizations/{organization}/groups");
        let name = spec.name.as_deref().unwrap_or(spec.id.as_str());
        let group = self.post(&path, json!({"name": name})).await?;
        let id = self.ids.note(&spec.id, &group)?;
        for member in &spec.members {
            let path = format!("{path}/{id}/organization-memberships");
            let member = self.ids.of(member.as_str())?;
            self.post(&path, json!({"organization_membership_id": member})).await?;
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let created = self.store.expect(Method::POST, path, Some(&body)).await;
        created.with_context(|| format!("POST {path} {body}"))
    }
}

/// What to assign, and on what: without a resource, on the organization itself.
fn target<S>(grant: &Grant<S>, organization: &str) -> Value {
    match &grant.resource {
        ResourceName::Organization => json!({
            "role_slug": grant.role, "resource_type_slug": "organization", "resource_external_id": organization,
        }),
        ResourceName::Named { resource_type, external_id } => json!({
            "role_slug": grant.role, "resource_type_slug": resource_type, "resource_external_id": external_id,
        }),
    }
}

fn set(body: &mut Value, key: &str, value: impl serde::Serialize) {
    if let (Some(object), Ok(value)) = (body.as_object_mut(), serde_json::to_value(value)) {
        object.insert(key.to_owned(), value);
    }
}
