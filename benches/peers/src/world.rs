//! One organization as plain data, and questions about it with their answers.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

pub const MEMBERS: u32 = 10_000;
pub const GROUPS: u32 = 1_000;
pub const WORKSPACES: u32 = 100;
pub const PROJECTS: u32 = 1_900;
pub const APPS: u32 = 8_000;
/// Workspaces, then projects, then apps, counted through.
pub const RESOURCES: u32 = WORKSPACES + PROJECTS + APPS;
/// Roles of each member.
const DIRECT: u32 = 8;
/// Roles of each group.
const THROUGH_GROUP: u32 = 20;
/// Permissions of each role: a role has the first so many of ten.
pub const ROLES: [(&str, u32); 4] = [("viewer", 3), ("editor", 6), ("admin", 9), ("owner", 10)];
pub const PERMISSIONS: u32 = 10;

/// A role, by its place in [`ROLES`], on a resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    pub role: usize,
    pub resource: u32,
}

/// 100,000 role assignments: 80,000 of members, 20,000 of groups. Each member is in one group.
pub struct World {
    pub members: Vec<Vec<Grant>>,
    pub groups: Vec<Vec<Grant>>,
}

/// May this member do this to that resource?
#[derive(Clone, Copy)]
pub struct Question {
    pub member: u32,
    pub permission: u32,
    pub resource: u32,
}

/// Questions by their answer.
pub struct Questions {
    /// Allowed by a role of the member on the resource itself.
    pub allowed_directly: Vec<Question>,
    /// Allowed by a role of the member or the group, on the resource or above it.
    pub allowed: Vec<Question>,
    /// Denied.
    pub denied: Vec<Question>,
}

impl World {
    /// Always the same world.
    pub fn generate() -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let mut grants = |count: u32| {
            // One role at most on each resource: some engines hold a set of them.
            let mut grants = HashMap::new();
            while grants.len() < count as usize {
                grants.insert(random.random_range(0..RESOURCES), random.random_range(0..ROLES.len()));
            }
            let mut grants: Vec<_> = grants.into_iter().map(|(resource, role)| Grant { role, resource }).collect();
            grants.sort_by_key(|grant| grant.resource);
            grants
        };
        Self {
            members: (0..MEMBERS).map(|_| grants(DIRECT)).collect(),
            groups: (0..GROUPS).map(|_| grants(THROUGH_GROUP)).collect(),
        }
    }

    /// `count` questions of each kind, always the same ones.
    pub fn questions(&self, count: usize) -> Questions {
        let mut random = StdRng::seed_from_u64(8);
        let mut questions = Questions { allowed_directly: Vec::new(), allowed: Vec::new(), denied: Vec::new() };
        while questions.denied.len() < count {
            let member = random.random_range(0..MEMBERS);
            let question = Question {
                member,
                permission: random.random_range(0..PERMISSIONS),
                resource: random.random_range(0..RESOURCES),
            };
            if !self.allows(question) {
                questions.denied.push(question);
            }
        }
        while questions.allowed_directly.len() < count {
            let member = random.random_range(0..MEMBERS);
            let own = random.random_bool(0.8);
            let grants = if own { &self.members[member as usize] } else { &self.groups[group_of(member) as usize] };
            let grant = grants.choose(&mut random).expect("everybody has roles");
            let permission = random.random_range(0..ROLES[grant.role].1);
            if own {
                questions.allowed_directly.push(Question { member, permission, resource: grant.resource });
            }
            // On the resource itself, or on something below it.
            let mut resource = grant.resource;
            while random.random_bool(0.5) {
                let Some(below) = children(resource).into_iter().collect::<Vec<_>>().choose(&mut random).copied()
                else {
                    break;
                };
                resource = below;
            }
            questions.allowed.push(Question { member, permission, resource });
        }
        questions.allowed.truncate(count);
        questions
    }

    /// The answer, the slow and obvious way.
    pub fn allows(&self, question: Question) -> bool {
        let grants =
            self.members[question.member as usize].iter().chain(&self.groups[group_of(question.member) as usize]);
        let above: Vec<u32> = std::iter::successors(Some(question.resource), |resource| parent(*resource)).collect();
        grants.filter(|grant| above.contains(&grant.resource)).any(|grant| question.permission < ROLES[grant.role].1)
    }
}

/// The group of a member.
pub fn group_of(member: u32) -> u32 {
    member % GROUPS
}

/// The resource type of a resource.
pub fn type_of(resource: u32) -> &'static str {
    match resource {
        _ if resource < WORKSPACES => "workspace",
        _ if resource < WORKSPACES + PROJECTS => "project",
        _ => "app",
    }
}

/// What a resource stands in; workspaces stand in the organization.
pub fn parent(resource: u32) -> Option<u32> {
    match type_of(resource) {
        "workspace" => None,
        "project" => Some((resource - WORKSPACES) % WORKSPACES),
        _ => Some(WORKSPACES + (resource - WORKSPACES - PROJECTS) % PROJECTS),
    }
}

fn children(resource: u32) -> impl IntoIterator<Item = u32> {
    let (first, step, end) = match type_of(resource) {
        "workspace" => (WORKSPACES + resource, WORKSPACES, WORKSPACES + PROJECTS),
        "project" => (PROJECTS + resource, PROJECTS, RESOURCES),
        _ => (RESOURCES, 1, RESOURCES),
    };
    (first..end).step_by(step as usize)
}
