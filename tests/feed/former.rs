//! Everything begins anew: organizations in memory stay in force, and grow older, until they are read again.

use std::time::Duration;

use axum::http::StatusCode;
use portcullis::domain::{Epoch, ResourceRef};
use portcullis::live::{Lookup, View};
use serde_json::json;

use crate::script::Script;
use crate::scripted::{off_stage, on_stage};
use crate::sidecar::{Sidecar, eventually};

/// What a request is decided on that waits for nothing.
fn at_once(sidecar: &Sidecar) -> Option<View> {
    match sidecar.world.view(&"org_1".parse().unwrap()) {
        Lookup::Ready(view) => Some(view),
        Lookup::NotResident | Lookup::NoFacts => None,
    }
}

fn may(view: &View) -> bool {
    let (member, permission) = ("om_1".parse().unwrap(), "a:b".parse().unwrap());
    view.shard().unwrap().check(view.catalog(), &member, &permission, &ResourceRef::Id("root_1".into()))
}

/// Another history begins, in which the member may nothing, and organizations cannot be read.
async fn begins_anew(script: &Script, sidecar: &Sidecar) {
    {
        let mut scene = script.scene();
        (scene.epoch, scene.seq) = (2, 1);
        scene.organizations = vec![(2, 1, false)];
        scene.refusal = Some(StatusCode::SERVICE_UNAVAILABLE);
    }
    script.say(&json!({"resync": {"reason": "epoch"}}));
    sidecar.until(|revision| revision.is_some_and(|revision| revision.epoch == Epoch(2))).await;
}

#[test]
fn requests_are_decided_on_what_was_in_memory_until_it_can_be_read_again() {
    on_stage(async |script, sidecar| {
        begins_anew(script, sidecar).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        sidecar.is_fresh().await;
        let view = at_once(sidecar).unwrap();
        assert!(view.is_former() && may(&view));
        assert_eq!(view.revision().to_string(), "r1.0000000000000001.5");
        assert!(view.freshness(sidecar.uptime()).age.unwrap() > Duration::from_secs(2), "it grows older");
        assert!(sidecar.age().unwrap() < Duration::from_secs(2), "what is read from now on is fresh");
        // It is tried again whenever a request needs it.
        eventually(async || at_once(sidecar).is_some() && script.scene().reads > 4).await;
        script.scene().refusal = None;
        eventually(async || at_once(sidecar).is_some_and(|view| !view.is_former())).await;
        assert!(!may(&at_once(sidecar).unwrap()));
    });
}

#[test]
fn what_was_in_memory_is_read_again_without_being_asked_for() {
    on_stage(async |script, sidecar| {
        begins_anew(script, sidecar).await;
        eventually(async || script.scene().reads == 2).await;
        script.scene().refusal = None;
        // Once more, with a store that answers: nobody looks at the organization meanwhile.
        (script.scene().epoch, script.scene().organizations) = (3, vec![(3, 1, false)]);
        script.say(&json!({"resync": {"reason": "epoch"}}));
        sidecar.until(|revision| revision.is_some_and(|revision| revision.epoch == Epoch(3))).await;
        let organization = "org_1".parse().unwrap();
        assert!(!sidecar.world.is_former(&organization), "it was of the history before the last");

        assert!(!may(&loaded(sidecar).await));
        (script.scene().epoch, script.scene().organizations) = (4, vec![(4, 1, true)]);
        script.say(&json!({"resync": {"reason": "epoch"}}));
        eventually(async || script.scene().reads == 4).await;
        eventually(async || sidecar.world.is_resident(&organization)).await;
        assert!(may(&at_once(sidecar).unwrap()));
    });
}

async fn loaded(sidecar: &Sidecar) -> View {
    sidecar.world.load(&"org_1".parse().unwrap()).await.unwrap();
    at_once(sidecar).unwrap()
}

/// Some proxy's 404, say: that there is no such organization is proven by an answer that says as of when.
#[test]
fn a_page_that_is_not_found_is_no_organization_that_does_not_exist() {
    off_stage(async |script, sidecar| {
        script.scene().refusal = Some(StatusCode::NOT_FOUND);
        assert_eq!(sidecar.may("org_1", "om_1", "a:b", "root_1").await, None);
        assert!(at_once(sidecar).is_none());
        script.scene().refusal = None;
        assert_eq!(sidecar.may("org_1", "om_1", "a:b", "root_1").await, Some(true));
    });
}
