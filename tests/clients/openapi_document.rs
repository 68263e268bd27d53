//! `/openapi.json` names every route of the server and no other. That the answers are as it says is
//! schemathesis's to find out (`test_openapi.py`).

use crate::running_server::{Administrator, RunningServer, Start};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const METHODS: [&str; 5] = ["delete", "get", "patch", "post", "put"];

#[test]
fn the_document_names_every_route_of_the_source_and_no_other() {
    let documented: BTreeSet<Operation> = operations(&document()).collect();
    let written = routes_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"));
    let missing: Vec<_> = written.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&written).collect();
    assert!(missing.is_empty(), "/openapi.json does not name {missing:?}");
    assert!(
        invented.is_empty(),
        "/openapi.json names {invented:?}, which no route in src/http serves"
    );
}

#[actix_web::test]
async fn every_operation_is_served_and_other_methods_are_refused() {
    let (server, _folder) = served();
    let document = document();
    let documented: BTreeSet<Operation> = operations(&document).collect();
    for path in documented.iter().map(|(path, _)| path).collect::<BTreeSet<_>>() {
        for method in METHODS {
            let answer = request(&server, path, method).await;
            if documented.contains(&(path.clone(), method.into())) {
                // Without a token nothing is looked up, so 404 would mean that there is no such route: but for
                // tiles, which are public, and of which a young log has few.
                let status = match answer.status() {
                    StatusCode::NOT_FOUND if path.starts_with("/tile/") => StatusCode::OK,
                    status => status,
                };
                let is_served = status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED;
                assert!(is_served, "{method} {path} is answered {status}");
                let described = &document["paths"][path][method]["responses"][status.as_str()];
                assert!(
                    described.is_object(),
                    "{method} {path} is answered {status}, which is not described"
                );
            } else {
                assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                assert!(
                    answer.headers().contains_key("allow"),
                    "{method} {path} does not say what it takes"
                );
            }
        }
    }
}

#[actix_web::test]
async fn every_operation_that_a_node_may_leave_to_another_says_so() {
    let document = document();
    let mut left_to_others = BTreeSet::new();
    for role in ["token", "audit"] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Start::over(&folder.path().join("data"))
            .with_config(&format!("node.roles = [\"{role}\"]\n"))
            .start();
        // Some that need the trail say so to a known reader only.
        let reader = match role {
            "token" => Some(Administrator::of(&server).await),
            _ => None,
        };
        for (path, method) in operations(&document) {
            let answer = match &reader {
                Some(reader) if method == "get" => reader.request(Method::GET, &filled(&path)).send().await,
                _ => Ok(request(&server, &path, &method).await),
            };
            if answer.expect("an answer").status() == StatusCode::MISDIRECTED_REQUEST {
                left_to_others.insert((path, method));
            }
        }
    }
    let documented = operations(&document)
        .filter(|(path, method)| document["paths"][path][method]["responses"].get("421").is_some())
        .collect();
    assert_eq!(left_to_others, documented);
}

#[actix_web::test]
async fn the_document_speaks_of_this_server_and_this_version() {
    let (server, _folder) = served();
    let answer = request(&server, "/openapi.json", "get").await;
    let served: Value = answer.json().await.expect("JSON");
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(served["servers"][0]["url"], server.url);
    let flow = &served["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"];
    assert_eq!(flow["tokenUrl"], format!("{}/connect/token", server.url));
}

#[test]
fn every_reference_leads_somewhere_and_nothing_is_described_for_nobody() {
    let document = document();
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for kind in ["schemas", "responses", "parameters", "headers"] {
        for name in document["components"][kind].as_object().expect(kind).keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references.contains(&reference), "nobody uses {reference}");
        }
    }
}

#[test]
fn the_event_types_that_can_be_searched_for_are_all_there_are() {
    let document = document();
    let parameters = document["paths"]["/audit/events"]["get"]["parameters"]
        .as_array()
        .expect("a list");
    let of_type = parameters
        .iter()
        .find(|parameter| parameter["name"] == "type")
        .expect("the parameter `type`");
    assert_eq!(
        of_type["schema"]["enum"],
        serde_json::json!(grantlog_projections::Event::TYPES)
    );
}

/// A path and a method.
type Operation = (String, String);

fn document() -> Value {
    serde_json::from_str(include_str!("../../src/http/openapi.json")).expect("the document is JSON")
}

fn operations(document: &Value) -> impl Iterator<Item = Operation> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let methods = METHODS.into_iter().filter(|method| item.get(method).is_some());
        methods.map(|method| (path.clone(), method.to_owned()))
    })
}

/// The routes as the source hangs them: actix-web cannot be asked for them. A path and the methods that follow
/// it, or several paths and the methods that they share; `of("…")` is a path below the one that its file begins
/// with; what is `readable("…")` takes GET; what goes straight `to`
/// its handler takes all methods. Should somebody write a route in another way, it is missing here and the test says so.
fn routes_of(folder: &Path) -> BTreeSet<Operation> {
    let mut routes = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("src/http") {
        let source = std::fs::read_to_string(file.expect("a file").path()).expect("a source file");
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let base = source
            .split("format!(\"")
            .skip(1)
            .find_map(|rest| rest.split_once("{pattern}\""));
        let (mut paths, mut is_complete) = (Vec::new(), false);
        for (position, _) in source.match_indices(['"', ':']) {
            let (before, after) = source.split_at(position);
            if let Some(text) = after.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                let path = match base {
                    Some((base, _)) if before.ends_with("of(") => format!("{base}{text}"),
                    None if text.starts_with('/') && !text.contains("{}") => text.to_owned(),
                    _ => continue,
                };
                if after[1..].starts_with(&format!("{text}\").to(")) {
                    routes.extend(METHODS.map(|method| (path.clone(), method.to_owned())));
                    continue;
                }
                if before.trim_end().ends_with("readable(") {
                    routes.insert((path, "get".to_owned()));
                    continue;
                }
                if std::mem::take(&mut is_complete) {
                    paths.clear();
                }
                paths.push(path);
            } else if before.ends_with("web") {
                let Some(method) = METHODS
                    .into_iter()
                    .find(|method| after.starts_with(&format!("::{method}()")))
                else {
                    continue;
                };
                is_complete = true;
                routes.extend(paths.iter().map(|path| (path.clone(), method.to_owned())));
            }
        }
    }
    routes
}

fn collect_references(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members
                .values()
                .for_each(|member| collect_references(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, references)),
        _ => {}
    }
}

fn served() -> (RunningServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (Start::over(&folder.path().join("data")).start(), folder)
}

/// The path with something in the place of each parameter.
fn filled(path: &str) -> String {
    const AN_ID: &str = "6f1c2a34-0000-5000-8000-000000000001";
    let path = path.replace("{id}", AN_ID).replace("{secret_id}", AN_ID);
    let path = path
        .replace("{kid}", "2026-03-16")
        .replace("{index}", "0")
        .replace("{name}", "inventory");
    let path = path.replace("{jti}", AN_ID).replace("{level}", "0");
    path.replace("{number}", "000").replace("{width}", "1")
}

async fn request(server: &RunningServer, path: &str, method: &str) -> reqwest::Response {
    let method: Method = method.to_uppercase().parse().expect("a method");
    let sent = reqwest::Client::new()
        .request(method, format!("{}{}", server.url, filled(path)))
        .send();
    sent.await.expect("an answer")
}
