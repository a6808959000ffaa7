use super::*;
use crate::yaml;

fn environment(role_mode: &str) -> Environment {
    let model = format!(
        "\
role_mode: {role_mode}
default_role: member
resource_types: {{workspace: {{}}, project: {{parents: [workspace]}}, folder: {{parents: [organization, folder]}}}}
permissions: [{{slug: 'project:edit', resource_type: project}}]
roles:
- {{slug: admin, permissions: ['project:edit']}}
- {{slug: member}}
- {{slug: workspace-admin, resource_type: workspace, permissions: ['project:edit']}}
- {{slug: project-editor, resource_type: project, permissions: ['project:edit']}}
"
    );
    Environment::read(&yaml::parse("model.yaml", &model, None).unwrap()).unwrap()
}

fn organization(role_mode: &str, text: &str) -> Result<OrganizationRows, Problems> {
    let node = yaml::parse("facts.yaml", text, None)?;
    environment(role_mode).organization(&node.read_all()?, &node)
}

#[track_caller]
fn refused(role_mode: &str, text: &str, expected: &[&str]) {
    let problems = organization(role_mode, text).expect_err("the organization was accepted").to_string();
    assert_eq!(problems.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn names_become_ids() {
    let rows = organization(
        "multiple",
        "\
id: org_acme
default_role: admin
role_priority: [member, admin]
roles: [{slug: org-auditor, resource_type: project, permissions: ['project:edit']}]
memberships: [{id: om_ada, user: user_ada, roles: [admin, member]}, {id: om_bob, user: user_bob, status: inactive}]
groups: [{id: group_eng, members: [om_ada, om_bob]}]
resources:
- {type: project, id: '42', parent: 'workspace:ws'}
- {type: workspace, id: ws, resource_id: authz_resource_ws}
assignments: [om_ada org-auditor project:42, {membership: om_bob, role: workspace-admin, resource: 'workspace:ws', id: ra_1}]
group_assignments: [group_eng workspace-admin workspace:ws, group_eng admin]
",
    )
    .unwrap();
    let settings = rows.settings.as_ref().unwrap();
    assert_eq!(settings.default_role.as_ref().unwrap().as_str(), "role_admin");
    assert_eq!(settings.priorities.iter().map(RoleId::as_str).collect::<Vec<_>>(), ["role_member", "role_admin"]);
    assert_eq!(rows.root().unwrap().external_id.as_str(), "org_acme");
    let project = rows.resources.iter().find(|resource| resource.external_id.as_str() == "42").unwrap();
    assert_eq!(project.parent.as_ref().unwrap().as_str(), "authz_resource_ws");
    let held: Vec<_> = rows
        .assignments
        .iter()
        .map(|held| (held.membership.as_str(), held.role.clone(), held.resource.as_ref()))
        .collect();
    let auditor = rows.roles[0].id.clone();
    let role = |slug: &str| RoleId::new(&format!("role_{slug}")).unwrap();
    let workspace: ResourceId = "authz_resource_ws".parse().unwrap();
    assert_eq!(
        held,
        [
            ("om_ada", role("admin"), None),
            ("om_ada", role("member"), None),
            ("om_ada", auditor, Some(&project.id)),
            ("om_bob", role("workspace-admin"), Some(&workspace)),
        ]
    );
    assert_eq!(rows.assignments[3].id.as_ref().unwrap().as_str(), "ra_1");
    assert_eq!(rows.group_members.len(), 2);
    let through: Vec<_> = rows.group_assignments.iter().map(|held| (&held.role, held.resource.as_ref())).collect();
    assert_eq!(through, [(&role("workspace-admin"), Some(&workspace)), (&role("admin"), None)]);
}

#[test]
fn ids_do_not_depend_on_the_order_of_the_file() {
    let rows = |text: &str| organization("multiple", text).unwrap();
    let one = rows("{id: o, resources: [{type: workspace, id: a}, {type: workspace, id: b}]}");
    let other = rows("{id: o, resources: [{type: workspace, id: b}, {type: workspace, id: a}]}");
    let id_of = |rows: &OrganizationRows, name: &str| {
        rows.resources.iter().find(|resource| resource.external_id.as_str() == name).unwrap().id.clone()
    };
    assert_eq!(id_of(&one, "a"), id_of(&other, "a"));
    assert_ne!(id_of(&one, "a"), id_of(&one, "b"));
}

#[test]
fn whatever_is_named_must_be_there() {
    refused(
        "multiple",
        "\
id: org_acme
default_role: boss
role_priority: [member, boss, member, project-editor]
memberships: [{id: om_ada, user: user_ada, roles: [boss]}]
groups: [{id: group_eng, members: [om_zoe]}]
resources: [{type: project, id: '42', parent: 'workspace:ws'}, {type: galaxy, id: g}]
assignments:
- om_zoe admin
- om_ada boss project:42
- om_ada project-editor project:43
- {membership: om_ada, role: boss}
group_assignments: [group_fin admin, {group: group_eng, role: boss, resource: 'project:43'}]
",
        &[
            "facts.yaml:2:15: role `boss` is not declared",
            "facts.yaml:3:25: role `boss` is not declared",
            "facts.yaml:3:31: role `member` is listed twice",
            "facts.yaml:3:39: role `project-editor` is of type `project`, expected a role of type `organization`",
            "facts.yaml:4:52: role `boss` is not declared",
            "facts.yaml:5:36: membership `om_zoe` is not in this organization",
            "facts.yaml:6:47: resource `workspace:ws` is not in this organization",
            "facts.yaml:6:71: resource type `galaxy` is not declared",
            "facts.yaml:8:3: membership `om_zoe` is not in this organization",
            "facts.yaml:9:3: role `boss` is not declared",
            "facts.yaml:10:3: resource `project:43` is not in this organization",
            "facts.yaml:11:30: role `boss` is not declared",
            "facts.yaml:12:21: group `group_fin` is not in this organization",
            "facts.yaml:12:63: role `boss` is not declared",
            "facts.yaml:12:79: resource `project:43` is not in this organization",
        ],
    );
}

#[test]
fn a_role_is_assigned_on_its_own_type_and_a_resource_stands_in_an_allowed_one() {
    refused(
        "multiple",
        "\
id: org_acme
memberships: [{id: om_ada, user: user_ada, roles: [project-editor]}]
groups: [{id: group_eng}]
resources:
- {type: workspace, id: ws}
- {type: project, id: '1'}
- {type: project, id: '2', parent: 'project:1'}
- {type: organization, id: other}
assignments: [om_ada project-editor workspace:ws, om_ada workspace-admin, om_ada admin project:1]
group_assignments: [group_eng project-editor organization]
",
        &[
            "facts.yaml:2:52: role `project-editor` is of type `project`, expected a role of type `organization`",
            "facts.yaml:6:3: the parent is of type `organization`, expected `workspace`",
            "facts.yaml:7:36: the parent is of type `project`, expected `workspace`",
            "facts.yaml:8:10: the resource of type `organization` exists by itself and is not listed",
            "facts.yaml:9:15: role `project-editor` is assigned on a resource of type `workspace`, expected `project`",
            "facts.yaml:9:51: role `workspace-admin` is assigned on a resource of type `organization`, expected `workspace`",
            "facts.yaml:9:75: role `admin` is assigned on a resource of type `project`, expected `organization`",
            "facts.yaml:10:21: role `project-editor` is assigned on a resource of type `organization`, expected `project`",
        ],
    );
}

#[test]
fn nothing_is_given_twice() {
    refused(
        "multiple",
        "\
id: org_acme
roles: [{slug: admin}, {slug: org-a}, {slug: org-a}, {slug: org-b, id: role_admin}]
memberships:
- {id: om_ada, user: user_ada, roles: [admin, admin]}
- {id: om_ada, user: user_eve}
- {id: om_bob, user: user_ada}
groups: [{id: group_eng, members: [om_ada, om_ada]}, {id: group_eng}]
resources:
- {type: workspace, id: ws, resource_id: authz_resource_1}
- {type: workspace, id: ws}
- {type: workspace, id: ws-2, resource_id: authz_resource_1}
assignments: [om_ada member, om_ada member, {membership: om_bob, role: member, id: x}, {membership: om_bob, role: admin, id: x}]
group_assignments: [group_eng member, group_eng member]
",
        &[
            "facts.yaml:2:16: role `admin` is declared by the model already",
            "facts.yaml:2:46: role `org-a` is declared twice",
            "facts.yaml:2:72: role id `role_admin` is given twice",
            "facts.yaml:4:47: membership `om_ada` has role `admin` on `organization` already",
            "facts.yaml:5:8: membership `om_ada` is given twice",
            "facts.yaml:6:22: user `user_ada` has two memberships here",
            "facts.yaml:7:44: membership `om_ada` is listed twice",
            "facts.yaml:7:59: group `group_eng` is given twice",
            "facts.yaml:10:25: resource `workspace:ws` is given twice",
            "facts.yaml:11:44: resource id `authz_resource_1` is given twice",
            "facts.yaml:12:30: membership `om_ada` has role `member` on `organization` already",
            "facts.yaml:12:126: assignment id `x` is given twice",
            "facts.yaml:13:39: group `group_eng` has role `member` on `organization` already",
        ],
    );
}

#[test]
fn in_single_role_mode_a_membership_has_one_organization_role() {
    let text = "\
id: org_acme
memberships: [{id: om_ada, user: user_ada, roles: [admin, member]}, {id: om_bob, user: user_bob, roles: [admin]}]
assignments: [om_bob member]
";
    assert!(organization("multiple", text).is_ok());
    refused(
        "single",
        text,
        &[
            "facts.yaml:2:59: membership `om_ada` has an organization role already, and `role_mode` is `single`",
            "facts.yaml:3:15: membership `om_bob` has an organization role already, and `role_mode` is `single`",
        ],
    );
}

#[test]
fn circles_and_bottomless_depths_are_refused() {
    refused(
        "single",
        "\
id: org_acme
resources:
- {type: folder, id: a, parent: 'folder:b'}
- {type: folder, id: b, parent: 'folder:a'}
- {type: folder, id: c, parent: 'folder:c'}
",
        &[
            "facts.yaml:3:33: the chain of parents leads back to the resource itself",
            "facts.yaml:4:33: the chain of parents leads back to the resource itself",
            "facts.yaml:5:33: the chain of parents leads back to the resource itself",
        ],
    );
    let chain = |levels: usize| {
        let folders: Vec<_> = (1..=levels)
            .map(|level| match level {
                1 => "- {type: folder, id: f1}".to_owned(),
                _ => format!("- {{type: folder, id: f{level}, parent: 'folder:f{}'}}", level - 1),
            })
            .collect();
        organization("single", &format!("id: org_acme\nresources:\n{}\n", folders.join("\n")))
    };
    assert!(chain(64).is_ok());
    assert_eq!(chain(65).unwrap_err().to_string(), "facts.yaml:67:35: more than 64 levels below the organization");
}

#[test]
fn an_external_id_does_not_look_like_an_id_of_the_store() {
    refused(
        "single",
        "{id: org_acme, resources: [{type: workspace, id: authz_resource_1}, {type: workspace, id: organic}]}",
        &["facts.yaml:1:50: external id `authz_resource_1` begins with `authz_resource_`, as ids of the store do"],
    );
}

#[test]
fn what_a_test_only_names_is_invented() {
    let environment = environment("multiple");
    let node = yaml::parse("test", "assignments: [om_1 project-editor project:42, om_1 admin]", None).unwrap();
    let mut spec = OrganizationSpec::empty("org_test".parse().unwrap());
    spec.assignments = node.get("assignments").unwrap().read().unwrap();
    spec.invent_missing(&environment, |_| "user_test".parse().unwrap());
    let sample = Sample::new(&environment, &spec, &node).unwrap();
    let project_type = "project".parse().unwrap();
    let project = crate::domain::ResourceRef::External { resource_type: &project_type, external_id: "42".into() };
    let (member, permission) = ("om_1".parse().unwrap(), "project:edit".parse().unwrap());
    assert!(sample.shard.check(&sample.catalog, &member, &permission, &project));
    assert!(matches!(sample.facts(), Facts::Known { shard: Some(_), .. }));
    let rows = environment.organization(&spec, &node).unwrap();
    assert_eq!(rows.members.len(), 1);
    let resources: Vec<_> = rows.resources.iter().map(|resource| resource.resource_type.as_str()).collect();
    assert_eq!(resources, ["organization", "project", "workspace"]);
    spec.assignments = vec!["om_2 boss project:42".parse().unwrap()];
    spec.invent_missing(&environment, |_| "user_2".parse().unwrap());
    assert!(environment.organization(&spec, &node).unwrap_err().to_string().contains("role `boss` is not declared"));
}
