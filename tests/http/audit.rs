//! `src/http/audit.rs`: searching the trail.

use crate::scene::{Answer, Scene};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const CONFIG: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";

/// A server at which two clients from two addresses got tokens and were refused.
async fn busy_scene() -> Scene {
    let scene = Scene::with_config(CONFIG).await;
    for (client_id, source) in [
        ("orders-worker", "192.0.2.1"),
        ("my.trusted.app/service", "2001:db8::7"),
    ] {
        let application = scene.register(client_id, json!({})).await;
        for secret in [application.client_secret.as_str(), "wrong", &application.client_secret] {
            let request = scene
                .http
                .post(format!("{}/connect/token", scene.url))
                .header("x-forwarded-for", source);
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", client_id),
                ("client_secret", secret),
            ];
            request.form(&form).send().await.unwrap();
        }
    }
    scene
}

fn indexes(page: &Value) -> Vec<u64> {
    page["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["index"].as_u64().unwrap())
        .collect()
}

fn kinds(page: &Value) -> Vec<&str> {
    page["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn each_parameter_narrows_the_search_and_all_hold_together() {
    let scene = busy_scene().await;
    let page = scene.search("client_id=orders-worker").await;
    assert_eq!(
        kinds(&page),
        ["TokenIssued", "TokenRefused", "TokenIssued", "ApplicationRegistered"],
        "newest first"
    );
    let page = scene.search("client_id=orders-worker&order=asc").await;
    assert_eq!(
        kinds(&page),
        ["ApplicationRegistered", "TokenIssued", "TokenRefused", "TokenIssued"]
    );
    let page = scene.search("type=TokenRefused").await;
    let clients: Vec<&str> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["client_id"].as_str().unwrap())
        .collect();
    assert_eq!(clients, ["my.trusted.app/service", "orders-worker"]);
    assert_eq!(
        kinds(&scene.search("outcome=refused").await),
        ["TokenRefused", "TokenRefused"]
    );
    assert_eq!(kinds(&scene.search("source_ip=192.0.2.1").await).len(), 3);
    assert_eq!(
        kinds(&scene.search("source_ip=2001:0db8:0::7&outcome=success").await).len(),
        2
    );
    assert_eq!(
        kinds(
            &scene
                .search("source_ip=192.0.2.1&client_id=my.trusted.app/service")
                .await
        )
        .len(),
        0
    );
    assert_eq!(kinds(&scene.search("client_id=nobody").await).len(), 0);
    assert_eq!(kinds(&scene.search("client_id=' OR '1'='1").await).len(), 0);

    let log = scene.log().await;
    let refusal = log.iter().find(|event| event.kind() == "TokenRefused").unwrap();
    let time = refusal.event["time"].as_str().unwrap();
    let since = scene.search(&format!("type=TokenRefused&since={time}&order=asc")).await;
    assert_eq!(indexes(&since)[0], refusal.index, "since includes its moment");
    let until = scene.search(&format!("type=TokenRefused&until={time}")).await;
    assert_eq!(indexes(&until), [0; 0], "until does not");
    assert_eq!(indexes(&scene.search("type=TokenRefused&since=1h").await).len(), 2);
    assert_eq!(indexes(&scene.search("type=TokenRefused&until=1h").await).len(), 0);
    let from = scene
        .search(&format!("from_index={}&type=TokenRefused&order=asc", refusal.index + 1))
        .await;
    assert_eq!(indexes(&from).len(), 1);
}

#[tokio::test]
async fn a_filter_narrows_the_search_with_the_parameters_and_over_its_pages() {
    let scene = busy_scene().await;
    for (filter, parameters, expected) in [
        (r#"reason eq "secret_mismatch""#, "", 2),
        (r#"reason eq "secret_mismatch" and source_ip eq "192.0.2.0/24""#, "", 1),
        (
            r#"source_ip eq "192.0.2.0/24" or source_ip eq "2001:db8::/32""#,
            "type=TokenIssued",
            4,
        ),
        (
            r#"type sw "Token" and not (client_id sw "my." or actor eq "grantlog.admin")"#,
            "",
            3,
        ),
        (
            r#"scope pr and time gt "1h""#,
            "type=TokenIssued&client_id=orders-worker",
            2,
        ),
        (r#"path sw "/admin/appl" and method eq "POST""#, "", 2),
        (r#"source_ip eq "203.0.113.0/24""#, "", 0),
    ] {
        let filter = filter.replace(' ', "+").replace('"', "%22");
        let page = scene.search(&format!("filter={filter}&{parameters}")).await;
        assert_eq!(indexes(&page).len(), expected, "{filter} {page}");
        assert!(page.get("partial").is_none());
    }
    let mut next = Some("/audit/events?limit=1&filter=type+sw+%22Token%22".to_owned());
    let mut seen = Vec::new();
    while let Some(path) = next {
        let (page, after) = follow(&scene, &path).await;
        seen.extend(indexes(&page));
        next = after;
    }
    assert_eq!(seen, indexes(&scene.search("filter=type+sw+%22Token%22").await));
}

#[tokio::test]
async fn what_no_index_answers_is_named() {
    let scene = busy_scene().await;
    let page = scene
        .search("filter=token_hint+pr+and+data.scope+co+%22a%22+and+type+pr")
        .await;
    assert_eq!(page["unindexed"], json!(["token_hint pr", "data.scope co \"a\""]));
    let page = scene.search("filter=jti+pr+or+not+(secret_id+eq+%22x%22)").await;
    assert!(page.get("unindexed").is_none(), "{page}");
}

#[tokio::test]
async fn a_bad_filter_is_answered_with_the_column_and_what_is_repeated_is_escaped() {
    let scene = Scene::start().await;
    let (status, problem) = scene.get("/audit/events?filter=client_id+%3D+%22a%22").await;
    assert_eq!((status, &problem["column"]), (StatusCode::BAD_REQUEST, &json!(11)));
    assert_eq!(
        problem["detail"],
        "filter: column 11: expected an operator such as eq, found `=`"
    );
    let (_, problem) = scene.get("/audit/events?filter=index+%1B%5B31m+1").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(r"`\u{1b}`"), "{detail}");
    let (_, problem) = scene.get("/audit/events?limit=0").await;
    assert!(problem.get("column").is_none());
}

#[tokio::test]
async fn an_event_is_shown_as_the_contract_says_and_data_as_it_is_stored() {
    let scene = busy_scene().await;
    let page = scene
        .search("type=TokenIssued&client_id=my.trusted.app/service&limit=1")
        .await;
    let shown = &page["events"][0];
    let stored = scene.log_from(shown["index"].as_u64().unwrap()).await.remove(0);
    let mut expected = json!({
        "index": stored.index, "revision": stored.revision, "client_id": "my.trusted.app/service", "outcome": "success",
        "trace_id": stored.event.get("trace_id"),
    });
    for member in ["id", "stream", "type", "time", "actor", "data"] {
        expected[member] = stored.event[member].clone();
    }
    expected["source"] = json!({"ip": "2001:db8::7", "user_agent": null});
    assert_eq!(shown, &expected);
    let (status, alone) = scene.get(&format!("/audit/events/{}", stored.index)).await;
    assert_eq!((status, &alone), (StatusCode::OK, shown));
}

/// The page at this path, and the path of the next one as the `Link` header has it.
async fn follow(scene: &Scene, path: &str) -> (Value, Option<String>) {
    let answer = Answer::of(scene.admin(Method::GET, path).send().await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let page = answer.json();
    // RFC 8288: the address that `next` is for.
    let next = answer.header("link").map(|link| {
        let target = link
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
        target.expect("one link to the next page").to_owned()
    });
    match &next {
        Some(path) => assert!(path.contains(page["next"].as_str().expect("next")), "{path} {page}"),
        None => assert!(page["next"].is_null(), "{page}"),
    }
    (page, next)
}

#[tokio::test]
async fn pages_newest_first_lead_back_to_the_beginning_while_the_log_grows() {
    let scene = busy_scene().await;
    let whole = indexes(&scene.search("type=TokenIssued").await);
    for limit in 1..4 {
        let mut seen = Vec::new();
        let mut next = Some(format!("/audit/events?type=TokenIssued&limit={limit}"));
        while let Some(path) = next {
            let (page, after) = follow(&scene, &path).await;
            assert!(indexes(&page).len() <= limit);
            seen.extend(indexes(&page));
            next = after;
        }
        assert_eq!(seen, whole, "by {limit}");
    }
}

#[tokio::test]
async fn pages_oldest_first_never_end_and_show_what_is_new_once() {
    let scene = busy_scene().await;
    let whole = indexes(&scene.search("order=asc&type=TokenIssued").await);
    let mut seen = Vec::new();
    let mut path = "/audit/events?order=asc&type=TokenIssued&limit=2".to_owned();
    while seen.len() < whole.len() {
        let (page, next) = follow(&scene, &path).await;
        assert!(!indexes(&page).is_empty());
        seen.extend(indexes(&page));
        path = next.expect("oldest first there is always a next page");
    }
    assert_eq!(seen, whole);
    let (page, next) = follow(&scene, &path).await;
    assert_eq!(indexes(&page), [0; 0], "nothing new yet");
    let application = scene.register("newcomer", json!({})).await;
    scene.token(&application, &[]).await;
    let index = scene.log().await.last().unwrap().index;
    scene.search("type=TokenIssued").await;
    let (page, _) = follow(&scene, &next.expect("a next page")).await;
    assert_eq!(indexes(&page), [index]);
}

#[tokio::test]
async fn a_search_is_itself_on_the_trail_with_what_was_asked_and_answered() {
    let scene = busy_scene().await;
    let page = scene.search("type=TokenIssued&limit=2&client_id=orders-worker").await;
    let log = scene.log().await;
    let read = log.last().unwrap();
    assert_eq!(
        (read.kind(), &read.event["stream"]),
        ("AuditTrailRead", &json!("audit-access"))
    );
    assert_eq!(read.event["actor"], "grantlog.admin");
    assert_eq!(
        read.data(),
        &json!({
            "application_uri": "grantlog.admin", "rows": 2, "through_index": page["indexed_through"],
            "filter": {"type": "TokenIssued", "limit": "2", "client_id": "orders-worker"},
        })
    );
    scene.get("/audit/events/0").await;
    let log = scene.log().await;
    assert_eq!(log.last().unwrap().data()["filter"], json!({"index": "0"}));
}

#[tokio::test]
async fn every_answer_says_how_far_the_index_has_read() {
    let scene = busy_scene().await;
    let page = scene.search("limit=1").await;
    let (through, size) = (
        page["indexed_through"].as_u64().unwrap(),
        page["log_size"].as_u64().unwrap(),
    );
    assert!(through <= size && size <= scene.log_size().await);
    assert_eq!(page.as_object().unwrap().len(), 4, "{page}");
}

#[tokio::test]
async fn a_query_that_cannot_be_used_names_its_parameter_and_leaves_no_reading() {
    let scene = Scene::start().await;
    for (query, parameter, part) in [
        ("type=TokenIsued", "type", "did you mean TokenIssued"),
        ("type=", "type", "is not an event type"),
        ("outcome=ok", "outcome", "success or refused"),
        ("source_ip=localhost", "source_ip", "IPv4 or IPv6"),
        ("since=yesterday", "since", "RFC 3339"),
        ("since=5", "since", "RFC 3339"),
        ("until=99999999999999d", "until", "RFC 3339"),
        ("since=1h&until=2h", "until", "later than since"),
        ("from_index=-1", "from_index", "a whole number"),
        ("order=newest", "order", "desc (newest first) or asc"),
        ("limit=0", "limit", "1 to 1000"),
        ("limit=1001", "limit", "1 to 1000"),
        ("after=abc", "after", "is not a cursor"),
        (
            "filter=type%20eq%20%22x%22",
            "filter",
            "column 9: this is not an event type",
        ),
        ("filter=", "filter", "column 1: expected an attribute"),
        ("source_ip=10.0.0.0/33", "source_ip", "a network such as 10.0.0.0/8"),
        ("type=TokenIssued&type=TokenRefused", "type", "once"),
        ("%0d%0aset-cookie:%20x=1", "\\r\\nset-cookie: x", "is not a parameter"),
        ("client_id=", "client_id", "1 to 256"),
    ] {
        let (status, problem) = scene.get(&format!("/audit/events?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], parameter, "{query}");
        assert!(
            problem["errors"][0]["message"].as_str().unwrap().contains(part),
            "{problem}"
        );
    }
    let newest = scene.search("limit=1").await;
    let cursor_of_another = newest["next"].as_str().unwrap().to_owned();
    let (status, problem) = scene
        .get(&format!("/audit/events?order=asc&after={cursor_of_another}"))
        .await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::BAD_REQUEST, &json!("after"))
    );
    let many: String = (0..33).map(|number| format!("p{number}=1&")).collect();
    assert_eq!(
        scene.get(&format!("/audit/events?{many}")).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(scene.get("/audit/events/x").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(scene.get("/audit/events/99999999").await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        scene.get("/audit/events/18446744073709551615").await.0,
        StatusCode::NOT_FOUND
    );
    let log = scene.log().await;
    let readings = log.iter().filter(|event| event.kind() == "AuditTrailRead").count();
    let refused = log.iter().filter(|event| event.kind() == "ApiCallAuthorized").count();
    assert!(readings < refused, "only what was answered counts as read");
}
