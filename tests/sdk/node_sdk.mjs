// Drives the official Node SDK (npm `@workos-inc/node`) against a running store, through every method of the areas it serves.
//
// Usage: node_sdk.mjs BASE_URL API_KEY; the store is empty and its model is the usual one of the tests (multiple roles).
// Prints each method as it is exercised, and fails at the first answer that is not what the contract says.

import assert from 'node:assert/strict';
import { WorkOS } from '@workos-inc/node';

const KINDS = [
  'group.created', 'group.deleted', 'group.member_added', 'group.member_removed', 'group.updated', 'organization.created',
  'organization.deleted', 'organization.updated', 'organization_membership.created', 'organization_membership.deleted',
  'organization_membership.updated', 'organization_role.created', 'organization_role.deleted', 'organization_role.updated',
  'permission.created', 'permission.deleted', 'permission.updated', 'role.created', 'role.deleted', 'role.updated',
  'session.created', 'session.revoked', 'user.created', 'user.deleted', 'user.updated',
];
const [baseUrl, apiKey] = process.argv.slice(2);
const url = new URL(baseUrl);
const exercised = new Map(); // method of the SDK: what it sent
let calling;
const fetchFn = (address, options) => {
  const { pathname } = new URL(address);
  if (!exercised.has(calling)) exercised.set(calling, `${options?.method ?? 'GET'} ${pathname}`);
  return fetch(address, options);
};
const client = new WorkOS(apiKey, {
  apiHostname: url.hostname, port: Number(url.port), https: false, clientId: 'client_test', maxRetries: 0, fetchFn,
});

// A service of the SDK that notes which of its methods were called.
function area(name) {
  return new Proxy(client[name], {
    get(service, method) {
      calling = `${name}.${String(method)}`;
      return service[method].bind(service);
    },
  });
}

const authorization = area('authorization');
const groups = area('groups');
const organizations = area('organizations');
const people = area('userManagement');
const events = area('events');

async function refused(status, act) {
  await assert.rejects(act, (error) => error.status === status || assert.fail(`${status} expected: ${error.status} ${error}`));
}
const ids = (page) => page.data.map((item) => item.id).sort();
const slugs = (page) => page.data.map((item) => item.slug).sort();

// People.
const acme = await organizations.createOrganization({ name: 'Acme', externalId: 'acme-1', metadata: { tier: 'gold' } });
assert.equal((await organizations.getOrganization(acme.id)).name, 'Acme');
assert.equal((await organizations.getOrganizationByExternalId('acme-1')).id, acme.id);
assert.equal((await organizations.updateOrganization({ organization: acme.id, name: 'Acme Inc' })).name, 'Acme Inc');
assert.deepEqual(ids(await organizations.listOrganizations({ limit: 10 })), [acme.id]);
await refused(404, () => organizations.getOrganization('org_nobody'));

const ada = await people.createUser({ email: 'Ada@Example.com', firstName: 'Ada' });
const bob = await people.createUser({ email: 'bob@example.com' });
assert.equal((await people.getUser(ada.id)).email, 'ada@example.com');
assert.equal((await people.updateUser({ userId: ada.id, lastName: 'Lovelace' })).lastName, 'Lovelace');
assert.deepEqual(ids(await people.listUsers({ email: 'bob@example.com' })), [bob.id]);

const adaOm = await people.createOrganizationMembership({ userId: ada.id, organizationId: acme.id });
assert.equal(adaOm.role.slug, 'member');
const bobOm = await people.createOrganizationMembership({ userId: bob.id, organizationId: acme.id, roleSlug: 'billing-admin' });
assert.equal((await people.getOrganizationMembership(bobOm.id)).role.slug, 'billing-admin');
const both = await people.updateOrganizationMembership(bobOm.id, { roleSlugs: ['admin', 'member'] });
assert.deepEqual(both.roles.map((role) => role.slug), ['admin', 'member']);
assert.equal((await people.deactivateOrganizationMembership(bobOm.id)).status, 'inactive');
assert.equal((await people.reactivateOrganizationMembership(bobOm.id)).status, 'active');
const listed = await people.listOrganizationMemberships({ organizationId: acme.id, statuses: ['active', 'inactive'] });
assert.deepEqual(ids(listed), [adaOm.id, bobOm.id].sort());

const organizationId = acme.id;
const finance = await groups.createGroup({ organizationId, name: 'Finance', description: 'Money' });
const groupId = finance.id;
assert.equal((await groups.getGroup({ organizationId, groupId })).description, 'Money');
assert.equal((await groups.updateGroup({ organizationId, groupId, name: 'Finances' })).name, 'Finances');
assert.deepEqual(ids(await groups.listGroups({ organizationId })), [groupId]);
const added = await groups.addOrganizationMembership({ organizationId, groupId, organizationMembershipId: adaOm.id });
assert.equal(added.id, groupId);
assert.deepEqual(ids(await groups.listOrganizationMemberships({ organizationId, groupId })), [adaOm.id]);
await groups.removeOrganizationMembership({ organizationId, groupId, organizationMembershipId: adaOm.id });
await groups.addOrganizationMembership({ organizationId, groupId, organizationMembershipId: adaOm.id });
assert.deepEqual(ids(await people.listGroupsForOrganizationMembership({ organizationMembershipId: adaOm.id })), [groupId]);

