//! The server's own life: first start, restart, stop, crash, and configurations that it does not accept.

use crate::raw::{Connection, post};
use crate::running_server::Start;
use crate::scene::{Logged, Scene, read_log, without_usage};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn kinds(log: &[Logged]) -> Vec<&str> {
    log.iter().map(Logged::kind).collect()
}

#[tokio::test]
async fn a_first_start_makes_what_it_needs_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::over(&folder.path().join("data")).start();
    let log = read_log(&folder, 0).await;
    assert_eq!(
        kinds(&log),
        [
            "ApplicationRegistered",
            "ApplicationRegistered",
            "SigningKeyAdded",
            "SigningKeyActivated",
            "ApiRegistered",
            "ServiceStarted"
        ]
    );
    assert!(
        log.iter()
            .all(|event| event.event["actor"] == "system" && event.event.get("source").is_none())
    );
    let administrator = log[0].data();
    assert_eq!(administrator["application_uri"], "grantlog.admin");
    assert_eq!(
        administrator["scope"],
        "applications:read applications:write keys:write tokens:revoke audit:read introspect calls:report"
    );
    let auditor = log[1].data();
    assert_eq!(auditor["application_uri"], "grantlog.auditor");
    assert_eq!(auditor["scope"], "applications:read audit:read audit:export audit:hold");
    let started = log[5].data();
    assert_eq!((&started["clean"], &started["store"]), (&json!(true), &json!("sqlite")));
    assert_eq!(started["config_digest"].as_str().unwrap().len(), 64);
    let output = server.output.join("\n");
    for part in [
        "grantlog.admin",
        "admin.json",
        "auditor.json",
        "grantlog app list",
        &format!("listening on {}", server.url),
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    for (file, client_id) in [("admin.json", "grantlog.admin"), ("auditor.json", "grantlog.auditor")] {
        let profile = std::fs::read(server.data_dir.join(file)).unwrap();
        let profile: Value = serde_json::from_slice(&profile).unwrap();
        assert_eq!(
            (
                &profile["url"],
                &profile["client_id"],
                profile.as_object().unwrap().len()
            ),
            (&json!(server.url), &json!(client_id), 3)
        );
    }
}

#[tokio::test]
async fn a_restart_keeps_everything_and_makes_nothing_twice() {
    let scene = Scene::with_config("[server]\nissuer = \"http://issuer.example\"").await;
    scene
        .register_api("https://orders", json!({"signing_alg": "EdDSA"}))
        .await;
    let application = scene.register("kept", json!({"audiences": ["https://orders"]})).await;
    let path = application.path();
    scene
        .administer(Method::PATCH, &path, json!({"owner": "somebody"}))
        .await;
    let token = scene.token(&application, &[]).await;
    let administrator = scene.register("reader", json!({"scope": "applications:read"})).await;
    let readers_token = scene.token(&administrator, &[]).await;
    let (_, before) = scene.get(&path).await;
    let jwks = async |scene: &Scene| {
        let request = scene.http.get(format!("{}/.well-known/jwks.json", scene.url));
        request.send().await.unwrap().text().await.unwrap()
    };
    let keys_before = jwks(&scene).await;
    let folder = scene.stop();
    let log_before = read_log(&folder, 0).await;
    assert_eq!(kinds(&log_before).last(), Some(&"ServiceStopped"));

    let scene = Scene::in_folder(folder, "[server]\nissuer = \"http://issuer.example\"").await;
    let (status, after) = scene.get(&path).await;
    assert_eq!((status, without_usage(after)), (StatusCode::OK, without_usage(before)));
    assert_eq!(jwks(&scene).await, keys_before);
    let second = scene.token(&application, &[]).await;
    assert_eq!(crate::scene::jose_header(&second), crate::scene::jose_header(&token));
    let request = scene.with_token(&readers_token, Method::GET, "/admin/applications");
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::OK,
        "a token from before still holds"
    );
    let log = scene.log().await;
    for (old, kept) in log_before.iter().zip(&log) {
        assert_eq!(old.event, kept.event);
    }
    let started = &log[log_before.len()];
    assert_eq!(
        (started.kind(), &started.data()["clean"]),
        ("ServiceStarted", &json!(true)),
        "and nothing before it"
    );
    assert_eq!(
        scene.search("client_id=kept&type=TokenIssued").await["events"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn a_crash_is_told_from_a_stop_and_loses_nothing() {
    let scene = Scene::start().await;
    let application = scene.register("survivor", json!({})).await;
    let token = scene.token(&application, &[]).await;
    let jti = crate::scene::claims(&token)["jti"].clone();
    let folder = scene.kill();
    let after_crash = Scene::in_folder(folder, "").await;
    let log = after_crash.log().await;
    assert_eq!(
        log.iter()
            .filter(|event| event.data().get("jti") == Some(&jti) && event.kind() == "TokenIssued")
            .count(),
        1
    );
    let clean = |log: &[Logged]| -> Vec<bool> {
        let starts = log.iter().filter(|event| event.kind() == "ServiceStarted");
        starts.map(|event| event.data()["clean"].as_bool().unwrap()).collect()
    };
    assert_eq!(clean(&log), [true, false]);
    after_crash.token(&application, &[]).await;
    let folder = after_crash.stop();
    let scene = Scene::in_folder(folder, "").await;
    assert_eq!(clean(&scene.log().await), [true, false, true]);
}

#[tokio::test]
async fn deleted_projections_are_built_again_from_the_log() {
    let scene = Scene::start().await;
    let application = scene.register("rebuilt", json!({})).await;
    scene.token(&application, &[]).await;
    let (_, before) = scene.get(&application.path()).await;
    let data = scene.server.data_dir.clone();
    let folder = scene.stop();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["projections.db", "audit.db", "usage.db"]
            .iter()
            .any(|file| name.starts_with(file))
        {
            std::fs::remove_file(&path).unwrap();
        }
    }
    let scene = Scene::in_folder(folder, "").await;
    let after = scene.get(&application.path()).await.1;
    assert_eq!(without_usage(after), without_usage(before));
    let found = scene.search("client_id=rebuilt&order=asc").await;
    let kinds: Vec<&str> = found["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ApplicationRegistered", "TokenIssued"]);
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_then_says_so_and_exits_0() {
    let scene = Scene::start().await;
    let application = scene.register("in-flight", json!({})).await;
    let body = format!(
        "grant_type=client_credentials&client_id=in-flight&client_secret={}",
        application.client_secret
    );
    let headers = [
        "content-type: application/x-www-form-urlencoded",
        "expect: 100-continue",
    ];
    let request = post("/connect/token", &headers, body.as_bytes());
    let (head, body) = request.split_at(request.len() - body.len());
    let mut in_flight = Connection::to(&scene.url);
    // It is in flight as soon as the server asks for the body.
    let go_on = in_flight.send(head).receive().expect("an answer");
    assert_eq!(go_on.status, 100);
    let (first, rest) = body.split_at(20);
    in_flight.send(first);
    // Idle connections do not hold the stop up.
    let _idle: Vec<Connection> = (0..5).map(|_| Connection::to(&scene.url)).collect();

    let url = scene.url.clone();
    let began = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || scene.stop());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answer = in_flight
        .send(rest)
        .receive()
        .expect("the request in flight is answered");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let folder = stopping.await.expect("an orderly stop");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let address = url.split('/').nth(2).unwrap().to_owned();
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
    let log = read_log(&folder, 0).await;
    let last_two: Vec<&str> = kinds(&log)[log.len() - 2..].to_vec();
    assert_eq!(last_two, ["TokenIssued", "ServiceStopped"]);
    assert_eq!(log.last().unwrap().data()["reason"], "SIGTERM");
}

