//! The table of operations in `docs/store.md` is complete, and names nothing that is not served or not tested.

use std::collections::BTreeSet;

use crate::support::on_sqlite;

#[test]
fn the_documentation_lists_every_operation_and_no_other() {
    on_sqlite(async |store| {
        let description = store.send("GET", "/openapi.json", None, &[]).await.is(200);
        let paths = description["paths"].as_object().unwrap();
        let served: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let listed: BTreeSet<String> = rows().map(|row| row[0].clone()).collect();
        assert_eq!(listed, served);
    });
}

/// Whoever is sent to a test by the table finds it: the module, and the method in the script that calls it.
#[test]
fn every_test_and_every_method_of_an_sdk_that_the_documentation_names_is_there() {
    let modules = include_str!("main.rs");
    let scripts = [
        include_str!("../sdk/node_sdk.mjs"),
        include_str!("../sdk/python_sdk.py"),
        concat!(include_str!("../sdk/rust/src/company.rs"), include_str!("../sdk/rust/src/access.rs")),
    ];
    let mut methods = [0; 3];
    for row in rows() {
        let tests: Vec<&str> = row[1].split(", ").collect();
        assert!(tests.iter().all(|name| modules.contains(&format!("mod {name};"))), "{row:?}");
        for ((cell, script), count) in row[2..].iter().zip(scripts).zip(&mut methods) {
            for method in cell.split(", ").filter(|method| !method.is_empty()) {
                let name = method.split('.').next_back().unwrap();
                assert!(script.contains(&format!(".{name}(")), "`{method}` of {row:?} is called by nobody");
                *count += 1;
            }
        }
    }
    assert!(methods.iter().all(|count| *count > 50), "{methods:?}");
}

/// The cells of each operation, without the marks of code.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let verbs = ["GET ", "POST ", "PUT ", "PATCH ", "DELETE "];
    let cells = |line: &str| -> Option<Vec<String>> {
        let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(row.split('|').map(|cell| cell.trim().replace('`', "")).collect())
    };
    let documentation = include_str!("../../docs/store.md");
    documentation.lines().filter_map(cells).filter(move |row| verbs.iter().any(|verb| row[0].starts_with(verb)))
}
