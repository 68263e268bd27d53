//! A token request, or a question about a token, whose event is durable but not yet answered, while an administrator
//! changes its application: the moment that no client can hit on purpose, held still. The store under the service says
//! that a `TokenIssued` or an `ApiCallAuthorized` is committed only when the test lets it.

use grantlog::audit::AuditIndex;
use grantlog::audit::transparency::{Signers, Transparency, TransparencySettings};
use grantlog::audit::usage::UsageProjection;
use grantlog::credentials::sealing::MasterKey;
use grantlog::credentials::signing_key::RsaBits;
use grantlog::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use grantlog::event_store::{
    Append, AppendError, Appended, BoxFuture, Direction, EventStore, ReadError, StoredEvent, Subscription, codec,
};
use grantlog::metrics::Metrics;
use grantlog::oauth::{Dialect, OAuthError, RequestHeaders, TokenOperation, TokenRequest};
use grantlog::policy::PolicySettings;
use grantlog::policy::apis::ApiPatch;
use grantlog::policy::applications::ApplicationPatch;
use grantlog::policy::signing_keys::KeyRotation;
use grantlog::service::applications::{Registration, Switch};
use grantlog::service::checkpoint::Checkpoint;
use grantlog::service::issue_token::Issued;
use grantlog::service::keys::Keys;
use grantlog::service::live_state::{CheckpointEvery, LiveState};
use grantlog::service::record::{Circumstances, Commander};
use grantlog::service::sessions::SessionSettings;
use grantlog::service::throttle::{Throttle, ThrottleSettings};
use grantlog::service::token_operations::{ActiveToken, INTROSPECT};
use grantlog::service::trail::Trail;
use grantlog::service::{Service, ServiceSettings};
use grantlog_projections::Event;
use grantlog_projections::event::{DenialReason, RefusalReason};
use grantlog_projections::values::{
    Actor, ApplicationId, ApplicationUri, Audience, OrgCode, Remark, Scope, SecretId, SigningAlgorithm, SystemUser,
    TokenLifetime,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Everything that is not held up happens well within this.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn without_a_change_the_token_leaves_as_it_was_decided() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    scene.let_go(1);
    assert_eq!(asked.await.unwrap().unwrap().scope.as_str(), "read update");
    assert_eq!(scene.facts_since_registration().await, ["TokenIssued"]);
}

#[tokio::test]
async fn a_token_that_is_durable_but_not_answered_is_refused_once_its_application_is_disabled() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    scene.disable().await;
    scene.let_go(1);
    assert_eq!(asked.await.unwrap().err(), Some(OAuthError::InvalidClient));
    assert_eq!(
        scene.facts_since_registration().await,
        ["TokenIssued", "ApplicationDisabled", "TokenRefused"]
    );
    assert_eq!(scene.last_refusal().await, RefusalReason::Disabled);
}

#[tokio::test]
async fn it_is_refused_once_its_secret_is_revoked_or_rotated_without_overlap() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    let secret_id = scene.secret_id();
    scene
        .service
        .revoke_secret(scene.id, secret_id, false, None, None, &Commander::system(), &now())
        .await
        .unwrap();
    scene.let_go(1);
    assert_eq!(asked.await.unwrap().err(), Some(OAuthError::InvalidClient));
    assert_eq!(scene.last_refusal().await, RefusalReason::SecretRevoked);

    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    scene
        .service
        .rotate_secret(scene.id, Some(0), None, None, None, &Commander::system(), &now())
        .await
        .unwrap();
    scene.let_go(1);
    assert_eq!(asked.await.unwrap().err(), Some(OAuthError::InvalidClient));
    assert_eq!(scene.last_refusal().await, RefusalReason::SecretExpired);
}

#[tokio::test]
async fn it_is_refused_once_its_application_is_deleted() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    scene
        .service
        .delete_application(scene.id, None, None, &Commander::system(), &now())
        .await
        .unwrap();
    scene.let_go(1);
    assert_eq!(asked.await.unwrap().err(), Some(OAuthError::InvalidClient));
    assert_eq!(scene.last_refusal().await, RefusalReason::Deleted);
}

