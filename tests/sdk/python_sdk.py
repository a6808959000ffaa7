"""Drives the official Python SDK (PyPI `workos`) against a running store, through every method of the areas it serves.

Usage: python_sdk.py BASE_URL API_KEY; the store is empty and its model is the usual one of the tests (multiple roles).
Prints each method as it is exercised, and fails at the first answer that is not what the contract says.
"""

import sys

import httpx2
from workos import WorkOSClient
from workos.authorization import (
    ParentByExternalId,
    ParentById,
    ParentResourceByExternalId,
    ParentResourceById,
    ReplaceGroupRoleAssignmentEntry,
    ResourceTargetByExternalId,
    ResourceTargetById,
)
from workos.organization_membership import RoleMultiple, RoleSingle

KINDS = [
    "group.created", "group.deleted", "group.member_added", "group.member_removed", "group.updated", "organization.created",
    "organization.deleted", "organization.updated", "organization_membership.created", "organization_membership.deleted",
    "organization_membership.updated", "organization_role.created", "organization_role.deleted", "organization_role.updated",
    "permission.created", "permission.deleted", "permission.updated", "role.created", "role.deleted", "role.updated",
    "session.created", "session.revoked", "user.created", "user.deleted", "user.updated",
]
base_url, api_key = sys.argv[1:3]
client = WorkOSClient(api_key=api_key, client_id="client_test", base_url=base_url, max_retries=0)
exercised = {}  # method of the SDK: what it sent
calling = None

send = httpx2.Client.send


def noted(self, request, **options):
    exercised.setdefault(calling, f"{request.method} {request.url.raw_path.decode().split('?')[0]}")
    return send(self, request, **options)


httpx2.Client.send = noted


class Area:
    """A service of the SDK that notes which of its methods were called."""

    def __init__(self, name):
        self.name, self.service = name, getattr(client, name)

    def __getattr__(self, method):
        global calling
        calling = f"{self.name}.{method}"
        return getattr(self.service, method)


authorization, groups, organizations = Area("authorization"), Area("groups"), Area("organizations")
memberships, users, events = Area("organization_membership"), Area("user_management"), Area("events")


def refused(status, act):
    """The call fails with this status."""
    try:
        act()
    except Exception as error:  # every error of the SDK has a status
        found = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
        assert found == status, f"{status} expected, {found} found: {error}"
        return
    raise AssertionError(f"{status} expected, nothing happened")


def slugs(page):
    return sorted(item.slug for item in page.data)


# People.
acme = organizations.create_organization(name="Acme", external_id="acme-1", metadata={"tier": "gold"})
assert organizations.get_organization(acme.id).name == "Acme"
assert organizations.get_organization_by_external_id("acme-1").id == acme.id
assert organizations.update_organization(acme.id, name="Acme Inc").name == "Acme Inc"
assert [item.id for item in organizations.list_organizations(search="acme").data] == [acme.id]
refused(404, lambda: organizations.get_organization("org_nobody"))

ada = users.create_user(email="Ada@Example.com", first_name="Ada", external_id="u-1")
bob = users.create_user(email="bob@example.com")
assert users.get_user(ada.id).email == "ada@example.com"
assert users.get_user_by_external_id("u-1").id == ada.id
assert users.update_user(ada.id, last_name="Lovelace").last_name == "Lovelace"
assert [item.id for item in users.list_users(email="bob@example.com").data] == [bob.id]

ada_om = memberships.create_organization_membership(user_id=ada.id, organization_id=acme.id)
assert ada_om.role.slug == "member"
bob_om = memberships.create_organization_membership(
    user_id=bob.id, organization_id=acme.id, role=RoleSingle(role_slug="billing-admin")
)
assert memberships.get_organization_membership(bob_om.id).role.slug == "billing-admin"
both = memberships.update_organization_membership(bob_om.id, role=RoleMultiple(role_slugs=["admin", "member"]))
assert [role.slug for role in both.roles] == ["admin", "member"]
assert memberships.deactivate_organization_membership(bob_om.id).status == "inactive"
assert memberships.reactivate_organization_membership(bob_om.id).status == "active"
listed = memberships.list_organization_memberships(organization_id=acme.id, statuses=["active", "inactive"])
assert sorted(item.id for item in listed.data) == sorted([ada_om.id, bob_om.id])

