//! Whatever anybody sends to any operation: what cannot be accepted is refused with a code, by field where there are fields, and writes
//! nothing. The operations and their fields are read from the description of the API, so that none is forgotten.

use serde_json::{Map, Value, json};

use crate::support::{Answer, Running, on_every_engine};

/// What stands in the path of an operation when nothing is wrong with it.
struct World {
    organization: String,
    member: String,
    user: String,
    group: String,
    project: String,
    assignment: String,
    group_assignment: String,
}

/// One operation of the description.
struct Described {
    method: String,
    path: String,
    body: Option<Value>,
    query: Vec<(String, Value)>,
}

impl World {
    async fn new(store: &Running) -> Self {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        let member = store.member(&organization, "ada").await;
        let membership = store.get(&format!("/user_management/organization_memberships/{member}")).await.is(200);
        let user = membership["user_id"].as_str().unwrap().to_owned();
        let group = store.group(&organization, "eng", &[&member]).await;
        let project = store.resource(&organization, "project", "p1", None).await;
        let assignment = store.assign(&member, "project-editor", &project).await;
        let group_assignment = store.assign_group(&group, "project-viewer", Some(&project)).await;
        Self { organization, member, user, group, project, assignment, group_assignment }
    }

    /// What a place in a path is filled with.
    fn fills<'w>(&'w self, path: &str, name: &str) -> &'w str {
        let begins = |start: &str| path.starts_with(start);
        match name {
            "id" if begins("/organizations") => &self.organization,
            "id" if begins("/user_management/users") => &self.user,
            "id" | "omId" | "organization_membership_id" => &self.member,
            "organization_id" | "organizationId" => &self.organization,
            "group_id" | "groupId" => &self.group,
            "user_id" => &self.user,
            "resource_id" => &self.project,
            "resource_type_slug" => "project",
            "external_id" => "p1",
            "role_assignment_id" if begins("/authorization/groups") => &self.group_assignment,
            "role_assignment_id" => &self.assignment,
            "slug" if begins("/authorization/permissions") => "project:edit",
            "slug" => "project-editor",
            "permission_slug" | "permissionSlug" => "project:edit",
            "client_id" | "clientId" => "client_test",
            other => panic!("nothing to put for `{other}` in {path}"),
        }
    }

    /// The path, with something else in one of its places.
    fn path(&self, path: &str, odd: Option<(&str, &str)>) -> String {
        let fill = |segment: &str| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            None => segment.to_owned(),
            Some(name) => match odd {
                Some((place, value)) if place == name => value.to_owned(),
                _ => self.fills(path, name).to_owned(),
            },
        };
        path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }
}

async fn described(store: &Running) -> Vec<Described> {
    let description = store.get("/openapi.json").await.is(200);
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = operation.pointer("/requestBody/content/application~1json/schema");
            let body = schema.map(|schema| resolved(&description, schema).clone());
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let query = parameters.filter(|parameter| parameter["in"] == "query");
            let query =
                query.map(|parameter| (parameter["name"].as_str().unwrap().to_owned(), parameter["schema"].clone()));
            operations.push(Described {
                method: method.to_uppercase(),
                path: path.clone(),
                body,
                query: query.collect(),
            });
        }
    }
    assert!(operations.len() > 80, "{} operations", operations.len());
    operations
}

