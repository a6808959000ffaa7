//! The model: read, put in force as a whole, planned; and what it does to those who hold roles (WorkOS contract R16 to R25, R36, R40, R41,
//! R48; our decision D15).

use serde_json::{Value, json};

use crate::support::company::id;
use crate::support::{Running, on_every_engine};

const MODEL: &str = "/portcullis/v1/model";
const PLAN: &str = "/portcullis/v1/model/plan";

async fn model(store: &Running) -> Value {
    store.get(MODEL).await.is(200)
}

/// The model without one of its roles.
fn without_role(model: &Value, slug: &str) -> Value {
    let mut model = model.clone();
    model["roles"].as_array_mut().unwrap().retain(|role| role["slug"] != slug);
    model
}

fn slugs(model: &Value, list: &str) -> Vec<String> {
    model[list].as_array().unwrap().iter().map(|item| item["slug"].as_str().unwrap().to_owned()).collect()
}

/// R16: every environment begins with the default role `member` in single-role mode.
#[test]
fn r16_the_environment_begins_with_member() {
    on_every_engine(async |store| {
        let model = model(store).await;
        assert_eq!((model["role_mode"].as_str(), model["default_role"].as_str()), (Some("single"), Some("member")));
        assert_eq!(slugs(&model, "roles"), ["member"]);
        assert_eq!(model["external_ids"], "per_organization");
    });
}

/// R40, D15: the model is put in force as a whole and read back; putting back what was read changes nothing.
#[test]
fn a_model_is_read_back_as_it_was_put() {
    on_every_engine(async |store| {
        let member = store.get("/authorization/roles/member").await.is(200);
        store.usual_model("multiple").await;
        let read = model(store).await;
        assert_eq!(slugs(&read, "roles")[..3], ["admin", "billing-admin", "member"]);
        assert_eq!(read["resource_types"]["project"]["parents"], json!(["workspace", "organization"]));
        assert_eq!(id(&store.get("/authorization/roles/member").await.is(200)), id(&member), "a role keeps its id");
        let first = store.put(MODEL, read.clone()).await;
        let again = store.put(MODEL, read.clone()).await;
        assert_eq!(first.revision(), again.revision());
        assert_eq!(again.is(200), read);
        assert_eq!(store.post(PLAN, read).await.is(200)["changes"], json!([]));
    });
}

/// D15: what is wrong with a model by itself is said at once, and nothing is written.
#[test]
fn a_faulty_model_is_refused() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let before = model(store).await;
        for (faulty, words) in [
            (json!({"default_role": "nobody"}), "nobody"),
            (json!({}), "there is no default role"),
            (json!({"roles": [{"slug": "admin"}]}), "there is no default role"),
            (
                json!({"resource_types": {"a": {}}, "roles": [{"slug": "member", "resource_type": "a"}]}),
                "there is no default role",
            ),
            (json!({"resource_types": {"a": {"parents": ["b"]}}}), "`b` is not declared"),
            (json!({"resource_types": {"a": {"parents": ["a"]}}}), "no chain of parents"),
            (json!({"roles": [{"slug": "a"}, {"slug": "a"}]}), "declared twice"),
            (json!({"roles": [{"slug": "a", "permissions": ["x"]}]}), "`x` is not declared"),
            (json!({"roles": [{"slug": "a", "name": ""}]}), "empty"),
        ] {
            assert!(store.post(PLAN, faulty.clone()).await.is_error(422, "invalid_model").contains(words), "{words}");
            assert!(store.put(MODEL, faulty).await.is_error(422, "invalid_model").contains(words), "{words}");
        }
        store.put(MODEL, json!({"colour": "red"})).await.is_error(422, "invalid_request_parameters");
        assert_eq!(model(store).await, before);
    });
}

/// R48: at most fifty types, ten below one.
#[test]
fn r48_types_are_limited() {
    on_every_engine(async |store| {
        let types = |count: usize, width: usize| -> Value {
            let parent = |place: usize| match place.checked_sub(1) {
                None => "organization".to_owned(),
                Some(place) => format!("t{}", place / width),
            };
            let types = (0..count).map(|place| (format!("t{place}"), json!({"parents": [parent(place)]})));
            json!({"resource_types": types.collect::<serde_json::Map<_, _>>(), "roles": [{"slug": "member"}]})
        };
        store.put(MODEL, types(50, 10)).await.is(200);
        store.put(MODEL, types(51, 10)).await.is_error(422, "invalid_model");
        store.put(MODEL, types(12, 11)).await.is_error(422, "invalid_model");
    });
}

