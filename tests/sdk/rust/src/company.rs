//! Organizations, users, memberships, groups, events and keys.

use serde_json::json;
use workos::events::ListEventsParams;
use workos::groups::{
    CreateGroupOrganizationMembershipParams, CreateOrganizationGroupParams, ListGroupOrganizationMembershipsParams,
    ListOrganizationGroupsParams, UpdateOrganizationGroupParams,
};
use workos::organization_membership::{
    CreateOrganizationMembershipParams, ListOrganizationMembershipGroupsParams, ListOrganizationMembershipsParams,
    UpdateOrganizationMembershipParams,
};
use workos::organizations::{CreateOrganizationParams, ListOrganizationsParams, UpdateOrganizationParams};
use workos::user_management::{CreateUserParams, ListSessionsParams, ListUsersParams, UpdateUserParams};

use crate::{Outcome, Sdk, body, call, refused};

/// A company with two members, the first of which is in its group.
pub struct Company {
    pub organization: String,
    pub ada: String,
    pub bob: String,
    pub group: String,
    user: String,
}

pub async fn found(sdk: &Sdk) -> Outcome<Company> {
    let new = body(json!({"name": "Acme", "external_id": "acme-1", "metadata": {"tier": "gold"}}));
    let organization = call!(sdk.organizations.create_organization(CreateOrganizationParams::new(new)))?.id;
    assert_eq!(call!(sdk.organizations.get_organization(&organization))?.name, "Acme");
    assert_eq!(call!(sdk.organizations.get_organization_by_external_id("acme-1"))?.id, organization);
    let change = UpdateOrganizationParams::new(body(json!({"name": "Acme Inc"})));
    assert_eq!(call!(sdk.organizations.update_organization(&organization, change))?.name, "Acme Inc");
    let search = ListOrganizationsParams { search: Some("acme".into()), ..Default::default() };
    let found = call!(sdk.organizations.list_organizations(search))?.data;
    assert_eq!(found.iter().map(|one| &one.id).collect::<Vec<_>>(), [&organization]);
    refused(call!(sdk.organizations.get_organization("org_nobody")), 404);

    let new = body(json!({"email": "Ada@Example.com", "first_name": "Ada", "external_id": "u-1"}));
    let user = call!(sdk.user_management.create_user(CreateUserParams::new(new)))?.id;
    let new = body(json!({"email": "bob@example.com"}));
    let other = call!(sdk.user_management.create_user(CreateUserParams::new(new)))?.id;
    assert_eq!(call!(sdk.user_management.get_user(&user))?.email, "ada@example.com");
    assert_eq!(call!(sdk.user_management.get_user_by_external_id("u-1"))?.id, user);
    let change = UpdateUserParams::new(body(json!({"last_name": "Lovelace"})));
    assert_eq!(call!(sdk.user_management.update_user(&user, change))?.last_name.as_deref(), Some("Lovelace"));
    let by_address = ListUsersParams { email: Some("bob@example.com".into()), ..Default::default() };
    let found = call!(sdk.user_management.list_users(by_address))?.data;
    assert_eq!(found.iter().map(|one| &one.id).collect::<Vec<_>>(), [&other]);

    let (ada, bob) = memberships(sdk, &organization, &user, &other).await?;
    let group = group(sdk, &organization, &ada).await?;
    Ok(Company { organization, ada, bob, group, user })
}

async fn memberships(sdk: &Sdk, organization: &str, user: &str, other: &str) -> Outcome<(String, String)> {
    let new = body(json!({"user_id": user, "organization_id": organization}));
    let new = CreateOrganizationMembershipParams::new(new);
    let ada = call!(sdk.organization_membership.create_organization_membership(new))?;
    assert_eq!(ada.role.slug, "member");
    let new = body(json!({"user_id": other, "organization_id": organization, "role_slug": "billing-admin"}));
    let new = CreateOrganizationMembershipParams::new(new);
    let bob = call!(sdk.organization_membership.create_organization_membership(new))?.id;
    let read = call!(sdk.organization_membership.get_organization_membership(&bob))?;
    assert_eq!(read.role.slug, "billing-admin");
    let change = UpdateOrganizationMembershipParams::new(body(json!({"role_slugs": ["admin", "member"]})));
    let both = call!(sdk.organization_membership.update_organization_membership(&bob, change))?;
    assert_eq!(both.roles.iter().map(|role| role.slug.as_str()).collect::<Vec<_>>(), ["admin", "member"]);
    let off = call!(sdk.organization_membership.deactivate_organization_membership(&bob))?;
    assert_eq!(serde_json::to_value(off.status)?, "inactive");
    let on = call!(sdk.organization_membership.reactivate_organization_membership(&bob))?;
    assert_eq!(serde_json::to_value(on.status)?, "active");
    let all = ListOrganizationMembershipsParams {
        organization_id: Some(organization.to_owned()),
        statuses: Some(body(json!(["active", "inactive"]))),
        ..Default::default()
    };
    let all = call!(sdk.organization_membership.list_organization_memberships(all))?.data;
    assert_eq!(all.len(), 2);
    Ok((ada.id, bob))
}

