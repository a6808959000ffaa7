//! Events, as clients read them (WorkOS contract, sections 1.11 and 6).

use serde_json::{Value, json};

use crate::support::{Running, company::id, on_every_engine};

async fn kinds(store: &Running, query: &str) -> Vec<String> {
    store.get(&format!("/events?{query}")).await.listed("/event")
}

#[test]
fn events_are_read_oldest_first_from_the_last_one_known() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        store.group(&organization, "Engineering", &[&membership]).await;
        let expected = [
            "organization.created",
            "user.created",
            "organization_membership.created",
            "group.created",
            "group.member_added",
        ];
        let all = store.get("/events").await.is(200);
        assert_eq!(all["object"], "list");
        assert_eq!(all["list_metadata"], json!({"after": null}), "there is no `before`");
        let event = &all["data"][0];
        assert_eq!(event["object"], "event");
        assert!(id(event).starts_with("event_"));
        assert!(event["created_at"].as_str().unwrap().ends_with('Z'));
        assert!(event.get("updated_at").is_none());
        assert_eq!(kinds(store, "limit=100").await, expected);
        let mut read = Vec::new();
        let mut after = String::new();
        loop {
            let page = store.get(&format!("/events?limit=2{after}")).await.is(200);
            read.extend(
                page["data"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()),
            );
            match page["list_metadata"]["after"].as_str() {
                Some(id) => after = format!("&after={id}"),
                None => break,
            }
        }
        assert_eq!(read, expected);
        let last = id(&all["data"][4]);
        assert_eq!(kinds(store, &format!("after={last}")).await, Vec::<String>::new());
        store.organization("Bolt").await;
        assert_eq!(kinds(store, &format!("after={last}")).await, ["organization.created"]);
        assert_eq!(kinds(store, &format!("before={last}&limit=2")).await, expected[2..4]);
        assert_eq!(kinds(store, &format!("order=desc&after={last}&limit=1")).await, ["group.created"]);
    });
}

#[test]
fn events_are_chosen_by_kind_organization_and_time() {
    on_every_engine(async |store| {
        let (acme, bolt) = (store.organization("Acme").await, store.organization("Bolt").await);
        store.member(&acme, "ada").await;
        store.group(&bolt, "Engineering", &[]).await;
        let chosen = kinds(store, "events=group.created%2Corganization.created").await;
        assert_eq!(chosen, ["organization.created", "organization.created", "group.created"]);
        let of_bolt = kinds(store, &format!("organization_id={bolt}")).await;
        assert_eq!(of_bolt, ["organization.created", "group.created"]);
        let both = kinds(store, &format!("organization_id={bolt}&events=group.created")).await;
        assert_eq!(both, ["group.created"]);
        assert_eq!(kinds(store, "events=nothing.happened").await, Vec::<String>::new());
        assert_eq!(
            kinds(store, "range_start=2020-01-01T00:00:00Z&range_end=2020-02-01T00:00:00.000Z").await,
            Vec::<String>::new()
        );
        assert_eq!(kinds(store, "range_start=2020-01-01T00:00:00Z&limit=1").await, ["organization.created"]);
        assert_eq!(kinds(store, "range_start=2999-01-01T00:00:00Z").await, Vec::<String>::new());
        let second = store.get("/events").await.is(200)["data"][1].clone();
        let at = second["created_at"].as_str().unwrap().to_owned();
        let cursor = format!("after={}&range_start=2020-01-01T00:00:00Z", id(&second));
        assert_eq!(kinds(store, &cursor).await.len(), 3, "a range may stand beside a cursor");
        let until = store.get(&format!("/events?range_end={at}")).await.is(200);
        assert!(
            until["data"].as_array().unwrap().iter().all(|event| event["created_at"].as_str().unwrap() < at.as_str())
        );
    });
}

#[test]
fn what_makes_no_sense_is_refused_by_field() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        store.get("/events?after=event_nothing").await.is_error(422, "unknown_cursor");
        store.get(&format!("/events?after={organization}")).await.is_error(422, "unknown_cursor");
        store.get("/events?after=event_1&before=event_2").await.is_error(422, "ambiguous_cursor");
        for (query, field) in [
            ("range_start=2026-01-01T00:00:00%2B01:00", "range_start"),
            ("range_end=yesterday", "range_end"),
            ("range_end=2026-13-01T00:00:00Z", "range_end"),
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("order=sideways", "order"),
        ] {
            let refused = store.get(&format!("/events?{query}")).await;
            assert_eq!(refused.body["errors"][0]["field"], field, "{}", refused.body);
            refused.is_error(422, "invalid_request_parameters");
        }
    });
}

/// A write that is refused, and one that changes nothing, publishes nothing.
#[test]
fn only_what_happened_is_an_event() {
    on_every_engine(async |store| {
        let organization = store.organization("Acme").await;
        let membership = store.member(&organization, "ada").await;
        let path = format!("/user_management/organization_memberships/{membership}");
        let before = store.get("/events?limit=100").await.is(200);
        store.put(&format!("{path}/reactivate"), json!({})).await.is(200);
        store.put(&path, json!({"role_slug": "member"})).await.is(200);
        store.put(&format!("/organizations/{organization}"), json!({"name": "Acme"})).await.is(200);
        store.post("/organizations", json!({"name": ""})).await.is_error(422, "invalid_request_parameters");
        assert_eq!(store.get("/events?limit=100").await.is(200), before);
        store.put(&format!("{path}/deactivate"), json!({})).await.is(200);
        let data: Value = store.get("/events?order=desc&limit=1").await.is(200)["data"][0]["data"].clone();
        assert_eq!((&data["status"], data.get("user")), (&json!("inactive"), None));
    });
}