finance = groups.create_organization_group(acme.id, name="Finance", description="Money")
assert groups.get_organization_group(acme.id, finance.id).description == "Money"
assert groups.update_organization_group(acme.id, finance.id, name="Finances").name == "Finances"
assert [item.id for item in groups.list_organization_groups(acme.id, search="fin").data] == [finance.id]
assert groups.create_group_organization_membership(acme.id, finance.id, organization_membership_id=ada_om.id).id == finance.id
assert [item.id for item in groups.list_group_organization_memberships(acme.id, finance.id).data] == [ada_om.id]
groups.update_group_organization_memberships(acme.id, finance.id, add=[bob_om.id], remove=[ada_om.id])
assert [item.id for item in groups.list_group_organization_memberships(acme.id, finance.id).data] == [bob_om.id]
groups.delete_group_organization_membership(acme.id, finance.id, bob_om.id)
groups.create_group_organization_membership(acme.id, finance.id, organization_membership_id=ada_om.id)
assert [item.id for item in memberships.list_organization_membership_groups(ada_om.id).data] == [finance.id]

# Permissions and roles.
created = authorization.create_permission(slug="report:read", name="Read reports")
assert created.slug == "report:read" and created.description is None
assert authorization.get_permission("report:read").name == "Read reports"
assert authorization.update_permission("report:read", description="All of them").description == "All of them"
assert "report:read" in slugs(authorization.list_permissions(limit=100))
auditor = authorization.create_environment_role(slug="auditor", name="Auditor")
assert authorization.get_environment_role("auditor").id == auditor.id
assert authorization.update_environment_role("auditor", name="Auditors").name == "Auditors"
assert authorization.add_environment_role_permission("auditor", body_slug="report:read").permissions == ["report:read"]
assert authorization.set_environment_role_permissions("auditor", permissions=[]).permissions == []
assert "auditor" in [role.slug for role in authorization.list_environment_roles().data]
custom = authorization.create_organization_role(acme.id, name="Reader", slug="org-reader")
assert authorization.get_organization_role(acme.id, "org-reader").id == custom.id
assert authorization.update_organization_role(acme.id, "org-reader", name="Readers").name == "Readers"
authorization.add_organization_role_permission(acme.id, "org-reader", body_slug="report:read")
authorization.set_organization_role_permissions(acme.id, "org-reader", permissions=["report:read", "project:view"])
authorization.remove_organization_role_permission(acme.id, "org-reader", "project:view")
assert authorization.get_organization_role(acme.id, "org-reader").permissions == ["report:read"]
assert "org-reader" in [role.slug for role in authorization.list_organization_roles(acme.id).data]
authorization.delete_organization_role(acme.id, "org-reader")
authorization.delete_permission("report:read")
refused(404, lambda: authorization.get_permission("report:read"))

# Resources.
workspace = authorization.create_resource(
    external_id="ws-1", name="Engineering", resource_type_slug="workspace", organization_id=acme.id
)
project = authorization.create_resource(
    external_id="a/b c", name="Backend", resource_type_slug="project", organization_id=acme.id,
    parent_resource=ParentResourceById(parent_resource_id=workspace.id),
)
other = authorization.create_resource(
    external_id="p-2", name="Other", resource_type_slug="project", organization_id=acme.id,
    parent_resource=ParentResourceByExternalId(parent_resource_type_slug="workspace", parent_resource_external_id="ws-1"),
)
assert authorization.get_resource(project.id).parent_resource_id == workspace.id
assert authorization.get_resource_by_external_id(acme.id, "project", "a/b c").id == project.id
assert authorization.update_resource(project.id, name="Back").name == "Back"
assert authorization.update_resource_by_external_id(acme.id, "project", "a/b c", description="D").description == "D"
below = authorization.list_resources(organization_id=acme.id, parent=ParentById(parent_resource_id=workspace.id))
assert len(below.data) == 2
below = authorization.list_resources(
    organization_id=acme.id,
    parent=ParentByExternalId(parent_resource_type_slug="workspace", parent_external_id="ws-1"),
)
assert len(below.data) == 2

