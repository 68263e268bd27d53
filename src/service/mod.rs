//! Read, decide, append: the only code that joins decisions, the event log and credentials.

pub mod live_state;

pub mod snapshot;

pub mod lag;

mod coming_back;

pub mod checkpoint;

pub mod keys;

pub mod record;

pub mod throttle;

pub mod issue_token;

pub mod verified_tokens;

pub mod sessions;

pub mod authorize_call;

pub mod end_sessions;

pub mod token_operations;

pub mod report_calls;

pub mod tokens;

pub mod reference_tokens;

pub mod token_status;

pub mod list_tokens;

pub mod show_token;

pub mod list_sessions;

pub mod applications;

pub mod apis;

pub mod signing_keys;

pub mod trail;

mod token_event;

pub mod read_audit;

pub mod streams;

mod shares;

pub mod follow_audit;

pub mod export_audit;
pub mod usage;

pub mod time_travel;

pub mod reports;

pub mod statistics;

pub mod prove;
pub mod retention;

pub mod run;

pub mod rebuild;

pub mod migrate;

use crate::audit::transparency::TransparencyError;
use crate::credentials::NoRandomness;
use crate::credentials::sealing::MasterKey;
use crate::credentials::signing_key::RsaBits;
use crate::event_store::{AppendError, EventStore, ReadError, codec};
use crate::metrics::Metrics;
use crate::policy::retention::RetentionRules;
use crate::policy::signing_keys::KeyRotation;
use crate::policy::{CommandRefused, PolicySettings};
use chrono::Utc;
use coming_back::ComingBack;
use grantlog_projections::values::{NodeName, Timestamp};
use keys::Keys;
use live_state::{LiveState, NotReached};
use report_calls::Reports;
use sessions::{SessionSettings, SessionsUnderWay};
use snapshot::Snapshot;
use std::sync::Arc;
use streams::Streams;
use throttle::Throttle;
use tokens::TokenLanes;
use trail::Trail;
use verified_tokens::VerifiedTokens;

/// What the operator has set.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// The issuer, as tokens and metadata say it.
    pub issuer: String,
    /// What decisions depend on.
    pub policy: PolicySettings,
    /// How signing keys live.
    pub key_rotation: KeyRotation,
    /// The size of RSA keys.
    pub rsa_bits: RsaBits,
    /// How long old secrets stay valid when a rotation does not say, in seconds.
    pub default_overlap_seconds: i64,
    /// How long sessions last.
    pub sessions: SessionSettings,
    /// What is kept.
    pub retention: RetentionRules,
    /// The kind of event store, for the record.
    pub store_kind: &'static str,
    /// SHA-256 of the configuration without its secrets, for the record.
    pub config_digest: String,
    /// This node's name, where several may write to the log.
    pub node: Option<NodeName>,
}

/// The authorization server without its doors.
pub struct Service {
    settings: ServiceSettings,
    store: Arc<dyn EventStore>,
    live: LiveState,
    keys: Arc<Keys>,
    master_key: Arc<MasterKey>,
    trail: Option<Trail>,
    log_readers: reports::LogReaders,
    /// Who asks for a state of then needs less than who audits, and must not stand in an auditor's way.
    state_readers: reports::LogReaders,
    throttle: Throttle,
    verified_tokens: VerifiedTokens,
    sessions: SessionsUnderWay,
    reports: Reports,
    token_lanes: TokenLanes,
    metrics: Metrics,
    streams: Streams,
    retaining: retention::Progress,
    coming_back: ComingBack,
}