#[tokio::test]
async fn a_configuration_that_is_not_accepted_names_the_key_and_leaves_no_data() {
    for (toml, environment, expected) in [
        ("[server]\nlisten_on = \"x\"", None, vec!["server.listen_on", "line 2"]),
        ("[sever]\nworkers = 1", None, vec!["sever", "server"]),
        (
            "[tokens]\ndefault_lifetime_seconds = 5",
            None,
            vec!["tokens.default_lifetime_seconds", "60", "86400"],
        ),
        (
            "[tokens]\ndefault_signing_algorithm = \"HS256\"",
            None,
            vec!["tokens.default_signing_algorithm", "ES256"],
        ),
        (
            "[server]\nissuer = \"https://a.example/\"",
            None,
            vec!["server.issuer", "trailing slash"],
        ),
        (
            "[server]\ntrusted_proxies = [\"proxy\"]",
            None,
            vec!["server.trusted_proxies"],
        ),
        ("[tls]\ncertificate_file = \"x\"", None, vec!["tls.key_file"]),
        ("[lockout]\nmax_failures = \"many\"", None, vec!["lockout.max_failures"]),
        (
            "[keys]\nannounce_days_ahead = 90",
            None,
            vec!["keys.announce_days_ahead"],
        ),
        ("listen = ", None, vec!["line 1"]),
        (
            "",
            Some(("GRANTLOG__SERVER__WORKERZ", "1")),
            vec!["GRANTLOG__SERVER__WORKERZ", "GRANTLOG__SERVER__WORKERS"],
        ),
        (
            "",
            Some(("GRANTLOG__KEYS__MASTER_KEY", "c2hvcnQ=")),
            vec!["GRANTLOG__KEYS__MASTER_KEY"],
        ),
        (
            "[tls]\ncertificate_file = \"/nowhere/c.pem\"\nkey_file = \"/nowhere/k.pem\"",
            None,
            vec!["tls", "/nowhere/c.pem"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut start = Start::over(&data).with_config(toml);
        if let Some((name, value)) = environment {
            start = start.with_environment(name, value);
        }
        let Err((status, stderr)) = start.try_start() else {
            panic!("started with {toml} {environment:?}");
        };
        assert!(status.code().is_some_and(|code| code != 0), "{status}");
        for part in expected {
            assert!(stderr.contains(part), "{part} is not named: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(
            !stderr.contains("c2hvcnQ="),
            "a secret's value is not repeated: {stderr}"
        );
        assert!(!data.join("events.db").exists(), "{toml}");
    }
}

#[tokio::test]
async fn a_folder_is_served_by_one_server_at_a_time() {
    let scene = Scene::start().await;
    let Err((status, stderr)) = Start::over(&scene.server.data_dir).try_start() else {
        panic!("two servers over one log");
    };
    assert!(!status.success());
    assert!(stderr.contains("the data folder is in use"), "{stderr}");
    assert_eq!(
        scene.get("/admin/applications").await.0,
        StatusCode::OK,
        "the first one goes on"
    );
    let log = scene.log().await;
    assert_eq!(log.iter().filter(|event| event.kind() == "ServiceStarted").count(), 1);
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_says_so() {
    let scene = Scene::start().await;
    let data = scene.server.data_dir.clone();
    let folder = scene.stop();
    std::fs::write(
        data.join("master.key"),
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    )
    .unwrap();
    let Err((status, stderr)) = Start::over(&data).try_start() else {
        panic!("started with another master key");
    };
    assert!(!status.success());
    assert!(stderr.to_lowercase().contains("key"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    drop(folder);
}
