use crate::fake_server::{CLIENT_ID, CLIENT_SECRET, FakeServer};
use crate::terminal::Terminal;
use serde_json::json;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn profile(folder: &Path, url: &str, client_id: &str, client_secret: &str) -> PathBuf {
    let path = folder.join("admin.json");
    let text = json!({ "url": url, "client_id": client_id, "client_secret": client_secret }).to_string();
    fs::write(&path, text).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn expect_list(server: &FakeServer) {
    server.on("GET", "/admin/signing-keys", 200, json!({ "keys": [{ "kid": "k" }] }));
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/tls").join(name)
}

#[test]
fn the_profile_in_the_data_folder_is_enough() {
    let (server, folder) = (FakeServer::start(), TempDir::new().unwrap());
    profile(folder.path(), &server.url, CLIENT_ID, CLIENT_SECRET);
    expect_list(&server);
    Terminal::default().succeeds(&["key", "list", "--data-dir", folder.path().to_str().unwrap()]);
    server.seen_with_scope("keys:write");
}

#[test]
fn the_environment_wins_over_the_profile_in_the_data_folder() {
    let (server, folder) = (FakeServer::start(), TempDir::new().unwrap());
    profile(folder.path(), "http://127.0.0.1:1", "other", "wrong");
    expect_list(&server);
    Terminal::of(&server).succeeds(&["key", "list", "--data-dir", folder.path().to_str().unwrap()]);
    server.seen_with_scope("keys:write");
}

#[test]
fn a_named_profile_wins_over_the_environment() {
    let (server, folder) = (FakeServer::start(), TempDir::new().unwrap());
    let path = profile(folder.path(), &server.url, CLIENT_ID, CLIENT_SECRET);
    expect_list(&server);
    Terminal::default()
        .with("GRANTLOG_URL", "http://127.0.0.1:1")
        .with("GRANTLOG_CLIENT_ID", "other")
        .with("GRANTLOG_CLIENT_SECRET", "wrong")
        .succeeds(&["key", "list", "--profile", path.to_str().unwrap()]);
    server.seen_with_scope("keys:write");
}

#[test]
fn a_url_alone_goes_with_the_credentials_of_the_profile() {
    for by_flag in [true, false] {
        let (server, folder) = (FakeServer::start(), TempDir::new().unwrap());
        profile(folder.path(), "http://127.0.0.1:1", CLIENT_ID, CLIENT_SECRET);
        expect_list(&server);
        let arguments = ["key", "list", "--data-dir", folder.path().to_str().unwrap()];
        if by_flag {
            let terminal = Terminal::default().with("GRANTLOG_URL", "http://127.0.0.1:2");
            terminal.succeeds(&[&arguments[..], &["--url", &server.url]].concat());
        } else {
            Terminal::default()
                .with("GRANTLOG_URL", &server.url)
                .succeeds(&arguments);
        }
        server.seen_with_scope("keys:write");
    }
}

#[test]
fn credentials_of_the_environment_alone_go_with_the_url_of_the_profile() {
    let (server, folder) = (FakeServer::start(), TempDir::new().unwrap());
    profile(folder.path(), &server.url, "other", "wrong");
    expect_list(&server);
    Terminal::default()
        .with("GRANTLOG_CLIENT_ID", CLIENT_ID)
        .with("GRANTLOG_CLIENT_SECRET", CLIENT_SECRET)
        .succeeds(&["key", "list", "--data-dir", folder.path().to_str().unwrap()]);
    server.seen_with_scope("keys:write");
}

#[test]
fn half_of_the_credentials_is_an_error_and_not_filled_up_from_elsewhere() {
    let folder = TempDir::new().unwrap();
    profile(folder.path(), "http://127.0.0.1:1", CLIENT_ID, CLIENT_SECRET);
    let arguments = ["key", "list", "--data-dir", folder.path().to_str().unwrap()];
    let err = Terminal::default().with("GRANTLOG_CLIENT_ID", "a").fails(1, &arguments);
    assert!(
        err.starts_with("error: GRANTLOG_CLIENT_ID is given, but GRANTLOG_CLIENT_SECRET is not\nhint: "),
        "{err}"
    );
    let err = Terminal::default()
        .with("GRANTLOG_CLIENT_SECRET", "a")
        .fails(1, &arguments);
    assert!(
        err.starts_with("error: GRANTLOG_CLIENT_SECRET is given, but GRANTLOG_CLIENT_ID is not\n"),
        "{err}"
    );
}

#[test]
fn without_a_profile_the_error_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().to_str().unwrap();
    let arguments = ["key", "list", "--data-dir", folder];
    let err = Terminal::default().fails(1, &arguments);
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "error: there are no credentials: {folder}/admin.json does not exist, and GRANTLOG_CLIENT_ID is not set"
        )
    );
    assert!(lines[1].starts_with("hint: ") && lines[1].contains("grantlog serve") && lines[1].contains("GRANTLOG_URL"));
    let err = Terminal::default()
        .with("GRANTLOG_CLIENT_ID", "a")
        .with("GRANTLOG_CLIENT_SECRET", "b")
        .fails(1, &arguments);
    assert!(err.starts_with("error: there is no URL: "), "{err}");
}

