//! The table of operations in `docs/store.md` is complete, and names nothing that is not served.

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
        let documentation = include_str!("../../docs/store.md");
        let rows = documentation.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let verbs = ["GET ", "POST ", "PUT ", "PATCH ", "DELETE "];
        let listed: BTreeSet<String> = rows
            .map(|(operation, _)| operation.to_owned())
            .filter(|operation| verbs.iter().any(|verb| operation.starts_with(verb)))
            .collect();
        assert_eq!(listed, served);
    });
}
