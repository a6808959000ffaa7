//! cedar-policy: members and groups carry a set of resources for each role, one policy for each role, ancestors by
//! `in`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use anyhow::Result;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};

use crate::world::{self, Grant, Question, ROLES, World};

pub struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

impl Cedar {
    pub fn load(world: &World) -> Result<Self> {
        let mut policies = String::new();
        for (role, permissions) in ROLES {
            let actions: Vec<String> = (0..permissions).map(|permission| format!("Action::\"{permission}\"")).collect();
            let actions = actions.join(", ");
            let holds = format!("resource in principal.{role} || resource in principal.group.{role}");
            writeln!(policies, "permit(principal, action in [{actions}], resource) when {{ {holds} }};")?;
        }
        let mut entities = Vec::new();
        for resource in 0..world::RESOURCES {
            let parents: HashSet<_> =
                world::parent(resource).map(|parent| uid("Resource", parent)).into_iter().collect();
            entities.push(Entity::new_no_attrs(uid("Resource", resource), parents));
        }
        for (group, grants) in (0..).zip(&world.groups) {
            entities.push(Entity::new(uid("Group", group), roles(grants), HashSet::new())?);
        }
        for (member, grants) in (0..).zip(&world.members) {
            let mut attributes = roles(grants);
            let group = RestrictedExpression::new_entity_uid(uid("Group", world::group_of(member)));
            attributes.insert("group".to_owned(), group);
            entities.push(Entity::new(uid("Member", member), attributes, HashSet::new())?);
        }
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: policies.parse()?,
            entities: Entities::from_entities(entities, None)?,
        })
    }

    pub fn prepare(&self, question: &Question) -> Result<Request> {
        Ok(Request::new(
            uid("Member", question.member),
            uid("Action", question.permission),
            uid("Resource", question.resource),
            Context::empty(),
            None,
        )?)
    }

    pub fn allows(&self, request: &Request) -> bool {
        self.authorizer.is_authorized(request, &self.policies, &self.entities).decision() == Decision::Allow
    }
}

fn roles(grants: &[Grant]) -> HashMap<String, RestrictedExpression> {
    let resources = |role: usize| {
        let of_role = grants.iter().filter(move |grant| grant.role == role);
        of_role.map(|grant| RestrictedExpression::new_entity_uid(uid("Resource", grant.resource)))
    };
    ROLES
        .iter()
        .enumerate()
        .map(|(role, (name, _))| ((*name).to_owned(), RestrictedExpression::new_set(resources(role))))
        .collect()
}

fn uid(kind: &str, number: u32) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a plain name is an entity type");
    EntityUid::from_type_name_and_id(kind, EntityId::new(number.to_string()))
}
