//! The commands that ask a store: over its API where it runs, on its database where it does not; and the model that it is started with.

use std::path::Path;

use portcullis::app::store::{ModelAtStart, apply_additions};
use portcullis::wire::Model;
use serde_json::{Value, json};

use crate::support::on_every_engine;
use crate::support::process::{Process, configure, run};

const MODEL: &str =
    "permissions: [{slug: 'org:manage'}]\nroles:\n  - {slug: admin, permissions: ['org:manage']}\n  - {slug: member}\n";
const WITHOUT_ADMIN: &str = "permissions: [{slug: 'org:manage'}]\nroles:\n  - {slug: member}\n";

/// What a command prints when it succeeds.
#[track_caller]
fn printed(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn slugs(model: &Value) -> Vec<&str> {
    model["roles"].as_array().unwrap().iter().map(|role| role["slug"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_model_is_planned_and_applied_whether_the_store_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.yaml"), MODEL).unwrap();
    std::fs::write(folder.path().join("less.yaml"), WITHOUT_ADMIN).unwrap();
    configure(folder.path(), "");
    let plan = |model| printed(folder.path(), &["model", "plan", "--config", "store.yaml", model]);
    let apply = |model| printed(folder.path(), &["model", "apply", "--config", "store.yaml", model]);
    // It does not run.
    let planned = plan("model.yaml");
    assert_eq!(planned["changes"].as_array().map(Vec::len), Some(3), "{planned}");
    assert_eq!(slugs(&apply("model.yaml")), ["admin", "member"]);
    assert_eq!(plan("model.yaml")["changes"], json!([]));
    // It runs.
    let store = Process::start_in(folder.path(), "").await;
    let ada = store.member(&store.organization("Acme").await, "ada").await;
    store.put(&format!("/user_management/organization_memberships/{ada}"), json!({"role_slug": "admin"})).await.is(200);
    assert_eq!(plan("less.yaml")["effects"]["memberships_repointed"], 1);
    assert_eq!(store.roles(&ada).await, ["admin"]);
    assert_eq!(slugs(&apply("less.yaml")), ["member"]);
    assert_eq!(store.roles(&ada).await, ["member"]);
    let by = store.get("/portcullis/v1/audit?limit=1").await.listed("/key");
    assert_eq!(by, ["api_key_1"], "the running store was asked, with its own key");
    store.stop();
}

#[test]
fn a_model_that_is_refused_says_why() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "");
    for (model, code, words) in [
        ("roles: [{slug: admin}]\n", 2, "model.yaml:1:1: there is no default role"),
        ("roles: [{slug: member, permissions: [nothing]}]\n", 2, "`nothing` is not declared"),
    ] {
        std::fs::write(folder.path().join("model.yaml"), model).unwrap();
        for command in ["plan", "apply"] {
            let output = run(folder.path(), &["model", command, "--config", "store.yaml", "model.yaml"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(code) && said.contains(words), "{output:?}");
        }
    }
}

#[tokio::test]
async fn a_token_is_minted_whether_the_store_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = "issuer: {url: http://store.test, client_id: client_dev, signing_key: issuer.pem}";
    let store = Process::start_in(folder.path(), issuer).await;
    let ada = store.member(&store.organization("Acme").await, "ada").await;
    let mint = || {
        let output = run(folder.path(), &["token", "mint", "--config", "store.yaml", "--membership", &ada]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let claims = |token: &str| {
        let output = run(folder.path(), &["token", "inspect", token.trim()]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["claims"].clone()
    };
    let running = claims(&mint());
    assert_eq!(running["organization_membership_id"], json!(ada));
    store.stop();
    let stopped = claims(&mint());
    assert_eq!((&stopped["sub"], &stopped["iss"]), (&running["sub"], &json!("http://store.test")));
    assert_ne!(stopped["sid"], running["sid"], "each has a session of its own");
    let unknown = run(folder.path(), &["token", "mint", "--config", "store.yaml", "--membership", "om_nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("404"), "{unknown:?}");
}

fn model(value: Value) -> Model {
    serde_json::from_value(value).unwrap()
}

/// The model of the configuration is put in force at start while it takes nothing away.
#[test]
fn at_start_a_model_is_applied_when_it_only_adds() {
    on_every_engine(async |store| {
        let start = async |wanted: Value| apply_additions(&store.store, &model(wanted)).await;
        let roles = async || store.get("/authorization/roles").await.listed("/slug");
        let member = json!({"slug": "member", "name": "Everybody"});
        // Nobody has used the environment yet: its own role `member` may be another.
        let first = json!({"roles": [member]});
        assert_eq!(start(first.clone()).await.unwrap(), ModelAtStart::Applied);
        assert_eq!(start(first).await.unwrap(), ModelAtStart::InForce);
        store.organization("Acme").await;
        let admin = json!({"slug": "admin", "permissions": ["org:manage"]});
        let more = json!({"permissions": [{"slug": "org:manage"}], "roles": [admin, member]});
        assert_eq!(start(more.clone()).await.unwrap(), ModelAtStart::Applied);
        assert_eq!(roles().await, ["admin", "member"]);
        for less in [
            json!({"permissions": [{"slug": "org:manage"}], "roles": [member]}),
            json!({"permissions": [{"slug": "org:manage"}], "roles": [{"slug": "admin"}, member]}),
            json!({"permissions": [{"slug": "org:manage"}], "roles": [member, admin]}),
            json!({"role_mode": "multiple", "permissions": [{"slug": "org:manage"}], "roles": [admin, member]}),
            json!({"default_role": "admin", "permissions": [{"slug": "org:manage"}], "roles": [admin, member]}),
        ] {
            assert_eq!(start(less.clone()).await.unwrap(), ModelAtStart::NeedsApply, "{less}");
        }
        assert_eq!(start(more).await.unwrap(), ModelAtStart::InForce);
        let faulty = json!({"permissions": [{"slug": "org:manage"}], "roles": [admin, member, {"slug": "x", "permissions": ["y"]}]});
        let refused = start(faulty).await.unwrap_err().to_string();
        assert!(refused.contains("`y` is not declared"), "{refused}");
        assert_eq!(roles().await, ["admin", "member"]);
    });
}

#[tokio::test]
async fn the_model_of_the_configuration_is_in_force_at_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.yaml"), MODEL).unwrap();
    let store = Process::start_in(folder.path(), "model: model.yaml").await;
    assert_eq!(store.get("/authorization/roles").await.listed("/slug"), ["admin", "member"]);
    store.stop();
    std::fs::write(folder.path().join("model.yaml"), WITHOUT_ADMIN).unwrap();
    let store = Process::start_in(folder.path(), "model: model.yaml").await;
    assert_eq!(store.get("/authorization/roles").await.listed("/slug"), ["admin", "member"], "what is held stays");
    store.stop();
}

/// D7: `max_depth` of the configuration.
#[tokio::test]
async fn the_depth_of_the_configuration_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Process::start_in(folder.path(), "max_depth: 1").await;
    store.usual_model("single").await;
    let organization = store.organization("Acme").await;
    let workspace = store.resource(&organization, "workspace", "w", None).await;
    let deeper = json!({"organization_id": organization, "resource_type_slug": "project", "external_id": "p", "name": "P",
                        "parent_resource_id": workspace});
    store.post("/authorization/resources", deeper).await.is_error(422, "resource_hierarchy_too_deep");
    store.stop();
}
