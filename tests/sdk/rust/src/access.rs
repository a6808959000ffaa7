//! Permissions, roles, resources, assignments and checks.

use futures_util::StreamExt;
use serde_json::{Value, json};
use workos::authorization::{
    AddEnvironmentRolePermissionParams, AddOrganizationRolePermissionParams, AssignRoleParams, CheckParams,
    CreateEnvironmentRoleParams, CreateGroupRoleAssignmentParams, CreateOrganizationRoleParams, CreatePermissionParams,
    CreateResourceParams, DeleteGroupRoleAssignmentsParams, DeleteResourceByExternalIdParams, DeleteResourceParams,
    ListEffectivePermissionsByExternalIdParams, ListEffectivePermissionsParams, ListGroupRoleAssignmentsParams,
    ListMembershipsForResourceByExternalIdParams, ListMembershipsForResourceParams, ListPermissionsParams,
    ListResourcesForMembershipParams, ListResourcesParams, ListRoleAssignmentsForResourceByExternalIdParams,
    ListRoleAssignmentsForResourceParams, ListRoleAssignmentsParams, RemoveRoleParams,
    SetEnvironmentRolePermissionsParams, SetOrganizationRolePermissionsParams, UpdateEnvironmentRoleParams,
    UpdateGroupRoleAssignmentsParams, UpdateOrganizationRoleParams, UpdatePermissionParams,
    UpdateResourceByExternalIdParams, UpdateResourceParams,
};

use crate::company::Company;
use crate::{Outcome, Sdk, body, call, refused};

/// A workspace, and two projects in it. The external id of the first project needs care in a path.
pub struct Resources {
    organization: String,
    workspace: String,
    project: String,
    other: String,
}

const ODD: &str = "a/b c";

pub async fn roles(sdk: &Sdk, company: &Company) -> Outcome {
    let organization = &company.organization;
    let new = CreatePermissionParams::new(body(json!({"slug": "report:read", "name": "Read reports"})));
    let created = call!(sdk.authorization.create_permission(new))?;
    assert_eq!((created.slug.as_str(), created.description), ("report:read", None));
    assert_eq!(call!(sdk.authorization.get_permission("report:read"))?.name, "Read reports");
    let change = UpdatePermissionParams::new(body(json!({"description": "All of them"})));
    let changed = call!(sdk.authorization.update_permission("report:read", change))?;
    assert_eq!(changed.description.as_deref(), Some("All of them"));
    let few = ListPermissionsParams { limit: Some(2), ..Default::default() };
    assert_eq!(call!(sdk.authorization.list_permissions(few.clone()))?.data.len(), 2);
    sdk.note("authorization.list_permissions_auto_paging");
    let authorization = sdk.client.authorization();
    let pages = authorization.list_permissions_auto_paging(few);
    let all: Vec<_> = pages.map(|permission| permission.map(|one| one.slug)).collect().await;
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert!(all.len() > 5 && all.contains(&"report:read".to_owned()), "{all:?}");

    let new = CreateEnvironmentRoleParams::new(body(json!({"slug": "auditor", "name": "Auditor"})));
    let auditor = call!(sdk.authorization.create_environment_role(new))?.id;
    assert_eq!(call!(sdk.authorization.get_environment_role("auditor"))?.id, auditor);
    let change = UpdateEnvironmentRoleParams::new(body(json!({"name": "Auditors"})));
    assert_eq!(call!(sdk.authorization.update_environment_role("auditor", change))?.name, "Auditors");
    let more = AddEnvironmentRolePermissionParams::new(body(json!({"slug": "report:read"})));
    let role = call!(sdk.authorization.add_environment_role_permission("auditor", more))?;
    assert_eq!(role.permissions, ["report:read"]);
    let none = SetEnvironmentRolePermissionsParams::new(body(json!({"permissions": []})));
    assert!(call!(sdk.authorization.set_environment_role_permissions("auditor", none))?.permissions.is_empty());
    let roles = call!(sdk.authorization.list_environment_roles())?.data;
    assert!(roles.iter().any(|role| role.slug == "auditor"));

    let new = CreateOrganizationRoleParams::new(body(json!({"slug": "org-reader", "name": "Reader"})));
    let reader = call!(sdk.authorization.create_organization_role(organization, new))?.id;
    assert_eq!(call!(sdk.authorization.get_organization_role(organization, "org-reader"))?.id, reader);
    let change = UpdateOrganizationRoleParams::new(body(json!({"name": "Readers"})));
    let changed = call!(sdk.authorization.update_organization_role(organization, "org-reader", change))?;
    assert_eq!(changed.name, "Readers");
    let more = AddOrganizationRolePermissionParams::new(body(json!({"slug": "report:read"})));
    call!(sdk.authorization.add_organization_role_permission(organization, "org-reader", more))?;
    let two = body(json!({"permissions": ["report:read", "project:view"]}));
    let two = SetOrganizationRolePermissionsParams::new(two);
    let role = call!(sdk.authorization.set_organization_role_permissions(organization, "org-reader", two))?;
    assert_eq!(role.permissions.len(), 2);
    let role =
        call!(sdk.authorization.remove_organization_role_permission(organization, "org-reader", "project:view"))?;
    assert_eq!(role.permissions, ["report:read"]);
    let roles = call!(sdk.authorization.list_organization_roles(organization))?.data;
    assert!(roles.iter().any(|role| role.slug == "org-reader") && roles.iter().any(|role| role.slug == "auditor"));
    call!(sdk.authorization.delete_organization_role(organization, "org-reader"))?;
    call!(sdk.authorization.delete_permission("report:read"))?;
    refused(call!(sdk.authorization.get_permission("report:read")), 404);
    Ok(())
}