#[tokio::test]
async fn a_narrower_scope_and_another_organisation_are_in_the_token_that_leaves() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    let patch = ApplicationPatch {
        scope: Scope::parse("read").ok(),
        org_code: Some(OrgCode::parse("OTHER").ok()),
        ..ApplicationPatch::default()
    };
    scene.change(patch).await;
    scene.let_go(2);
    let issued = asked.await.unwrap().unwrap();
    assert_eq!(issued.scope.as_str(), "read");
    let claims = claims(&issued.access_token);
    assert_eq!(
        (&claims["scope"], &claims["org_code"]),
        (&"read".into(), &"OTHER".into())
    );
    let log = scene.log().await;
    let Some(Event::TokenIssued(last)) = log.last() else {
        panic!("the token's event is the last one: {log:?}");
    };
    assert_eq!(
        claims["jti"],
        last.jti.to_string(),
        "the token that left is the one that was recorded last"
    );
    assert_eq!(
        scene.facts_since_registration().await,
        ["TokenIssued", "ApplicationChanged", "TokenIssued"]
    );
}

#[tokio::test]
async fn a_change_of_what_no_token_says_keeps_nobody_waiting() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    let patch = ApplicationPatch {
        owner: Some(Remark::parse("another team").ok()),
        ..ApplicationPatch::default()
    };
    scene.change(patch).await;
    let by = Commander::system();
    scene
        .service
        .rotate_secret(scene.id, Some(60), None, None, None, &by, &now())
        .await
        .unwrap();
    scene.let_go(1);
    assert_eq!(asked.await.unwrap().unwrap().scope.as_str(), "read update");
    assert_eq!(
        scene.facts_since_registration().await,
        ["TokenIssued", "ApplicationChanged", "SecretRotated"],
        "one token is enough"
    );
}

#[tokio::test]
async fn other_properties_are_in_the_token_that_leaves() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    let patch = ApplicationPatch {
        properties: Some([("tier".to_owned(), Some("gold".to_owned()))].into()),
        ..ApplicationPatch::default()
    };
    scene.change(patch).await;
    scene.let_go(2);
    let issued = asked.await.unwrap().unwrap();
    assert_eq!(
        claims(&issued.access_token)["application_properties"]["tier"]["v"],
        "gold"
    );
}

