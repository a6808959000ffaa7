//! A server that contradicts itself, limits or misleads: what cannot be is refused as a whole, and what was in force stays.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Running;
use crate::between::{Between, Call, Reply};
use crate::site::{Person, data, person, sidecar, status, unassign, with_store};
use crate::support::{System, wait_until};

/// An organization whose resources take two pages; Ada may see the project `p0`.
async fn large(store: &Running) -> (String, Person, String) {
    let acme = store.organization("Acme").await;
    let ada = person(store, &acme, "ada", true).await;
    let project = store.resource(&acme, "project", "p0", None).await;
    for number in 1..120 {
        store.resource(&acme, "project", &format!("p{number}"), None).await;
    }
    let assignment = store.assign(&ada.membership, "project-viewer", &project).await;
    (acme, ada, assignment)
}

fn refused(system: &System) -> f64 {
    ["refused", "failed"]
        .map(|result| {
            system.metric(&format!("portcullis_facts_updates_total{{kind=\"organization\",result=\"{result}\"}}"))
        })
        .iter()
        .sum()
}

/// With `fault` in place, what is in force must stay, whatever the store says; without it, the store's word counts again.
fn nothing_is_half_applied(fault: impl Fn(&Call, Reply) -> Option<Reply> + Send + Sync + Copy + 'static) {
    with_store("multiple", async |store, between| {
        let (acme, ada, assignment) = large(store).await;
        let system = sidecar(between, ", events: 0s, rate: 1000").start();
        assert_eq!(status(&system, &ada, "/projects/p0"), 200);
        assert_eq!(refused(&system), 0.0);
        between.answers(fault);
        store.assign(&ada.membership, "project-viewer", &resource(store, &acme, "p7").await).await;
        let before = refused(&system);
        wait_until("readings are refused", || refused(&system) >= before + 2.0);
        assert_eq!(status(&system, &ada, "/projects/p0"), 200);
        assert_eq!(status(&system, &ada, "/projects/p7"), 403);
        unassign(store, &ada.membership, &assignment).await;
        between.is_honest();
        wait_until("the server is honest", || status(&system, &ada, "/projects/p0") == 403);
        assert_eq!(status(&system, &ada, "/projects/p7"), 200);
    });
}

async fn resource(store: &Running, organization: &str, external_id: &str) -> String {
    let path = format!("/authorization/organizations/{organization}/resources/project/{external_id}");
    crate::api::company::id(&store.get(&path).await.is(200))
}

fn is_list_of_resources(call: &Call) -> bool {
    call.path.starts_with("/authorization/resources?")
}

/// Changes the bodies of these calls.
fn changed(reply: Reply, change: impl Fn(&mut Value)) -> Option<Reply> {
    let mut reply = reply;
    change(&mut reply.body);
    Some(reply)
}

macro_rules! refused_as_a_whole {
    ($($name:ident: $fault:expr;)*) => {$(
        #[test]
        fn $name() {
            nothing_is_half_applied($fault);
        }
    )*};
}