pub async fn resources(sdk: &Sdk, company: &Company) -> Outcome<Resources> {
    let organization = company.organization.clone();
    let new = |external_id: &str, kind: &str, parent: Value| {
        let mut new = json!({
            "external_id": external_id, "name": external_id, "resource_type_slug": kind, "organization_id": organization,
        });
        for (name, value) in parent.as_object().into_iter().flatten() {
            new[name] = value.clone();
        }
        CreateResourceParams::new(body(new))
    };
    let workspace = call!(sdk.authorization.create_resource(new("ws-1", "workspace", json!({}))))?.id;
    let above = json!({"parent_resource_id": workspace});
    let project = call!(sdk.authorization.create_resource(new(ODD, "project", above)))?.id;
    let above = json!({"parent_resource_type_slug": "workspace", "parent_resource_external_id": "ws-1"});
    let other = call!(sdk.authorization.create_resource(new("p-2", "project", above)))?.id;
    let again = new("p-2", "project", json!({}));
    refused(call!(sdk.authorization.create_resource(again)), 409);
    let read = call!(sdk.authorization.get_resource(&project))?;
    assert_eq!(read.parent_resource_id.as_ref(), Some(&workspace));
    let read = call!(sdk.authorization.get_resource_by_external_id(&organization, "project", ODD))?;
    assert_eq!(read.id, project);
    let change = UpdateResourceParams::new(body(json!({"name": "Back"})));
    assert_eq!(call!(sdk.authorization.update_resource(&project, change))?.name, "Back");
    let change = UpdateResourceByExternalIdParams::new(body(json!({"description": "D"})));
    let changed = call!(sdk.authorization.update_resource_by_external_id(&organization, "project", ODD, change))?;
    assert_eq!(changed.description.as_deref(), Some("D"));
    for parent in [
        json!({"parent_resource_id": workspace}),
        json!({"parent_resource_type_slug": "workspace", "parent_external_id": "ws-1"}),
    ] {
        let below = ListResourcesParams {
            organization_id: Some(organization.clone()),
            parent: Some(body(parent)),
            ..Default::default()
        };
        assert_eq!(call!(sdk.authorization.list_resources(below))?.data.len(), 2);
    }
    Ok(Resources { organization, workspace, project, other })
}

pub async fn assignments(sdk: &Sdk, company: &Company, resources: &Resources) -> Outcome {
    let Company { organization, ada, bob, .. } = company;
    let Resources { workspace, project, other, .. } = resources;
    let may = async |membership: &str, permission: &str| {
        let question = json!({
            "permission_slug": permission, "resource_external_id": ODD, "resource_type_slug": "project",
        });
        let answer = call!(sdk.authorization.check(membership, CheckParams::new(body(question))))?;
        Outcome::Ok(answer.authorized)
    };
    let on_workspace = json!({"role_slug": "workspace-admin", "resource_id": workspace});
    let role = AssignRoleParams::new(body(on_workspace.clone()));
    let assigned = call!(sdk.authorization.assign_role(ada, role))?;
    assert_eq!((&assigned.resource.id, serde_json::to_value(assigned.source.type_)?), (workspace, json!("direct")));
    assert!(may(ada, "project:edit").await?);
    assert!(!may(bob, "app:edit").await?);
    let all = ListRoleAssignmentsParams::default();
    assert!(call!(sdk.authorization.list_role_assignments(ada, all))?.data.len() >= 2);
    let all = ListRoleAssignmentsForResourceParams::default();
    assert_eq!(call!(sdk.authorization.list_role_assignments_for_resource(workspace, all))?.data.len(), 1);
    let all = ListRoleAssignmentsForResourceByExternalIdParams::default();
    let listed = call!(sdk.authorization.list_role_assignments_for_resource_by_external_id(
        organization,
        "workspace",
        "ws-1",
        all
    ))?;
    assert_eq!(listed.data.len(), 1);
    let below = ListResourcesForMembershipParams::new("project:edit", body(json!({"parent_resource_id": workspace})));
    let reach = call!(sdk.authorization.list_resources_for_membership(ada, below))?.data;
    assert!(reach.len() == 2 && reach.iter().all(|one| [project, other].contains(&&one.id)), "{reach:?}");
    let all = ListEffectivePermissionsParams { limit: Some(100), ..Default::default() };
    let held = call!(sdk.authorization.list_effective_permissions(ada, project, all))?.data;
    assert!(held.iter().any(|permission| permission.slug == "project:edit"));
    let all = ListEffectivePermissionsByExternalIdParams { limit: Some(100), ..Default::default() };
    let same = call!(sdk.authorization.list_effective_permissions_by_external_id(ada, "project", ODD, all))?.data;
    assert_eq!(same.len(), held.len());
    let mut holders = ListMembershipsForResourceParams::new("project:edit");
    holders.assignment = Some(body(json!("indirect")));
    let holders = call!(sdk.authorization.list_memberships_for_resource(project, holders))?.data;
    assert!(holders.iter().any(|one| one.id == *ada));
    let holders = ListMembershipsForResourceByExternalIdParams::new("workspace:edit");
    let holders = call!(sdk.authorization.list_memberships_for_resource_by_external_id(
        organization,
        "workspace",
        "ws-1",
        holders
    ))?;
    assert_eq!(holders.data.iter().map(|one| &one.id).collect::<Vec<_>>(), [ada]);
    call!(sdk.authorization.remove_role(ada, RemoveRoleParams::new(body(on_workspace))))?;
    let viewer = json!({"role_slug": "project-viewer", "resource_id": project});
    let again = call!(sdk.authorization.assign_role(ada, AssignRoleParams::new(body(viewer))))?;
    call!(sdk.authorization.remove_role_assignment(ada, &again.id))?;
    assert!(!may(ada, "project:edit").await?);
    Ok(())
}