#[test]
fn a_broken_profile_is_named_and_its_secret_is_not() {
    let folder = TempDir::new().unwrap();
    let path = profile(folder.path(), "x", "a", "b");
    fs::write(
        &path,
        format!("{{\"client_secret\": \"{CLIENT_SECRET}\", \"client_id\": 7}}"),
    )
    .unwrap();
    let err = Terminal::default().fails(1, &["key", "list", "--profile", path.to_str().unwrap()]);
    assert!(
        err.starts_with(&format!("error: {} is not a profile", path.display())),
        "{err}"
    );
    let err = Terminal::default().fails(1, &["key", "list", "--profile", "/nowhere/profile.json"]);
    assert!(
        err.starts_with("error: cannot read /nowhere/profile.json: No such file"),
        "{err}"
    );
}

#[cfg(unix)]
#[test]
fn a_profile_that_others_may_read_is_a_warning() {
    let (server, folder) = (FakeServer::start(), TempDir::new().unwrap());
    let path = profile(folder.path(), &server.url, CLIENT_ID, CLIENT_SECRET);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    expect_list(&server);
    let ended = Terminal::default().run(&["key", "list", "--profile", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0);
    assert!(
        ended
            .err
            .starts_with("warning: others on this machine may read the secret in "),
        "{}",
        ended.err
    );
}

#[test]
fn a_server_below_a_path_is_called_there() {
    for slash in ["", "/"] {
        let server = FakeServer::start_below("/id", None);
        expect_list(&server);
        Terminal::of(&server)
            .with("GRANTLOG_URL", &format!("{}{slash}", server.url))
            .succeeds(&["key", "list"]);
        assert_eq!(server.seen_with_scope("keys:write")[0].target, "/id/admin/signing-keys");
        assert_eq!(server.seen()[1].target, "/id/connect/token");
    }
}

#[test]
fn a_server_that_does_not_run_is_an_error_with_its_url() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let server = FakeServer::start();
    let err = Terminal::of(&server).fails(1, &["key", "list", "--url", &url]);
    assert_eq!(
        err,
        format!(
            "error: cannot reach {url}: Connection refused\nhint: is the server running at {url}? --url or \
             GRANTLOG_URL names another one\n"
        )
    );
}

#[test]
fn a_connection_that_breaks_off_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.read(&mut [0; 16]);
    });
    let server = FakeServer::start();
    let err = Terminal::of(&server).fails(1, &["key", "list", "--url", &url]);
    thread.join().unwrap();
    assert!(err.starts_with(&format!("error: cannot reach {url}: ")), "{err}");
}

#[test]
fn a_url_that_is_none_is_refused() {
    let server = FakeServer::start();
    for url in ["localhost:8080", "ftp://x", "http://a:b@c", "http://x?y=1"] {
        let err = Terminal::of(&server).fails(1, &["key", "list", "--url", url]);
        assert!(err.contains("is no URL of a server") && err.contains("hint: "), "{err}");
    }
}

#[test]
fn another_server_than_grantlog_is_told_apart() {
    let cases = [
        (
            404,
            vec![],
            "<h1>nginx</h1>\u{1b}[31m",
            "404 Not Found <h1>nginx</h1>\\u{1b}[31m",
        ),
        (200, vec![], "<html>", "JSON that cannot be read"),
        (200, vec![], "{\"issuer\":\"none\"}", "an issuer that is no URL"),
        (
            301,
            vec![("Location", "https://elsewhere.example.com/".to_owned())],
            "",
            "301 Moved Permanently, to https://elsewhere.example.com/",
        ),
    ];
    for (status, headers, body, expected) in cases {
        let server = FakeServer::start();
        server.on_raw(
            "GET",
            "/.well-known/oauth-authorization-server",
            status,
            headers,
            body.into(),
        );
        let err = Terminal::of(&server).fails(1, &["key", "list"]);
        assert!(
            err.contains(expected) && err.contains("hint: does the URL name a Grantlog server"),
            "{err}"
        );
        assert_eq!(server.seen().len(), 1, "no credentials go to a stranger");
    }
}

