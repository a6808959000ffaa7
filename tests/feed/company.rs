//! A store with one organization, for tests that follow it.

use portcullis::store::{Settings, SyncKey, SyncKeys, sha256};

use crate::sidecar::SYNC_KEY;
use crate::support::{self, Running};

/// Settings of a store that sidecars may follow; one key for everything, one for `org_allowed` only.
pub fn settings(database: &str) -> Settings {
    let mut settings = support::settings(database);
    settings.sync_keys = SyncKeys::new(vec![
        SyncKey::hashed("all", sha256(SYNC_KEY), None),
        SyncKey::hashed("some", sha256("sync_some"), Some(["org_allowed".parse().unwrap()].into())),
    ]);
    // Short enough to be outlived.
    settings.log_length = 30;
    settings
}

/// An organization with one member and one project.
pub struct Company {
    pub organization: String,
    pub membership: String,
    pub project: String,
}

impl Company {
    pub async fn found(store: &Running, name: &str) -> Self {
        let organization = store.organization(name).await;
        let membership = store.member(&organization, &format!("ada-{name}")).await;
        let project = store.resource(&organization, "project", "p1", None).await;
        Self { organization, membership, project }
    }

    /// Gives the member the role of an editor on the project; the assignment, and the number of the write.
    pub async fn let_in(&self, store: &Running) -> (String, u64) {
        let path = format!("/authorization/organization_memberships/{}/role_assignments", self.membership);
        let body = serde_json::json!({"role_slug": "project-editor", "resource_id": self.project});
        let answer = store.post(&path, body).await;
        let seq = answer.revision();
        (answer.is(201)["id"].as_str().unwrap().to_owned(), seq)
    }

    /// Takes it away again; the number of the write.
    pub async fn shut_out(&self, store: &Running, assignment: &str) -> u64 {
        let path = format!("/authorization/organization_memberships/{}/role_assignments/{assignment}", self.membership);
        let answer = store.delete(&path).await;
        let seq = answer.revision();
        answer.is(204);
        seq
    }
}

/// Runs a test on a store with the usual model, on every engine that is installed.
pub fn on_every_engine(test: impl AsyncFn(&Running)) {
    support::on_every_engine_with(settings, async |store| {
        store.usual_model("multiple").await;
        test(store).await;
    });
}

/// The same on PostgreSQL, where that is installed.
pub fn on_postgres(test: impl AsyncFn(&Running)) {
    support::on_postgres_with(settings, async |store| {
        store.usual_model("multiple").await;
        test(store).await;
    });
}
