//! No secret and no token in the log, in stderr, in metrics or in an answer that does not have to have it.

use crate::scene::Scene;
use crate::token::{Ask, Endpoint, basic};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;

/// What must not be found, in the forms in which it could be.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 16, "{what} is long enough not to be found by chance");
        self.0.push((what.to_owned(), secret.into()));
        // Half of it would be half too much.
        self.0.push((
            format!("the beginning of {what}"),
            secret[..secret.len() * 3 / 4].into(),
        ));
        for (form, encoded) in [
            ("base64", STANDARD.encode(secret)),
            ("base64url", URL_SAFE_NO_PAD.encode(secret)),
        ] {
            self.0
                .push((format!("{what} in {form}"), encoded.trim_end_matches('=').into()));
        }
    }

    fn add_token(&mut self, what: &str, token: &str) {
        let signature = token.rsplit('.').next().expect("a signature");
        self.0.push((what.to_owned(), token.into()));
        // The hint, which events keep, is 8 characters.
        self.0.push((
            format!("the signature of {what}"),
            signature[..signature.len() - 8].into(),
        ));
    }

    fn assert_not_in(&self, place: &str, bytes: &[u8]) {
        for (what, secret) in &self.0 {
            let is_found = bytes.windows(secret.len()).any(|window| window == secret.as_slice());
            assert!(!is_found, "{what} is in {place}");
        }
    }
}

