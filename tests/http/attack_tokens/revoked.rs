//! Tokens that were good until somebody revoked them: refused by every server that has read so, however it came into
//! the log.

use super::forge::Json;
use crate::scene::{Answer, Application, Scene, append_to_log, claims};
use grantlog_projections::Event;
use grantlog_projections::event::{ApplicationDisabled, SecretRevoked, TokenRevoked, TokensRevoked};
use grantlog_projections::values::{ApplicationId, ApplicationUri, SecretId, StreamName, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// The port is another after each start.
const CONFIG: &str = "[server]\nissuer = \"https://id.example.com\"";

struct Stage {
    scene: Scene,
}

impl Stage {
    async fn set() -> Self {
        Self {
            scene: Scene::with_config(CONFIG).await,
        }
    }

    async fn application(&self, name: &str) -> Application {
        self.scene.register(name, json!({"scope": "applications:read"})).await
    }

    /// Whether the token opens; if not, why, as the log has it.
    async fn opens(&self, token: &str) -> Result<(), String> {
        let before = self.scene.log_size().await;
        let request = self.scene.with_token(token, Method::GET, "/admin/applications");
        let answer = Answer::of(request.send().await.unwrap()).await;
        let log = self.scene.log_from(before).await;
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!(log[0].data()["jti"], claims(token)["jti"], "its signature names it");
        Err(log[0].data()["reason"].as_str().unwrap().to_owned())
    }

    /// Stops, adds these facts to the log, and starts again.
    async fn with_facts(self, facts: Vec<(StreamName, Event)>) -> Self {
        let folder = self.scene.stop();
        append_to_log(&folder, facts).await;
        Self {
            scene: Scene::in_folder(folder, CONFIG).await,
        }
    }
}

fn whose(application: &Application) -> (ApplicationId, ApplicationUri) {
    let uri = ApplicationUri::parse(&application.client_id).unwrap();
    (ApplicationId::of(&uri), uri)
}

fn of_tokens(application: &Application, event: impl Into<Event>) -> (StreamName, Event) {
    (StreamName::tokens(whose(application).0), event.into())
}

fn of_application(application: &Application, event: impl Into<Event>) -> (StreamName, Event) {
    (StreamName::application(whose(application).0), event.into())
}

fn revoked(application: &Application, token: &str) -> TokenRevoked {
    let (application_id, application_uri) = whose(application);
    let claims: Json = claims(token);
    TokenRevoked {
        jti: claims["jti"].as_str().unwrap().parse().unwrap(),
        application_id,
        application_uri,
        expires_at: Timestamp::from_unix_micros(claims["exp"].as_i64().unwrap() * 1_000_000),
        reason: None,
    }
}

const REVOKED: Result<(), &str> = Err("token_revoked");

fn outcome(opened: &Result<(), String>) -> Result<(), &str> {
    opened.as_ref().copied().map_err(String::as_str)
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_and_its_application_gets_others() {
    let stage = Stage::set().await;
    let application = stage.application("one-token").await;
    let revoked_token = stage.scene.token(&application, &[]).await;
    let other = stage.scene.token(&application, &[]).await;
    assert_eq!(stage.opens(&revoked_token).await, Ok(()));
    let fact = of_tokens(&application, revoked(&application, &revoked_token));
    let stage = stage.with_facts(vec![fact]).await;
    assert_eq!(outcome(&stage.opens(&revoked_token).await), REVOKED);
    assert_eq!(stage.opens(&other).await, Ok(()));
    assert_eq!(stage.opens(&stage.scene.token(&application, &[]).await).await, Ok(()));
    // From a checkpoint, too.
    let stage = stage.with_facts(Vec::new()).await;
    assert_eq!(outcome(&stage.opens(&revoked_token).await), REVOKED);
}

#[tokio::test]
async fn all_tokens_of_an_application_open_nothing_and_those_after_them_do() {
    let stage = Stage::set().await;
    let (application, spared) = (stage.application("all-tokens").await, stage.application("spared").await);
    let before = [
        stage.scene.token(&application, &[]).await,
        stage.scene.token(&application, &[]).await,
    ];
    let of_another = stage.scene.token(&spared, &[]).await;
    let (application_id, application_uri) = whose(&application);
    let fact = TokensRevoked {
        application_id,
        application_uri,
        issued_until: grantlog::service::now(),
        reason: None,
    };
    let stage = stage.with_facts(vec![of_tokens(&application, fact)]).await;
    for token in &before {
        assert_eq!(outcome(&stage.opens(token).await), REVOKED);
    }
    assert_eq!(stage.opens(&of_another).await, Ok(()));
    assert_eq!(stage.opens(&stage.scene.token(&application, &[]).await).await, Ok(()));
}

#[tokio::test]
async fn an_application_that_is_disabled_with_its_tokens_has_none_of_them_back() {
    let stage = Stage::set().await;
    let application = stage.application("disabled").await;
    let token = stage.scene.token(&application, &[]).await;
    let (application_id, application_uri) = whose(&application);
    let fact = ApplicationDisabled {
        application_id,
        application_uri,
        reason: None,
        revoke_tokens: true,
    };
    let stage = stage.with_facts(vec![of_application(&application, fact)]).await;
    assert_eq!(outcome(&stage.opens(&token).await), REVOKED);
    let path = format!("{}/enable", application.path());
    assert_eq!(
        stage.scene.administer(Method::POST, &path, json!({})).await.0,
        StatusCode::OK
    );
    assert_eq!(outcome(&stage.opens(&token).await), REVOKED);
    assert_eq!(stage.opens(&stage.scene.token(&application, &[]).await).await, Ok(()));
}

#[tokio::test]
async fn a_secret_that_is_revoked_with_its_tokens_takes_those_and_no_others() {
    let stage = Stage::set().await;
    let application = stage.application("two-secrets").await;
    let of_the_first = stage.scene.token(&application, &[]).await;
    let path = format!("{}/secrets", application.path());
    let (status, rotated) = stage
        .scene
        .administer(Method::POST, &path, json!({"overlap_seconds": 600}))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{rotated}");
    let second = Application {
        client_secret: rotated["client_secret"].as_str().unwrap().to_owned(),
        ..application.clone()
    };
    let of_the_second = stage.scene.token(&second, &[]).await;
    let (application_id, application_uri) = whose(&application);
    let fact = SecretRevoked {
        application_id,
        application_uri,
        secret_id: SecretId(application.secret_id.parse().unwrap()),
        reason: None,
        revoke_tokens: true,
    };
    let stage = stage.with_facts(vec![of_application(&application, fact)]).await;
    assert_eq!(outcome(&stage.opens(&of_the_first).await), REVOKED);
    assert_eq!(
        stage.opens(&of_the_second).await,
        Ok(()),
        "it was asked for with the other secret"
    );
    // Once more: what was found out is remembered rightly.
    assert_eq!(outcome(&stage.opens(&of_the_first).await), REVOKED);
    assert_eq!(stage.opens(&of_the_second).await, Ok(()));
}