/// The memberships that were told to have other roles since `after`, oldest first, and the roles.
async fn altered_since(store: &Running, after: &str) -> Vec<(String, Vec<String>)> {
    let query = format!("limit=100&events=organization_membership.updated&after={after}");
    let page = store.get(&format!("/events?{query}")).await.is(200);
    let slug = |role: &Value| role["slug"].as_str().unwrap().to_owned();
    let told = |event: &Value| {
        let data = &event["data"];
        let roles: Vec<String> = data["roles"].as_array().unwrap().iter().map(slug).collect();
        assert_eq!(data["role"]["slug"], json!(roles[0]));
        (id(data), roles)
    };
    page["data"].as_array().unwrap().iter().map(told).collect()
}

async fn last(store: &Running) -> String {
    let all = store.get("/events?limit=100").await.is(200);
    id(all["data"].as_array().unwrap().last().unwrap())
}

/// Three members with the default role: the first has another as well, the second has that one through a group, the third has neither.
async fn three(store: &Running) -> (String, [String; 3]) {
    let organization = store.organization("Acme").await;
    let root = store.root(&organization).await;
    let direct = store.member(&organization, "direct").await;
    let indirect = store.member(&organization, "indirect").await;
    let neither = store.member(&organization, "neither").await;
    store.assign(&direct, "billing-admin", &root).await;
    let group = store.group(&organization, "eng", &[&indirect]).await;
    store.assign_group(&group, "billing-admin", None).await;
    (organization, [direct, indirect, neither])
}

/// R25: whoever had the role that goes.
#[test]
fn a_role_that_goes_is_an_event_for_each_who_had_it() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (_, [direct, indirect, _]) = three(store).await;
        let before = last(store).await;
        store.delete("/portcullis/v1/roles/billing-admin").await.is(204);
        let left = vec!["member".to_owned()];
        assert_eq!(altered_since(store, &before).await, [(direct, left.clone()), (indirect, left)]);
        // Nobody has a role on a resource as an organization role.
        let before = last(store).await;
        store.delete("/portcullis/v1/roles/workspace-admin").await.is(204);
        assert_eq!(altered_since(store, &before).await, []);
    });
}

/// R17: whoever has several roles in one mode and one in the other.
#[test]
fn a_switch_of_the_role_mode_is_an_event_for_each_whom_it_alters() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (_, [direct, indirect, _]) = three(store).await;
        let before = last(store).await;
        store.usual_model("single").await;
        let highest = vec!["billing-admin".to_owned()];
        let told = [(direct, highest.clone()), (indirect.clone(), highest)];
        assert_eq!(altered_since(store, &before).await, told);
        // What was taken from the first does not come back; the second had it through the group all the time.
        let before = last(store).await;
        store.usual_model("multiple").await;
        let both = vec!["billing-admin".to_owned(), "member".to_owned()];
        assert_eq!(altered_since(store, &before).await, [(indirect, both)]);
    });
}

/// R27: whoever the identity provider gives or takes a role.
#[test]
fn roles_from_the_identity_provider_are_events_where_they_alter_something() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let (organization, [direct, _, neither]) = three(store).await;
        let groups =
            |member: &str| format!("/portcullis/v1/organization_memberships/{member}/identity_provider_groups");
        let roles = format!("/portcullis/v1/organizations/{organization}/identity_provider_roles");
        let before = last(store).await;
        store.put(&groups(&direct), json!({"groups": ["staff"]})).await.is(200);
        store.put(&groups(&neither), json!({"groups": ["staff"]})).await.is(200);
        assert_eq!(altered_since(store, &before).await, [], "nothing is mapped yet");
        let mapping = json!([{"identity_provider_group": "staff", "role_slug": "admin"}]);
        store.put(&roles, json!({"identity_provider_roles": mapping})).await.is(200);
        let admin = vec!["admin".to_owned()];
        let told = [(direct.clone(), admin.clone()), (neither.clone(), admin)];
        assert_eq!(altered_since(store, &before).await, told);
        let before = last(store).await;
        store.put(&roles, json!({"identity_provider_roles": mapping})).await.is(200);
        assert_eq!(altered_since(store, &before).await, [], "nothing is different");
        store.put(&groups(&neither), json!({"groups": []})).await.is(200);
        assert_eq!(altered_since(store, &before).await, [(neither, vec!["member".to_owned()])]);
        let before = last(store).await;
        store.delete("/portcullis/v1/roles/admin").await.is(204);
        let own = vec!["billing-admin".to_owned(), "member".to_owned()];
        assert_eq!(altered_since(store, &before).await, [(direct, own)]);
    });
}

/// D21: what a group gives and takes is in the change log, and no event of its members.
#[test]
fn roles_of_groups_are_no_events_of_their_members() {
    on_every_engine(async |store| {
        store.usual_model("single").await;
        let organization = store.organization("Acme").await;
        let ada = store.member(&organization, "ada").await;
        let group = store.group(&organization, "eng", &[&ada]).await;
        let before = last(store).await;
        let given = store.assign_group(&group, "admin", None).await;
        assert_eq!(store.roles(&ada).await, ["admin"]);
        store.delete(&format!("/authorization/groups/{group}/role_assignments/{given}")).await.is(204);
        assert_eq!(store.roles(&ada).await, ["member"]);
        assert_eq!(altered_since(store, &before).await, []);
    });
}