#[tokio::test]
async fn nothing_secret_is_written_anywhere() {
    let scene = Scene::with_config("[telemetry]\nlog_filter = \"trace\"\n[lockout]\nmax_failures = 4\n").await;
    let mut secrets = Secrets::default();
    let (administrator, administrators_secret) = scene.server.administrator();
    secrets.add("the administrator's secret", &administrators_secret);
    let master_key = std::fs::read_to_string(scene.server.data_dir.join("master.key")).expect("the master key");
    secrets.add("the master key", master_key.trim());

    // Every way in which a secret or a token passes through.
    let application = scene
        .register("my.trusted.app/service", json!({"scope": "audit:read read"}))
        .await;
    secrets.add("a client secret", &application.client_secret);
    secrets.add(
        "Basic credentials",
        &basic(&application.client_id, &application.client_secret)["Basic ".len()..],
    );
    let imported = "an imported secret, p+ss w%rd and all";
    secrets.add("an imported secret", imported);
    let hash = grantlog::credentials::generated::hash_of(imported).to_string();
    scene
        .register("imported", json!({"application_secret_hash": hash}))
        .await;
    for alg in ["RS256", "EdDSA"] {
        scene
            .register_api(&format!("https://{alg}"), json!({"signing_alg": alg}))
            .await;
    }
    let (status, rotated) = scene
        .administer(Method::POST, &format!("{}/secrets", application.path()), json!({}))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    secrets.add("a rotated secret", rotated["client_secret"].as_str().unwrap());
    for endpoint in Endpoint::ALL {
        for (client_id, secret) in [
            ("my.trusted.app/service", &*application.client_secret),
            ("imported", imported),
        ] {
            for is_basic in [true, false] {
                let ask = Ask::at(endpoint, client_id, secret).without("audience");
                let ask = if endpoint == Endpoint::Audience {
                    ask.with("audience", &scene.url)
                } else {
                    ask
                };
                let answer = if is_basic { ask.basic() } else { ask }
                    .send(&scene.http, &scene.url)
                    .await;
                let (token, ..) = endpoint.grant(&answer.json());
                secrets.add_token("an access token", &token);
            }
        }
    }
    let guess = "a wrong secret that somebody typed";
    secrets.add("a wrong secret", guess);
    let token = scene.token(&application, &[]).await;
    secrets.add_token("a bearer token", &token);
    let answer = scene
        .with_token(&token, Method::GET, "/audit/events")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let forbidden = scene
        .with_token(&token, Method::POST, "/admin/applications")
        .send()
        .await
        .unwrap();
    let mut said = vec![forbidden.text().await.unwrap()];
    for wrong in [
        Ask::at(Endpoint::Connect, "my.trusted.app/service", guess),
        Ask::at(Endpoint::Json, "my.trusted.app/service", guess),
        Ask::at(Endpoint::Connect, "nobody", guess).basic(),
        Ask::at(Endpoint::Connect, "my.trusted.app/service", &application.client_secret)
            .header("authorization", basic("my.trusted.app/service", guess).as_bytes()),
        // Broken requests that hold secrets.
        Ask::at(Endpoint::Connect, "x", &application.client_secret).with("client_secret", guess),
        Ask::at(Endpoint::Connect, "x", &application.client_secret).content_type(Some("text/plain")),
        Ask::at(Endpoint::Connect, "x", "x").body(format!("client_secret={}&%zz", application.client_secret)),
        Ask::at(Endpoint::Json, "x", "x").body(format!("{{\"clientSecret\": \"{}\", 7}}", application.client_secret)),
        Ask::at(Endpoint::Json, "x", "x").body(format!("{{\"clientSecret\": [\"{}\"]}}", application.client_secret)),
        Ask::at(Endpoint::Connect, &application.client_secret, "my.trusted.app/service"),
        Ask::at(Endpoint::Connect, "my.trusted.app/service", &application.client_secret).with("scope", "admin"),
    ] {
        said.push(wrong.send(&scene.http, &scene.url).await.body);
    }
    for _ in 0..6 {
        said.push(scene.ask("my.trusted.app/service", guess, &[]).await.body);
    }
    for path in [
        "/admin/applications",
        &application.path(),
        &format!("{}/history", application.path()),
        "/admin/signing-keys",
        "/.well-known/jwks.json",
        "/health/ready",
        "/metrics",
    ] {
        let answer = scene.admin(Method::GET, path).send().await.unwrap();
        said.push(answer.text().await.unwrap());
    }
    // The trail shows events as they are stored, which is what makes it provable: sealed keys and hashes too.
    let trail = scene.search("limit=1000").await.to_string();
    secrets.assert_not_in("the trail", trail.as_bytes());
    let mangled = format!("{}x", &token[..token.len() - 1]);
    let answer = scene
        .with_token(&mangled, Method::GET, "/audit/events")
        .send()
        .await
        .unwrap();
    said.push(answer.text().await.unwrap());
    let unreadable = scene
        .admin(Method::PATCH, &application.path())
        .header("content-type", "application/json")
        .body(format!("{{\"client_secret\": \"{guess}\"}}"));
    said.push(unreadable.send().await.unwrap().text().await.unwrap());

    for answer in &said {
        secrets.assert_not_in("an answer", answer.as_bytes());
    }
    let private_keys = private_key_material(&scene).await;
    let stderr = scene.server.stderr();
    assert!(stderr.len() > 10_000, "everything was logged");
    secrets.assert_not_in("stderr", stderr.as_bytes());
    let sealed = Secrets(private_keys);
    sealed.assert_not_in("stderr", stderr.as_bytes());
    said.iter()
        .for_each(|answer| sealed.assert_not_in("an answer", answer.as_bytes()));

    let data = scene.server.data_dir.clone();
    let folder = scene.stop();
    let mut searched = Vec::new();
    for entry in std::fs::read_dir(&data).expect("the data folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        // These are what the operator keeps secret, closed to others.
        if matches!(name.as_str(), "master.key" | "admin.json" | "auditor.json") {
            assert_private(&path);
            continue;
        }
        secrets.assert_not_in(&name, &std::fs::read(&path).expect("it can be read"));
        assert_private(&path);
        searched.push(name);
    }
    assert!(
        searched.iter().any(|name| name.starts_with("events.db")),
        "{searched:?}"
    );
    assert_eq!(administrator, "grantlog.admin");
    drop(folder);
}

/// The sealed private keys: fit for the log, but for nobody's eyes.
async fn private_key_material(scene: &Scene) -> Vec<(String, Vec<u8>)> {
    let log = scene.log().await;
    let sealed: Vec<_> = log
        .iter()
        .filter(|event| event.kind() == "SigningKeyAdded")
        .map(|event| event.data()["sealed_private_key"].as_str().expect("a text").to_owned())
        .map(|sealed| ("a sealed private key".to_owned(), sealed.into_bytes()))
        .collect();
    assert_eq!(sealed.len(), 3);
    sealed
}

fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{} is open to others: {mode:o}", path.display());
}

#[tokio::test]
async fn a_secret_is_shown_by_the_first_start_alone() {
    let scene = Scene::start().await;
    let (_, secret) = scene.server.administrator();
    let output = scene.server.output.join("\n");
    assert!(output.contains(&secret), "the first start prints it once");
    let folder = scene.stop();
    let scene = Scene::in_folder(folder, "").await;
    assert!(!scene.server.output.join("\n").contains(&secret));
    let shown: Value = scene.get("/admin/applications?client_id=grantlog.admin").await.1;
    assert!(!shown.to_string().contains(&secret));
}
