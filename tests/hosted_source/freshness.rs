//! What is granted passes, what is revoked does not within its time, earlier when an event says so, and how old facts are is never a secret.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::company::id;
use crate::between::{Between, Reply};
use crate::site::{Person, person, sidecar, status, unassign, with_store};
use crate::support::{System, wait_until};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_grant_passes_and_after_its_revocation_it_is_refused_within_the_time_to_live() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.resource(&acme, "project", "43", None).await;
        let (ada, bob) = (person(store, &acme, "ada", true).await, person(store, &acme, "bob", false).await);
        let assignment = store.assign(&ada.membership, "project-viewer", &project).await;
        store.assign(&bob.membership, "project-editor", &project).await;
        let system = sidecar(between, ", events: 0s").start();
        let received = system.get("/projects/42").with(&ada.token).passes();
        assert!(received.value("x-portcullis-revision").is_some());
        system.get("/projects/43").with(&ada.token).is_refused(403, "not_granted");
        system.ask("PATCH", "/projects/42").with(&ada.token).is_refused(403, "not_granted");
        // His token does not name the membership.
        let received = system.ask("PATCH", "/projects/42").with(&bob.token).passes();
        assert_eq!(received.value("x-portcullis-membership").as_deref(), Some(bob.membership.as_str()));
        let revoked = Instant::now();
        unassign(store, &ada.membership, &assignment).await;
        wait_until("the revocation is in force", || status(&system, &ada, "/projects/42") == 403);
        // The time to live, the reading, and what this machine needs.
        assert!(revoked.elapsed() < SECOND * 4, "{:?}", revoked.elapsed());
        store.assign(&ada.membership, "project-viewer", &project).await;
        wait_until("the new grant is in force", || status(&system, &ada, "/projects/42") == 200);
        assert_eq!(between.count("/events"), 0);
    });
}

#[test]
fn a_membership_that_is_switched_off_or_gone_is_refused() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let project = store.resource(&acme, "project", "42", None).await;
        let ada = person(store, &acme, "ada", true).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, "").start();
        system.get("/projects/42").with(&ada.token).passes();
        let path = format!("/user_management/organization_memberships/{}", ada.membership);
        let user = store.get(&path).await.is(200)["user_id"].as_str().unwrap().to_owned();
        // Somebody who signs in now: in a second or so no revocation is about that token.
        let later =
            |user: &str| crate::support::token().user(user).organization(&acme).membership(&ada.membership).sign();
        let code = |token: &str| system.get("/projects/42").with(token).send().answer.unwrap().code();
        store.put(&format!("{path}/deactivate"), json!({})).await.is(200);
        wait_until("what she had is revoked", || code(&ada.token) == "revoked");
        wait_until("it is switched off", || code(&later(&user)) == "membership_inactive");
        store.put(&format!("{path}/reactivate"), json!({})).await.is(200);
        wait_until("it is switched on", || code(&later(&user)).is_empty());
        assert_eq!(code(&ada.token), "revoked", "what was revoked stays so");
        assert_eq!(store.delete(&path).await.status, 200);
        wait_until("it is gone", || code(&later(&user)) == "unknown_membership");
        wait_until("it is not somebody else's", || code(&later("user_elsewhere")) == "unknown_membership");
    });
}

/// What identity providers mint by default: no claim that names the membership. The route asks no facts.
#[test]
fn a_membership_that_tokens_do_not_name_is_refused_by_whose_it_was() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let (ada, bob) = (person(store, &acme, "ada", false).await, person(store, &acme, "bob", false).await);
        let system = sidecar(between, "").start();
        let code = |person: &Person| system.get("/me").with(&person.token).send().answer.unwrap().code();
        assert_eq!((code(&ada), code(&bob)), (String::new(), String::new()));
        let path = |person: &Person| format!("/user_management/organization_memberships/{}", person.membership);
        store.put(&format!("{}/deactivate", path(&ada)), json!({})).await.is(200);
        wait_until("hers is switched off", || code(&ada) == "revoked");
        assert_eq!(code(&bob), "", "his is not");
        assert_eq!(store.delete(&path(&bob)).await.status, 200);
        wait_until("his is gone", || code(&bob) == "revoked");
    });
}

/// Of a sidecar that was not there: it reads what ended as far back as tokens reach, beyond one page.
#[test]
fn what_ended_before_the_sidecar_began_is_refused() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = store.member(&acme, "ada").await;
        let path = format!("/user_management/organization_memberships/{ada}");
        let user = store.get(&path).await.is(200)["user_id"].as_str().unwrap().to_owned();
        store.put(&format!("{path}/deactivate"), json!({})).await.is(200);
        let pool = sqlx::AnyPool::connect(&store.database).await.unwrap();
        let others = "INSERT INTO events (id, seq, place, event, data, created_at) WITH RECURSIVE n(n) AS \
                      (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 150) SELECT 'event_other_' || n, 0, n, 'user.deleted', \
                      '{\"id\": \"user_other_' || n || '\"}', (SELECT max(created_at) FROM events) FROM n";
        for statement in [others, "UPDATE events SET created_at = created_at - 36000000"] {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        pool.close().await;
        let system = sidecar(between, "").start();
        // Ten hours ago; tokens of a day, issued before and after.
        let issued = |hours_ago: i64| {
            let token = crate::support::token().user(&user).organization(&acme).lifetime(24 * 3600);
            token.expired_by((hours_ago - 24) * 3600).sign()
        };
        let code = |token: &str| system.get("/me").with(token).send().answer.unwrap().code();
        wait_until("what she had then is revoked", || code(&issued(11)) == "revoked");
        assert_eq!(code(&issued(9)), "", "what she got later is not");
        assert_eq!(system.metric("portcullis_revocations"), 151.0);
    });
}

