//! What is asked of every proxy, and the organization it is asked about.

use std::sync::Arc;

use anyhow::Result;

use crate::load::{Requests, request};
use crate::tokens::Mint;

/// Members of the organization. Everybody is in one group.
pub const MEMBERS: usize = 1_000;
/// Groups; each has a role on one workspace.
pub const GROUPS: usize = 100;
/// Workspaces, directly below the organization.
pub const WORKSPACES: usize = 100;
/// Projects, spread evenly over the workspaces.
pub const PROJECTS: usize = 10_000;
/// Projects on which each member has a role directly.
pub const DIRECT: usize = 8;

/// Members whose tokens the sidecar has in its cache.
const ACTIVE: usize = 100;

/// The scenario that needs a new token for each request.
pub const FRESH: &str = "organization permission, fresh token";

/// One question, asked of every proxy in turn.
pub struct Scenario {
    /// Its name in the tables.
    pub name: &'static str,
    /// The requests.
    pub requests: Arc<Requests>,
    /// A request that the sidecar must refuse, and with which status.
    pub refused: Option<(Box<[u8]>, u16)>,
}

/// All scenarios; `fresh` different tokens for the one that never shows a token twice.
pub fn all(mint: &Mint, fresh: usize) -> Result<Vec<Scenario>> {
    let active = mint.tokens(ACTIVE, ACTIVE)?;
    let fresh = mint.tokens(fresh, MEMBERS)?;
    Ok(vec![
        Scenario { name: "public route", requests: Requests::new(vec![request("/healthz", None)]), refused: None },
        Scenario {
            name: "organization permission, cached token",
            requests: Requests::new(active.iter().map(|token| request("/projects", Some(token))).collect()),
            refused: Some((request("/projects", Some(&forged(&active[0]))), 401)),
        },
        Scenario {
            name: "resource permission, cached token",
            requests: Requests::new(
                (0..DIRECT)
                    .flat_map(|nth| active.iter().enumerate().map(move |(member, token)| (nth, member, token)))
                    .map(|(nth, member, token)| {
                        request(&format!("/projects/{}", granted_project(member, nth)), Some(token))
                    })
                    .collect(),
            ),
            refused: Some((request(&format!("/projects/{}", foreign_project(0)), Some(&active[0])), 403)),
        },
        Scenario {
            name: FRESH,
            requests: Requests::new(fresh.iter().map(|token| request("/projects", Some(token))).collect()),
            refused: Some((request("/projects", None), 401)),
        },
    ])
}

/// A project that a member may edit: every other one by a role of their own, the rest through their group's role on the
/// workspace.
fn granted_project(member: usize, nth: usize) -> usize {
    match nth % 2 {
        0 => direct_project(member, nth),
        _ => group_of(member) + WORKSPACES * nth,
    }
}

/// A project on which a member has nothing: another workspace, and none of their own.
fn foreign_project(member: usize) -> usize {
    let own: Vec<usize> = (0..DIRECT).map(|nth| direct_project(member, nth)).collect();
    (0..PROJECTS)
        .find(|project| workspace_of(*project) != group_of(member) && !own.contains(project))
        .expect("nobody has a role on every project")
}

/// The nth project on which a member has a role of their own.
pub fn direct_project(member: usize, nth: usize) -> usize {
    (member * 7919 + nth * 1009) % PROJECTS
}

/// The group of a member; the group with this number has its role on the workspace with this number.
pub fn group_of(member: usize) -> usize {
    member % GROUPS
}

/// The workspace of a project.
pub fn workspace_of(project: usize) -> usize {
    project % WORKSPACES
}

/// The same token with another signature.
fn forged(token: &str) -> String {
    let (signed, _) = token.rsplit_once('.').expect("a token has three parts");
    format!("{signed}.{}", "A".repeat(342))
}
