//! Every list, page by page: to the end and back again, in every order (WorkOS contract, section 3).

use serde_json::json;

use crate::support::{Running, on_every_engine};

/// One page: the ids on it, and its cursors.
async fn page(store: &Running, path: &str) -> (Vec<String>, Option<String>, Option<String>) {
    let body = store.get(path).await.is(200);
    let id = |item: &serde_json::Value| item["id"].as_str().unwrap().to_owned();
    let ids = body["data"].as_array().unwrap().iter().map(id).collect();
    let cursor = |name: &str| body["list_metadata"][name].as_str().map(ToOwned::to_owned);
    (ids, cursor("before"), cursor("after"))
}

/// Follows `after` from the start to the end and `before` back to the start; what is found has to be the same.
async fn there_and_back(store: &Running, path: &str, order: &str) -> Vec<String> {
    let path = format!("{path}{}limit=2&order={order}", if path.contains('?') { "&" } else { "?" });
    let (mut forward, start, mut next) = page(store, &path).await;
    assert_eq!(start, None, "{path}: nothing is before the start");
    let mut last = forward.clone();
    while let Some(after) = next.take() {
        let (ids, _, further) = page(store, &format!("{path}&after={after}")).await;
        assert!(!ids.is_empty(), "{path}: a cursor that leads nowhere");
        forward.extend(ids.iter().cloned());
        (last, next) = (ids, further);
    }
    let mut back = last.clone();
    let mut previous = last.first().cloned();
    while let Some(before) = previous.take() {
        let (ids, further, _) = page(store, &format!("{path}&before={before}")).await;
        previous = further;
        back.splice(0..0, ids);
    }
    assert_eq!(back, forward, "{path}");
    forward
}

#[test]
fn every_list_is_the_same_forward_and_back_in_every_order() {
    on_every_engine(async |store| {
        store.usual_model("multiple").await;
        let organization = store.organization("Acme").await;
        for name in ["Beta", "Core", "Delta", "Eden"] {
            store.organization(name).await;
        }
        let mut members = Vec::new();
        for name in ["ada", "bob", "cem", "dan", "eve"] {
            members.push(store.member(&organization, name).await);
        }
        let ada = members[0].clone();
        let everybody: Vec<&str> = members.iter().map(String::as_str).collect();
        let group = store.group(&organization, "everybody", &everybody).await;
        let workspace = store.resource(&organization, "workspace", "w", None).await;
        for number in 0..5 {
            store.group(&organization, &format!("g{number}"), &[&ada]).await;
            let project = store.resource(&organization, "project", &format!("p{number}"), Some(&workspace)).await;
            store.assign_group(&group, "project-viewer", Some(&project)).await;
            store.assign(&ada, "project-editor", &project).await;
        }
        for member in &members {
            store.assign(member, "workspace-admin", &workspace).await;
        }
        let user = store.get(&format!("/user_management/organization_memberships/{ada}")).await.is(200);
        let user = user["user_id"].as_str().unwrap();
        for _ in 0..5 {
            store.post("/portcullis/v1/tokens", json!({"organization_membership_id": ada})).await.is(200);
        }
        let membership = format!("/authorization/organization_memberships/{ada}");
        for (path, count) in [
            ("/organizations".to_owned(), 5),
            ("/user_management/users".to_owned(), 5),
            (format!("/user_management/organization_memberships?organization_id={organization}"), 5),
            (format!("/user_management/organization_memberships/{ada}/groups"), 6),
            (format!("/user_management/users/{user}/sessions"), 5),
            (format!("/organizations/{organization}/groups"), 6),
            (format!("/organizations/{organization}/groups/{group}/organization-memberships"), 5),
            ("/authorization/permissions".to_owned(), 6),
            (format!("/authorization/resources?organization_id={organization}"), 7),
            (format!("{membership}/role_assignments"), 12),
            (format!("/authorization/resources/{workspace}/role_assignments"), 5),
            (format!("/authorization/groups/{group}/role_assignments"), 5),
            (format!("{membership}/resources?permission_slug=project:edit&parent_resource_id={workspace}"), 5),
            (format!("{membership}/resources/{workspace}/permissions"), 4),
            (
                format!("/authorization/resources/{workspace}/organization_memberships?permission_slug=workspace:edit"),
                5,
            ),
            (format!("/portcullis/v1/audit?organization_id={organization}"), 26),
        ] {
            let descending = there_and_back(store, &path, "desc").await;
            assert!(descending.len() >= count, "{path}: {descending:?}");
            let mut ascending = there_and_back(store, &path, "asc").await;
            ascending.reverse();
            assert_eq!(ascending, descending, "{path}");
            // Newest first as well, and the cursors the other way round: `before` leads on.
            let normal = format!("{path}{}order=normal&limit=2", if path.contains('?') { "&" } else { "?" });
            let (mut found, mut next, _) = page(store, &normal).await;
            while let Some(cursor) = next.take() {
                let (ids, further, _) = page(store, &format!("{normal}&before={cursor}")).await;
                found.extend(ids);
                next = further;
            }
            assert_eq!(found, descending, "{path}, normal");
        }
    });
}
