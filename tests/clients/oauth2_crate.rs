//! The `oauth2` crate.

use crate::running_server::{Administrator, RunningServer, Start, request_token};
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicRequestTokenError, BasicTokenResponse, BasicTokenType};
use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, RequestTokenError,
    ResourceOwnerPassword, ResourceOwnerUsername, Scope, TokenResponse, TokenUrl,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fmt::Display;
use std::time::Duration;

type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;
type Answer = Result<BasicTokenResponse, BasicRequestTokenError<reqwest::Error>>;

const METHODS: [AuthType; 2] = [AuthType::BasicAuth, AuthType::RequestBody];

#[actix_web::test]
async fn a_token_is_granted() {
    let scene = Scene::set().await;
    let made = scene.register("granted", json!({})).await;
    for method in METHODS {
        let client = scene.client("/connect/token", &made, method);
        let request = client
            .exchange_client_credentials()
            .add_scopes(["read", "update"].map(|token| Scope::new(token.into())));
        let token = request.request_async(&send).await.expect("a token");
        assert_eq!(token.token_type(), &BasicTokenType::Bearer);
        assert_eq!(token.expires_in(), Some(Duration::from_secs(3_600)));
        let scopes: Vec<&str> = token
            .scopes()
            .expect("a scope")
            .iter()
            .map(|scope| scope.as_str())
            .collect();
        assert_eq!(scopes, ["read", "update"]);
        assert!(token.refresh_token().is_none());
        assert_eq!(token.access_token().secret().matches('.').count(), 2);
    }
}

#[actix_web::test]
async fn a_token_for_an_audience_is_granted() {
    let scene = Scene::set().await;
    let audience = "https://api.example";
    let (status, _) = scene
        .administrator
        .post("/admin/apis", &json!({"audience": audience}))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let made = scene.register("audience", json!({"audiences": [audience]})).await;
    for method in METHODS {
        let client = scene.client("/oauth2/token", &made, method);
        let request = client
            .exchange_client_credentials()
            .add_extra_param("audience", audience);
        request.request_async(&send).await.expect("a token");
    }
}

#[actix_web::test]
async fn every_refusal_is_understood() {
    use BasicErrorResponseType::{
        Extension, InvalidClient, InvalidGrant, InvalidRequest, InvalidScope, UnauthorizedClient, UnsupportedGrantType,
    };
    let scene = Scene::set().await;
    for (number, method) in METHODS.into_iter().enumerate() {
        let register = |name: &str, attributes| scene.register(format!("{name}-{number}"), attributes);
        let refused = |error: Answer| scene.refused(error);

        let known = register("known", json!({})).await;
        let right = scene.client("/connect/token", &known, method.clone());
        let wrong = with_secret(&known, "wrong");
        let wrong = scene.client("/connect/token", &wrong, method.clone());
        let answer = wrong.exchange_client_credentials().request_async(&send).await;
        assert_eq!(
            refused(answer),
            (InvalidClient, "Invalid client_id or client_secret".into())
        );

        let empty = with_secret(&known, "");
        let answer = scene
            .client("/connect/token", &empty, method.clone())
            .exchange_client_credentials()
            .request_async(&send)
            .await;
        assert_eq!(
            refused(answer),
            (InvalidGrant, "Client credentials are invalid or missing".into())
        );

        let disabled = register("disabled", json!({"is_enabled": false})).await;
        let answer = scene
            .client("/connect/token", &disabled, method.clone())
            .exchange_client_credentials()
            .request_async(&send)
            .await;
        assert_eq!(
            refused(answer),
            (InvalidClient, "Invalid client_id or client_secret".into())
        );

        let answer = right
            .exchange_client_credentials()
            .add_scope(Scope::new("admin".into()))
            .request_async(&send)
            .await;
        assert_eq!(refused(answer), (InvalidScope, "Invalid scope: admin".into()));

        let not_authorized = "The client is not authorized for the audience: https://other.example";
        for (parameter, error) in [
            ("audience", UnauthorizedClient),
            ("resource", Extension("invalid_target".into())),
        ] {
            let answer = right
                .exchange_client_credentials()
                .add_extra_param(parameter, "https://other.example")
                .request_async(&send)
                .await;
            assert_eq!(refused(answer), (error, not_authorized.into()));
        }

        let userless = register("userless", json!({"system_user": null})).await;
        let answer = scene
            .client("/connect/token", &userless, method.clone())
            .exchange_client_credentials()
            .request_async(&send)
            .await;
        let description = "The client is not authorized to use this grant type";
        assert_eq!(refused(answer), (UnauthorizedClient, description.into()));

        let answer = scene
            .client("/oauth2/token", &known, method.clone())
            .exchange_client_credentials()
            .request_async(&send)
            .await;
        assert_eq!(refused(answer), (InvalidRequest, "Missing audience".into()));

        let (name, password) = (
            ResourceOwnerUsername::new("name".into()),
            ResourceOwnerPassword::new("password".into()),
        );
        let answer = right.exchange_password(&name, &password).request_async(&send).await;
        assert_eq!(
            refused(answer),
            (UnsupportedGrantType, "Unsupported grant type: password".into())
        );

        let guessed = register("guessed", json!({})).await;
        let client_id = guessed["client_id"].as_str().expect("a client_id");
        for _ in 0..FAILURES_BEFORE_SLOW_DOWN {
            let (status, _) = request_token(&reqwest::Client::new(), &scene.server.url, client_id, "wrong", &[]).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
        let answer = scene
            .client("/connect/token", &with_secret(&guessed, "wrong"), method)
            .exchange_client_credentials()
            .request_async(&send)
            .await;
        assert_eq!(
            refused(answer),
            (Extension("slow_down".into()), "Too many failed requests".into())
        );
    }
}

/// `lockout.max_failures`.
const FAILURES_BEFORE_SLOW_DOWN: usize = 20;

struct Scene {
    server: RunningServer,
    administrator: Administrator,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Start::over(&folder.path().join("data")).start();
        let administrator = Administrator::of(&server).await;
        Self {
            server,
            administrator,
            _folder: folder,
        }
    }

    async fn register(&self, name: impl Display, attributes: Value) -> Value {
        let mut body = json!({
            "application_uri": format!("clients.test/{name}"),
            "system_user": "svc.integration",
            "scope": "read update",
        });
        for (attribute, value) in attributes.as_object().expect("an object") {
            body[attribute] = value.clone();
        }
        self.administrator.register(body).await
    }

    fn client(&self, path: &str, made: &Value, method: AuthType) -> Client {
        let text = |name: &str| made[name].as_str().expect(name).to_owned();
        BasicClient::new(ClientId::new(text("client_id")))
            .set_client_secret(ClientSecret::new(text("client_secret")))
            .set_auth_type(method)
            .set_token_uri(TokenUrl::new(format!("{}{path}", self.server.url)).expect("a URL"))
    }

    fn refused(&self, answer: Answer) -> (BasicErrorResponseType, String) {
        match answer {
            Err(RequestTokenError::ServerResponse(error)) => (
                error.error().clone(),
                error.error_description().cloned().unwrap_or_default(),
            ),
            Err(error) => panic!("this is no refusal that the crate understands: {error:?}"),
            Ok(_) => panic!("a token was granted"),
        }
    }
}

fn with_secret(made: &Value, secret: &str) -> Value {
    json!({"client_id": made["client_id"], "client_secret": secret})
}

/// The crate brings an older reqwest of its own, or takes whatever sends a request.
async fn send(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let answer = reqwest::Client::new().execute(request.try_into()?).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = HttpResponse::new(answer.bytes().await?.to_vec());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