fn resolved<'d>(description: &'d Value, schema: &'d Value) -> &'d Value {
    let name = schema["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
    name.map_or(schema, |name| description.pointer(name).unwrap())
}

fn is_text(schema: &Value) -> bool {
    let kind = &schema["type"];
    kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string")))
}

/// Wants the answer to be a refusal that a program can read.
#[track_caller]
fn refused(answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(answer.body["code"].as_str().is_some_and(|code| !code.is_empty()), "{answer:?}");
    assert!(answer.body["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert!(!answer.headers.contains_key("x-portcullis-revision"), "{answer:?}");
    // What can be put right field by field is listed field by field.
    assert!(answer.status != 422 || answer.body["errors"].as_array().is_some_and(|all| !all.is_empty()), "{answer:?}");
    for error in answer.body["errors"].as_array().into_iter().flatten() {
        assert!(error["field"].is_string() && error["code"].is_string(), "{answer:?}");
    }
}

async fn revision(store: &Running, slug: &str) -> u64 {
    let answer = store.post("/authorization/permissions", json!({"slug": slug, "name": "N"})).await;
    let revision = answer.revision();
    answer.is(201);
    revision
}

#[test]
fn no_body_that_makes_no_sense_is_accepted_anywhere() {
    on_every_engine(async |store| {
        let world = World::new(store).await;
        let before = revision(store, "before").await;
        for operation in described(store).await {
            let Some(schema) = &operation.body else { continue };
            let (method, path) = (operation.method.as_str(), world.path(&operation.path, None));
            let send = async |body: Vec<u8>| store.send_bytes(method, &path, body, &[]).await;
            for body in [&b"{"[..], b"{\"a\":}", b"nonsense", b"\xff\xfe", b"{}{}"] {
                send(body.to_vec()).await.is_error(400, "bad_request");
            }
            let nested = ["{\"a\":".repeat(200), "1".to_owned(), "}".repeat(200)].concat();
            send(nested.into_bytes()).await.is_error(400, "bad_request");
            send(vec![b' '; 10_000_000]).await.is_error(413, "request_too_large");
            for body in ["[]", "[1]", "\"text\"", "12", "true"] {
                refused(&send(body.into()).await);
            }
            let nested: Value = serde_json::from_str(&["[".repeat(100), "]".repeat(100)].concat()).unwrap();
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            for (name, _) in fields.iter().filter(|(_, schema)| is_text(schema)) {
                let odd = [json!(12), json!(true), json!({"a": 1}), json!(["a"]), json!("a\u{0}b"), nested.clone()];
                for value in odd.into_iter().chain([json!("é".repeat(200_000))]) {
                    let mut body = least(schema, &world);
                    body.insert(name.clone(), value);
                    refused(&send(Value::Object(body).to_string().into_bytes()).await);
                }
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                let mut body = least(schema, &world);
                body.remove(name.as_str().unwrap());
                let answer = send(Value::Object(body).to_string().into_bytes()).await;
                refused(&answer);
                assert_eq!(answer.body["errors"][0]["code"], "required", "{answer:?}");
                assert_eq!(&answer.body["errors"][0]["field"], name, "{answer:?}");
            }
        }
        assert_eq!(revision(store, "after").await, before + 1, "something was written");
    });
}

/// A body with nothing but what is required, and nothing of it amiss.
fn least(schema: &Value, world: &World) -> Map<String, Value> {
    let required = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
    let value = |name: &str| match name {
        "organization_id" => json!(world.organization),
        "user_id" => json!(world.user),
        "organization_membership_id" => json!(world.member),
        "resource_type_slug" => json!("project"),
        "slug" => json!("new"),
        "role_slug" => json!("project-editor"),
        "permission_slug" => json!("project:edit"),
        "email" => json!("bob@example.com"),
        "permissions" | "role_assignments" | "groups" | "roles" | "mappings" => json!([]),
        _ => json!("text"),
    };
    required.map(|name| (name.to_owned(), value(name))).collect()
}

#[test]
fn no_odd_id_in_a_path_is_a_fault_of_ours() {
    on_every_engine(async |store| {
        let world = World::new(store).await;
        let before = revision(store, "before").await;
        let long = "x".repeat(5000);
        let odd = [
            "%00",
            "a%00b",
            "%FF%FE",
            "%C3%A9",
            "%F0%9F%92%A9",
            "%2E%2E%2F%2E%2E",
            "%27%20OR%201%3D1--",
            "%20",
            "%0A",
            &long,
        ];
        for operation in described(store).await {
            let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            for name in names {
                for value in odd {
                    let path = world.path(&operation.path, Some((name, value)));
                    let body = operation.body.as_ref().map(|schema| Value::Object(least(schema, &world)));
                    refused(&store.send(&operation.method, &path, body, &[]).await);
                }
            }
        }
        assert_eq!(revision(store, "after").await, before + 1, "something was written");
    });
}

#[test]
fn no_odd_parameter_is_a_fault_of_ours() {
    on_every_engine(async |store| {
        let world = World::new(store).await;
        let before = revision(store, "before").await;
        for operation in described(store).await {
            let path = world.path(&operation.path, None);
            for (name, schema) in &operation.query {
                let odd: &[&str] = match name.as_str() {
                    "limit" => &["0", "-1", "101", "1.5", "abc", "", "99999999999999999999", "10&limit=20"],
                    "order" => &["up", "", "ASC", "%00"],
                    "cascade_delete" => &["yes", "2", "", "%00"],
                    "assignment" => &["other", "", "%00"],
                    "statuses" => &["gone", "active,gone", "%00"],
                    "before" | "after" => &["perm_01KAR6SFYNNNNNNNNNNNNNNNNN", "nobody", "", "%00", "%C3%A9", "%FF"],
                    _ => &["%00", "a%00b", "%FF", "%C3%A9%F0%9F%92%A9", "%27%20OR%201%3D1--"],
                };
                let free = is_text(schema) && odd.contains(&"a%00b");
                for value in odd {
                    let required = operation.query.iter().filter(|(other, _)| other != name && name != "organization");
                    let others: String = required.filter_map(|(other, _)| needed(other, &world)).collect();
                    let path = format!("{path}?{name}={value}{others}");
                    let answer = store.send(&operation.method, &path, None, &[]).await;
                    // What is looked for may be anything; it is not found.
                    if free && operation.method == "GET" && answer.status == 200 {
                        assert_eq!(answer.body["data"], json!([]), "{answer:?}");
                        continue;
                    }
                    refused(&answer);
                }
            }
        }
        assert_eq!(revision(store, "after").await, before + 1, "something was written");
    });
}

/// What some lists do not answer without.
fn needed(name: &str, world: &World) -> Option<String> {
    match name {
        "permission_slug" => Some("&permission_slug=project%3Aedit".to_owned()),
        "organization_id" => Some(format!("&organization_id={}", world.organization)),
        _ => None,
    }
}
