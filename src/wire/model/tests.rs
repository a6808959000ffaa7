use super::*;
use crate::yaml;

fn read(text: &str) -> Result<Environment, Problems> {
    Environment::read(&yaml::parse("model.yaml", text, None)?)
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let problems = read(text).expect_err("the model was accepted").to_string();
    assert_eq!(problems.lines().collect::<Vec<_>>(), expected, "{text}");
}

const TYPES: &str =
    "resource_types: {workspace: {}, project: {parents: [workspace]}, folder: {parents: [organization, folder]}}\n";

#[test]
fn a_model_becomes_rows_in_order_of_priority() {
    let model = format!(
        "{TYPES}\
role_mode: multiple
permissions: [{{slug: 'project:edit', resource_type: project}}, {{slug: 'org:view'}}]
roles:
- {{slug: admin, permissions: ['project:edit', 'org:view']}}
- {{slug: member}}
- {{slug: editor, resource_type: workspace, permissions: ['project:edit'], id: role_kept}}
"
    );
    let environment = read(&model).unwrap();
    let rows = environment.rows();
    let roles: Vec<_> = rows.roles.iter().map(|role| (role.id.as_str(), role.priority)).collect();
    assert_eq!(roles, [("role_admin", 0), ("role_member", 1), ("role_kept", 2)]);
    let settings = rows.settings.as_ref().unwrap();
    assert_eq!(
        (settings.role_mode, settings.default_role.as_ref().unwrap().as_str()),
        (RoleMode::Multiple, "role_member")
    );
    let types: Vec<_> = rows.resource_types.iter().map(|kind| (kind.slug.as_str(), kind.parents[0].as_str())).collect();
    assert_eq!(types, [("folder", "organization"), ("project", "workspace"), ("workspace", "organization")]);
    assert_eq!(rows.permissions.len(), 2);
}

#[test]
fn a_model_is_read_back_as_it_was_written_as_json() {
    let text = format!("{TYPES}permissions: [{{slug: 'org:view', name: View}}]\nroles: [{{slug: member}}]\n");
    let model: Model = yaml::parse("model.yaml", &text, None).unwrap().read().unwrap();
    let json = serde_json::to_string(&model).unwrap();
    assert_eq!(serde_json::from_str::<Model>(&json).unwrap(), model);
    assert_eq!(yaml::parse("body", &json, None).unwrap().read::<Model>().unwrap(), model);
}

#[test]
fn all_problems_of_a_model_are_reported_at_once_with_their_places() {
    refused(
        "\
role_mode: several
default_role: editor
resource_types: {project: {parents: [galaxy]}}
colour: red
",
        &[
            "model.yaml:1:12: unknown value `several`, expected one of `single`, `multiple`",
            "model.yaml:4:1: unknown key `colour`, expected one of `role_mode`, `default_role`, `external_ids`, `resource_types`, `permissions`, `roles`",
        ],
    );
    refused(
        "\
default_role: editor
resource_types:
  organization: {parents: []}
  project: {parents: [galaxy, workspace, workspace]}
  workspace: {}
  island: {parents: []}
permissions:
  - {slug: 'project:edit', resource_type: project}
  - {slug: 'project:edit', resource_type: projekt}
roles:
  - {slug: editor, resource_type: project, permissions: ['project:edit', 'project:edit', 'project:eat']}
  - {slug: editor, resource_type: projekt}
  - {slug: boss, id: role_editor, name: This name is too long for the people who read dashboards}
",
        &[
            "model.yaml:1:15: role `editor` is of type `project`, expected a role of type `organization`",
            "model.yaml:3:17: resource type `organization` always exists and has no parents",
            "model.yaml:4:23: resource type `galaxy` is not declared",
            "model.yaml:4:42: parent `workspace` is listed twice",
            "model.yaml:6:21: no chain of parents leads from `island` to `organization`",
            "model.yaml:9:12: permission `project:edit` is declared twice",
            "model.yaml:9:43: resource type `projekt` is not declared",
            "model.yaml:11:74: permission `project:edit` is listed twice",
            "model.yaml:11:90: permission `project:eat` is not declared",
            "model.yaml:12:12: role `editor` is declared twice",
            "model.yaml:12:35: resource type `projekt` is not declared",
            "model.yaml:13:22: role id `role_editor` is given twice",
            "model.yaml:13:41: name has 56 characters, at most 48 are allowed",
        ],
    );
}

#[test]
fn a_role_holds_permissions_of_its_own_type_and_below_only() {
    for (role, permission, fits) in [
        ("organization", "project", true),
        ("organization", "organization", true),
        ("workspace", "project", true),
        ("workspace", "workspace", true),
        ("folder", "folder", true),
        ("project", "workspace", false),
        ("folder", "project", false),
        ("project", "organization", false),
    ] {
        let model = format!(
            "{TYPES}permissions: [{{slug: 'a:b', resource_type: {permission}}}]\n\
             roles: [{{slug: r, resource_type: {role}, permissions: ['a:b']}}]\n"
        );
        assert_eq!(read(&model).is_ok(), fits, "{role} {permission}");
    }
    refused(
        &format!(
            "{TYPES}permissions: [{{slug: 'w:e', resource_type: workspace}}]\n\
             roles: [{{slug: r, resource_type: project, permissions: ['w:e']}}]\n"
        ),
        &[
            "model.yaml:3:57: permission `w:e` is about `workspace`, which is neither `project`, the type of the role, nor below it",
        ],
    );
}

#[test]
fn types_that_go_in_a_circle_are_refused() {
    refused(
        "resource_types: {a: {parents: [b]}, b: {parents: [c, organization]}, c: {parents: [a]}}",
        &[
            "model.yaml:1:32: `b` is itself below `a`",
            "model.yaml:1:51: `c` is itself below `b`",
            "model.yaml:1:84: `a` is itself below `c`",
        ],
    );
    assert!(read("resource_types: {folder: {parents: [folder, organization]}}").is_ok());
    refused(
        "resource_types: {folder: {parents: [folder]}}",
        &["model.yaml:1:36: no chain of parents leads from `folder` to `organization`"],
    );
}

#[test]
fn there_are_at_most_fifty_types_and_ten_below_one() {
    let types = |count: usize, parent: &dyn Fn(usize) -> String| {
        let types: Vec<_> = (0..count).map(|index| format!("t{index}: {{parents: [{}]}}", parent(index))).collect();
        read(&format!("resource_types: {{{}}}", types.join(", ")))
    };
    let tree = |index: usize| if index == 0 { "organization".to_owned() } else { format!("t{}", (index - 1) / 5) };
    assert!(types(50, &tree).is_ok());
    let error = types(51, &tree).unwrap_err().to_string();
    assert_eq!(error, "model.yaml:1:17: 51 resource types are declared, at most 50 are allowed");
    let wide = |_| "organization".to_owned();
    assert!(types(10, &wide).is_ok());
    let error = types(11, &wide).unwrap_err().to_string();
    assert_eq!(error, "model.yaml:1:17: 11 resource types have the parent `organization`, at most 10 are allowed");
}