pub async fn of_groups(sdk: &Sdk, company: &Company, resources: &Resources) -> Outcome {
    let (group, ada) = (company.group.as_str(), company.ada.as_str());
    let wide = json!({"role_slug": "billing-admin"});
    let new = |assignment: &Value| CreateGroupRoleAssignmentParams::new(body(assignment.clone()));
    let given = call!(sdk.authorization.create_group_role_assignment(group, new(&wide)))?.id;
    let read = call!(sdk.authorization.get_group_role_assignment(group, &given))?;
    assert_eq!(read.role.slug, "billing-admin");
    let member = call!(sdk.organization_membership.get_organization_membership(ada))?;
    assert_eq!(member.roles.iter().map(|role| role.slug.as_str()).collect::<Vec<_>>(), ["billing-admin", "member"]);
    let scoped = json!({"role_slug": "project-editor", "resource_id": resources.project});
    let scoped = call!(sdk.authorization.create_group_role_assignment(group, new(&scoped)))?.id;
    refused(call!(sdk.authorization.create_group_role_assignment(group, new(&wide))), 409);
    let all = ListGroupRoleAssignmentsParams::default();
    assert_eq!(call!(sdk.authorization.list_group_role_assignments(group, all.clone()))?.data.len(), 2);
    let held = call!(sdk.authorization.list_role_assignments(ada, ListRoleAssignmentsParams::default()))?.data;
    let names = held.iter().filter_map(|one| Some(one.source.group.as_ref()?.name.as_str()));
    assert_eq!(names.collect::<Vec<_>>(), ["Finances", "Finances"]);
    let entry = json!({"role_slug": "project-viewer", "resource_external_id": "p-2", "resource_type_slug": "project"});
    let set = UpdateGroupRoleAssignmentsParams::new(body(json!({"role_assignments": [wide, entry]})));
    let kept: Vec<String> = call!(sdk.authorization.update_group_role_assignments(group, set))?
        .data
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert!(kept.len() == 2 && kept.contains(&given) && !kept.contains(&scoped), "{kept:?}");
    let criteria = || DeleteGroupRoleAssignmentsParams::new(body(wide.clone()));
    call!(sdk.authorization.delete_group_role_assignments(group, criteria()))?;
    refused(call!(sdk.authorization.delete_group_role_assignments(group, criteria())), 404);
    let last = call!(sdk.authorization.list_group_role_assignments(group, all.clone()))?.data;
    assert_eq!(last.len(), 1);
    call!(sdk.authorization.delete_group_role_assignment(group, &last[0].id))?;
    assert!(call!(sdk.authorization.list_group_role_assignments(group, all))?.data.is_empty());
    Ok(())
}

pub async fn remove(sdk: &Sdk, resources: &Resources) -> Outcome {
    let Resources { organization, workspace, .. } = resources;
    let alone = DeleteResourceParams::default();
    refused(call!(sdk.authorization.delete_resource(workspace, alone)), 409);
    let alone = DeleteResourceByExternalIdParams::default();
    call!(sdk.authorization.delete_resource_by_external_id(organization, "project", "p-2", alone))?;
    let all = DeleteResourceParams { cascade_delete: Some(true) };
    call!(sdk.authorization.delete_resource(workspace, all))?;
    refused(call!(sdk.authorization.get_resource(&resources.project)), 404);
    Ok(())
}