#[tokio::test]
async fn an_application_whose_tokens_never_stop_changing_is_answered_in_the_end() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    for scope in ["read", "update", "read", "update", "read"] {
        scene.is_durable().await;
        let patch = ApplicationPatch {
            scope: Scope::parse(scope).ok(),
            ..ApplicationPatch::default()
        };
        scene.change(patch).await;
        scene.let_go(1);
    }
    let error = asked.await.unwrap().err().expect("no token");
    assert!(matches!(error, OAuthError::TemporarilyUnavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_question_about_a_token_is_answered_by_the_audiences_that_it_has_by_then() {
    let mut scene = Scene::new().await;
    let asked = scene.ask();
    scene.is_durable().await;
    scene.let_go(1);
    let token = asked.await.unwrap().unwrap().access_token;
    let elsewhere = Audience::parse("https://elsewhere.example.com").unwrap();
    let attributes = ApiPatch::default();
    scene
        .service
        .register_api(elsewhere.clone(), attributes, &Actor::System, &now())
        .await
        .unwrap();
    let secret = scene.register("resource-server", INTROSPECT).await;

    let asked = scene.ask_about(&token, &secret);
    scene.is_durable().await;
    scene.let_go(1);
    assert!(asked.await.unwrap().unwrap().is_some(), "without a change it is active");

    let asked = scene.ask_about(&token, &secret);
    scene.is_durable().await;
    let patch = ApplicationPatch {
        audiences: Some(vec![elsewhere]),
        ..ApplicationPatch::default()
    };
    scene.change(patch).await;
    scene.let_go(1);
    assert!(
        asked.await.unwrap().unwrap().is_none(),
        "it opens nothing of the caller's"
    );
    match scene.log().await.pop() {
        Some(Event::ApiCallDenied(denied)) => assert_eq!(denied.reason, DenialReason::WrongAudience),
        other => panic!("a denial, not {other:?}"),
    }
}

/// A service with one application, over a store that holds answers back.
struct Scene {
    service: Arc<Service>,
    store: Arc<dyn EventStore>,
    arrived: mpsc::UnboundedReceiver<()>,
    gate: Arc<Semaphore>,
    id: ApplicationId,
    request: TokenRequest,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let (arrivals, arrived) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let store: Arc<dyn EventStore> = Arc::new(HeldBack {
            store: SqliteEventStore::open(SqliteOptions::new(file("events.db"))).unwrap(),
            arrivals,
            gate: gate.clone(),
        });
        let master_key = Arc::new(MasterKey::generate().unwrap());
        let keys = Arc::new(Keys::new(master_key.clone()));
        let every = CheckpointEvery {
            events: 1_000,
            time: Duration::from_secs(60),
        };
        let checkpoint = Checkpoint::open(&file("projections.db")).unwrap();
        let live = LiveState::open(store.clone(), Some(checkpoint), every, keys.clone())
            .await
            .unwrap();
        let audit = AuditIndex::open(&file("audit.db"), store.clone()).await.unwrap();
        let usage = UsageProjection::open(&file("usage.db"), store.clone()).await.unwrap();
        let transparency = TransparencySettings {
            data_dir: folder.path().to_owned(),
            key_file: file("transparency.key"),
            signers: Signers::One,
            origin: None,
            default_origin: "grantlog.example.com/audit".into(),
            publish_interval: Duration::from_secs(1),
        };
        let trail = Trail {
            index: audit,
            usage,
            transparency: Transparency::open(transparency, &master_key, store.clone()).await,
        };
        let throttle = Throttle::new(ThrottleSettings {
            max_refusals_per_source: 1_000_000,
            max_failures: 100,
            window: Duration::from_secs(60),
            max_tracked: 100,
        });
        let metrics = Metrics::new(None);
        let service = Service::new(
            settings(),
            store.clone(),
            live,
            keys,
            master_key,
            Some(trail),
            throttle,
            metrics,
        );
        service.start().await.unwrap();

        let registration = Registration {
            application_uri: ApplicationUri::parse("orders-worker").unwrap(),
            attributes: ApplicationPatch {
                scope: Scope::parse("read update").ok(),
                system_user: Some(SystemUser::parse("svc.orders").ok()),
                ..ApplicationPatch::default()
            },
            is_enabled: true,
            secret_hash: None,
            secret_expires_in_seconds: None,
        };
        let made = service
            .register_application(registration, &Commander::system(), &now())
            .await
            .unwrap();
        let secret = made.secret.expect("a secret was made");
        Self {
            service: Arc::new(service),
            store,
            arrived,
            gate,
            id: made.application.id,
            request: request(secret.expose()),
            _folder: folder,
        }
    }

    /// Asks for a token, on the way.
    fn ask(&self) -> tokio::task::JoinHandle<Result<Issued, OAuthError>> {
        let (service, request) = (self.service.clone(), self.request.clone());
        tokio::spawn(async move { service.issue_token(&request, &now()).await })
    }

    /// Until a `TokenIssued`, or an `ApiCallAuthorized`, is committed whose request does not know it yet.
    async fn is_durable(&mut self) {
        tokio::time::timeout(PATIENCE, self.arrived.recv())
            .await
            .expect("a commit")
            .expect("the store is there");
    }

    fn let_go(&self, tokens: usize) {
        self.gate.add_permits(tokens);
    }

    /// Registers another application with this scope; its secret.
    async fn register(&self, uri: &str, scope: &str) -> String {
        let registration = Registration {
            application_uri: ApplicationUri::parse(uri).unwrap(),
            attributes: ApplicationPatch {
                scope: Scope::parse(scope).ok(),
                ..ApplicationPatch::default()
            },
            is_enabled: true,
            secret_hash: None,
            secret_expires_in_seconds: None,
        };
        let registered = self
            .service
            .register_application(registration, &Commander::system(), &now())
            .await;
        registered
            .unwrap()
            .secret
            .expect("a secret was made")
            .expose()
            .to_owned()
    }

    /// Asks about a token, on the way.
    fn ask_about(&self, token: &str, secret: &str) -> tokio::task::JoinHandle<Result<Option<ActiveToken>, OAuthError>> {
        let form = format!("token={token}&client_id=resource-server&client_secret={secret}");
        let headers = RequestHeaders {
            content_type: Some(b"application/x-www-form-urlencoded"),
            authorization: &[],
        };
        let operation = TokenOperation::parse(headers, form.as_bytes()).expect("a well-formed request");
        let service = self.service.clone();
        tokio::spawn(async move { service.introspect(&operation, &now()).await })
    }

    async fn disable(&self) {
        self.service
            .switch_application(
                self.id,
                Switch::Off { revoke_tokens: false },
                None,
                None,
                &Commander::system(),
                &now(),
            )
            .await
            .unwrap();
    }

    async fn change(&self, patch: ApplicationPatch) {
        self.service
            .change_application(self.id, patch, None, None, &Commander::system(), &now())
            .await
            .unwrap();
    }

    fn secret_id(&self) -> SecretId {
        self.service.application(self.id).unwrap().secrets[0].id
    }

    async fn log(&self) -> Vec<Event> {
        let stored = self.store.read_all(0, Direction::Forwards, 1_000).await.unwrap();
        stored
            .iter()
            .map(|stored| codec::decode(stored).unwrap().envelope.event)
            .collect()
    }

    async fn facts_since_registration(&self) -> Vec<&'static str> {
        let log = self.log().await;
        let registered = log
            .iter()
            .position(|event| matches!(event, Event::ApplicationRegistered(_)));
        log[registered.unwrap() + 1..].iter().map(Event::type_name).collect()
    }

    async fn last_refusal(&self) -> RefusalReason {
        match self.log().await.pop() {
            Some(Event::TokenRefused(refused)) => refused.reason,
            other => panic!("a refusal, not {other:?}"),
        }
    }
}

