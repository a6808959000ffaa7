//! An organization of any size: its frame through the API, its many rows straight into the tables while no store runs.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};

use super::target::{Client, Target, clients};

/// What was made.
pub struct Company {
    pub organization: String,
    pub root: String,
    pub group: String,
    /// Membership ids.
    pub members: Vec<String>,
    /// Resource ids of projects.
    pub projects: Vec<String>,
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// A company with this many members, all in one group, and projects; and direct assignments on projects.
pub fn make(database: &str, members: usize, projects: usize, assignments: usize) -> Company {
    let runtime = clients();
    let target = Target::start(database, 1);
    let (organization, root, group, viewer) = runtime.block_on(async {
        let mut client = Client::connect(target.address).await;
        let model = json!({
            "role_mode": "multiple",
            "default_role": "member",
            "resource_types": {"project": {"parents": ["organization"]}},
            "permissions": [{"slug": "project:view", "name": "View", "resource_type": "project"}],
            "roles": [
                {"slug": "member", "name": "Member", "permissions": []},
                {"slug": "auditor", "name": "Auditor", "permissions": ["project:view"]},
                {"slug": "viewer", "name": "Viewer", "resource_type": "project", "permissions": ["project:view"]},
            ],
        });
        client.send("PUT", "/portcullis/v1/model", &model).await;
        let organization = id(&client.send("POST", "/organizations", &json!({"name": "Bench"})).await);
        let path = format!("/authorization/organizations/{organization}/resources/organization/{organization}");
        let root = id(&client.send("GET", &path, &Value::Null).await);
        let path = format!("/organizations/{organization}/groups");
        let group = id(&client.send("POST", &path, &json!({"name": "Everybody"})).await);
        let viewer = id(&client.send("GET", "/authorization/roles/viewer", &Value::Null).await);
        (organization, root, group, viewer)
    });
    drop(target);
    let members: Vec<String> = (0..members).map(|number| format!("om_{number:026}")).collect();
    let projects: Vec<String> = (0..projects).map(|number| format!("authz_resource_{number:026}")).collect();
    runtime.block_on(async {
        let mut connection = sqlx::AnyConnection::connect(database).await.unwrap();
        let mut tx = connection.begin().await.unwrap();
        let org = &organization;
        let rows = |table: &str, rows: Vec<String>| (table.to_owned(), rows);
        let number = |id: &str| id.rsplit('_').next().unwrap().to_owned();
        let each = |make: &dyn Fn(&String) -> String| members.iter().map(make).collect::<Vec<_>>();
        let tables = [
            rows(
                "users (id, email, email_verified, metadata, created_at, updated_at)",
                each(&|om| format!("('user_{0}', '{0}@example.com', 0, '{{}}', 1, 1)", number(om))),
            ),
            rows(
                "memberships (id, organization_id, user_id, status, directory_managed, custom_attributes, \
                 identity_provider_groups, created_at, updated_at)",
                each(&|om| format!("('{om}', '{org}', 'user_{}', 'active', 0, '{{}}', '[]', 1, 1)", number(om))),
            ),
            rows("group_members (group_id, membership_id, created_at)", each(&|om| format!("('{group}', '{om}', 1)"))),
            rows(
                "resources (id, organization_id, resource_type_slug, external_id, parent_id, name, created_at, updated_at)",
                projects
                    .iter()
                    .map(|id| format!("('{id}', '{org}', 'project', '{}', '{root}', 'P', 1, 1)", number(id)))
                    .collect(),
            ),
            rows(
                "assignments (id, organization_id, membership_id, role_id, resource_id, created_at)",
                (0..assignments)
                    .map(|place| {
                        let (om, project) = (&members[place / projects.len()], &projects[place % projects.len()]);
                        format!("('role_assignment_{place:026}', '{org}', '{om}', '{viewer}', '{project}', 1)")
                    })
                    .collect(),
            ),
        ];
        for (table, rows) in tables {
            for some in rows.chunks(500) {
                let text = format!("INSERT INTO {table} VALUES {}", some.join(", "));
                sqlx::query(AssertSqlSafe(text)).execute(&mut *tx).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
    });
    Company { organization, root, group, members, projects }
}