refused_as_a_whole! {
    a_page_that_comes_twice: |call, reply| {
        if is_list_of_resources(call) && call.path.contains("after=") {
            // The beginning of the list again, under the cursor of the second page.
            changed(reply, |body| {
                let first = data(body)[0].clone();
                data(body).push(first);
            })
        } else {
            Some(reply)
        }
    };
    a_cursor_that_leads_in_a_circle: |call, reply| {
        match call.path.split_once("after=") {
            // The second page goes on with itself.
            Some((_, same)) if is_list_of_resources(call) => {
                changed(reply, |body| body["list_metadata"]["after"] = json!(same))
            }
            _ => Some(reply),
        }
    };
    a_page_that_is_cut_short: |call, reply| {
        if is_list_of_resources(call) && !call.path.contains("after=") {
            changed(reply, |body| data(body).truncate(40))
        } else {
            Some(reply)
        }
    };
    an_empty_page_that_goes_on: |call, reply| {
        if is_list_of_resources(call) && call.path.contains("after=") {
            let body = json!({"data": [], "list_metadata": {"after": "authz_resource_next"}});
            Some(Reply { status: 200, body, ..reply })
        } else {
            Some(reply)
        }
    };
    more_objects_than_were_asked_for: |call, reply| {
        if is_list_of_resources(call) && call.path.contains("after=") {
            changed(reply, |body| {
                let mut object = data(body)[0].clone();
                for number in 0..120 {
                    object["id"] = json!(format!("authz_resource_{number}"));
                    data(body).push(object.clone());
                }
            })
        } else {
            Some(reply)
        }
    };
    a_list_that_ends_early: |call, reply| {
        if is_list_of_resources(call) && !call.path.contains("after=") {
            // Ada's project is the oldest, so that her assignment names what is not listed.
            changed(reply, |body| {
                data(body).drain(..60);
                body["list_metadata"]["after"] = Value::Null;
            })
        } else {
            Some(reply)
        }
    };
    objects_of_another_organization: |call, reply| {
        if call.path.starts_with("/user_management/organization_memberships?") {
            changed(reply, |body| data(body)[0]["organization_id"] = json!("org_other"))
        } else {
            Some(reply)
        }
    };
    an_answer_that_is_no_list: |call, reply| {
        if is_list_of_resources(call) { changed(reply, |body| *body = json!({"data": "none"})) } else { Some(reply) }
    };
    a_list_of_an_organization_that_is_not_found: |call, reply| {
        if call.path.ends_with("/roles") && call.path.contains("/organizations/") {
            Some(Reply { status: 404, body: json!({"code": "entity_not_found"}), ..reply })
        } else {
            Some(reply)
        }
    };
}

#[test]
fn a_catalog_that_contradicts_itself_changes_nothing() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, ", events: 0s").start();
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        between.answers(|call, reply| {
            if call.path.starts_with("/authorization/permissions") {
                changed(reply, |body| {
                    let first = data(body)[0].clone();
                    data(body).push(first);
                })
            } else {
                Some(reply)
            }
        });
        let series = "portcullis_facts_updates_total{kind=\"complete\",result=\"refused\"}";
        wait_until("catalogs are refused", || system.metric(series) >= 2.0);
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
    });
}

#[test]
fn a_catalog_that_cannot_be_read_makes_everything_old_that_is_decided_by_it() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, ", max_staleness: 60s").start();
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        between.answers(|call, reply| {
            let catalog = call.path.starts_with("/authorization/permissions");
            Some(if catalog { Reply { status: 500, ..reply } } else { reply })
        });
        between.take();
        // Used meanwhile: what nobody uses is let go.
        wait_until("the organization is read again", || {
            status(&system, &ada, "/projects/42");
            between.count(&format!("{acme}/roles")) > 4
        });
        system.clock.advance(65);
        between.take();
        wait_until("the organization is read again", || {
            status(&system, &ada, "/projects/42");
            between.count(&format!("{acme}/roles")) > 4
        });
        system.get("/projects/42").with(&ada.token).is_refused(503, "facts_stale");
        assert!(oldest(&system) >= 65_000);
    });
}

/// Which history the facts in force are of.
fn epoch(system: &System) -> String {
    let world = system.admin_page("GET", "/world", "").json();
    world["revision"].as_str().unwrap().split('.').nth(1).unwrap().to_owned()
}

#[test]
fn another_environment_behind_the_same_url_is_another_history() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, ", events: 0s").start();
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        let first = epoch(&system);
        // The same roles, as far as their names go.
        between.answers(|call, reply| {
            if call.path.ends_with("/roles") {
                changed(reply, |body| {
                    data(body)
                        .iter_mut()
                        .for_each(|role| role["id"] = json!(format!("{}X", role["id"].as_str().unwrap())));
                })
            } else {
                Some(reply)
            }
        });
        wait_until("there is another history", || epoch(&system) != first);
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        between.is_honest();
        wait_until("the first one is back", || epoch(&system) == first);
    });
}

