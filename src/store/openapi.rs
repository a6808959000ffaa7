//! `GET /openapi.json`: the description of the API, made from the operations themselves (OpenAPI 3.1).

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::api::{Operation, SchemaOf};
use super::error::ErrorBody;
use super::keys::Scope;

/// Where schemas that others refer to are.
const PLACE: &str = "/components/schemas";
/// Answers that every operation may give.
const COMMON_ERRORS: [u16; 9] = [400, 401, 403, 404, 413, 422, 429, 500, 503];

/// The whole description.
pub(super) fn describe(operations: &[Operation]) -> Value {
    let settings = || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = PLACE.into());
    let mut generator = settings().into_generator();
    // A parameter is not an object of its own: nothing to refer to.
    let mut inline = settings().with(|settings| settings.inline_subschemas = true).into_generator();
    let error = generator.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for operation in operations {
        let query = operation.query.map(|schema| schema(&mut inline).to_value());
        let mut make = |schema: SchemaOf| schema(&mut generator).to_value();
        let body = operation.body.map(&mut make);
        let success = operation.success.1.map(&mut make);
        let entry = one(operation, query, body, success, error.as_value());
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.as_str().to_ascii_lowercase(), entry);
        }
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis store",
            "description": "The WorkOS authorization API, and a few operations of our own.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0"},
        },
        "security": [{"api_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn one(
    operation: &Operation,
    query: Option<Value>,
    body: Option<Value>,
    success: Option<Value>,
    error: &Value,
) -> Value {
    let mut parameters: Vec<Value> = captured(operation.path).map(path_parameter).collect();
    parameters.extend(query.iter().flat_map(query_parameters));
    let (status, _) = operation.success;
    let mut responses = Map::new();
    responses.insert(status.to_string(), answer("what was asked for", success.as_ref()));
    let errors = COMMON_ERRORS.iter().chain(operation.errors);
    for status in errors {
        responses.insert(status.to_string(), answer("refused", Some(error)));
    }
    let mut entry = json!({"operationId": operation.id, "parameters": parameters, "responses": responses});
    if let Some(fields) = entry.as_object_mut() {
        if let Some(body) = body {
            let required = body.get("$ref").is_some();
            fields.insert(
                "requestBody".to_owned(),
                json!({"required": required, "content": {"application/json": {"schema": body}}}),
            );
        }
        if operation.scope == Scope::Open {
            fields.insert("security".to_owned(), json!([]));
        }
    }
    entry
}

fn answer(description: &str, schema: Option<&Value>) -> Value {
    match schema {
        Some(schema) => json!({"description": description, "content": {"application/json": {"schema": schema}}}),
        None => json!({"description": description}),
    }
}

/// The names in braces.
fn captured(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

/// The properties of an object, each a parameter.
fn query_parameters(schema: &Value) -> Vec<Value> {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, schema): (String, Value)| {
        let required = required.contains(&Value::String(name.clone()));
        json!({"name": name, "in": "query", "required": required, "schema": schema})
    };
    properties.into_iter().map(parameter).collect()
}