#[test]
fn events_bring_what_changed_into_force_long_before_its_time() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let bob = person(store, &acme, "bob", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        let group = store.group(&acme, "Engineering", &[]).await;
        store.assign_group(&group, "project-viewer", Some(&project)).await;
        // Nothing would be read again before the test is over.
        let system = crate::support::System::with(crate::site::ROUTES)
            .facts(
                &crate::site::facts(between, ", events: 100ms").replace("min: 1s, max: 1500ms", "min: 200s, max: 200s"),
            )
            .start();
        assert_eq!(status(&system, &ada, "/projects/42"), 403);
        assert_eq!(status(&system, &ada, "/org"), 403);
        let members = format!("/organizations/{acme}/groups/{group}/organization-memberships");
        store.post(&members, json!({"organization_membership_id": ada.membership})).await.is(200);
        wait_until("the group's new member", || status(&system, &ada, "/projects/42") == 200);
        assert_eq!(status(&system, &bob, "/projects/42"), 403);
        assert_eq!(store.delete(&format!("{members}/{}", ada.membership)).await.status, 204);
        wait_until("the group's lost member", || status(&system, &ada, "/projects/42") == 403);
        let path = format!("/user_management/organization_memberships/{}", ada.membership);
        store.put(&path, json!({"role_slug": "admin"})).await.is(200);
        wait_until("the new organization role", || status(&system, &ada, "/org") == 200);
        // A role of the environment: the catalog.
        store.put("/authorization/roles/admin/permissions", json!({"permissions": ["billing:manage"]})).await.is(200);
        wait_until("the permission is gone", || status(&system, &ada, "/org") == 403);
        assert_eq!(status(&system, &ada, "/billing"), 200);
        store.put(&path, json!({"role_slug": "member"})).await.is(200);
        wait_until("the role is gone", || status(&system, &ada, "/billing") == 403);
    });
}

#[test]
fn events_that_were_missed_let_everything_be_read_again() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        let system = crate::support::System::with(crate::site::ROUTES)
            .facts(
                &crate::site::facts(between, ", events: 100ms").replace("min: 1s, max: 1500ms", "min: 200s, max: 200s"),
            )
            .start();
        assert_eq!(status(&system, &ada, "/projects/42"), 403);
        wait_until("events were read", || between.count("/events") > 1);
        // There is no event for this, and the last event is not known any more.
        store.assign(&ada.membership, "project-viewer", &project).await;
        between.answers(|call, reply| {
            let lost = call.path.contains("/events") && call.path.contains("after=");
            Some(if lost {
                Reply { status: 422, retry_after: None, body: json!({"code": "unknown_cursor"}) }
            } else {
                reply
            })
        });
        store.organization("Another, so that there is an event").await;
        wait_until("everything was read again", || status(&system, &ada, "/projects/42") == 200);
    });
}

#[test]
fn groups_grant_what_they_hold_and_everything_below_it() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let (ada, bob) = (person(store, &acme, "ada", true).await, person(store, &acme, "bob", true).await);
        let workspace = store.resource(&acme, "workspace", "w", None).await;
        let project = store.resource(&acme, "project", "42", Some(&workspace)).await;
        store.resource(&acme, "app", "a", Some(&project)).await;
        let other = store.resource(&acme, "workspace", "v", None).await;
        let moving =
            store.resource(&acme, "app", "b", Some(&store.resource(&acme, "project", "44", Some(&other)).await)).await;
        let group = store.group(&acme, "Engineering", &[&ada.membership]).await;
        let grant = store.assign_group(&group, "workspace-admin", Some(&workspace)).await;
        let wide = store.assign_group(&group, "billing-admin", None).await;
        let system = sidecar(between, "").start();
        for target in ["/projects/42", "/apps/a", "/billing"] {
            assert_eq!(status(&system, &ada, target), 200, "{target}");
            assert_eq!(status(&system, &bob, target), 403, "{target}");
        }
        assert_eq!(status(&system, &ada, "/apps/b"), 403);
        let explain = json!({"method": "GET", "url": "/apps/a", "token": ada.token}).to_string();
        let why = system.admin_page("POST", "/explain", &explain).json().to_string();
        assert!(why.contains(&group) && why.contains(&grant), "{why}");
        // What moves below it is granted, and what goes away is not.
        store
            .patch(&format!("/authorization/resources/{moving}"), json!({"parent_resource_id": project}))
            .await
            .is(200);
        wait_until("the app moved", || status(&system, &ada, "/apps/b") == 200);
        let path = format!("/authorization/groups/{group}/role_assignments");
        assert_eq!(store.delete(&format!("{path}/{wide}")).await.status, 204);
        wait_until("the organization role is gone", || status(&system, &ada, "/billing") == 403);
        assert_eq!(status(&system, &ada, "/apps/a"), 200);
        assert_eq!(store.delete(&format!("{path}/{grant}")).await.status, 204);
        wait_until("the group's role is gone", || status(&system, &ada, "/apps/a") == 403);
    });
}

