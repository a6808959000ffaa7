//! Portcullis: the same facts as a shard, and the deciding function as the gate calls it.

use anyhow::{Result, ensure};
use portcullis::domain::build::Keep;
use portcullis::domain::record::{
    Assignment, CatalogRows, EnvironmentRole, Group, GroupAssignment, GroupMember, Member, MembershipStatus,
    OrganizationRows, Permission, Resource, ResourceType,
};
use portcullis::domain::requirement::Asks;
use portcullis::domain::{
    Ask, Caller, Catalog, ExternalId, Facts, Grants, GroupId, MembershipId, OrganizationId, PermissionSlug,
    Requirement, ResourceId, ResourceRef, ResourceTypeSlug, RoleId, Scope, Shard, UserId, decide,
};

use crate::world::{self, Grant, Question, ROLES, World};

pub struct Ours {
    catalog: Catalog,
    shard: Shard,
    organization: OrganizationId,
    permissions: Vec<PermissionSlug>,
    types: [ResourceTypeSlug; 3],
}

/// Who asks for what, as a request brings it: the ids are texts and are looked up by the decision.
pub struct Prepared<'a> {
    user: UserId,
    membership: MembershipId,
    requirement: Requirement<'a>,
}

impl Ours {
    pub fn load(world: &World) -> Result<Self> {
        let organization = OrganizationId::new("org_1")?;
        let types = ["workspace", "project", "app"].map(|slug| slug.parse::<ResourceTypeSlug>());
        let [workspace, project, app] = types;
        let types = [workspace?, project?, app?];
        let permissions: Vec<PermissionSlug> =
            (0..world::PERMISSIONS).map(|number| format!("p{number}").parse()).collect::<Result<_, _>>()?;
        let catalog = Catalog::build(&catalog_rows(&permissions, &types)?)?;
        let shard = Shard::build(&catalog.value, &organization, &rows(world, &organization)?, Keep::default())?;
        ensure!(catalog.anomalies.total() + shard.anomalies.total() == 0, "rows that count for nothing");
        Ok(Self { catalog: catalog.value, shard: shard.value, organization, permissions, types })
    }

    pub fn prepare(&self, question: &Question) -> Result<Prepared<'_>> {
        let type_of = world::type_of(question.resource);
        let ask = Ask {
            permission: &self.permissions[question.permission as usize],
            resource: Some(ResourceRef::External {
                resource_type: self.types.iter().find(|slug| slug.as_str() == type_of).expect("all types are known"),
                external_id: question.resource.to_string().into(),
            }),
            grants: Grants::Token,
        };
        Ok(Prepared {
            user: user(question.member)?,
            membership: membership(question.member)?,
            requirement: Requirement { organization: None, scope: Scope::All(Asks::from_iter([ask])) },
        })
    }

    pub fn allows(&self, prepared: &Prepared<'_>) -> bool {
        let caller = Caller {
            user: &prepared.user,
            organization: Some(&self.organization),
            membership: Some(&prepared.membership),
            permissions: &[],
        };
        let facts = Facts::Known { catalog: &self.catalog, shard: Some(&self.shard) };
        decide(&prepared.requirement, Some(caller), facts).is_allowed()
    }
}

fn catalog_rows(permissions: &[PermissionSlug], types: &[ResourceTypeSlug; 3]) -> Result<CatalogRows> {
    let [workspace, project, app] = types;
    let below = |slug: &ResourceTypeSlug, parent: &str| -> Result<ResourceType> {
        Ok(ResourceType { slug: slug.clone(), parents: vec![parent.parse()?] })
    };
    let role = |(priority, (slug, count)): (u32, (&str, u32))| -> Result<EnvironmentRole> {
        Ok(EnvironmentRole {
            id: format!("role_{slug}").parse()?,
            slug: slug.parse()?,
            resource_type: workspace.clone(),
            priority,
            permissions: permissions[..count as usize].to_vec(),
        })
    };
    Ok(CatalogRows {
        permissions: permissions
            .iter()
            .map(|slug| Permission { slug: slug.clone(), resource_type: app.clone() })
            .collect(),
        resource_types: vec![
            below(workspace, ResourceTypeSlug::ORGANIZATION)?,
            below(project, "workspace")?,
            below(app, "project")?,
        ],
        roles: (0..).zip(ROLES).map(role).collect::<Result<_>>()?,
        settings: None,
    })
}

fn rows(world: &World, organization: &OrganizationId) -> Result<OrganizationRows> {
    let mut rows = OrganizationRows::default();
    rows.resources.push(Resource {
        id: ResourceId::new("authz_resource_root")?,
        resource_type: ResourceTypeSlug::ORGANIZATION.parse()?,
        external_id: ExternalId::new(organization.as_str())?,
        parent: None,
    });
    for resource in 0..world::RESOURCES {
        rows.resources.push(Resource {
            id: resource_id(resource)?,
            resource_type: world::type_of(resource).parse()?,
            external_id: ExternalId::new(&resource.to_string())?,
            parent: world::parent(resource).map(resource_id).transpose()?,
        });
    }
    for (number, grants) in (0..).zip(&world.groups) {
        let group = group(number)?;
        rows.groups.push(Group { id: group.clone() });
        for grant in grants {
            let (role, resource) = parts(grant)?;
            rows.group_assignments.push(GroupAssignment {
                id: None,
                group: group.clone(),
                role,
                resource: Some(resource),
            });
        }
    }
    for (number, grants) in (0..).zip(&world.members) {
        let membership = membership(number)?;
        rows.members.push(Member {
            id: membership.clone(),
            user: user(number)?,
            status: MembershipStatus::Active,
            identity_provider_roles: Vec::new(),
        });
        let group = group(world::group_of(number))?;
        rows.group_members.push(GroupMember { group, membership: membership.clone() });
        for grant in grants {
            let (role, resource) = parts(grant)?;
            rows.assignments.push(Assignment {
                id: None,
                membership: membership.clone(),
                role,
                resource: Some(resource),
            });
        }
    }
    Ok(rows)
}

fn parts(grant: &Grant) -> Result<(RoleId, ResourceId)> {
    Ok((format!("role_{}", ROLES[grant.role].0).parse()?, resource_id(grant.resource)?))
}

fn user(number: u32) -> Result<UserId> {
    Ok(UserId::new(&format!("user_{number:026}"))?)
}

fn membership(number: u32) -> Result<MembershipId> {
    Ok(MembershipId::new(&format!("om_{number:026}"))?)
}

fn group(number: u32) -> Result<GroupId> {
    Ok(GroupId::new(&format!("group_{number:026}"))?)
}

fn resource_id(number: u32) -> Result<ResourceId> {
    Ok(ResourceId::new(&format!("authz_resource_{number:026}"))?)
}
