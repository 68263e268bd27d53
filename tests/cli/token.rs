use crate::fake_server::{BASIC, CLIENT_ID, CLIENT_SECRET, FakeServer};
use crate::terminal::Terminal;
use serde_json::{Value, json};

/// {"alg":"ES256","typ":"at+jwt"} . {"aud":["a"],"exp":1773655872,"sub":"x\u001b[31m"} . sig
const JWT: &str =
    "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJhdWQiOlsiYSJdLCJleHAiOjE3NzM2NTU4NzIsInN1YiI6InhcdTAwMWJbMzFtIn0.c2ln";

fn answer() -> Value {
    json!({ "access_token": JWT, "expires_in": 3600, "token_type": "Bearer", "scope": "read update" })
}

#[test]
fn the_token_stands_alone_on_stdout() {
    let server = FakeServer::start();
    server.on("POST", "/connect/token", 200, answer());
    let out = Terminal::of(&server).succeeds(&["token", "request"]);
    assert_eq!(out, format!("{JWT}\n"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "no metadata is needed: {seen:?}");
    assert_eq!(seen[0].authorization.as_deref(), Some(BASIC));
    assert_eq!(
        seen[0].content_type.as_deref(),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(seen[0].body, "grant_type=client_credentials");
    assert!(seen[0].user_agent.as_deref().unwrap().starts_with("grantlog/"));
}

#[test]
fn a_person_is_told_scope_and_lifetime_on_stderr() {
    for terminal in [Terminal::err_is_terminal as fn(Terminal) -> Terminal, |terminal| {
        terminal
    }] {
        let server = FakeServer::start();
        server.on("POST", "/connect/token", 200, answer());
        let ended = terminal(Terminal::of(&server)).run(&["token", "request", "--verbose"]);
        assert_eq!(ended.out, format!("{JWT}\n"));
        assert_eq!(
            ended.err,
            "token for grantlog.admin, valid for 3600 s, scope: read update\n"
        );
    }
}

#[test]
fn scope_audiences_and_resources_are_passed_on() {
    let server = FakeServer::start();
    server.on("POST", "/connect/token", 200, answer());
    Terminal::of(&server).succeeds(&[
        "token",
        "request",
        "--scope",
        "read update",
        "--scope",
        "x",
        "--audience",
        "a",
        "--audience",
        "b",
        "--resource",
        "https://c",
        "--resource",
        "https://d",
        "--post",
    ]);
    let seen = server.seen();
    assert_eq!(seen[0].authorization, None);
    let secret: String = url::form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect();
    assert_eq!(
        seen[0].body,
        format!(
            "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={secret}&scope=read+update+x\
             &audience=a+b&resource=https%3A%2F%2Fc&resource=https%3A%2F%2Fd"
        )
    );
}

#[test]
fn the_audience_dialect_has_its_own_path_and_needs_an_audience() {
    let server = FakeServer::start();
    server.on("POST", "/oauth2/token", 200, answer());
    Terminal::of(&server).succeeds(&["token", "request", "--dialect", "audience", "--audience", "a"]);
    assert_eq!(server.seen()[0].body, "grant_type=client_credentials&audience=a");
    Terminal::of(&server).fails(2, &["token", "request", "--dialect", "audience"]);
}

#[test]
fn the_json_dialect_is_json_both_ways() {
    let server = FakeServer::start();
    let enveloped = json!({ "isSuccess": true,
        "data": { "accessToken": JWT, "tokenType": "Bearer", "expiresIn": 60, "scope": "read" } });
    server
        .on("POST", "/token", 200, enveloped.clone())
        .on("POST", "/token", 200, enveloped.clone());
    let request = [
        "token",
        "request",
        "--dialect",
        "json",
        "--scope",
        "read",
        "--audience",
        "a",
        "-v",
    ];
    let ended = Terminal::of(&server).run(&request);
    assert_eq!(ended.out, format!("{JWT}\n"));
    assert!(ended.err.contains("valid for 60 s, scope: read"), "{}", ended.err);
    let out = Terminal::of(&server).succeeds(&["token", "request", "--dialect", "json", "--basic", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), enveloped);
    let seen = server.seen();
    assert_eq!(seen[0].authorization, None);
    assert_eq!(
        seen[0].json(),
        json!({ "grantType": "client_credentials", "clientId": CLIENT_ID,
        "clientSecret": CLIENT_SECRET, "scope": "read", "audience": "a" })
    );
    assert_eq!(seen[1].authorization.as_deref(), Some(BASIC));
    assert_eq!(seen[1].json(), json!({ "grantType": "client_credentials" }));
    // It would be ignored there, and the token would be for more than was asked.
    Terminal::of(&server).fails(2, &["token", "request", "--dialect", "json", "--resource", "a"]);
}

#[test]
fn refusals_of_every_dialect_say_code_and_description() {
    let server = FakeServer::start();
    let flat = json!({ "error": "invalid_scope", "error_description": "Invalid scope: admin" });
    let enveloped =
        json!({ "isSuccess": false, "error": { "code": "invalid_scope", "message": "Invalid scope: admin" } });
    let bare = json!({ "error": "temporarily_unavailable" });
    server
        .on("POST", "/connect/token", 400, flat)
        .on("POST", "/token", 400, enveloped)
        .on("POST", "/connect/token", 503, bare);
    let terminal = Terminal::of(&server);
    let expected = "error: no token for grantlog.admin: invalid_scope: Invalid scope: admin\n";
    assert_eq!(terminal.fails(1, &["token", "request"]), expected);
    assert_eq!(terminal.fails(1, &["token", "request", "--dialect", "json"]), expected);
    assert_eq!(
        terminal.fails(1, &["token", "request"]),
        "error: no token for grantlog.admin: temporarily_unavailable\n"
    );
}

#[test]
fn decode_shows_what_the_token_says_and_that_nobody_checked_it() {
    let server = FakeServer::start();
    server
        .on("POST", "/connect/token", 200, answer())
        .on("POST", "/connect/token", 200, answer());
    let out = Terminal::of(&server).succeeds(&["token", "request", "--decode"]);
    assert!(!out.contains(JWT));
    assert!(out.starts_with("The signature is NOT verified"), "{out}");
    assert!(
        out.contains("\nHeader\n  alg  ES256\n  typ  at+jwt\n\nClaims\n"),
        "{out}"
    );
    assert!(
        out.contains("\n  aud  [\"a\"]\n  exp  1773655872 (2026-03-16T10:11:12Z)\n  sub  x\\u{1b}[31m\n"),
        "{out}"
    );
    let out = Terminal::of(&server).succeeds(&["token", "request", "--decode", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        json!({ "verified": false,
        "header": { "alg": "ES256", "typ": "at+jwt" },
        "claims": { "aud": ["a"], "exp": 1_773_655_872, "sub": "x\u{1b}[31m" } })
    );
}

#[test]
fn an_opaque_token_has_nothing_to_decode() {
    let server = FakeServer::start();
    server.on("POST", "/connect/token", 200, json!({ "access_token": "glr_opaque" }));
    let err = Terminal::of(&server).fails(1, &["token", "request", "--decode"]);
    assert_eq!(err, "error: this token is no JWT: there is nothing to decode in it\n");
}

#[test]
fn a_secret_that_does_not_fit_in_a_line_is_an_error_and_not_cut() {
    let server = FakeServer::start();
    let terminal = Terminal::of(&server).person(&"x".repeat(5000));
    let err = terminal.fails(1, &["token", "request", "--client-id", "a", "--client-secret", "-"]);
    assert!(
        err.starts_with("error: cannot read standard input: a line of more than 4096 bytes"),
        "{err}"
    );
}

#[test]
fn a_token_that_is_no_token_reaches_no_terminal() {
    for token in ["", "a b", "\u{1b}[31m", "a\nb"] {
        let server = FakeServer::start();
        server.on("POST", "/connect/token", 200, json!({ "access_token": token }));
        let err = Terminal::of(&server).fails(1, &["token", "request"]);
        assert!(
            err.contains("answered what Grantlog would not: a token that is none"),
            "{err}"
        );
    }
}

#[test]
fn own_credentials_come_from_arguments_standard_input_and_environment() {
    let server = FakeServer::start();
    let basic = |id: &str, secret: &str| {
        use base64::Engine;
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"))
        )
    };
    let url = Terminal::default().with("GRANTLOG_URL", &server.url);
    let cases: [(Terminal, &[&str], String); 3] = [
        (url, &["--client-id", "a", "--client-secret", "s"], basic("a", "s")),
        (
            Terminal::of(&server).person("from-stdin\n"),
            &["--client-id", "a", "--client-secret", "-"],
            basic("a", "from-stdin"),
        ),
        (
            Terminal::default()
                .with("GRANTLOG_URL", &server.url)
                .with("GRANTLOG_CLIENT_SECRET", "e"),
            &["--client-id", "a"],
            basic("a", "e"),
        ),
    ];
    for (at, (terminal, arguments, expected)) in cases.into_iter().enumerate() {
        server.on("POST", "/connect/token", 200, answer());
        terminal.succeeds(&[&["token", "request"], arguments].concat());
        assert_eq!(server.seen()[at].authorization, Some(expected));
    }
}

#[test]
fn a_secret_is_never_sent_for_another_id_than_its_own() {
    let server = FakeServer::start();
    let err = Terminal::of(&server).fails(1, &["token", "request", "--client-id", "other"]);
    assert!(
        err.starts_with("error: --client-id is given, but --client-secret (or GRANTLOG_CLIENT_SECRET) is not\n"),
        "{err}"
    );
    let nobody = Terminal::default().with("GRANTLOG_URL", &server.url);
    let err = nobody.fails(1, &["token", "request", "--client-secret", "s"]);
    assert!(
        err.starts_with("error: --client-secret is given, but --client-id is not\n"),
        "{err}"
    );
    assert!(server.seen().is_empty());
}