#[test]
fn in_single_role_mode_only_the_role_of_highest_priority_counts() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let group = store.group(&acme, "Money", &[&ada.membership]).await;
        let path = format!("/user_management/organization_memberships/{}", ada.membership);
        store.put(&path, json!({"role_slug": "billing-admin"})).await.is(200);
        let grant = store.assign_group(&group, "admin", None).await;
        store.put("/authorization/roles/admin/permissions", json!({"permissions": ["org:manage"]})).await.is(200);
        let system = sidecar(between, "").start();
        // `admin` comes before `billing-admin`, and does not include what that permits.
        assert_eq!(store.roles(&ada.membership).await, ["admin"]);
        assert_eq!((status(&system, &ada, "/org"), status(&system, &ada, "/billing")), (200, 403));
        let path = format!("/authorization/groups/{group}/role_assignments/{grant}");
        assert_eq!(store.delete(&path).await.status, 204);
        wait_until("the role is gone", || status(&system, &ada, "/org") == 403);
        assert_eq!(store.roles(&ada.membership).await, ["member"]);
        assert_eq!(status(&system, &ada, "/billing"), 403);
    });
}

#[test]
fn an_organization_that_does_not_exist_is_asked_for_once() {
    with_store("single", async |_, between| {
        let system = sidecar(between, "").start();
        let token = crate::support::token().user("user_x").organization("org_nowhere").membership("om_x").sign();
        for _ in 0..5 {
            system.get("/projects/42").with(&token).is_refused(403, "unknown_membership");
        }
        assert_eq!(between.count("/authorization/organizations/org_nowhere/roles"), 1);
        assert_eq!(between.count("/organizations/org_nowhere"), 2, "the list, and the second opinion");
    });
}

#[test]
fn many_who_wait_for_one_organization_let_it_be_read_once() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, ", events: 0s").start();
        between.take();
        std::thread::scope(|scope| {
            let ask = || system.get("/projects/42").with(&ada.token).send().answer.unwrap().status;
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            assert!(asking.into_iter().all(|asked| asked.join().unwrap() == 200));
        });
        system.upstream.take();
        // Twice for one reading: at its beginning and at its end.
        assert_eq!(between.count(&format!("/authorization/organizations/{acme}/roles")), 2);
    });
}

fn oldest(system: &System) -> u64 {
    system.admin_page("GET", "/world", "").json()["oldest_ms"].as_u64().unwrap()
}

fn passes_until_stale(system: &System, ada: &crate::site::Person, between: &Between) {
    between.is_gone();
    system.get("/projects/42").with(&ada.token).passes();
    system.clock.advance(40);
    system.get("/projects/42").with(&ada.token).passes();
    assert!(oldest(system) >= 40_000);
    assert!(system.metric("portcullis_facts_oldest_seconds") >= 40.0);
    system.clock.advance(25);
    system.get("/projects/42").with(&ada.token).is_refused(503, "facts_stale");
}

#[test]
fn a_server_that_is_gone_leaves_facts_in_force_until_they_are_too_old() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let bolt = store.organization("Bolt").await;
        let eve = person(store, &bolt, "eve", true).await;
        let system = sidecar(between, ", max_staleness: 60s").start();
        system.get("/projects/42").with(&ada.token).passes();
        wait_until("it is read again and again", || {
            status(&system, &ada, "/projects/42") == 200 && between.count(&format!("{acme}/roles")) > 4
        });
        assert!(oldest(&system) < 10_000);
        passes_until_stale(&system, &ada, between);
        system.get("/projects/42").with(&eve.token).is_refused(503, "facts_unavailable");
        between.is_honest();
        wait_until("the server is back", || status(&system, &ada, "/projects/42") == 200);
        assert!(oldest(&system) < 10_000);
    });
}

#[test]
fn a_key_that_was_taken_away_does_not_empty_the_world() {
    with_store("single", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, ", max_staleness: 60s").start();
        system.get("/projects/42").with(&ada.token).passes();
        between.answers(|_, _| Some(Reply { status: 401, retry_after: None, body: json!({"message": "no"}) }));
        between.take();
        wait_until("it was asked again", || between.count(&format!("{acme}/roles")) > 1);
        system.get("/projects/42").with(&ada.token).passes();
        assert_eq!(id(&store.get(&format!("/organizations/{acme}")).await.is(200)), acme);
        system.clock.advance(65);
        system.get("/projects/42").with(&ada.token).is_refused(503, "facts_stale");
    });
}