/// R12: the type of a role or a permission never changes.
#[test]
fn r12_types_of_roles_and_permissions_are_fixed() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let mut changed = model(store).await;
        changed["roles"][5]["resource_type"] = json!("workspace");
        store.put(MODEL, changed).await.is_error(409, "resource_type_immutable");
        let mut changed = model(store).await;
        changed["permissions"][0]["resource_type"] = json!("project");
        store.put(MODEL, changed).await.is_error(409, "resource_type_immutable");
    });
}

/// R36, R41: neither a type nor a parent goes while there are resources that need it.
#[test]
fn r41_types_in_use_stay() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let workspace = store.resource(&organization, "workspace", "w", None).await;
        let project = store.resource(&organization, "project", "p", Some(&workspace)).await;
        let usual = model(store).await;
        let mut narrower = usual.clone();
        narrower["resource_types"]["project"]["parents"] = json!(["workspace"]);
        store.put(MODEL, narrower).await.is(200);
        let mut elsewhere = usual.clone();
        elsewhere["resource_types"]["project"]["parents"] = json!(["organization"]);
        let roles = elsewhere["roles"].as_array_mut().unwrap();
        roles.iter_mut().for_each(|role| role["permissions"] = json!([]));
        store.put(MODEL, elsewhere.clone()).await.is_error(409, "resource_type_in_use");
        store.post(PLAN, elsewhere.clone()).await.is_error(409, "resource_type_in_use");
        store.delete(&format!("/authorization/resources/{project}")).await.is(204);
        store.put(MODEL, elsewhere.clone()).await.is(200);
        let mut gone = elsewhere;
        gone["resource_types"].as_object_mut().unwrap().remove("workspace");
        for list in ["permissions", "roles"] {
            gone[list].as_array_mut().unwrap().retain(|item| item["resource_type"] != "workspace");
        }
        store.put(MODEL, gone.clone()).await.is_error(409, "resource_type_in_use");
        store.delete(&format!("/authorization/resources/{workspace}")).await.is(204);
        store.put(MODEL, gone).await.is(200);
    });
}

/// R13, R41: custom roles keep what they permit within reach, and their types.
#[test]
fn custom_roles_hold_types_in_place() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let path = format!("/authorization/organizations/{organization}/roles");
        store.post(&path, json!({"slug": "org-w", "name": "W", "resource_type_slug": "workspace"})).await.is(201);
        store.post(&format!("{path}/org-w/permissions"), json!({"slug": "project:view"})).await.is(200);
        let mut elsewhere = model(store).await;
        elsewhere["resource_types"]["project"]["parents"] = json!(["organization"]);
        for role in elsewhere["roles"].as_array_mut().unwrap() {
            role["permissions"] = json!([]);
        }
        store.put(MODEL, elsewhere).await.is_error(409, "resource_type_in_use");
        // Unless the permission itself goes: then it leaves the custom role, too.
        let mut without = model(store).await;
        without["permissions"].as_array_mut().unwrap().retain(|permission| permission["slug"] != "project:view");
        for role in without["roles"].as_array_mut().unwrap() {
            role["permissions"].as_array_mut().unwrap().retain(|slug| slug != "project:view");
        }
        store.put(MODEL, without).await.is(200);
        assert_eq!(store.get(&format!("{path}/org-w")).await.is(200)["permissions"], json!([]));
        store.get("/authorization/permissions/project:view").await.is_error(404, "entity_not_found");
        let mut taken = model(store).await;
        taken["roles"].as_array_mut().unwrap().push(json!({"slug": "org-w"}));
        store.put(MODEL, taken).await.is_error(409, "role_slug_conflict");
    });
}

