-- Everything the store knows. One text for both engines: PostgreSQL reads every TEXT with COLLATE "C", so that ids are compared and
-- sorted byte for byte there as well. Times are milliseconds since 1970, UTC. Booleans are 0 and 1. What is JSON says so.
--
-- ON DELETE CASCADE is a safety net that never catches anything: the store deletes dependent rows itself, because each of them has to
-- stand in the change log.

-- The end of the change log. Locked first in every write, so writes follow one another in the order of their numbers.
CREATE TABLE head (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,            -- sixteen hexadecimal digits
    seq BIGINT NOT NULL,
    chain TEXT NOT NULL,            -- SHA-256 over all rows so far, in hexadecimal
    oldest BIGINT NOT NULL          -- the first number that is still in the log
);

CREATE TABLE changes (
    seq BIGINT NOT NULL PRIMARY KEY,
    time BIGINT NOT NULL,
    parts TEXT NOT NULL,            -- JSON: the parts of the transaction, as the feed carries them
    chain TEXT NOT NULL
);

CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    place BIGINT NOT NULL,          -- within the transaction
    event TEXT NOT NULL,
    organization_id TEXT,
    data TEXT NOT NULL,             -- JSON
    created_at BIGINT NOT NULL,
    UNIQUE (seq, place)
);
CREATE INDEX events_by_time ON events (created_at);

CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    epoch TEXT NOT NULL,            -- of the log, when it was written
    seq BIGINT NOT NULL,
    place BIGINT NOT NULL,
    key_name TEXT NOT NULL,
    action TEXT NOT NULL,
    organization_id TEXT,
    details TEXT NOT NULL,          -- JSON
    created_at BIGINT NOT NULL,
    UNIQUE (seq, place)
);
CREATE INDEX audit_by_organization ON audit (organization_id, created_at);
CREATE INDEX audit_by_time ON audit (created_at);

CREATE TABLE idempotency (
    key_name TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,      -- of method, target and body
    status BIGINT NOT NULL,
    body TEXT,                      -- JSON
    seq BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (key_name, key)
);
CREATE INDEX idempotency_by_time ON idempotency (created_at);

-- The environment.

CREATE TABLE settings (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    role_mode TEXT NOT NULL,        -- single, multiple
    default_role TEXT,              -- a role id
    external_ids TEXT NOT NULL,     -- per_organization, global
    jwt_template TEXT,
    jwt_template_created_at BIGINT,
    jwt_template_updated_at BIGINT
);

CREATE TABLE resource_types (
    slug TEXT NOT NULL PRIMARY KEY,
    parents TEXT NOT NULL,          -- JSON: slugs
    created_at BIGINT NOT NULL
);