#[test]
fn a_refused_sign_in_says_what_may_be_wrong() {
    for (error, hint) in [
        ("invalid_client", "belong to this server"),
        ("invalid_scope", "this command needs keys:write"),
        (
            "unauthorized_client",
            "needs a system user and the audience http://127.0.0.1:",
        ),
    ] {
        let server = FakeServer::start();
        server.on(
            "POST",
            "/connect/token",
            400,
            json!({ "error": error, "error_description": "No." }),
        );
        let err = Terminal::of(&server).fails(1, &["key", "list"]);
        assert!(
            err.starts_with(&format!("error: no token for grantlog.admin: {error}: No.\nhint: ")),
            "{err}"
        );
        assert!(err.contains(hint), "{err}");
    }
}

#[test]
fn a_refused_call_says_why() {
    let server = FakeServer::start();
    let problem = |status: u16, detail: &str| json!({ "title": "T", "status": status, "detail": detail });
    let mut lacking = problem(403, "the bearer token lacks the scope keys:write");
    lacking["type"] = json!("urn:grantlog:problem:insufficient_scope");
    server.on("GET", "/admin/signing-keys", 403, lacking);
    let err = Terminal::of(&server).fails(1, &["key", "list"]);
    assert!(
        err.starts_with("error: the bearer token lacks the scope keys:write\nhint: "),
        "{err}"
    );
    // What else is refused no scope would help.
    server.on("GET", "/admin/signing-keys", 403, problem(403, "not today"));
    let err = Terminal::of(&server).fails(1, &["key", "list"]);
    assert_eq!(err, "error: not today\n");
    let beyond = json!({
        "type": "urn:grantlog:problem:beyond_caller", "title": "Forbidden", "status": 403,
        "detail": "this concerns the scope audit:hold, which your token does not have",
    });
    server.on("POST", "/admin/applications", 403, beyond);
    let err = Terminal::of(&server).fails(1, &["app", "register", "second-auditor", "--scope", "audit:hold"]);
    assert!(err.contains("hint: ") && !err.contains("must have this scope"), "{err}");
    server.on_raw(
        "GET",
        "/admin/signing-keys",
        503,
        vec![("Retry-After", "2".into())],
        problem(503, "The event log cannot take this now").to_string(),
    );
    let err = Terminal::of(&server).fails(1, &["key", "list"]);
    assert_eq!(
        err,
        "error: The event log cannot take this now\nhint: try again in 2 s\n"
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    let terminal = Terminal::default();
    for line in [
        "app",
        "app show",
        "app lists",
        "key retire",
        "audit search --limit 0",
        "audit search --order up",
        "app list --enabled x",
    ] {
        let ended = terminal.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code, 2, "{line}: {}", ended.err);
    }
}

fn tls() -> rustls::ServerConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

#[test]
fn a_certificate_of_an_own_authority_is_trusted_when_that_is_named() {
    let server = FakeServer::start_below("", Some(tls()));
    let ca = fixture("ca.pem");
    expect_list(&server);
    Terminal::of(&server).succeeds(&["key", "list", "--ca-file", ca.to_str().unwrap()]);
    expect_list(&server);
    Terminal::of(&server)
        .with("GRANTLOG_CA_FILE", ca.to_str().unwrap())
        .succeeds(&["key", "list"]);
    server.seen();
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent() {
    let server = FakeServer::start_below("", Some(tls()));
    // Another authority than the server's: its own certificate is none.
    let other = fixture("other-ca.pem");
    let err = Terminal::of(&server).fails(1, &["key", "list", "--ca-file", other.to_str().unwrap()]);
    assert!(
        err.starts_with(&format!(
            "error: cannot reach {}: invalid peer certificate: UnknownIssuer\n",
            server.url
        )),
        "{err}"
    );
    assert!(err.contains("--ca-file"), "{err}");
    assert!(server.seen().is_empty());
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    let server = FakeServer::start();
    let key = fixture("server.key");
    let err = Terminal::of(&server).fails(1, &["key", "list", "--ca-file", key.to_str().unwrap()]);
    assert!(err.contains("is not a PEM file of certificates"), "{err}");
}
