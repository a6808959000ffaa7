//! The sample company decides as the picture in its facts file says.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stand outside of test functions")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis::domain::{Clock, ResourceRef, UnixSeconds};
use portcullis::live::{Lookup, Settings, World};
use portcullis::source::{Complete, FileSource, Organizations, Source, Update};
use portcullis::telemetry::{Build, Metrics};

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(0)
    }
    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
}

async fn demo() -> World {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo/facts.yaml");
    let update = FileSource::new(path).pull(None).await.unwrap_or_else(|error| panic!("{error}"));
    let Update::Complete(Complete { revision, catalog, organizations: Organizations::All(all) }) = update else {
        panic!("{update:?}")
    };
    let metrics = Arc::new(Metrics::new(Build { version: "", revision: "" }).unwrap());
    let (world, _) = World::new(Settings::default(), Arc::new(Stopped), metrics, Box::new(|_| {}));
    world.install_all(revision, &catalog, all).unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn the_sample_company_decides_as_its_picture_says() {
    let world = demo().await;
    let check = |organization: &str, membership: &str, permission: &str, resource: &str| {
        let Lookup::Ready(view) = world.view(&organization.parse().unwrap()) else { panic!("no facts") };
        let (resource_type, external_id) = resource.split_once(':').unwrap();
        let resource_type = resource_type.parse().unwrap();
        let resource = ResourceRef::External { resource_type: &resource_type, external_id: external_id.into() };
        let (membership, permission) = (membership.parse().unwrap(), permission.parse().unwrap());
        view.shard().unwrap().check(view.catalog(), &membership, &permission, &resource)
    };
    for (membership, permission, resource, expected, why) in [
        ("om_alice", "workspace:edit", "workspace:ws-engineering", true, "workspace-admin through Engineering"),
        ("om_alice", "project:edit", "project:42", true, "inherited from the workspace"),
        ("om_alice", "app:edit", "app:ios", true, "inherited two levels down"),
        ("om_alice", "project:view", "project:99", true, "project-viewer, direct"),
        ("om_alice", "project:edit", "project:99", false, "a viewer does not edit"),
        ("om_alice", "project:view", "project:51", false, "another workspace"),
        ("om_bob", "project:edit", "project:42", true, "project-editor"),
        ("om_bob", "project:review", "project:42", true, "project-reviewer, on the same project"),
        ("om_bob", "app:edit", "app:gateway", true, "inherited from the project"),
        ("om_bob", "project:view", "project:43", false, "nothing goes sideways"),
        ("om_bob", "workspace:view", "workspace:ws-engineering", false, "nothing goes up"),
        ("om_carol", "billing:manage", "organization:org_acme", true, "billing-admin through Finance"),
        ("om_carol", "org:view", "organization:org_acme", true, "member by default"),
        ("om_carol", "project:view", "project:42", false, "no role there"),
        ("om_dave", "org:view", "organization:org_acme", false, "inactive"),
        ("om_dave", "project:edit", "project:42", false, "inactive, whatever his groups hold"),
        ("om_erin", "project:edit", "project:99", true, "an organization role counts everywhere"),
        ("om_frank", "project:view", "project:43", true, "a role of Acme's own"),
        ("om_grace", "project:edit", "project:51", true, "editor through Platform"),
        ("om_grace", "workspace:edit", "workspace:ws-platform", false, "an editor does not change the workspace"),
        ("om_gina", "project:edit", "project:42", false, "of another organization"),
        ("om_zoe", "org:view", "organization:org_acme", false, "unknown"),
    ] {
        assert_eq!(
            check("org_acme", membership, permission, resource),
            expected,
            "{membership} {permission} {resource}: {why}"
        );
    }
    assert!(check("org_globex", "om_gina", "project:edit", "project:42"), "their own project 42");
    assert!(
        !check("org_globex", "om_bob_globex", "project:edit", "project:42"),
        "what Bob may at Acme counts there only"
    );
    assert!(!check("org_globex", "om_gina", "project:view", "project:99"), "Acme's project");
}
