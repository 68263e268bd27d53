//! The service over a log of a few small segments, whose store can fail at the worst moment.

use super::*;
use crate::audit::AuditIndex;
use crate::audit::memory_log::{Fact, tokens};
use crate::audit::transparency::{Signers, Transparency, TransparencySettings};
use crate::audit::usage::UsageProjection;
use crate::credentials::sealing::MasterKey;
use crate::credentials::signing_key::RsaBits;
use crate::event_store::sqlite::{SqliteEventStore, SqliteOptions};
use crate::event_store::{Append, Appended, BoxFuture, EventStore, ReadError, Subscription};
use crate::metrics::Metrics;
use crate::policy::PolicySettings;
use crate::policy::signing_keys::KeyRotation;
use crate::service::ServiceSettings;
use crate::service::checkpoint::Checkpoint;
use crate::service::keys::Keys;
use crate::service::live_state::{CheckpointEvery, LiveState};
use crate::service::sessions::SessionSettings;
use crate::service::throttle::{Throttle, ThrottleSettings};
use crate::service::trail::Trail;
use grantlog_projections::values::{Audience, NodeName, SigningAlgorithm, TokenLifetime};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Events of a segment.
const UNIT: u64 = 8;

#[tokio::test]
async fn a_removal_that_fails_half_way_is_finished_by_the_next_tick() {
    let rules = RetentionRules {
        log_after_seconds: Some(86_400 * 365),
        ..RetentionRules::default()
    };
    let scene = Scene::new(rules, &[(40, 400 * 24), (48, 1)]).await;
    let error = scene.service.retain().await.unwrap_err();
    assert!(matches!(error, ServiceError::NotRead(_)), "{error}");
    assert_eq!(scene.service.retention().await.unwrap().removed_through, UNIT);
    assert_eq!(scene.removed().await, 0, "nothing has gone yet");
    scene.service.retain().await.unwrap();
    assert_eq!(scene.service.retention().await.unwrap().removed_through, 40);
    assert_eq!(scene.removed().await, 40);
}

#[tokio::test]
async fn a_log_that_is_too_large_keeps_what_is_known_of_tokens_that_may_be_valid() {
    let rules = RetentionRules {
        log_max_bytes: Some(1),
        log_after_seconds: Some(86_400),
        ..RetentionRules::default()
    };
    let scene = Scene::new(rules, &[(16, 26), (80, 24)]).await;
    let _ = scene.service.retain().await; // the store fails once
    scene.service.retain().await.unwrap();
    assert_eq!(scene.service.retention().await.unwrap().removed_through, 16);
    assert_eq!(scene.removed().await, 16);
}

#[tokio::test]
async fn a_hold_cannot_promise_what_has_been_removed() {
    let rules = RetentionRules {
        log_after_seconds: Some(86_400 * 365),
        ..RetentionRules::default()
    };
    let scene = Scene::new(rules, &[(16, 400 * 24), (48, 1)]).await;
    let _ = scene.service.retain().await; // the store fails once
    scene.service.retain().await.unwrap();
    let place = async |from| {
        let (reason, circumstances) = (Remark::parse("case 7").unwrap(), Circumstances::of_system());
        let placed = scene
            .service
            .place_hold(from, None, reason, &Actor::System, &circumstances);
        placed.await
    };
    let refused = place(HoldFrom::Index(15)).await.unwrap_err().to_string();
    assert!(
        refused.contains("before 16 are removed already: hold from there"),
        "{refused}"
    );
    assert_eq!(place(HoldFrom::Index(16)).await.unwrap().from_index, 16);
    let ever = HoldFrom::Time(Timestamp::from_unix_micros(0));
    assert_eq!(place(ever).await.unwrap().from_index, 16);
}

#[tokio::test]
async fn of_several_nodes_one_decides_what_all_prune() {
    let rules = RetentionRules {
        index_after_seconds: Some(86_400 * 365),
        ..RetentionRules::default()
    };
    let scene = Scene::new(RetentionRules::default(), &[(64, 400 * 24), (48, 1)]).await;
    let mut nodes = Vec::new();
    for (name, rules) in [("a", rules), ("b", rules), ("c", RetentionRules::default())] {
        let folder = scene.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        nodes.push(service(&scene.store, &folder, rules, NodeName::parse(name).ok()).await);
    }
    for retained in futures_util::future::join_all(nodes[..2].iter().map(Service::retain)).await {
        retained.unwrap();
    }
    nodes[2].retain().await.unwrap();
    for node in &nodes {
        node.retain().await.unwrap();
        assert_eq!(node.index().unwrap().pruned_through(), 64);
    }
    let log = scene.store.read_all(0, Direction::Forwards, MAX_EVENTS_PER_READ);
    let log = log.await.unwrap();
    let pruned = log
        .iter()
        .filter(|event| codec::peek_type(&event.bytes) == Some("IndexPruned"));
    assert_eq!(pruned.count(), 1, "it is on the record once");
}

