use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::document;

fn golden(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../bus/golden/v1");
    serde_json::from_str(&std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap()).unwrap()
}

/// Walks a value beside its schema: the same names in every object.
fn compare(value: &Value, schema: &Value, schemas: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return compare(value, &schemas[name], schemas, path);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        if value.is_null() {
            return;
        }
        // Of several shapes the one with these names, and for an option the one that is not null.
        let names = |option: &Value| -> BTreeSet<String> {
            option["properties"].as_object().map(|names| names.keys().cloned().collect()).unwrap_or_default()
        };
        let own: BTreeSet<String> = value.as_object().map(|names| names.keys().cloned().collect()).unwrap_or_default();
        let fitting = options.iter().find(|option| names(option) == own && !own.is_empty());
        let option = fitting.or_else(|| options.iter().find(|option| option["type"] != "null"));
        return compare(value, option.unwrap(), schemas, path);
    }
    match value {
        Value::Object(fields) if schema["properties"].is_object() => {
            let described: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
            assert_eq!(fields.keys().collect::<BTreeSet<_>>(), described, "{path}");
            for (name, field) in fields {
                compare(field, &schema["properties"][name], schemas, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                compare(item, &schema["items"], schemas, path);
            }
        }
        Value::String(text) if schema["enum"].is_array() => {
            assert!(schema["enum"].as_array().unwrap().contains(&Value::from(text.as_str())), "{path}: {text}");
        }
        _ => {}
    }
}

#[test]
fn shapes_are_those_that_the_contract_writes() {
    let document = serde_json::to_value(document()).unwrap();
    let schemas = &document["components"]["schemas"];
    let named = |name: &str| serde_json::json!({ "$ref": format!("#/components/schemas/{name}") });
    let record = golden("host_record");
    for (value, shape) in [
        (golden("metrics"), "Metrics"),
        (golden("inventory"), "Inventory"),
        (golden("heartbeat")["docker"].clone(), "DockerState"),
        (record["facts"].clone(), "HostFacts"),
        (record["evidence"].clone(), "Evidence"),
        (record["state"].clone(), "HostState"),
        (record["cause"].clone(), "StateCause"),
        (golden("pod_record")["phase"].clone(), "PodPhase"),
        (golden("operation")["progress"].clone(), "Progress"),
        (golden("audit_entry")["outcome"].clone(), "AuditOutcome"),
        (golden("create_pod")["restart"].clone(), "RestartPolicy"),
        (golden("reconciler_status"), "ReconcilerStatus"),
    ] {
        assert!(schemas[shape].is_object(), "{shape} is not described");
        compare(&value, &named(shape), schemas, shape);
    }
}

#[test]
fn the_document_is_complete() {
    let document = serde_json::to_value(document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with("/api/v1/"), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{method} {path}: {id} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            assert_eq!(operation["responses"]["default"]["$ref"], "#/components/responses/Problem");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(
                    response["$ref"].is_string() || response["description"].is_string(),
                    "{method} {path} {status}"
                );
            }
            for parameter in operation["parameters"].as_array().unwrap_or(&Vec::new()) {
                let name = parameter["name"].as_str().unwrap();
                let in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", in_path, "{method} {path}: {name}");
                assert!(parameter["description"].is_string() || in_path, "{method} {path}: {name}");
            }
            let security = &operation["security"];
            assert!(security[0]["token"].is_array() || *security == serde_json::json!([{}]), "{method} {path}");
        }
    }
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    insta::assert_json_snapshot!("openapi", document());
}