CREATE TABLE permissions (
    id TEXT NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT,
    resource_type_slug TEXT NOT NULL,
    is_system BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE organizations (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    external_id TEXT UNIQUE,
    stripe_customer_id TEXT UNIQUE,
    allow_profiles_outside_organization BIGINT NOT NULL,
    metadata TEXT NOT NULL,         -- JSON
    domains TEXT NOT NULL,          -- JSON
    default_role TEXT,              -- its own; a role id
    priorities TEXT,                -- its own; JSON: role ids
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Roles of the environment, and of one organization each.
CREATE TABLE roles (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT REFERENCES organizations (id) ON DELETE CASCADE,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    resource_type_slug TEXT NOT NULL,
    priority BIGINT NOT NULL,       -- environment roles: their place in the order; custom roles: the order they were made in
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX roles_of_the_environment ON roles (slug) WHERE organization_id IS NULL;
CREATE UNIQUE INDEX roles_of_organizations ON roles (organization_id, slug) WHERE organization_id IS NOT NULL;
CREATE INDEX roles_by_slug ON roles (slug);

CREATE TABLE role_permissions (
    role_id TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission_slug TEXT NOT NULL REFERENCES permissions (slug) ON DELETE CASCADE,
    PRIMARY KEY (role_id, permission_slug)
);
CREATE INDEX role_permissions_by_permission ON role_permissions (permission_slug);

-- People.

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,     -- lower case
    first_name TEXT,
    last_name TEXT,
    name TEXT,
    profile_picture_url TEXT,
    email_verified BIGINT NOT NULL,
    external_id TEXT UNIQUE,
    metadata TEXT NOT NULL,         -- JSON
    locale TEXT,
    last_sign_in_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE memberships (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    status TEXT NOT NULL,           -- active, inactive, pending
    directory_managed BIGINT NOT NULL,
    custom_attributes TEXT NOT NULL, -- JSON
    identity_provider_groups TEXT NOT NULL, -- JSON: names
    identity_provider_roles TEXT NOT NULL DEFAULT '[]', -- JSON: role ids, sorted; what the groups are mapped to
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (user_id, organization_id)
);
CREATE INDEX memberships_by_organization ON memberships (organization_id, created_at);

CREATE TABLE identity_provider_roles (
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    identity_provider_group TEXT NOT NULL,
    role_id TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, identity_provider_group)
);
CREATE INDEX identity_provider_roles_by_role ON identity_provider_roles (role_id);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    organization_id TEXT,
    membership_id TEXT,
    status TEXT NOT NULL,           -- active, revoked
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- Tokens that name one of these and were issued no later than `not_before` are refused.
CREATE TABLE revocations (
    kind TEXT NOT NULL,             -- session, membership, user, organization
    id TEXT NOT NULL,
    not_before BIGINT NOT NULL,     -- seconds since 1970
    expires BIGINT NOT NULL,        -- seconds since 1970
    seq BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX revocations_by_seq ON revocations (seq);
CREATE INDEX revocations_by_expiry ON revocations (expires);

CREATE TABLE user_groups (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX user_groups_by_organization ON user_groups (organization_id, created_at);

CREATE TABLE group_members (
    group_id TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
    membership_id TEXT NOT NULL REFERENCES memberships (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, membership_id)
);
CREATE INDEX group_members_by_membership ON group_members (membership_id);

-- What roles are held on.

CREATE TABLE resources (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    resource_type_slug TEXT NOT NULL,
    external_id TEXT NOT NULL,
    parent_id TEXT REFERENCES resources (id) ON DELETE CASCADE, -- NULL for the root only
    name TEXT NOT NULL,
    description TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (organization_id, resource_type_slug, external_id)
);
CREATE UNIQUE INDEX resources_root ON resources (organization_id) WHERE parent_id IS NULL;
CREATE INDEX resources_by_parent ON resources (parent_id);
CREATE INDEX resources_by_external_id ON resources (resource_type_slug, external_id);
CREATE INDEX resources_by_organization ON resources (organization_id, created_at);

CREATE TABLE assignments (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    membership_id TEXT NOT NULL REFERENCES memberships (id) ON DELETE CASCADE,
    role_id TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    resource_id TEXT NOT NULL REFERENCES resources (id) ON DELETE CASCADE, -- the root: organization-wide
    created_at BIGINT NOT NULL,
    UNIQUE (membership_id, role_id, resource_id)
);
CREATE INDEX assignments_by_resource ON assignments (resource_id, created_at);
CREATE INDEX assignments_by_role ON assignments (role_id);
CREATE INDEX assignments_by_organization ON assignments (organization_id);

CREATE TABLE group_assignments (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
    role_id TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    resource_id TEXT NOT NULL REFERENCES resources (id) ON DELETE CASCADE, -- the root: organization-wide
    created_at BIGINT NOT NULL,
    UNIQUE (group_id, role_id, resource_id)
);
CREATE INDEX group_assignments_by_resource ON group_assignments (resource_id, created_at);
CREATE INDEX group_assignments_by_role ON group_assignments (role_id);
CREATE INDEX group_assignments_by_organization ON group_assignments (organization_id);
