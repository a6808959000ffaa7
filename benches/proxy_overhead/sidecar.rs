//! What the measured sidecar is given: key set, facts, configuration.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use crate::scenarios::{DIRECT, GROUPS, MEMBERS, PROJECTS, WORKSPACES, direct_project, group_of, workspace_of};
use crate::tokens::{ISSUER, Mint, ORGANIZATION, PERMISSIONS, membership, user};

/// The files of a sidecar, in a folder that goes when this goes.
pub struct Files {
    folder: TempDir,
}

impl Files {
    /// Writes everything for a sidecar that listens on `listen`, has its status on `status` and forwards to `upstream`.
    pub fn write(mint: &Mint, listen: SocketAddr, status: SocketAddr, upstream: SocketAddr) -> Result<Self> {
        let files = Self { folder: TempDir::new()? };
        fs::write(files.path("jwks.json"), mint.key_set()?)?;
        fs::write(files.path("facts.yaml"), facts()?)?;
        fs::write(files.path("portcullis.yaml"), files.configuration(listen, status, upstream))?;
        Ok(files)
    }

    /// The configuration file.
    pub fn configuration_file(&self) -> PathBuf {
        self.path("portcullis.yaml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything that is not said is at its default. The token cache holds the cached scenarios' tokens many times over and the
    /// fresh ones of a round many times less.
    fn configuration(&self, listen: SocketAddr, status: SocketAddr, upstream: SocketAddr) -> String {
        let (jwks, facts) = (self.path("jwks.json"), self.path("facts.yaml"));
        let (jwks, facts) = (jwks.display(), facts.display());
        format!(
            r#"version: 1
listen: [{{address: "{listen}"}}]
status: {{address: "{status}"}}
upstreams:
  app: {{servers: ["{upstream}"], connect_timeout: 1s, read_timeout: 60s}}
tokens:
  - name: issuer
    issuer: {ISSUER}
    audience: none
    required_claims: [sid]
    jwks_file: "{jwks}"
    algorithms: [RS256]
facts: {{source: file, file: "{facts}"}}
limits: {{token_cache: 2MiB}}
defaults: {{upstream: app}}
routes:
  - {{id: health, match: {{methods: [GET], path: /healthz}}, public: true}}
  - {{id: list-projects, match: {{methods: [GET], path: /projects}}, require: "project:view"}}
  - id: edit-project
    match: {{methods: [GET], path: "/projects/{{project}}"}}
    require: "project:edit"
    resource: {{type: project, id: "{{path.project}}"}}
"#
        )
    }
}

/// One organization, in the format of a facts file.
fn facts() -> Result<String> {
    let mut text = String::from(
        r#"version: 1
model:
  role_mode: multiple
  default_role: member
  resource_types: {workspace: {parents: [organization]}, project: {parents: [workspace]}}
  permissions:
    - {slug: "project:edit", name: "project:edit", resource_type: project}
"#,
    );
    for slug in PERMISSIONS {
        writeln!(text, "    - {{slug: \"{slug}\", name: \"{slug}\"}}")?;
    }
    writeln!(text, "  roles:")?;
    writeln!(text, "    - {{slug: member, name: Member, permissions: [\"{}\"]}}", PERMISSIONS.join("\", \""))?;
    for (slug, resource_type) in [("workspace-editor", "workspace"), ("project-editor", "project")] {
        writeln!(
            text,
            "    - {{slug: {slug}, name: Editor, resource_type: {resource_type}, permissions: [\"project:edit\"]}}"
        )?;
    }
    writeln!(text, "organizations:\n  - id: {ORGANIZATION}\n    memberships:")?;
    for member in 0..MEMBERS {
        writeln!(text, "      - {{id: {}, user: {}, roles: [member]}}", membership(member), user(member))?;
    }
    writeln!(text, "    groups:")?;
    for group in 0..GROUPS {
        let members: Vec<String> = (0..MEMBERS).filter(|member| group_of(*member) == group).map(membership).collect();
        writeln!(text, "      - {{id: group_{group}, members: [{}]}}", members.join(", "))?;
    }
    writeln!(text, "    resources:")?;
    for workspace in 0..WORKSPACES {
        writeln!(text, "      - {{type: workspace, id: ws-{workspace}}}")?;
    }
    for project in 0..PROJECTS {
        let workspace = workspace_of(project);
        writeln!(text, "      - {{type: project, id: \"{project}\", parent: \"workspace:ws-{workspace}\"}}")?;
    }
    writeln!(text, "    assignments:")?;
    for member in 0..MEMBERS {
        for nth in 0..DIRECT {
            let project = direct_project(member, nth);
            writeln!(text, "      - \"{} project-editor project:{project}\"", membership(member))?;
        }
    }
    writeln!(text, "    group_assignments:")?;
    for group in 0..GROUPS {
        writeln!(text, "      - \"group_{group} workspace-editor workspace:ws-{group}\"")?;
    }
    Ok(text)
}