#[tokio::test]
async fn an_index_that_is_too_large_on_all_nodes_is_pruned_as_one_of_them_decided() {
    let scene = Scene::new(RetentionRules::default(), &[(100, 24); 16]).await;
    let full = scene.folder.path().join("full.db");
    let index = AuditIndex::open_in_segments_of(UNIT as usize, &full, scene.store.clone()).await;
    let index = index.unwrap();
    index.wait_until_indexed(1_600).await.unwrap();
    index.close().await;
    let rules = RetentionRules {
        index_max_bytes: Some(index.used_bytes().await.unwrap() / 4 * 3),
        ..RetentionRules::default()
    };
    let node = async |name: &str| {
        let folder = scene.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(&full, folder.join("audit.db")).unwrap();
        service(&scene.store, &folder, rules, NodeName::parse(name).ok()).await
    };
    let (one, other) = (node("one").await, node("other").await);
    // Until it is small enough.
    let mut decided = 0;
    loop {
        one.retain().await.unwrap();
        match one.retention().await.unwrap().pruned_through {
            further if further > decided => decided = further,
            _ => break,
        }
    }
    assert!(decided > 0);
    other.retain().await.unwrap();
    assert_eq!(
        one.retention().await.unwrap().pruned_through,
        decided,
        "no more is too much"
    );
    assert_eq!(other.index().unwrap().pruned_through(), decided);
    // Nor by one that is made anew.
    let folder = scene.folder.path().join("anew");
    std::fs::create_dir(&folder).unwrap();
    let anew = service(&scene.store, &folder, rules, NodeName::parse("anew").ok()).await;
    anew.retain().await.unwrap();
    assert_eq!(one.retention().await.unwrap().pruned_through, decided);
}

#[test]
fn the_index_is_pruned_when_enough_is_due() {
    let retention = Retention::default();
    let due = |log_units: u64, wanted_units: u64| {
        retention::next_pruning(&retention, log_units * UNIT, wanted_units * UNIT, UNIT).map(|through| through / UNIT)
    };
    assert_eq!((due(20, 3), due(20, 4), due(20, 20)), (None, Some(4), Some(16)));
    assert_eq!((due(640, 9), due(640, 10)), (None, Some(10)));
}

struct Scene {
    service: Service,
    store: Arc<dyn EventStore>,
    folder: TempDir,
}

impl Scene {
    /// Over a log with so many tokens from so many hours ago.
    async fn new(retention: RetentionRules, history: &[(i64, i64)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let store: Arc<dyn EventStore> = Arc::new(FailsOnce {
            store: SqliteEventStore::open(SqliteOptions::new(file("events.db"))).unwrap(),
            is_due: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        });
        let now = super::super::now().unix_micros();
        for (count, hours) in history {
            let events = (0..).zip(tokens(*count)).map(|(at, fact)| {
                let micros = now - hours * 3_600_000_000 + at;
                codec::encode(&Fact { micros, ..fact }.envelope()).unwrap()
            });
            let append = Append {
                stream: "tokens".into(),
                expected: ExpectedRevision::Any,
                events: events.collect(),
            };
            store.append_to_stream(append).await.unwrap();
        }
        Self {
            service: service(&store, folder.path(), retention, None).await,
            store,
            folder,
        }
    }

    /// How many events of the log are only what is left of them.
    async fn removed(&self) -> usize {
        let log = self.store.read_all(0, Direction::Forwards, MAX_EVENTS_PER_READ);
        let log = log.await.unwrap();
        log.iter()
            .filter(|event| codec::peek_type(&event.bytes) == Some("EventRemoved"))
            .count()
    }
}

/// A service with its files in this folder.
async fn service(
    store: &Arc<dyn EventStore>,
    folder: &Path,
    retention: RetentionRules,
    node: Option<NodeName>,
) -> Service {
    let file = |name: &str| folder.join(name);
    let master_key = Arc::new(MasterKey::generate().unwrap());
    let keys = Arc::new(Keys::new(master_key.clone()));
    let every = CheckpointEvery {
        events: 1_000,
        time: Duration::from_secs(60),
    };
    let checkpoint = Checkpoint::open(&file("projections.db")).unwrap();
    let live = LiveState::open(store.clone(), Some(checkpoint), every, keys.clone()).await;
    let audit = AuditIndex::open_in_segments_of(UNIT as usize, &file("audit.db"), store.clone()).await;
    let usage = UsageProjection::open(&file("usage.db"), store.clone()).await;
    let transparency = TransparencySettings {
        data_dir: folder.to_owned(),
        key_file: file("transparency.key"),
        signers: Signers::One,
        origin: None,
        default_origin: "grantlog.example.com/audit".into(),
        publish_interval: Duration::from_secs(1),
    };
    let trail = Trail {
        index: audit.unwrap(),
        usage: usage.unwrap(),
        transparency: Transparency::open(transparency, &master_key, store.clone()).await,
    };
    let throttle = Throttle::new(ThrottleSettings {
        max_refusals_per_source: 100,
        max_failures: 100,
        window: Duration::from_secs(60),
        max_tracked: 100,
    });
    let settings = ServiceSettings {
        node,
        ..settings(retention)
    };
    Service::new(
        settings,
        store.clone(),
        live.unwrap(),
        keys,
        master_key,
        Some(trail),
        throttle,
        Metrics::new(None),
    )
}

fn settings(retention: RetentionRules) -> ServiceSettings {
    let issuer = Audience::parse("https://id.example.com").unwrap();
    ServiceSettings {
        sessions: SessionSettings {
            idle: Duration::from_secs(1_200),
            absolute: Duration::from_secs(3_600),
            max_per_application: None,
        },
        retention,
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

/// Once, when a removal has just been put on the record, the log cannot be read.
struct FailsOnce {
    store: SqliteEventStore,
    is_due: AtomicBool,
    has_failed: AtomicBool,
}

impl EventStore for FailsOnce {
    fn append_to_stream(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        if append.events.iter().any(|event| event.event_type == "EventsRemoved") {
            let is_first = !self.has_failed.swap(true, Ordering::Relaxed);
            self.is_due.store(is_first, Ordering::Relaxed);
        }
        self.store.append_to_stream(append)
    }

    fn read_all(
        &self,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        if self.is_due.swap(false, Ordering::Relaxed) {
            return Box::pin(async { Err(ReadError("the disk does not answer".into())) });
        }
        self.store.read_all(from, direction, limit)
    }

    fn read_stream(
        &self,
        stream: &str,
        from_revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        self.store.read_stream(stream, from_revision, limit)
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