// Permissions and roles.
assert.equal((await authorization.createPermission({ slug: 'report:read', name: 'Read reports' })).slug, 'report:read');
assert.equal((await authorization.getPermission('report:read')).name, 'Read reports');
assert.equal((await authorization.updatePermission('report:read', { name: 'Reports' })).name, 'Reports');
assert(slugs(await authorization.listPermissions({ limit: 100 })).includes('report:read'));
const auditor = await authorization.createEnvironmentRole({ slug: 'auditor', name: 'Auditor' });
assert.equal((await authorization.getEnvironmentRole('auditor')).id, auditor.id);
assert.equal((await authorization.updateEnvironmentRole('auditor', { name: 'Auditors' })).name, 'Auditors');
const grown = await authorization.addEnvironmentRolePermission('auditor', { permissionSlug: 'report:read' });
assert.deepEqual(grown.permissions, ['report:read']);
assert.deepEqual((await authorization.setEnvironmentRolePermissions('auditor', { permissions: [] })).permissions, []);
assert(slugs(await authorization.listEnvironmentRoles()).includes('auditor'));
const custom = await authorization.createOrganizationRole(organizationId, { slug: 'org-reader', name: 'Reader' });
assert.equal((await authorization.getOrganizationRole(organizationId, 'org-reader')).id, custom.id);
assert.equal((await authorization.updateOrganizationRole(organizationId, 'org-reader', { name: 'Readers' })).name, 'Readers');
await authorization.addOrganizationRolePermission(organizationId, 'org-reader', { permissionSlug: 'report:read' });
await authorization.setOrganizationRolePermissions(organizationId, 'org-reader', { permissions: ['report:read', 'project:view'] });
await authorization.removeOrganizationRolePermission(organizationId, 'org-reader', { permissionSlug: 'project:view' });
assert.deepEqual((await authorization.getOrganizationRole(organizationId, 'org-reader')).permissions, ['report:read']);
assert(slugs(await authorization.listOrganizationRoles(organizationId)).includes('org-reader'));
await authorization.deleteOrganizationRole(organizationId, 'org-reader');
await authorization.deletePermission('report:read');
await refused(404, () => authorization.getPermission('report:read'));

// Resources.
const workspace = await authorization.createResource({
  externalId: 'ws-1', name: 'Engineering', resourceTypeSlug: 'workspace', organizationId,
});
const project = await authorization.createResource({
  externalId: 'a/b c', name: 'Backend', resourceTypeSlug: 'project', organizationId, parentResourceId: workspace.id,
});
const byName = { organizationId, resourceTypeSlug: 'project', externalId: 'a/b c' };
assert.equal((await authorization.getResource(project.id)).parentResourceId, workspace.id);
assert.equal((await authorization.getResourceByExternalId(byName)).id, project.id);
assert.equal((await authorization.updateResource({ resourceId: project.id, name: 'Back' })).name, 'Back');
assert.equal((await authorization.updateResourceByExternalId({ ...byName, description: 'D' })).description, 'D');
assert.deepEqual(ids(await authorization.listResources({ organizationId, parentResourceId: workspace.id })), [project.id]);

// Assignments and checks.
const organizationMembershipId = adaOm.id;
const resourceTarget = { resourceExternalId: 'a/b c', resourceTypeSlug: 'project' };
const assigned = await authorization.assignRole({
  organizationMembershipId, roleSlug: 'workspace-admin', resourceId: workspace.id,
});
assert.equal(assigned.resource.id, workspace.id);
const may = async (permissionSlug) =>
  (await authorization.check({ organizationMembershipId, permissionSlug, ...resourceTarget })).authorized;