async fn group(sdk: &Sdk, organization: &str, ada: &str) -> Outcome<String> {
    let new = CreateOrganizationGroupParams::new(body(json!({"name": "Finance", "description": "Money"})));
    let group = call!(sdk.groups.create_organization_group(organization, new))?.id;
    let read = call!(sdk.groups.get_organization_group(organization, &group))?;
    assert_eq!(read.description.as_deref(), Some("Money"));
    let change = UpdateOrganizationGroupParams::new(body(json!({"name": "Finances"})));
    assert_eq!(call!(sdk.groups.update_organization_group(organization, &group, change))?.name, "Finances");
    let search = ListOrganizationGroupsParams { search: Some("fin".into()), ..Default::default() };
    assert_eq!(call!(sdk.groups.list_organization_groups(organization, search))?.data.len(), 1);
    let member = || {
        let member = body(json!({"organization_membership_id": ada}));
        CreateGroupOrganizationMembershipParams::new(member)
    };
    let added = call!(sdk.groups.create_group_organization_membership(organization, &group, member()))?;
    assert_eq!(added.id, group);
    let all = ListGroupOrganizationMembershipsParams::default();
    let members = call!(sdk.groups.list_group_organization_memberships(organization, &group, all.clone()))?.data;
    assert_eq!(members.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [ada]);
    call!(sdk.groups.delete_group_organization_membership(organization, &group, ada))?;
    refused(call!(sdk.groups.delete_group_organization_membership(organization, &group, ada)), 404);
    assert!(call!(sdk.groups.list_group_organization_memberships(organization, &group, all))?.data.is_empty());
    call!(sdk.groups.create_group_organization_membership(organization, &group, member()))?;
    let all = ListOrganizationMembershipGroupsParams::default();
    let groups = call!(sdk.organization_membership.list_organization_membership_groups(ada, all))?.data;
    assert_eq!(groups.iter().map(|one| &one.id).collect::<Vec<_>>(), [&group]);
    Ok(group)
}

pub async fn dissolve(sdk: &Sdk, company: Company) -> Outcome {
    let wanted = vec!["group.created".to_owned(), "role.created".to_owned()];
    let events = ListEventsParams { limit: Some(100), ..ListEventsParams::new(wanted.clone()) };
    let events = serde_json::to_value(call!(sdk.events.list_events(events))?.data)?;
    let seen: Vec<_> = events.as_array().into_iter().flatten().map(|event| event["event"].clone()).collect();
    assert!(wanted.iter().all(|kind| seen.contains(&json!(kind))), "{seen:?}");
    assert!(!call!(sdk.user_management.get_jwks("client_test"))?.keys.is_empty());
    let sessions = ListSessionsParams::default();
    assert!(call!(sdk.user_management.list_sessions(&company.user, sessions))?.data.is_empty());
    call!(sdk.groups.delete_organization_group(&company.organization, &company.group))?;
    call!(sdk.organization_membership.delete_organization_membership(&company.bob))?;
    refused(call!(sdk.organization_membership.get_organization_membership(&company.bob)), 404);
    call!(sdk.user_management.delete_user(&company.user))?;
    refused(call!(sdk.organization_membership.get_organization_membership(&company.ada)), 404);
    call!(sdk.organizations.delete_organization(&company.organization))?;
    refused(call!(sdk.organizations.get_organization(&company.organization)), 404);
    Ok(())
}
