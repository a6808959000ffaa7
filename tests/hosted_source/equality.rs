//! What is read through the WorkOS API says the same as the store: for every member, permission and resource of random companies.

use std::sync::Arc;
use std::time::Duration;

use portcullis::app::SystemClock;
use portcullis::domain::{Catalog, Keep, OrganizationId, PermissionSlug, ResourceRef, Shard};
use portcullis::source::workos::{ApiKey, ServerUrl, Settings};
use portcullis::source::{Source, Update, WorkosSource};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::api::{KEY, Running};
use crate::site::with_store;

const WIDE: [&str; 3] = ["admin", "billing-admin", "member"];
const PERMISSIONS: [&str; 6] =
    ["org:manage", "billing:manage", "workspace:edit", "project:view", "project:edit", "app:edit"];

struct Company {
    organization: String,
    members: Vec<String>,
    resources: Vec<String>,
}

async fn company(store: &Running, random: &mut StdRng, people: usize, things: usize, single: bool) -> Company {
    let organization = store.organization("Acme").await;
    let tag: u32 = random.random();
    let roles = format!("/authorization/organizations/{organization}/roles");
    let custom = json!({"slug": "org-helper", "name": "Helper", "resource_type_slug": "project"});
    store.post(&roles, custom).await.is(201);
    store.put(&format!("{roles}/org-helper/permissions"), json!({"permissions": ["project:view"]})).await.is(200);
    store.post(&roles, json!({"slug": "org-boss", "name": "Boss", "resource_type_slug": "organization"})).await.is(201);
    store.put(&format!("{roles}/org-boss/permissions"), json!({"permissions": ["app:edit"]})).await.is(200);
    let [mut members, mut workspaces, mut projects, mut resources] = [const { Vec::<String>::new() }; 4];
    for number in 0..people {
        let member = store.member(&organization, &format!("u{tag}-{number}")).await;
        let path = format!("/user_management/organization_memberships/{member}");
        let wide = WIDE.iter().copied().chain(["org-boss"]).collect::<Vec<_>>();
        if single {
            store.put(&path, json!({"role_slug": wide.choose(random).unwrap()})).await.is(200);
        } else {
            let some: Vec<_> = wide.choose_multiple(random, 2).collect();
            store.put(&path, json!({"role_slugs": some})).await.is(200);
        }
        if random.random_bool(0.15) {
            store.put(&format!("{path}/deactivate"), json!({})).await.is(200);
        }
        members.push(member);
    }
    for number in 0..things {
        let name = format!("r{number}");
        let kind = random.random_range(0..4);
        let parent = if kind == 1 { workspaces.choose(random) } else { None }.map(String::as_str);
        let project: Option<&String> = projects.choose(random);
        let resource = match (kind, project) {
            (0, _) => store.resource(&organization, "workspace", &name, None).await,
            (3, Some(project)) => store.resource(&organization, "app", &name, Some(project)).await,
            _ => store.resource(&organization, "project", &name, parent).await,
        };
        match (kind, project) {
            (0, _) => workspaces.push(resource.clone()),
            (3, Some(_)) => {}
            _ => projects.push(resource.clone()),
        }
        resources.push(resource);
    }
    for _ in 0..people * 2 {
        let (resource, member) = (resources.choose(random).unwrap(), members.choose(random).unwrap());
        give(store, random, &format!("/authorization/organization_memberships/{member}/role_assignments"), resource)
            .await;
    }
    for number in 0..3 {
        let some: Vec<&str> = members.choose_multiple(random, people / 2).map(String::as_str).collect();
        let group = store.group(&organization, &format!("g{number}"), &some).await;
        let path = format!("/authorization/groups/{group}/role_assignments");
        for _ in 0..3 {
            let resource = resources.choose(random).unwrap();
            give(store, random, &path, resource).await;
        }
        if random.random_bool(0.5) {
            let wide = WIDE.choose(random).unwrap();
            store.post(&path, json!({"role_slug": wide})).await.is(201);
        }
    }
    resources.push(store.root(&organization).await);
    Company { organization, members, resources }
}

