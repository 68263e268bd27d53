//! HTTPS by certificate and key files.

use crate::running_server::Start;
use crate::scene::{Answer, claims};
use reqwest::{Certificate, Client, StatusCode};
use std::path::Path;

struct Files {
    certificate: String,
    config: String,
}

/// A certificate for the loopback address, made for this test.
fn files(folder: &Path) -> Files {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate_file, made.cert.pem()).expect("a file");
    std::fs::write(&key_file, made.signing_key.serialize_pem()).expect("a file");
    Files {
        certificate: made.cert.pem(),
        config: format!("[tls]\ncertificate_file = {certificate_file:?}\nkey_file = {key_file:?}\n"),
    }
}

fn client_that_trusts(certificate: &str) -> Client {
    let certificate = Certificate::from_pem(certificate.as_bytes()).expect("a certificate");
    Client::builder()
        .tls_certs_only([certificate])
        .no_proxy()
        .build()
        .expect("a client")
}

#[tokio::test]
async fn the_server_speaks_https_with_its_certificate_and_names_itself_so() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let server = Start::over(&folder.path().join("data"))
        .with_config(&files.config)
        .start();
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let http = client_that_trusts(&files.certificate);
    let (client_id, client_secret) = server.administrator();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &client_id),
        ("client_secret", &client_secret),
    ];
    for _ in 0..3 {
        let request = http.post(format!("{}/connect/token", server.url)).form(&form);
        let answer = Answer::of(request.send().await.expect("an answer over TLS")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let claims = claims(answer.json()["access_token"].as_str().unwrap());
        assert_eq!(claims["iss"], server.url);
    }
    let metadata = http.get(format!("{}/.well-known/oauth-authorization-server", server.url));
    let metadata = Answer::of(metadata.send().await.unwrap()).await.json();
    assert_eq!(metadata["token_endpoint"], format!("{}/connect/token", server.url));

    let distrusting = crate::scene::client()
        .get(format!("{}/health/live", server.url))
        .send()
        .await;
    assert!(
        distrusting.is_err(),
        "a client that does not know the certificate refuses it"
    );
    let plain = http.get(server.url.replace("https", "http")).send().await;
    assert!(
        plain.is_err() || !plain.unwrap().status().is_success(),
        "nothing is served in the clear"
    );
    let log_size = crate::scene::read_log(&folder, 0).await.len();
    assert!(log_size > 5);
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_certificate_is_told_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let another = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.path().join("key.pem"), another.signing_key.serialize_pem()).unwrap();
    let start = Start::over(&folder.path().join("data")).with_config(&files.config);
    let Err((status, stderr)) = start.try_start() else {
        panic!("started with a key that does not fit");
    };
    assert!(!status.success());
    assert!(
        stderr.contains("tls: ") && stderr.contains("certificate.pem"),
        "{stderr}"
    );
    std::fs::write(folder.path().join("key.pem"), "no key").unwrap();
    let start = Start::over(&folder.path().join("data")).with_config(&files.config);
    let Err((_, stderr)) = start.try_start() else {
        panic!("started without a key");
    };
    assert!(stderr.contains("tls: ") && stderr.contains("key.pem"), "{stderr}");
}