assert.equal(await may('project:edit'), true);
assert.equal(await may('billing:manage'), false);
assert((await authorization.listRoleAssignments({ organizationMembershipId })).data.length >= 2);
assert.equal((await authorization.listRoleAssignmentsForResource({ resourceId: workspace.id })).data.length, 1);
const onWorkspace = { organizationId, resourceTypeSlug: 'workspace', externalId: 'ws-1' };
assert.equal((await authorization.listResourceRoleAssignments(onWorkspace)).data.length, 1);
const reach = await authorization.listResourcesForMembership({
  organizationMembershipId, permissionSlug: 'project:edit', parentResourceId: workspace.id,
});
assert.deepEqual(ids(reach), [project.id]);
const effective = await authorization.listEffectivePermissions({ organizationMembershipId, resourceId: project.id });
assert(slugs(effective).includes('project:edit'));
const { organizationId: _, ...named } = byName;
const effectiveToo = await authorization.listEffectivePermissionsByExternalId({ organizationMembershipId, ...named });
assert.deepEqual(slugs(effectiveToo), slugs(effective));
const holders = await authorization.listMembershipsForResource({
  resourceId: project.id, permissionSlug: 'project:edit', assignment: 'indirect',
});
assert(ids(holders).includes(organizationMembershipId));
const direct = await authorization.listMembershipsForResourceByExternalId({ ...onWorkspace, permissionSlug: 'workspace:edit' });
assert.deepEqual(ids(direct), [organizationMembershipId]);
await authorization.removeRole({ organizationMembershipId, roleSlug: 'workspace-admin', resourceId: workspace.id });
const again = await authorization.assignRole({ organizationMembershipId, roleSlug: 'project-viewer', ...resourceTarget });
await authorization.removeRoleAssignment({ organizationMembershipId, roleAssignmentId: again.id });
assert.equal(await may('project:edit'), false);

// Assignments of groups.
const wide = await authorization.createGroupRoleAssignment({ groupId, roleSlug: 'billing-admin' });
assert.equal((await authorization.getGroupRoleAssignment({ groupId, roleAssignmentId: wide.id })).role.slug, 'billing-admin');
assert.equal(await may('billing:manage'), true);
const scoped = await authorization.createGroupRoleAssignment({ groupId, roleSlug: 'project-editor', resourceId: project.id });
await refused(409, () => authorization.createGroupRoleAssignment({ groupId, roleSlug: 'billing-admin' }));
assert.equal((await authorization.listGroupRoleAssignments({ groupId })).data.length, 2);
const replaced = await authorization.replaceGroupRoleAssignments({
  groupId, roleAssignments: [{ roleSlug: 'billing-admin' }, { roleSlug: 'project-viewer', ...resourceTarget }],
});
assert(ids(replaced).includes(wide.id) && !ids(replaced).includes(scoped.id));
await authorization.removeGroupRoleAssignments({ groupId, roleSlug: 'billing-admin' });
await refused(404, () => authorization.removeGroupRoleAssignments({ groupId, roleSlug: 'billing-admin' }));
const [last] = (await authorization.listGroupRoleAssignments({ groupId })).data;
await authorization.removeGroupRoleAssignment({ groupId, roleAssignmentId: last.id });

// Events, keys, and the end.
const seen = await events.listEvents({ events: ['group.created', 'role.created'], limit: 100 });
assert(seen.data.some((event) => event.event === 'group.created'));
const keys = await (await fetch(people.getJwksUrl('client_test'))).json();
assert(keys.keys.length > 0);
const crowd = [ada.id, bob.id];
for (let number = 0; number < 12; number += 1) {
  crowd.push((await people.createUser({ email: `${number}@example.com` })).id);
}
const everybody = await (await people.listUsers()).autoPagination();
assert.deepEqual(everybody.map((user) => user.id).sort(), crowd.sort());
assert.equal((await people.updateUser({ userId: ada.id, externalId: 'ada/1' })).externalId, 'ada/1');
assert.equal((await people.getUserByExternalId('ada/1')).id, ada.id);
// No method of the SDK mints.
const minting = await fetch(new URL('/portcullis/v1/tokens', baseUrl), {
  method: 'POST', headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
  body: JSON.stringify({ organization_membership_id: organizationMembershipId }),
});
const { session_id: sessionId } = await minting.json();
const [session] = (await people.listSessions(ada.id)).data;
assert.deepEqual([session.id, session.userId, session.organizationId], [sessionId, ada.id, acme.id]);
await people.revokeSession({ sessionId });
assert.equal((await people.listSessions(ada.id)).data[0].status, 'revoked');
await refused(409, () => authorization.deleteResource({ resourceId: workspace.id }));
await authorization.deleteResourceByExternalId(byName);
await authorization.deleteResource({ resourceId: workspace.id, cascadeDelete: true });
await groups.deleteGroup({ organizationId, groupId });
await people.deleteOrganizationMembership(bobOm.id);
await people.deleteUser(ada.id);
await organizations.deleteOrganization(acme.id);
await refused(404, () => organizations.getOrganization(acme.id));

// Every event that there was is one that the SDK knows, page by page.
const kinds = new Set();
for (let after; ;) {
  const page = await events.listEvents({ events: KINDS, limit: 20, after });
  page.data.forEach((event) => kinds.add(event.event));
  after = page.listMetadata?.after;
  if (!after) break;
}
assert(kinds.size >= 15, [...kinds].join());

console.log([...exercised].map(([method, request]) => `${method} ${request}`).sort().join('\n'));
