//! `src/http/transparency.rs`: what an outsider checks the log with, as an outsider gets it.

use crate::scene::Scene;
use grantlog::audit::transparency::VerifierKey;
use grantlog::audit::transparency::merkle::{CompactRange, leaf_hash};
use grantlog::credentials::log_key::PublicLogKey;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn outsider(scene: &Scene, path: &str) -> Response {
    scene.http.get(format!("{}{path}", scene.url)).send().await.unwrap()
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

fn verifier_key(scene: &Scene) -> VerifierKey {
    let key = PublicLogKey::load(&scene.folder.path().join("data/transparency.key")).unwrap();
    VerifierKey::new(&key.name, key.public_key).unwrap()
}

#[tokio::test]
async fn whoever_has_no_token_gets_checkpoint_and_hashes_but_no_events() {
    let scene = Scene::start().await;
    let answer = outsider(&scene, "/checkpoint").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&answer, "cache-control"), "public, no-cache");
    let checkpoint = verifier_key(&scene).checkpoint(&answer.text().await.unwrap()).unwrap();
    assert_eq!(
        checkpoint.origin,
        format!("{}/audit", scene.url.trim_start_matches("http://"))
    );

    let path = format!("/tile/0/000.p/{}", checkpoint.size);
    let answer = outsider(&scene, &path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    assert_eq!(header(&answer, "content-type"), "application/octet-stream");
    assert_eq!(header(&answer, "cache-control"), "public, max-age=31536000, immutable");
    let mut range = CompactRange::default();
    let hashes = answer.bytes().await.unwrap();
    hashes.as_chunks().0.iter().for_each(|hash| range.push(*hash));
    assert_eq!((range.size(), range.root()), (checkpoint.size, checkpoint.root));

    for (path, status) in [
        ("/tile/entries/000.p/1", StatusCode::UNAUTHORIZED),
        ("/audit/events/0/proof", StatusCode::UNAUTHORIZED),
        ("/tile/0/000", StatusCode::NOT_FOUND),
        ("/tile/0/000.p/255", StatusCode::NOT_FOUND),
        ("/tile/0/0.p/1", StatusCode::NOT_FOUND),
        ("/tile/0/x001/000", StatusCode::NOT_FOUND),
        ("/tile/8/000.p/1", StatusCode::NOT_FOUND),
        ("/tile/0/000.p/0", StatusCode::NOT_FOUND),
    ] {
        let answer = outsider(&scene, path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn an_event_and_a_token_are_proven_to_whoever_may_read_the_trail() {
    let scene = Scene::start().await;
    let key = verifier_key(&scene);
    let application = scene.register("orders-worker", json!({})).await;
    let token = scene.token(&application, &[]).await;
    let found = scene.search("type=TokenIssued&client_id=orders-worker").await;
    let event = &found["events"][0];
    let (index, jti) = (event["index"].as_u64().unwrap(), event["id"].as_str().unwrap());
    assert!(!token.is_empty());

    let bundle = scene.admin(Method::GET, &format!("/tile/entries/000.p/{}", index + 1));
    let proofs = [
        format!("/audit/events/{index}/proof"),
        format!("/audit/tokens/{jti}/proof"),
    ];
    let mut texts = Vec::new();
    for path in &proofs {
        let answer = scene.admin(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "content-type"), "text/plain; charset=utf-8");
        texts.push(answer.text().await.unwrap());
    }
    outsider(&scene, "/checkpoint").await;
    let bundle = bundle.send().await.unwrap();
    assert_eq!(
        (bundle.status(), header(&bundle, "cache-control")),
        (StatusCode::OK, "no-store".into())
    );
    let bundle = bundle.bytes().await.unwrap();
    let mut rest = &bundle[..];
    let mut last = &[][..];
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        (last, rest) = more.split_at(usize::from(u16::from_be_bytes(*length)));
    }
    let stored: Value = serde_json::from_slice(last).unwrap();
    assert_eq!(
        (&stored["id"], &stored["data"]["jti"]),
        (&event["id"], &event["data"]["jti"])
    );
    for text in texts {
        let (proven, checkpoint) = key.inclusion(&text, &leaf_hash(last)).unwrap();
        assert!(proven == index && checkpoint.size > index);
    }

    let json = scene
        .admin(Method::GET, &proofs[1])
        .header("accept", "application/json");
    let json: Value = json.send().await.unwrap().json().await.unwrap();
    assert_eq!(json["index"], index);
    assert!(key.checkpoint(json["checkpoint"].as_str().unwrap()).is_ok());
}

#[tokio::test]
async fn whoever_asks_for_a_proof_is_on_the_trail_and_whoever_reads_hashes_is_not() {
    let scene = Scene::start().await;
    outsider(&scene, "/checkpoint").await;
    outsider(&scene, "/tile/0/000.p/1").await;
    for path in [
        "/audit/events/2/proof",
        "/audit/events/1000000/proof",
        "/audit/tokens/0190163d-8694-739b-aea5-966c26f8ad91/proof",
    ] {
        scene.admin(Method::GET, path).send().await.unwrap();
    }
    scene.admin(Method::GET, "/tile/entries/000.p/2").send().await.unwrap();
    let after = scene.search("type=AuditTrailRead&order=asc").await;
    let seen: Vec<_> = after["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["data"])
        .filter(|data| data["via"] == "proof")
        .map(|data| (data["filter"].clone(), data["rows"].clone()))
        .collect();
    assert_eq!(
        seen,
        [
            (json!({"index": "2"}), json!(1)),
            (json!({"index": "1000000"}), json!(0)),
            (json!({"jti": "0190163d-8694-739b-aea5-966c26f8ad91"}), json!(0)),
            (json!({"entries": "0"}), json!(2)),
        ]
    );
}

#[tokio::test]
async fn a_log_that_is_not_public_wants_a_token_for_its_hashes_too() {
    let scene = Scene::with_config("[transparency]\npublic = false\norigin = \"log.example.com/audit\"\n").await;
    for path in ["/checkpoint", "/tile/0/000.p/1"] {
        assert_eq!(
            outsider(&scene, path).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
        let answer = scene.admin(Method::GET, path).send().await.unwrap();
        assert_eq!(
            (answer.status(), header(&answer, "cache-control")),
            (StatusCode::OK, "no-store".into()),
            "{path}"
        );
    }
    assert_eq!(verifier_key(&scene).name(), "log.example.com/audit");
}

#[tokio::test]
async fn events_are_for_everybody_only_when_the_operator_says_so() {
    let scene = Scene::with_config("[transparency]\npublic_entries = true\n").await;
    outsider(&scene, "/checkpoint").await;
    let answer = outsider(&scene, "/tile/entries/000.p/1").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "cache-control"), "public, max-age=31536000, immutable");
}

#[tokio::test]
async fn the_log_s_name_and_key_stay_when_it_is_started_elsewhere() {
    let scene = Scene::start().await;
    let (key, first) = (
        verifier_key(&scene),
        outsider(&scene, "/checkpoint").await.text().await.unwrap(),
    );
    let scene = Scene::in_folder(scene.stop(), "").await;
    let second = outsider(&scene, "/checkpoint").await.text().await.unwrap();
    let (first, second) = (key.checkpoint(&first).unwrap(), key.checkpoint(&second).unwrap());
    assert!(first.size < second.size && first.origin == second.origin);
}

#[tokio::test]
async fn a_proof_has_no_parameters_and_says_so() {
    let scene = Scene::start().await;
    for path in [
        "/audit/events/0/proof?tree_size=3",
        "/audit/tokens/0190163d-8694-739b-aea5-966c26f8ad91/proof?size=3",
    ] {
        let (status, problem) = scene.get(path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {problem}");
    }
}
