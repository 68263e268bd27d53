//! A node: a service of its own over its view of the log.

use crate::shared_log::{View, shared_log};
use grantlog::audit::AuditIndex;
use grantlog::audit::transparency::{Signers, Transparency, TransparencySettings};
use grantlog::audit::usage::UsageProjection;
use grantlog::credentials::sealing::MasterKey;
use grantlog::credentials::signing_key::RsaBits;
use grantlog::event_store::sqlite::SqliteEventStore;
use grantlog::event_store::{Direction, EventStore, MAX_EVENTS_PER_READ, codec};
use grantlog::metrics::Metrics;
use grantlog::oauth::{Dialect, RequestHeaders, TokenRequest};
use grantlog::policy::PolicySettings;
use grantlog::policy::applications::ApplicationPatch;
use grantlog::policy::signing_keys::KeyRotation;
use grantlog::service::applications::{Registration, WithSecret};
use grantlog::service::authorize_call::{Call, CallRefused, Caller, Credential};
use grantlog::service::keys::Keys;
use grantlog::service::live_state::{CheckpointEvery, LiveState};
use grantlog::service::record::{Circumstances, Commander};
use grantlog::service::sessions::SessionSettings;
use grantlog::service::throttle::{Throttle, ThrottleSettings};
use grantlog::service::trail::Trail;
use grantlog::service::{Service, ServiceSettings};
use grantlog_projections::event::Via;
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::values::{
    ApplicationUri, Audience, NodeName, Scope, SigningAlgorithm, Source, SystemUser, TokenLifetime,
};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Everything that is not held up happens well within this.
pub const PATIENCE: Duration = Duration::from_secs(20);
const ISSUER: &str = "https://id.example.com";
/// A client's name.
pub const CLIENT: &str = "orders-worker";

/// The log, and what all its nodes have in common.
pub struct Cluster {
    pub log: Arc<SqliteEventStore>,
    master_key: Arc<MasterKey>,
    folder: TempDir,
}

/// A node and its view of the log.
pub struct Node {
    pub service: Arc<Service>,
    pub view: Arc<View>,
}

impl Cluster {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            log: shared_log(folder.path()),
            master_key: Arc::new(MasterKey::generate().expect("a key")),
            folder,
        }
    }

    /// A node that has read the log and not begun yet.
    pub async fn node(&self, name: &str, has_trail: bool) -> Node {
        self.node_with(name, has_trail, self.master_key.clone()).await
    }

    /// The same with a master key of its own.
    pub async fn node_with(&self, name: &str, has_trail: bool, master_key: Arc<MasterKey>) -> Node {
        let view = View::of(&self.log);
        let store: Arc<dyn EventStore> = view.clone();
        let keys = Arc::new(Keys::new(master_key.clone()));
        let every = CheckpointEvery {
            events: 1_000,
            time: Duration::from_secs(60),
        };
        let live = LiveState::open(store.clone(), None, every, keys.clone())
            .await
            .expect("the state is read");
        let trail = match has_trail {
            true => Some(self.trail(name, &master_key, &store).await),
            false => None,
        };
        let throttle = Throttle::new(ThrottleSettings {
            max_refusals_per_source: 1_000,
            max_failures: 100,
            window: Duration::from_secs(60),
            max_tracked: 100,
        });
        let service = Service::new(
            settings(name),
            store,
            live,
            keys,
            master_key,
            trail,
            throttle,
            Metrics::new(None),
        );
        Node {
            service: Arc::new(service),
            view,
        }
    }

    /// A node that has begun.
    pub async fn started(&self, name: &str) -> Node {
        let node = self.node(name, false).await;
        node.service.start().await.expect("it starts");
        node
    }

    async fn trail(&self, name: &str, master_key: &MasterKey, store: &Arc<dyn EventStore>) -> Trail {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let transparency = TransparencySettings {
            data_dir: folder.clone(),
            key_file: folder.join("transparency.key"),
            signers: Signers::AllNodes,
            origin: None,
            default_origin: "id.example.com/audit".into(),
            publish_interval: Duration::ZERO,
        };
        Trail {
            index: AuditIndex::open(&folder.join("audit.db"), store.clone())
                .await
                .expect("an index"),
            usage: UsageProjection::open(&folder.join("usage.db"), store.clone())
                .await
                .expect("uses"),
            transparency: Transparency::open(transparency, master_key, store.clone()).await,
        }
    }

    /// The log from its beginning.
    pub async fn events(&self) -> Vec<RecordedEvent> {
        let mut events = Vec::new();
        while events.len() < self.log.log_size() as usize {
            let read = self
                .log
                .read_all(events.len() as u64, Direction::Forwards, MAX_EVENTS_PER_READ);
            let read = read.await.expect("the log is read");
            events.extend(read.iter().map(|stored| codec::decode(stored).expect("an event")));
        }
        events
    }

    /// How many events of this type there are.
    pub async fn count(&self, event_type: &str) -> usize {
        let events = self.events().await;
        let of_type = events
            .iter()
            .filter(|found| found.envelope.event.type_name() == event_type);
        of_type.count()
    }
}