# Assignments and checks.
on_workspace = ResourceTargetById(resource_id=workspace.id)
on_project = ResourceTargetByExternalId(resource_external_id="a/b c", resource_type_slug="project")
assigned = authorization.assign_role(ada_om.id, role_slug="workspace-admin", resource_target=on_workspace)
assert assigned.source.type == "direct" and assigned.resource.id == workspace.id
assert authorization.check(ada_om.id, permission_slug="project:edit", resource_target=on_project).authorized is True
assert authorization.check(bob_om.id, permission_slug="app:edit", resource_target=on_project).authorized is False
assert len(authorization.list_role_assignments(ada_om.id).data) >= 2
assert len(authorization.list_role_assignments_for_resource(workspace.id).data) == 1
assert len(authorization.list_role_assignments_for_resource_by_external_id(acme.id, "workspace", "ws-1").data) == 1
reach = authorization.list_resources_for_membership(
    ada_om.id, permission_slug="project:edit", parent_resource=ParentResourceById(parent_resource_id=workspace.id)
)
assert sorted(item.id for item in reach.data) == sorted([project.id, other.id])
assert "project:edit" in slugs(authorization.list_effective_permissions(ada_om.id, project.id, limit=100))
assert "project:edit" in slugs(
    authorization.list_effective_permissions_by_external_id(ada_om.id, "project", "a/b c", limit=100)
)
holders = authorization.list_memberships_for_resource(project.id, permission_slug="project:edit", assignment="indirect")
assert ada_om.id in [item.id for item in holders.data]
holders = authorization.list_memberships_for_resource_by_external_id(
    acme.id, "workspace", "ws-1", permission_slug="workspace:edit"
)
assert [item.id for item in holders.data] == [ada_om.id]
authorization.remove_role(ada_om.id, role_slug="workspace-admin", resource_target=on_workspace)
again = authorization.assign_role(ada_om.id, role_slug="project-viewer", resource_target=on_project)
authorization.remove_role_assignment(ada_om.id, again.id)
assert authorization.check(ada_om.id, permission_slug="project:edit", resource_target=on_project).authorized is False

# Assignments of groups.
wide = authorization.create_group_role_assignment(finance.id, role_slug="billing-admin")
assert authorization.get_group_role_assignment(finance.id, wide.id).role.slug == "billing-admin"
assert [role.slug for role in memberships.get_organization_membership(ada_om.id).roles] == ["billing-admin", "member"]
scoped = authorization.create_group_role_assignment(finance.id, role_slug="project-editor", resource_id=project.id)
refused(409, lambda: authorization.create_group_role_assignment(finance.id, role_slug="billing-admin"))
assert len(authorization.list_group_role_assignments(finance.id).data) == 2
derived = [item for item in authorization.list_role_assignments(ada_om.id).data if item.source.type == "group"]
assert {item.source.group.name for item in derived} == {"Finances"} and len(derived) == 2
entry = ReplaceGroupRoleAssignmentEntry(role_slug="project-viewer", resource_external_id="p-2", resource_type_slug="project")
authorization.patch_group_role_assignments(finance.id, add=[entry])
kept = ReplaceGroupRoleAssignmentEntry(role_slug="billing-admin")
result = authorization.update_group_role_assignments(finance.id, role_assignments=[kept, entry])
assert wide.id in [item.id for item in result.data] and scoped.id not in [item.id for item in result.data]
authorization.delete_group_role_assignments(finance.id, role_slug="billing-admin")
refused(404, lambda: authorization.delete_group_role_assignments(finance.id, role_slug="billing-admin"))
last = authorization.list_group_role_assignments(finance.id).data[0]
authorization.delete_group_role_assignment(finance.id, last.id)
assert authorization.list_group_role_assignments(finance.id).data == []

# Events, keys, and the end.
seen = [item.event for item in events.list_events(events=["group.created", "role.created"], limit=100).data]
assert "group.created" in seen and "role.created" in seen
assert users.get_jwks("client_test").keys
assert sorted(user.id for user in users.list_users(limit=1).auto_paging_iter()) == sorted([ada.id, bob.id])
template = users.update_jwt_template(content='{"email": {{ user.email }}}')
assert users.list_jwt_template().content == template.content
# No method of the SDK mints.
minted = httpx2.post(
    base_url.rstrip("/") + "/portcullis/v1/tokens",
    headers={"authorization": f"Bearer {api_key}"},
    json={"organization_membership_id": ada_om.id},
).json()
(session,) = users.list_sessions(ada.id).data
assert (session.id, session.user_id, session.organization_id) == (minted["session_id"], ada.id, acme.id)
users.revoke_session(session_id=session.id)
assert users.list_sessions(ada.id).data[0].status == "revoked"
refused(409, lambda: authorization.delete_resource(workspace.id))
authorization.delete_resource_by_external_id(acme.id, "project", "p-2")
authorization.delete_resource(workspace.id, cascade_delete=True)
groups.delete_organization_group(acme.id, finance.id)
memberships.delete_organization_membership(bob_om.id)
users.delete_user(ada.id)
organizations.delete_organization(acme.id)
refused(404, lambda: organizations.get_organization(acme.id))

# Every event that there was is one that the SDK knows, page by page.
kinds = {item.event for item in events.list_events(events=KINDS, limit=20).auto_paging_iter()}
assert len(kinds) >= 15, kinds

for method, request in sorted(exercised.items()):
    print(method, request)
