//! `src/http/reports.rs` and `src/http/statistics.rs`: what is read out of the whole log.

use crate::scene::{Answer, Scene};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

async fn made(scene: &Scene, path: &str) -> Answer {
    let answer = Answer::of(scene.admin(Method::GET, path).send().await.expect("an answer")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer
}

#[tokio::test]
async fn a_report_is_on_the_trail_with_the_digest_of_its_bytes_before_it_arrives() {
    let scene = Scene::start().await;
    scene.register("orders-worker", json!({})).await;
    let answer = made(&scene, "/audit/reports/inventory?format=csv").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/csv; charset=utf-8; header=present")
    );
    let digest = Sha256::digest(&answer.body);
    let expected = format!("sha-256=:{}:", STANDARD.encode(digest));
    assert_eq!(answer.header("content-digest"), Some(expected.as_str()));
    let log = scene.log().await;
    let produced = log.last().unwrap();
    assert_eq!(produced.kind(), "ReportProduced");
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(produced.data()["sha256"], hex);
    assert_eq!(produced.data()["report"], "inventory");
    assert_eq!(produced.data()["format"], "csv");
    let through = produced.data()["through_index"].as_u64().unwrap();
    assert_eq!(produced.data()["parameters"]["through_index"], through.to_string());
    assert_eq!(produced.data()["application_uri"], "grantlog.admin");

    scene.register("later", json!({})).await;
    let again = made(
        &scene,
        &format!("/audit/reports/inventory?format=csv&through_index={through}"),
    )
    .await;
    assert_eq!(again.body, answer.body, "made again for the same range");
}

#[tokio::test]
async fn every_report_carries_the_signed_checkpoint_of_its_range_and_the_log_is_the_signed_one() {
    let scene = Scene::start().await;
    let (status, list) = scene.get("/audit/reports").await;
    assert_eq!(status, StatusCode::OK);
    let reports = list["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 10);
    for report in reports {
        let name = report["name"].as_str().unwrap();
        let (status, report) = scene.get(&format!("/audit/reports/{name}")).await;
        assert_eq!(status, StatusCode::OK, "{report}");
        let checkpoint = report["checkpoint"].as_str().expect("a checkpoint");
        let through = report["range"]["through_index"].to_string();
        assert_eq!(checkpoint.lines().nth(1), Some(through.as_str()), "{name}");
        if name == "log-integrity" {
            assert_eq!(
                report["summary"]["Result"],
                "the log is the one that the checkpoint signs"
            );
        }
    }
}

#[tokio::test]
async fn a_page_may_show_itself_and_nothing_else() {
    let scene = Scene::start().await;
    let hostile = json!({"name": "<script>alert(1)</script>", "owner": "\"><img src=//evil.example>"});
    scene.register("hostile.app", hostile).await;
    let answer = made(&scene, "/audit/reports/access-review?format=html").await;
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(
        policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let style = answer
        .body
        .split("<style>")
        .nth(1)
        .and_then(|rest| rest.split("</style>").next())
        .unwrap();
    assert!(
        policy.contains(&STANDARD.encode(Sha256::digest(style))),
        "the style is the allowed one"
    );
    let body = &answer.body;
    assert!(!body.contains("<script") && !body.contains("<img"), "{body}");
    assert!(
        !body.contains("src=\"") && !body.contains("href=") && !body.contains("url("),
        "{body}"
    );
    assert!(body.contains("&lt;script&gt;alert(1)&lt;/script&gt;") || body.contains("hostile.app"));
}

#[tokio::test]
async fn a_wrong_question_is_answered_with_what_would_be_right() {
    let scene = Scene::start().await;
    let (status, problem) = scene.get("/audit/reports/inventories").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("there are inventory, access-review"),
        "{problem}"
    );
    for (query, field) in [
        ("inventory?format=pdf", "format"),
        ("inventory?days=3", "days"),
        ("inventory?through_index=1000000", "through_index"),
        ("old-secrets?days=0", "days"),
        ("audit-access?since=tomorrow", "since"),
        ("audit-access?since=1d&since=2d", "since"),
    ] {
        let (status, problem) = scene.get(&format!("/audit/reports/{query}")).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    let before = scene
        .log()
        .await
        .iter()
        .filter(|event| event.kind() == "ReportProduced")
        .count();
    assert_eq!(before, 0, "what was not made is not on the trail");
}

#[tokio::test]
async fn counts_are_what_a_search_finds_and_counting_is_on_the_trail() {
    let scene = Scene::start().await;
    let application = scene.register("orders-worker", json!({})).await;
    for _ in 0..3 {
        scene.token(&application, &[]).await;
    }
    scene.ask("orders-worker", "wrong", &[]).await;
    scene.search("type=TokenIssued").await;
    let count = |statistics: &Value, value: &str| {
        let totals = statistics["totals"].as_array().unwrap();
        totals
            .iter()
            .find(|total| total["value"] == value)
            .map(|total| total["count"].as_u64().unwrap())
    };
    let (status, by_type) = scene.get("/audit/stats?interval=hour&since=1h").await;
    assert_eq!(status, StatusCode::OK, "{by_type}");
    // One token is the administrator's.
    assert_eq!(count(&by_type, "TokenIssued"), Some(4));
    let buckets = by_type["buckets"].as_array().unwrap();
    let sum: u64 = buckets
        .iter()
        .filter_map(|bucket| bucket["counts"]["TokenIssued"].as_u64())
        .sum();
    assert_eq!(sum, 4);
    let (_, by_reason) = scene.get("/audit/stats?by=reason").await;
    assert_eq!(count(&by_reason, "secret_mismatch"), Some(1));
    let (_, by_client) = scene.get("/audit/stats?by=client_id").await;
    assert_eq!(
        count(&by_client, "orders-worker"),
        Some(5),
        "registered, three tokens, one refusal"
    );
    let (_, by_outcome) = scene.get("/audit/stats?by=outcome").await;
    assert_eq!(count(&by_outcome, "refused"), Some(1));
    let (_, by_network) = scene.get("/audit/stats?by=source_network").await;
    assert!(
        count(&by_network, "127.0.0.0/24").is_some_and(|count| count >= 5),
        "{by_network}"
    );
    let (_, none) = scene
        .get("/audit/stats?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z")
        .await;
    assert_eq!(none["events"], 0);
    let log = scene.log().await;
    let read = log.iter().rev().find(|event| event.kind() == "AuditTrailRead").unwrap();
    assert_eq!(read.data()["via"], "statistics");
    for bad in [
        "by=colour",
        "interval=minute",
        "since=x",
        "since=1h&until=2h",
        "limit=3",
    ] {
        let (status, problem) = scene.get(&format!("/audit/stats?{bad}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }
}