#[test]
fn a_server_that_lost_everything_grants_nothing() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, ", events: 0s").start();
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        between.answers(|call, reply| {
            if call.path.contains("/organizations/") {
                return Some(Reply { status: 404, body: json!({"code": "entity_not_found"}), ..reply });
            }
            changed(reply, |body| {
                if let Some(data) = body["data"].as_array_mut() {
                    data.clear();
                }
                body["list_metadata"]["after"] = Value::Null;
            })
        });
        wait_until("nothing is granted any more", || status(&system, &ada, "/projects/42") == 403);
    });
}

#[test]
fn the_budget_is_kept_however_much_there_is_to_read() {
    with_store("multiple", async |store, between| {
        let mut people = Vec::new();
        for number in 0..6 {
            let organization = store.organization(&format!("Org {number}")).await;
            for kind in 0..10 {
                store.resource(&organization, "project", &format!("p{kind}"), None).await;
            }
            people.push(person(store, &organization, &format!("ada{number}"), true).await);
        }
        let system = sidecar(between, ", rate: 20").start();
        between.take();
        let begun = std::time::Instant::now();
        let mut calls = Vec::new();
        while begun.elapsed() < Duration::from_secs(4) {
            people.iter().for_each(|one| _ = status(&system, one, "/projects/p1"));
            calls.extend(between.take());
        }
        let most_in_a_second = (0..calls.len())
            .map(|first| {
                let until = calls[first].at + Duration::from_secs(1);
                calls[first..].iter().take_while(|call| call.at < until).count()
            })
            .max()
            .unwrap();
        // What may run ahead, and what was on its way when the second began.
        assert!(most_in_a_second <= 20 + 2 + 3, "{most_in_a_second}");
        assert!(calls.len() >= 60, "the budget is not used: {}", calls.len());
    });
}

#[test]
fn a_server_that_limits_is_left_alone_for_as_long_as_it_asks() {
    with_store("multiple", async |store, between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let system = sidecar(between, "").start();
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        between.answers(|_, reply| Some(Reply { status: 429, retry_after: Some(3), body: reply.body }));
        between.take();
        wait_until("a request was limited", || {
            system.metric("portcullis_facts_requests_total{result=\"limited\"}") >= 1.0
        });
        between.is_honest();
        let limited = std::time::Instant::now();
        let already = between.take().len();
        wait_until("it is asked again", || !between.take().is_empty());
        assert!(limited.elapsed() >= Duration::from_millis(2_700), "{:?} after {already}", limited.elapsed());
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        wait_until("facts are fresh again", || oldest(&system) < 2_500);
    });
}

fn oldest(system: &System) -> u64 {
    system.admin_page("GET", "/world", "").json()["oldest_ms"].as_u64().unwrap()
}

#[test]
fn what_changes_while_it_is_read_is_read_until_it_stands_still() {
    with_store("multiple", async |store, between: &Between| {
        let acme = store.organization("Acme").await;
        let ada = person(store, &acme, "ada", true).await;
        let project = store.resource(&acme, "project", "42", None).await;
        store.assign(&ada.membership, "project-viewer", &project).await;
        let seen = std::sync::atomic::AtomicUsize::new(0);
        // The second list of resources is another one than the first; then it stays.
        between.answers(move |call, reply| {
            if is_list_of_resources(call) && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                changed(reply, |body| data(body).retain(|one| one["external_id"] != "42"))
            } else {
                Some(reply)
            }
        });
        let system = sidecar(between, ", events: 0s").start();
        assert_eq!(status(&system, &ada, "/projects/42"), 200);
        assert!(between.count("/authorization/resources?") >= 4);
        assert_eq!(refused(&system), 0.0);
    });
}
