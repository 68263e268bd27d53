use super::assert_names_field;
use crate::scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn names(page: &Value) -> Vec<&str> {
    let applications = page["applications"].as_array().expect("a list");
    applications
        .iter()
        .map(|application| application["client_id"].as_str().expect("a text"))
        .collect()
}

async fn scene() -> Scene {
    let scene = Scene::start().await;
    for (name, more) in [
        ("alpha", json!({"org_code": "ACME", "owner": "Team One"})),
        ("beta", json!({"org_code": "OTHER", "name": "Alphabet"})),
        (
            "my.trusted.app/service",
            json!({"org_code": "ACME", "is_enabled": false}),
        ),
        ("zeta", json!({})),
    ] {
        scene.register(name, more).await;
    }
    let gone = scene.register("gone", json!({"org_code": "ACME"})).await;
    let (status, _) = scene.administer(Method::DELETE, &gone.path(), json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    scene
}

#[tokio::test]
async fn applications_are_listed_by_name_and_filtered() {
    let scene = scene().await;
    for (query, expected) in [
        (
            "",
            vec![
                "alpha",
                "beta",
                "grantlog.admin",
                "grantlog.auditor",
                "my.trusted.app/service",
                "zeta",
            ],
        ),
        ("?org_code=ACME", vec!["alpha", "my.trusted.app/service"]),
        ("?org_code=ACME&enabled=true", vec!["alpha"]),
        ("?enabled=false", vec!["my.trusted.app/service"]),
        ("?q=ALPHA", vec!["alpha", "beta"]),
        ("?q=team", vec!["alpha"]),
        ("?q=%25", vec![]),
        ("?client_id=my.trusted.app/service", vec!["my.trusted.app/service"]),
        ("?client_id=my.trusted.app%2Fservice", vec!["my.trusted.app/service"]),
        ("?client_id=gone", vec![]),
        ("?client_id=alpha&org_code=OTHER", vec![]),
        ("?client_id=' OR 1=1 --", vec![]),
        (
            "?org_code=",
            vec![
                "alpha",
                "beta",
                "grantlog.admin",
                "grantlog.auditor",
                "my.trusted.app/service",
                "zeta",
            ],
        ),
        (
            "?after=beta",
            vec!["grantlog.admin", "grantlog.auditor", "my.trusted.app/service", "zeta"],
        ),
    ] {
        let (status, page) = scene.get(&format!("/admin/applications{query}")).await;
        assert_eq!((status, names(&page)), (StatusCode::OK, expected), "{query}");
        assert_eq!(page.get("next"), None, "{query}");
    }
}

#[tokio::test]
async fn pages_lead_through_all_of_them() {
    let scene = scene().await;
    for limit in 1..=7 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = scene.get(&format!("/admin/applications?limit={limit}{after}")).await;
            assert_eq!(status, StatusCode::OK);
            assert!(names(&page).len() <= limit);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(
            seen,
            [
                "alpha",
                "beta",
                "grantlog.admin",
                "grantlog.auditor",
                "my.trusted.app/service",
                "zeta"
            ],
            "by {limit}"
        );
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_acceptable_is_named() {
    let scene = Scene::start().await;
    for (query, field, part) in [
        ("limit=0", "limit", "1 to 1000"),
        ("limit=1001", "limit", "1 to 1000"),
        ("limit=ten", "limit", "1 to 1000"),
        ("enabled=yes", "enabled", "true or false"),
        ("after=a%20b", "after", "`next` of the page before"),
        ("limit=1&limit=2", "limit", "given once"),
        (
            "colour=red",
            "colour",
            "there is no such parameter; there are: client_id",
        ),
        ("%0d%0ax=1", "x", "there is no such parameter"),
    ] {
        let answer = scene.get(&format!("/admin/applications?{query}")).await;
        assert_names_field(&answer, field, part);
    }
    let many: String = (0..65).map(|number| format!("p{number}=1&")).collect();
    let (status, _) = scene.get(&format!("/admin/applications?{many}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
