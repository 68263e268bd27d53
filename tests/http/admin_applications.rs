//! `src/http/admin_applications.rs`: Trusted Applications.

mod changing;

mod listing;

mod over_time;

mod registering;

use crate::scene::{Answer, Scene};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A problem that names one field.
#[track_caller]
fn assert_names_field(answer: &(StatusCode, Value), field: &str, part_of_message: &str) {
    let (status, problem) = answer;
    assert_eq!(*status, StatusCode::BAD_REQUEST, "{problem}");
    assert_eq!(problem["type"], "urn:grantlog:problem:invalid");
    assert_eq!(
        (&problem["status"], &problem["title"]),
        (&Value::from(400), &Value::from("Bad Request"))
    );
    assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    let message = problem["errors"][0]["message"].as_str().expect("a message");
    assert!(message.contains(part_of_message), "{problem}");
    assert_eq!(problem["detail"], format!("{field}: {message}"));
}

/// A PATCH with an `If-Match`.
async fn patch_if(scene: &Scene, path: &str, if_match: &str, body: Value) -> Answer {
    let request = scene
        .admin(Method::PATCH, path)
        .header("if-match", if_match)
        .json(&body);
    Answer::of(request.send().await.expect("an answer")).await
}