/// Why a command of an administrator, or a reading of the trail, was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A decision.
    #[error(transparent)]
    Refused(#[from] CommandRefused),
    /// What happened cannot be recorded, so it did not happen; or nobody can tell until a restart.
    #[error("the event log cannot take it: {0}")]
    NotRecorded(#[from] AppendError),
    /// This node does not know what others have decided since, so it decides nothing.
    #[error("this node is cut off from the event log: {0}")]
    CutOff(String),
    /// The log cannot be read.
    #[error(transparent)]
    NotRead(#[from] ReadError),
    /// It happened, but this node does not show it yet.
    #[error(transparent)]
    NotReached(#[from] NotReached),
    /// A stored event cannot be understood.
    #[error(transparent)]
    Undecodable(#[from] codec::DecodeError),
    /// An event is too large to be stored: what it records was too much for one request.
    #[error(transparent)]
    TooLarge(#[from] codec::EncodeError),
    /// No key or secret can be made.
    #[error("no secret can be made: {0}")]
    NoRandomness(#[from] NoRandomness),
    /// A signing key cannot be made or opened.
    #[error("a signing key cannot be made or opened: {0}")]
    Keys(String),
    /// Too much is asked for at once.
    #[error("{0}")]
    Busy(String),
    /// The caller has as much under way as one caller may.
    #[error("{0}")]
    ShareTaken(String),
    /// This node keeps nothing for auditors.
    #[error("this node has not the role `audit`: ask one that has")]
    NoTrail,
    /// The audit index cannot answer.
    #[error("the audit index cannot answer: {0}")]
    Audit(String),
    /// The transparent log cannot answer.
    #[error(transparent)]
    Transparency(#[from] TransparencyError),
}

impl ServiceError {
    /// Whether the operator hears of it elsewhere: a log that fails or closes is told once, not once per
    /// request, and a full queue is expected under load and counted.
    pub fn is_told_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::CutOff(_)
                | Self::NotRecorded(AppendError::Overloaded | AppendError::Indeterminate(_) | AppendError::Closed(_))
        )
    }
}

/// Whether the service can do its work, and why not.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why not; empty when it can.
    pub reasons: Vec<String>,
    /// How many events the log holds.
    pub log_size: u64,
    /// How many events the directory and the key ring have read.
    pub state_through: u64,
    /// How many events the audit index has read; none where the node has no index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexed_through: Option<u64>,
}

impl Service {
    /// Puts the parts together; without a trail where others answer auditors.
    #[allow(clippy::too_many_arguments)] // each is a part, named at the one place that calls it
    pub fn new(
        settings: ServiceSettings,
        store: Arc<dyn EventStore>,
        live: LiveState,
        keys: Arc<Keys>,
        master_key: Arc<MasterKey>,
        trail: Option<Trail>,
        throttle: Throttle,
        metrics: Metrics,
    ) -> Self {
        Self {
            settings,
            store,
            live,
            keys,
            master_key,
            trail,
            log_readers: reports::LogReaders::new(),
            state_readers: reports::LogReaders::new(),
            throttle,
            verified_tokens: VerifiedTokens::default(),
            sessions: SessionsUnderWay::default(),
            reports: Reports::default(),
            token_lanes: TokenLanes::new(),
            metrics,
            streams: Streams::new(),
            retaining: retention::Progress::default(),
            coming_back: ComingBack::default(),
        }
    }

    /// What the operator has set.
    pub fn settings(&self) -> &ServiceSettings {
        &self.settings
    }

    /// The state as of now.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.live.snapshot()
    }

    /// The published keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The figures that are scraped.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Why the state no longer follows the log, if so: the master key may be another than that of other nodes.
    pub fn state_failure(&self) -> Option<String> {
        let failure = self.live.failure()?;
        Some(format!("the projections stopped: {failure}"))
    }

    /// Why this node cannot decide anything now: its state is not the log's.
    fn out_of_date(&self) -> Option<String> {
        if let Some(failure) = self.state_failure() {
            return Some(failure);
        }
        if let Some(reason) = self.cut_off() {
            return Some(format!("this node is cut off from the event log: {reason}"));
        }
        let log_size = self.store.log_size();
        self.live.is_too_old(log_size).then(|| {
            let state_through = self.live.position();
            format!("the projections have read {state_through} of {log_size} events and do not keep up")
        })
    }

    /// Why the state is from before what others may have decided, whoever else hears of the log again.
    fn cut_off(&self) -> Option<String> {
        if let Some(reason) = self.store.cut_off() {
            self.coming_back.is_away();
            return Some(reason);
        }
        // Asked for after that: it has what was missed.
        let log_size = self.store.log_size();
        if self.coming_back.is_back(log_size, || self.live.position()) {
            return None;
        }
        self.live.hurry();
        let state_through = self.live.position();
        Some(format!(
            "it was, and has read {state_through} of {log_size} events so far"
        ))
    }

    /// Waits until the state has all that the log had before. Whoever commands may know what another node has answered
    /// meanwhile: that there is nothing to do, or no such thing, must not be said of a state from before that.
    async fn state_of_now(&self) -> Result<(), ServiceError> {
        if let Some(reason) = self.store.cut_off() {
            return Err(ServiceError::CutOff(reason));
        }
        let Some(last) = self.store.log_size().checked_sub(1) else {
            return Ok(());
        };
        let reached = self.live.reached(last).await;
        reached.map_err(|late| ServiceError::Busy(format!("{late}, so it was not done")))
    }

    /// Whether the service can do its work.
    pub fn readiness(&self) -> Readiness {
        let mut reasons = Vec::from_iter(self.out_of_date());
        reasons.extend(self.trail.iter().flat_map(Trail::failures));
        if let Some(failure) = self.store.failure() {
            reasons.push(format!("the event log does not accept events: {failure}"));
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            log_size: self.store.log_size(),
            state_through: self.live.position(),
            indexed_through: self.indexed_through(),
        }
    }
}

/// The clock.
pub fn now() -> Timestamp {
    Timestamp::new(Utc::now())
}