impl Node {
    pub async fn register(&self) -> WithSecret {
        let registration = Registration {
            application_uri: ApplicationUri::parse(CLIENT).expect("a name"),
            attributes: ApplicationPatch {
                scope: Scope::parse("read update").ok(),
                system_user: Some(SystemUser::parse("svc.orders").ok()),
                ..ApplicationPatch::default()
            },
            is_enabled: true,
            secret_hash: None,
            secret_expires_in_seconds: None,
        };
        self.service
            .register_application(registration, &Commander::system(), &now())
            .await
            .expect("it is registered")
    }

    /// Asks for a token.
    pub async fn ask(&self, made: &WithSecret) -> Result<String, grantlog::oauth::OAuthError> {
        let secret = made.secret.as_ref().expect("a secret was made").expose();
        let form = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={secret}");
        let headers = RequestHeaders {
            content_type: Some(b"application/x-www-form-urlencoded"),
            authorization: &[],
        };
        let request = TokenRequest::parse(Dialect::Standard, headers, form.as_bytes()).expect("a well-formed request");
        let issued = self.service.issue_token(&request, &from_client()).await?;
        Ok(issued.access_token.to_string())
    }

    /// Calls an API with a token.
    pub async fn call(&self, token: &str) -> Result<Caller, CallRefused> {
        let call = Call {
            via: Via::Gateway,
            credential: Credential::Token(token),
            audience: &Audience::parse(ISSUER).expect("an audience"),
            method: "GET",
            path: "/orders",
            required_scope: "read",
            org_code: None,
            ruled_out: None,
        };
        self.service.authorize_call(call, &from_client()).await
    }

    /// Until this node can do its work.
    pub async fn is_ready(&self) {
        let is_ready = async {
            while !self.service.readiness().ready {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_ready).await.expect("it is ready");
    }

    /// Until this node has read what the log has now.
    pub async fn catch_up(&self, cluster: &Cluster) {
        let size = cluster.log.log_size();
        let caught_up = async {
            while self.service.readiness().state_through < size {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.expect("it catches up");
    }
}

/// Somebody's request.
pub fn from_client() -> Circumstances {
    Circumstances {
        source: Some(Source {
            ip: "192.0.2.7".parse().expect("an address"),
            user_agent: None,
        }),
        ..now()
    }
}

pub fn now() -> Circumstances {
    Circumstances::of_system()
}

fn settings(name: &str) -> ServiceSettings {
    let issuer = Audience::parse(ISSUER).expect("an audience");
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
            default_lifetime: TokenLifetime::parse(3_600).expect("a lifetime"),
            default_algorithm: SigningAlgorithm::Es256,
        },
        key_rotation: KeyRotation {
            rotate_after_seconds: 90 * 86_400,
            announce_ahead_seconds: 14 * 86_400,
            default_algorithm: SigningAlgorithm::Es256,
        },
        rsa_bits: RsaBits::try_from(2_048).expect("a size"),
        default_overlap_seconds: 86_400,
        store_kind: "shared",
        config_digest: String::new(),
        node: NodeName::parse(name).ok(),
    }
}
