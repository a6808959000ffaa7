//! Short ways to the rows that most tests begin with.

use serde_json::{Value, json};

use super::Api;

impl Api {
    /// A new organization's id.
    pub async fn organization(&self, name: &str) -> String {
        id(&self.post("/organizations", json!({"name": name})).await.is(201))
    }

    /// A new user in an organization: the membership's id.
    pub async fn member(&self, organization: &str, name: &str) -> String {
        let user = self.user(name).await;
        let body = json!({"user_id": user, "organization_id": organization});
        id(&self.post("/user_management/organization_memberships", body).await.is(201))
    }

    /// A new user's id.
    pub async fn user(&self, name: &str) -> String {
        let body = json!({"email": format!("{name}@example.com")});
        id(&self.post("/user_management/users", body).await.is(201))
    }

    /// A new group's id.
    pub async fn group(&self, organization: &str, name: &str, members: &[&str]) -> String {
        let path = format!("/organizations/{organization}/groups");
        let group = id(&self.post(&path, json!({"name": name})).await.is(201));
        for member in members {
            let path = format!("{path}/{group}/organization-memberships");
            self.post(&path, json!({"organization_membership_id": member})).await.is(200);
        }
        group
    }

    /// A model: see `interfaces.md`, the model file, as JSON.
    pub async fn model(&self, model: Value) {
        self.put("/portcullis/v1/model", model).await.is(200);
    }

    /// The model of the examples: workspaces, projects in them, apps in those; a role for each.
    pub async fn usual_model(&self, role_mode: &str) {
        self.model(json!({
            "role_mode": role_mode,
            "default_role": "member",
            "resource_types": {
                "workspace": {"parents": ["organization"]},
                "project": {"parents": ["workspace", "organization"]},
                "app": {"parents": ["project"]},
            },
            "permissions": [
                {"slug": "org:manage", "name": "Manage"},
                {"slug": "billing:manage", "name": "Billing"},
                {"slug": "workspace:edit", "name": "Edit workspaces", "resource_type": "workspace"},
                {"slug": "project:view", "name": "View projects", "resource_type": "project"},
                {"slug": "project:edit", "name": "Edit projects", "resource_type": "project"},
                {"slug": "app:edit", "name": "Edit apps", "resource_type": "app"},
            ],
            "roles": [
                {"slug": "admin", "name": "Admin", "permissions": ["org:manage", "billing:manage", "project:view", "project:edit"]},
                {"slug": "billing-admin", "name": "Billing admin", "permissions": ["billing:manage"]},
                {"slug": "member", "name": "Member", "permissions": []},
                {"slug": "workspace-admin", "name": "Workspace admin", "resource_type": "workspace",
                 "permissions": ["workspace:edit", "project:view", "project:edit", "app:edit"]},
                {"slug": "project-editor", "name": "Project editor", "resource_type": "project",
                 "permissions": ["project:view", "project:edit"]},
                {"slug": "project-viewer", "name": "Project viewer", "resource_type": "project",
                 "permissions": ["project:view"]},
            ],
        }))
        .await;
    }

    /// A new resource's id; below the root without `parent`, an id.
    pub async fn resource(&self, organization: &str, kind: &str, external_id: &str, parent: Option<&str>) -> String {
        let mut body = json!({
            "organization_id": organization, "resource_type_slug": kind, "external_id": external_id, "name": external_id,
        });
        if let Some(parent) = parent {
            body["parent_resource_id"] = json!(parent);
        }
        id(&self.post("/authorization/resources", body).await.is(201))
    }

    /// Gives a membership a role on a resource; the assignment's id.
    pub async fn assign(&self, membership: &str, role: &str, resource: &str) -> String {
        let path = format!("/authorization/organization_memberships/{membership}/role_assignments");
        id(&self.post(&path, json!({"role_slug": role, "resource_id": resource})).await.is(201))
    }

    /// Gives a group a role, organization-wide without a resource; the assignment's id.
    pub async fn assign_group(&self, group: &str, role: &str, resource: Option<&str>) -> String {
        let path = format!("/authorization/groups/{group}/role_assignments");
        let mut body = json!({"role_slug": role});
        if let Some(resource) = resource {
            body["resource_id"] = json!(resource);
        }
        id(&self.post(&path, body).await.is(201))
    }

    /// What `check` says.
    pub async fn may(&self, membership: &str, permission: &str, resource: &str) -> bool {
        let path = format!("/authorization/organization_memberships/{membership}/check");
        let body = json!({"permission_slug": permission, "resource_id": resource});
        self.post(&path, body).await.is(200)["authorized"].as_bool().unwrap()
    }

    /// The root resource of an organization.
    pub async fn root(&self, organization: &str) -> String {
        let path = format!("/authorization/organizations/{organization}/resources/organization/{organization}");
        id(&self.get(&path).await.is(200))
    }

    /// The organization roles of a membership, highest priority first.
    pub async fn roles(&self, membership: &str) -> Vec<String> {
        let body = self.get(&format!("/user_management/organization_memberships/{membership}")).await.is(200);
        let roles = body["roles"].as_array().unwrap();
        roles.iter().map(|role| role["slug"].as_str().unwrap().to_owned()).collect()
    }
}

/// The id of an object.
#[track_caller]
pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}
