use super::*;
use crate::yaml;

const MODEL: &str = "{resource_types: {workspace: {}}, roles: [{slug: member}]}";

fn no_model_file(path: &str) -> Result<Node, Problems> {
    panic!("`{path}` was asked for")
}

fn read(text: &str) -> Result<Facts, String> {
    let node = yaml::parse("facts.yaml", text, None).map_err(|problems| problems.to_string())?;
    Facts::read(&node, &no_model_file).map_err(|problems| problems.to_string())
}

#[test]
fn yaml_and_json_are_the_same() {
    let yaml = "version: 1\nmodel: {roles: [{slug: member}]}\norganizations:\n- id: org_a\n- {id: org_b}\n";
    let json = r#"{"version": 1, "model": {"roles": [{"slug": "member"}]}, "organizations": [{"id": "org_a"}, {"id": "org_b"}]}"#;
    let facts = read(yaml).unwrap();
    assert_eq!(facts.organizations.len(), 2);
    assert_eq!(facts, read(json).unwrap());
}

#[test]
fn a_model_may_stand_in_a_file_of_its_own() {
    let load = |path: &str| {
        assert_eq!(path, "model.yaml");
        yaml::parse("dir/model.yaml", "roles: [{slug: member}, {slug: member}]", None)
    };
    let node = yaml::parse("facts.yaml", "{version: 1, model: model.yaml, organizations: [{id: 7}]}", None).unwrap();
    let problems = Facts::read(&node, &load).unwrap_err().to_string();
    assert_eq!(
        problems.lines().collect::<Vec<_>>(),
        [
            "dir/model.yaml:1:32: role `member` is declared twice",
            "facts.yaml:1:54: expected a string, found the number `7`",
        ]
    );
}

#[test]
fn problems_of_all_parts_are_reported_at_once() {
    let problems = read(
        "\
version: 2
model: {roles: [{slug: member, permissions: ['a:b']}]}
organizations:
- {id: org_a, memberships: [{id: om_1, user: u}], groups: [{id: g, colour: red}]}
- {id: org_b, memberships: [{id: om_1, user: u}], groups: [{id: g}]}
- {id: org_b, memberships: [{id: om_1, user: u}], groups: [{id: g}]}
owner: me
",
    )
    .unwrap_err();
    assert_eq!(
        problems.lines().collect::<Vec<_>>(),
        [
            "facts.yaml:2:46: permission `a:b` is not declared",
            "facts.yaml:4:68: unknown key `colour`, expected one of `id`, `name`, `members`",
            "facts.yaml:6:8: organization `org_b` is given twice, first at facts.yaml:5:8",
            "facts.yaml:6:34: membership `om_1` is given twice, first at facts.yaml:5:34",
            "facts.yaml:6:65: group `g` is given twice, first at facts.yaml:5:65",
            "facts.yaml:7:1: unknown key `owner`, expected one of `version`, `model`, `organizations`",
        ]
    );
    assert_eq!(
        read(&format!("version: 2\nmodel: {MODEL}\n")).unwrap_err(),
        "facts.yaml:1:10: version is 2, expected 1"
    );
    assert_eq!(read("version: 1\n").unwrap_err(), "facts.yaml:1:1: missing key `model`");
}

#[test]
fn external_ids_are_unique_as_the_model_says() {
    let facts = |external_ids: &str| {
        read(&format!(
            "\
version: 1
model: {{external_ids: {external_ids}, resource_types: {{workspace: {{}}}}}}
organizations:
- {{id: org_a, resources: [{{type: workspace, id: w}}]}}
- {{id: org_b, resources: [{{type: workspace, id: w}}]}}
"
        ))
    };
    assert!(facts("per_organization").is_ok());
    let problem = "facts.yaml:5:49: resource `workspace:w` is given twice, first at facts.yaml:4:49";
    assert_eq!(facts("global").unwrap_err(), problem);
}

#[test]
fn the_sample_company_is_without_a_fault() {
    let facts = read(include_str!("../../../config/demo/facts.yaml")).unwrap();
    assert_eq!(facts.organizations.len(), 2);
    assert_eq!(facts.catalog.roles.len(), 8);
}

#[test]
fn the_schema_describes_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(FactsFile)).unwrap();
    let text = schema.to_string();
    for key in ["resource_types", "role_priority", "group_assignments", "members", "resource_id", "status"] {
        assert!(text.contains(&format!("\"{key}\":{{")), "{key}");
    }
}