fn settings() -> ServiceSettings {
    let issuer = Audience::parse("https://id.example.com").unwrap();
    ServiceSettings {
        sessions: SessionSettings {
            idle: Duration::from_secs(1_200),
            absolute: Duration::from_secs(3_600),
            max_per_application: None,
        },
        retention: Default::default(),
        issuer: issuer.to_string(),
        policy: PolicySettings {
            default_audience: issuer.clone(),
            issuer,
            default_lifetime: TokenLifetime::parse(3_600).unwrap(),
            default_algorithm: SigningAlgorithm::Es256,
        },
        key_rotation: KeyRotation {
            rotate_after_seconds: 90 * 86_400,
            announce_ahead_seconds: 14 * 86_400,
            default_algorithm: SigningAlgorithm::Es256,
        },
        rsa_bits: RsaBits::try_from(2_048).unwrap(),
        default_overlap_seconds: 86_400,
        store_kind: "sqlite",
        config_digest: String::new(),
        node: None,
    }
}

fn request(secret: &str) -> TokenRequest {
    let form = format!("grant_type=client_credentials&client_id=orders-worker&client_secret={secret}");
    let headers = RequestHeaders {
        content_type: Some(b"application/x-www-form-urlencoded"),
        authorization: &[],
    };
    TokenRequest::parse(Dialect::Standard, headers, form.as_bytes()).expect("a well-formed request")
}

fn now() -> Circumstances {
    Circumstances::of_system()
}

fn claims(token: &str) -> serde_json::Value {
    use base64::Engine;
    let part = token.split('.').nth(1).expect("claims");
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

/// Commits at once, but lets the answer to an append of a `TokenIssued` or an `ApiCallAuthorized` through only by
/// permission.
struct HeldBack {
    store: SqliteEventStore,
    arrivals: mpsc::UnboundedSender<()>,
    gate: Arc<Semaphore>,
}

impl EventStore for HeldBack {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let is_held = append
            .events
            .iter()
            .any(|event| matches!(event.event_type, "TokenIssued" | "ApiCallAuthorized"));
        let committed = self.store.append_to_stream(append);
        if !is_held {
            return committed;
        }
        let (arrivals, gate) = (self.arrivals.clone(), self.gate.clone());
        Box::pin(async move {
            let appended = committed.await;
            let _ = arrivals.send(());
            gate.acquire().await.expect("the gate is never closed").forget();
            appended
        })
    }

    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.store.read_stream(stream, from_revision, limit)
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.store.read_all(from, direction, limit)
    }

    fn streams_of(&self, range: std::ops::Range<u64>) -> BoxFuture<'_, Result<Vec<(u64, String)>, ReadError>> {
        self.store.streams_of(range)
    }

    fn read_indexes(&self, indexes: &[u64]) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.store.read_indexes(indexes)
    }

    fn remove(&self, removed: Vec<StoredEvent>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.store.remove(removed)
    }

    fn used_bytes(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        self.store.used_bytes()
    }

    fn subscribe_to_all(&self, from: u64) -> Box<dyn Subscription> {
        self.store.subscribe_to_all(from)
    }

    fn log_size(&self) -> u64 {
        self.store.log_size()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        self.store.failed()
    }

    fn failure(&self) -> Option<String> {
        self.store.failure()
    }

    fn cut_off(&self) -> Option<String> {
        self.store.cut_off()
    }

    fn has_ended(&self) -> bool {
        self.store.has_ended()
    }

    fn queue_depth(&self) -> u64 {
        self.store.queue_depth()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.store.close()
    }
}
