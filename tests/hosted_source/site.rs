//! A store, a proxy before it, and a sidecar that knows nothing but the proxy.

use serde_json::Value;

use crate::api::{KEY, Running, on_sqlite};
use crate::between::Between;
use crate::support::{Builder, System, token};

/// Rules for most tests: a project, the organization, and a project that is asked about at the server.
pub const ROUTES: &str = r#"
- {id: me, match: {path: /me}, authenticated: true}
- {id: view, match: {methods: [GET], path: "/projects/{p}"}, require: "project:view", resource: {type: project, id: "{path.p}"}}
- {id: edit, match: {methods: [PATCH], path: "/projects/{p}"}, require: "project:edit", resource: {type: project, id: "{path.p}"}}
- {id: app, match: {path: "/apps/{a}"}, require: "app:edit", resource: {type: app, id: "{path.a}"}}
- {id: org, match: {path: /org}, require: "org:manage", grants: live}
- {id: billing, match: {path: /billing}, require: "billing:manage", grants: live}
- {id: careful, match: {path: "/careful/{p}"}, require: "project:view", resource: {type: project, id: "{path.p}"}, verify: live}
- {id: careful-org, match: {path: /careful-org}, require: "org:manage", grants: live, verify: live}
- {id: either, match: {path: "/either/{p}"}, require: {any: ["project:view", "project:edit"]},
   resource: {type: project, id: "{path.p}"}, verify: live}
- {id: both, match: {path: "/both/{p}"}, require: {all: ["project:view", "project:edit"]},
   resource: {type: project, id: "{path.p}"}, verify: live}
"#;

/// Facts that live about a second; `more` are further keys.
pub fn facts(between: &Between, more: &str) -> String {
    format!("{{source: workos, url: \"http://{}\", key: {KEY}, ttl: {{min: 1s, max: 1500ms}}{more}}}", between.address)
}

/// A sidecar before `between`, not started yet.
pub fn sidecar(between: &Between, more: &str) -> Builder {
    System::with(ROUTES).facts(&facts(between, more))
}

/// A store with the usual model, and a proxy before it.
pub fn with_store(role_mode: &str, test: impl AsyncFn(&Running, &Between)) {
    on_sqlite(async |store| {
        store.usual_model(role_mode).await;
        let between = Between::before(store.address).await;
        test(store, &between).await;
    });
}

/// A person in an organization, and how they sign their requests.
pub struct Person {
    pub membership: String,
    pub token: String,
}

/// A new member with a token that names the membership, `named`, or leaves it to the facts.
pub async fn person(store: &Running, organization: &str, name: &str, named: bool) -> Person {
    let membership = store.member(organization, name).await;
    let path = format!("/user_management/organization_memberships/{membership}");
    let user = store.get(&path).await.is(200)["user_id"].as_str().unwrap().to_owned();
    let token = token().user(&user).organization(organization);
    let token = if named { token.membership(&membership) } else { token };
    Person { token: token.sign(), membership }
}

/// Takes an assignment away.
pub async fn unassign(store: &Running, membership: &str, assignment: &str) {
    let path = format!("/authorization/organization_memberships/{membership}/role_assignments/{assignment}");
    assert_eq!(store.delete(&path).await.status, 204);
}

/// The status that the sidecar answers to `GET target`.
pub fn status(system: &System, person: &Person, target: &str) -> u16 {
    system.get(target).with(&person.token).send().answer.unwrap().status
}

/// The objects of a list.
pub fn data(body: &mut Value) -> &mut Vec<Value> {
    body["data"].as_array_mut().unwrap()
}
