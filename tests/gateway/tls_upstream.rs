//! An upstream that speaks TLS is one that the route's authorities vouch for, or it gets nothing.

use crate::behind::{Behind, READ_AND_UPDATE, route};
use crate::scene::Answer;
use crate::upstream::{OK, Upstream};
use reqwest::Method;
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An upstream at `https://localhost:<port>`, how many requests it has had, and the file with its certificate.
async fn secure_upstream(folder: &TempDir) -> (String, Arc<AtomicUsize>, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let file = folder.path().join("upstream.pem");
    std::fs::write(&file, made.cert.pem()).expect("a file");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.ok()?);
                }
                counted.fetch_add(1, Ordering::Relaxed);
                stream.write_all(OK.as_bytes()).await.ok()?;
                stream.shutdown().await.ok()
            });
        }
    });
    (format!("https://localhost:{port}"), requests, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_is_trusted_by_the_routes_own_authorities_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, requests, certificate) = secure_upstream(&folder).await;
    let other = folder.path().join("other.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&other, made.cert.pem()).expect("a file");
    for (ca_file, status) in [(&certificate, 200), (&other, 502)] {
        let config = route(&url, &format!("ca_file = {ca_file:?}"), READ_AND_UPDATE);
        let behind = Behind::with_config(Upstream::answering(OK).await, &config).await;
        let answer = Answer::of(behind.call(Method::GET, "/api/a").send().await.expect("an answer")).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        if status == 502 {
            assert_eq!(answer.json()["type"], "urn:grantlog:problem:upstream_unreachable");
        }
    }
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}