/// R25, single-role mode: whoever held a deleted environment role gets the default role.
#[test]
fn r25_single_holders_get_the_default_role() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let (ada, bob) = (store.member(&organization, "ada").await, store.member(&organization, "bob").await);
        let root = store.root(&organization).await;
        store.assign(&ada, "admin", &root).await;
        let group = store.group(&organization, "g", &[&bob]).await;
        store.assign_group(&group, "admin", None).await;
        assert_eq!((store.roles(&ada).await, store.roles(&bob).await), (vec!["admin".into()], vec!["admin".into()]));
        store.delete("/portcullis/v1/roles/member").await.is_error(409, "role_is_default");
        store.delete("/portcullis/v1/roles/admin").await.is(204);
        store.delete("/portcullis/v1/roles/admin").await.is_error(404, "entity_not_found");
        assert_eq!((store.roles(&ada).await, store.roles(&bob).await), (vec!["member".into()], vec!["member".into()]));
        let direct = store.get(&format!("/authorization/organization_memberships/{ada}/role_assignments")).await;
        assert_eq!(direct.listed("/role/slug"), ["member"]);
        // Made again, it is another role: nobody has it.
        store.post("/authorization/roles", json!({"slug": "admin", "name": "A"})).await.is(201);
        store.post("/authorization/roles/admin/permissions", json!({"slug": "org:manage"})).await.is(200);
        assert_eq!((store.roles(&ada).await, store.roles(&bob).await), (vec!["member".into()], vec!["member".into()]));
        assert!(!store.may(&ada, "org:manage", &root).await && !store.may(&bob, "org:manage", &root).await);
    });
}

/// R25, multiple-roles mode: the role is dropped, the default role comes only when none remains.
#[test]
fn r25_multiple_the_role_is_dropped() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("acme").await;
        let root = store.root(&organization).await;
        let member = async |name: &str, roles: &[&str]| {
            let user = store.user(name).await;
            let body = json!({"user_id": user, "organization_id": organization, "role_slugs": roles});
            id(&store.post("/user_management/organization_memberships", body).await.is(201))
        };
        let ada = member("ada", &["admin"]).await;
        let bob = member("bob", &["admin", "billing-admin"]).await;
        let plan = store.post(PLAN, without_role(&model(store).await, "admin")).await.is(200);
        assert_eq!(
            plan["changes"].as_array().unwrap()[0],
            json!({"action": "update", "kind": "role", "slug": "billing-admin"})
        );
        assert_eq!(
            plan["effects"],
            json!({"memberships_repointed": 1, "assignments_dropped": 2, "group_assignments_dropped": 0,
                   "identity_provider_roles_dropped": 0, "organization_roles_reduced": 0})
        );
        assert!(store.may(&bob, "org:manage", &root).await, "a plan has no effect");
        store.put(MODEL, without_role(&model(store).await, "admin")).await.is(200);
        assert_eq!(store.roles(&ada).await, ["member"]);
        assert_eq!(store.roles(&bob).await, ["billing-admin"]);
        assert!(!store.may(&bob, "org:manage", &root).await && store.may(&bob, "billing:manage", &root).await);
    });
}

/// R25: a resource-scoped role takes its assignments with it, of memberships and of groups.
#[test]
fn r25_resource_roles_take_their_assignments_with_them() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let (ada, bob) = (store.member(&organization, "ada").await, store.member(&organization, "bob").await);
        let project = store.resource(&organization, "project", "p", None).await;
        store.assign(&ada, "project-editor", &project).await;
        let group = store.group(&organization, "g", &[&bob]).await;
        store.assign_group(&group, "project-editor", Some(&project)).await;
        assert!(store.may(&ada, "project:edit", &project).await && store.may(&bob, "project:edit", &project).await);
        store.delete("/portcullis/v1/roles/project-editor").await.is(204);
        assert!(!store.may(&ada, "project:edit", &project).await && !store.may(&bob, "project:edit", &project).await);
        assert_eq!(store.roles(&ada).await, ["member"]);
        let left = store.get(&format!("/authorization/groups/{group}/role_assignments")).await.is(200);
        assert_eq!(left["data"], json!([]));
    });
}

/// R25, R21: an organization whose own default role goes follows the environment again.
#[test]
fn an_own_default_role_that_goes_is_cleared() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let settings = format!("/portcullis/v1/organizations/{organization}/settings");
        store.put(&settings, json!({"default_role": "admin", "priorities": ["member", "admin"]})).await.is(200);
        let ada = store.member(&organization, "ada").await;
        assert_eq!(store.roles(&ada).await, ["admin"]);
        store.delete("/portcullis/v1/roles/admin").await.is(204);
        assert_eq!(store.roles(&ada).await, ["member"]);
        let after = store.get(&settings).await.is(200);
        assert_eq!(after["default_role"], Value::Null);
        assert_eq!(after["priorities"][0], "member");
    });
}

