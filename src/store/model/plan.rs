//! What putting a model in force would change, and whom it would affect; nothing happens.

use std::collections::BTreeSet;

use async_trait::async_trait;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::apply::apply;
use super::difference::{self, Difference, Step};
use super::read::Stored;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::extract::Body;
use crate::store::keys::Author;
use crate::store::transaction::{Draft, Reply, Transaction, Write};
use crate::store::writer::Committed;
use crate::wire::Model;

/// What would happen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "object", rename = "model_plan")]
pub(super) struct Plan {
    /// What would be created, updated and deleted.
    changes: Vec<PlannedChange>,
    /// What would become of assignments.
    effects: Effects,
}

/// What goes with what is taken out of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
struct Effects {
    /// Memberships that get the default role in place of what they lose.
    memberships_repointed: usize,
    /// Role assignments of memberships that are dropped.
    assignments_dropped: usize,
    /// Role assignments of groups that are dropped.
    group_assignments_dropped: usize,
    /// Mappings of the identity provider that are dropped.
    identity_provider_roles_dropped: usize,
    /// Roles of organizations that lose a permission.
    organization_roles_reduced: usize,
}

/// One thing that would change.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct PlannedChange {
    action: Action,
    kind: Kind,
    /// Of the thing; `settings` for the settings.
    slug: String,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    Create,
    Update,
    Delete,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Settings,
    ResourceType,
    Permission,
    Role,
}

/// The model is put in force and that is undone: what would happen is what happened.
struct PlanModel(Model);

pub(super) async fn plan(
    State(store): State<Store>,
    author: Author,
    Body(model): Body<Model>,
) -> Result<Committed, StoreError> {
    store.write(author, PlanModel(model)).await
}

#[async_trait]
impl Write for PlanModel {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        difference::validate(&self.0)?;
        let before = Stored::read(tx.connection).await?;
        let now = tx.now();
        let difference = Difference::between(before, &self.0, now, |_| Ok(tx.id("role_").parse()?))?;
        difference.check(tx.connection).await?;
        tx.rehearse().await?;
        apply(tx, &difference).await?;
        let undone = tx.undo().await?;
        Reply::ok(&Plan { changes: changes(&difference), effects: Effects::of(&undone) })
    }
}

impl Effects {
    fn of(undone: &Draft) -> Self {
        let done = |action: &'static str| undone.audit.iter().filter(move |entry| entry.action == action);
        let different = |action: &'static str, key: &str| {
            done(action)
                .filter_map(|entry| entry.details.get(key).and_then(Value::as_str))
                .collect::<BTreeSet<_>>()
                .len()
        };
        Self {
            memberships_repointed: different("role_assignment.created", "organization_membership_id"),
            assignments_dropped: done("role_assignment.deleted").count(),
            group_assignments_dropped: done("group_role_assignment.deleted").count(),
            identity_provider_roles_dropped: done("identity_provider_role.deleted").count(),
            organization_roles_reduced: different("organization_role.updated", "role_id"),
        }
    }
}

fn changes(difference: &Difference) -> Vec<PlannedChange> {
    let planned = |kind, step, slug: &str| {
        let action = match step {
            Step::Create => Action::Create,
            Step::Update => Action::Update,
            Step::Delete => Action::Delete,
        };
        PlannedChange { action, kind, slug: slug.to_owned() }
    };
    let settings =
        (difference.before.settings != difference.settings).then(|| planned(Kind::Settings, Step::Update, "settings"));
    let types = difference.type_steps().map(|(step, slug)| planned(Kind::ResourceType, step, slug.as_str()));
    let permissions = difference.permission_steps().map(|(step, slug)| planned(Kind::Permission, step, slug.as_str()));
    let roles = difference.role_steps().map(|(step, slug)| planned(Kind::Role, step, slug.as_str()));
    settings.into_iter().chain(types).chain(permissions).chain(roles).collect()
}
