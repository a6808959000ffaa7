//! What putting a model in force would change, and whom it would affect; nothing happens.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::difference::{self, Difference, Step};
use super::read::Stored;
use crate::domain::RoleId;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::extract::Body;
use crate::store::roles::Losses;
use crate::wire::Model;

/// What would happen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "object", rename = "model_plan")]
pub(super) struct Plan {
    /// What would be created, updated and deleted.
    changes: Vec<PlannedChange>,
    /// What would become of assignments.
    effects: Losses,
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

pub(super) async fn plan(State(store): State<Store>, Body(model): Body<Model>) -> Result<axum::Json<Plan>, StoreError> {
    difference::validate(&model)?;
    let mut snapshot = store.0.database.snapshot().await?;
    let before = Stored::read(&mut snapshot).await?;
    // Never stored, and unlike any id that is.
    let id = |slug: &crate::domain::RoleSlug| Ok(RoleId::new(&format!("new {slug}"))?);
    let difference = Difference::between(before, &model, store.now(), id)?;
    difference.check(&mut snapshot).await?;
    let engine = store.0.database.engine();
    let mut effects = Losses::of(&mut snapshot, engine, &difference.gone()).await?;
    effects.assignments_dropped += difference.dropped_by_mode(&mut snapshot, engine).await?;
    snapshot.rollback().await?;
    Ok(axum::Json(Plan { changes: changes(&difference), effects }))
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