/// R17: from several roles to one: the direct role of the highest priority stays.
#[test]
fn r17_single_keeps_the_highest_direct_role() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (acme, globex) = (store.organization("acme").await, store.organization("globex").await);
        let own = format!("/portcullis/v1/organizations/{globex}/settings");
        store.put(&own, json!({"priorities": ["billing-admin"]})).await.is(200);
        let member = async |organization: &str, name: &str| {
            let user = store.user(name).await;
            let body =
                json!({"user_id": user, "organization_id": organization, "role_slugs": ["billing-admin", "admin"]});
            id(&store.post("/user_management/organization_memberships", body).await.is(201))
        };
        let (ada, bob) = (member(&acme, "ada").await, member(&globex, "bob").await);
        assert_eq!(store.roles(&ada).await, ["admin", "billing-admin"]);
        let mut single = model(store).await;
        single["role_mode"] = json!("single");
        let plan = store.post(PLAN, single.clone()).await.is(200);
        assert_eq!(plan["effects"]["assignments_dropped"], 2);
        store.put(MODEL, single.clone()).await.is(200);
        assert_eq!(store.roles(&ada).await, ["admin"]);
        assert_eq!(store.roles(&bob).await, ["billing-admin"]);
        single["role_mode"] = json!("multiple");
        store.put(MODEL, single).await.is(200);
        assert_eq!(store.roles(&ada).await, ["admin"], "what was dropped does not come back");
    });
}

/// R16, R20: default role and priorities come from the model.
#[test]
fn default_role_and_priorities_follow_the_model() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        let group = store.group(&organization, "g", &[&ada]).await;
        store.assign_group(&group, "admin", None).await;
        let mut turned = model(store).await;
        turned["roles"].as_array_mut().unwrap().reverse();
        turned["default_role"] = json!("billing-admin");
        store.put(MODEL, turned).await.is(200);
        assert_eq!(store.get("/authorization/roles").await.listed("/slug")[5], "admin");
        assert_eq!(store.roles(&ada).await, ["member"]);
        let bob = store.member(&organization, "bob").await;
        assert_eq!(store.roles(&bob).await, ["billing-admin"]);
        store.delete("/portcullis/v1/roles/billing-admin").await.is_error(409, "role_is_default");
        store.delete("/portcullis/v1/roles/member").await.is(204);
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
    });
}

/// A role that is written with its id keeps its holders under another slug; two may trade theirs.
#[test]
fn a_role_with_its_id_can_be_renamed() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("acme").await;
        let ada = store.member(&organization, "ada").await;
        store.assign(&ada, "admin", &store.root(&organization).await).await;
        let mut traded = model(store).await;
        traded["roles"][0]["slug"] = json!("billing-admin");
        traded["roles"][1]["slug"] = json!("admin");
        store.put(MODEL, traded).await.is(200);
        assert_eq!(store.roles(&ada).await, ["billing-admin"]);
        let mut anew = model(store).await;
        let kept = anew["roles"][0]["id"].clone();
        anew["roles"][0] = json!({"slug": "owner", "id": kept});
        anew["roles"].as_array_mut().unwrap().push(json!({"slug": "billing-admin"}));
        store.put(MODEL, anew).await.is(200);
        assert_eq!(store.roles(&ada).await, ["owner"], "the new role of the old name is another one");
    });
}

/// `external_ids: global` is refused while two organizations use one id.
#[test]
fn external_ids_become_global_only_when_they_are() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let (acme, globex) = (store.organization("acme").await, store.organization("globex").await);
        store.resource(&acme, "workspace", "w", None).await;
        let other = store.resource(&globex, "workspace", "w", None).await;
        let mut global = model(store).await;
        global["external_ids"] = json!("global");
        store.put(MODEL, global.clone()).await.is_error(409, "authorization_resource_external_id_conflict");
        store.delete(&format!("/authorization/resources/{other}")).await.is(204);
        assert_eq!(store.put(MODEL, global).await.is(200)["external_ids"], "global");
    });
}