/// Gives a role that fits the resource.
async fn give(store: &Running, random: &mut StdRng, path: &str, resource: &str) {
    let kind = store.get(&format!("/authorization/resources/{resource}")).await.is(200)["resource_type_slug"].clone();
    let role = match kind.as_str().unwrap() {
        "workspace" => "workspace-admin",
        "project" => ["project-editor", "project-viewer", "org-helper"].choose(random).unwrap(),
        _ => return,
    };
    // What is there already may be given again, or not.
    let status = store.post(path, json!({"role_slug": role, "resource_id": resource})).await.status;
    assert!(matches!(status, 201 | 409), "{status}");
}

fn source(store: &Running) -> WorkosSource {
    let settings = Settings {
        url: ServerUrl::new(&format!("http://{}", store.address), false).unwrap(),
        key: ApiKey::new(KEY.to_owned()),
        requests_per_second: 10_000,
        check_within: Duration::from_secs(1),
        resource_types: Vec::new(),
    };
    WorkosSource::new(settings, Arc::new(SystemClock), Arc::new(portcullis::app::metrics().unwrap())).unwrap()
}

async fn read(store: &Running, company: &Company) -> (Catalog, Shard, usize) {
    let source = source(store);
    let Update::Complete(complete) = source.pull(None).await.unwrap() else { panic!("nothing") };
    assert_eq!(source.pull(Some(&complete.revision)).await.unwrap(), Update::Unchanged);
    let organization: OrganizationId = company.organization.parse().unwrap();
    let rows = source.fetch(&organization).await.unwrap().unwrap();
    let catalog = Catalog::build(&complete.catalog).unwrap();
    let shard = Shard::build(&catalog.value, &organization, &rows, Keep { assignment_ids: true }).unwrap();
    assert_eq!((catalog.anomalies.total(), shard.anomalies.total()), (0, 0), "{:?}", shard.anomalies.examples());
    (catalog.value, shard.value, rows.group_assignments.len())
}

fn says_the_same(seed: u64, people: usize, things: usize, mode: &str) {
    with_store(mode, async |store, _| {
        let random = &mut StdRng::seed_from_u64(seed);
        let company = company(store, random, people, things, mode == "single").await;
        let (catalog, shard, through_groups) = read(store, &company).await;
        let mut granted = 0;
        for member in &company.members {
            let roles: Vec<String> = match shard.claims(&catalog, &member.parse().unwrap()) {
                Some(claims) => claims.roles.iter().map(ToString::to_string).collect(),
                None => Vec::new(),
            };
            if !roles.is_empty() {
                assert_eq!(roles, store.roles(member).await, "{member}");
            }
            for permission in PERMISSIONS {
                let slug: PermissionSlug = permission.parse().unwrap();
                for resource in &company.resources {
                    let on = ResourceRef::Id(resource.into());
                    let ours = shard.check(&catalog, &member.parse().unwrap(), &slug, &on);
                    assert_eq!(ours, store.may(member, permission, resource).await, "{member} {permission} {resource}");
                    granted += usize::from(ours);
                }
            }
        }
        assert!(granted > 10 && through_groups > 0, "a company that shows nothing: {granted}, {through_groups}");
        let unknown = source(store).fetch(&"org_unknown".parse().unwrap()).await.unwrap();
        assert_eq!(unknown, None);
    });
}

#[test]
fn read_by_membership_in_multiple_roles_mode() {
    (0..3).for_each(|seed| says_the_same(seed, 6, 14, "multiple"));
}

#[test]
fn read_by_resource_in_multiple_roles_mode() {
    (10..13).for_each(|seed| says_the_same(seed, 12, 6, "multiple"));
}

#[test]
fn read_by_membership_in_single_role_mode() {
    (20..23).for_each(|seed| says_the_same(seed, 6, 14, "single"));
}

#[test]
fn read_by_resource_in_single_role_mode() {
    (30..33).for_each(|seed| says_the_same(seed, 12, 6, "single"));
}
