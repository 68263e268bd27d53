//! Reference tokens at the door: in `X-Api-Key` or as bearer, and gone as soon as they are revoked. Their facts are
//! put into the log here, between two runs of the server.

use crate::running_server::{RunningServer, Start};
use crate::scene::{Answer, Scene, client, read_log};
use grantlog::credentials::reference_token::ReferenceTokenText;
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, EventStore, ExpectedRevision, codec};
use grantlog::service;
use grantlog_projections::Event;
use grantlog_projections::event::{ReferenceTokenIssued, ReferenceTokenRevoked};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, Remark, Scope, StreamName};
use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

/// Appends a fact. No server may be running.
async fn append(folder: &TempDir, application_id: ApplicationId, event: impl Into<Event>) {
    let stream = StreamName::application(application_id);
    let envelope = Envelope {
        id: Uuid::now_v7(),
        stream: stream.clone(),
        time: service::now(),
        actor: Actor::System,
        source: None,
        trace_id: None,
        event: event.into(),
    };
    let log = SqliteEventStore::open(SqliteOptions::new(folder.path().join("data/events.db"))).expect("the log opens");
    let append = Append {
        stream: stream.as_str().to_owned(),
        expected: ExpectedRevision::Any,
        events: vec![codec::encode(&envelope).expect("a small event")],
    };
    log.append_to_stream(append).await.expect("a healthy disk");
    log.close().await;
}

fn start(folder: &TempDir) -> RunningServer {
    Start::over(&folder.path().join("data")).start()
}

#[tokio::test]
async fn a_reference_token_opens_in_both_places_until_it_is_revoked() {
    let scene = Scene::with_config("[server]\nissuer = \"http://grantlog.test\"").await;
    let registered = json!({"org_code": "ACME", "reference_tokens": "AdministratorsOnly"});
    scene.register("keeps-a-key", registered).await;
    let folder = scene.stop();

    let application_uri = ApplicationUri::parse("keeps-a-key").unwrap();
    let application_id = ApplicationId::of(&application_uri);
    let token = ReferenceTokenText::generate().unwrap();
    let token_id = Uuid::now_v7();
    let issued = ReferenceTokenIssued {
        token_id,
        application_id,
        application_uri: application_uri.clone(),
        hash: token.hash(),
        hint: token.hint(),
        scope: Scope::parse("read").unwrap(),
        audiences: Vec::new(),
        expires_at: service::now().plus_seconds(3_600),
        description: Remark::parse("for a test").unwrap(),
    };
    append(&folder, application_id, issued).await;

    let server = start(&folder);
    let ask = async |url: &str, header: &str, value: &str| {
        let request = client()
            .get(format!("{url}/verify?scope=read&org_code=ACME"))
            .header(header, value);
        Answer::of(request.send().await.expect("an answer")).await
    };
    let bearer = format!("Bearer {}", token.expose());
    let jwt_like = "a.b.c";
    for (header, value) in [("x-api-key", token.expose()), ("authorization", &bearer)] {
        let answer = ask(&server.url, header, value).await;
        assert_eq!(answer.status, StatusCode::OK, "{header}: {}", answer.body);
        assert_eq!(answer.header("x-client-id"), Some("keeps-a-key"));
        assert_eq!(answer.header("x-token-id"), Some(token_id.to_string().as_str()));
        assert_eq!(answer.header("x-scope"), Some("read"));
        assert_eq!(answer.header("x-org-code"), Some("ACME"));
    }
    assert_eq!(
        ask(&server.url, "x-api-key", jwt_like).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(server.stop().code(), Some(0));

    let revoked = ReferenceTokenRevoked {
        token_id,
        application_id,
        application_uri,
        reason: None,
    };
    append(&folder, application_id, revoked).await;
    let server = start(&folder);
    let answer = ask(&server.url, "x-api-key", token.expose()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("www-authenticate").unwrap().contains("it was revoked"));
    let log = read_log(&folder, 0).await;
    let last = log.last().unwrap();
    assert_eq!(
        (last.kind(), &last.data()["reason"]),
        ("ApiCallDenied", &json!("token_revoked"))
    );
    assert_eq!(last.data()["token_kind"], "reference");
    assert!(
        !log.iter()
            .any(|logged| logged.event.to_string().contains(token.expose()))
    );
}
