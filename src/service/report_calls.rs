//! Calls that APIs tell of: those that verify tokens themselves, and tell in batches afterwards.
//!
//! An API is believed about its own calls, not about tokens: a call that was let through must be of a token that was
//! issued to the client that it names.

use crate::event_store::ExpectedRevision;
use crate::service::authorize_call::{Caller, Holder, Undecided};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use futures_util::future::join_all;
use grantlog_projections::event::{
    ApiCallAuthorized, ApiCallDenied, CallReport, DenialReason, TokenIssued, TokenKind, Via,
};
use grantlog_projections::values::{ApplicationId, ApplicationUri, Audience, Scope, Source, StreamName, Timestamp};
use hashlink::LruCache;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// The scope of those who may tell of calls.
pub const REPORT_CALLS: &str = "calls:report";
/// Calls in one batch.
pub const MAX_CALLS: usize = 1_000;
/// Tokens whose events are remembered: looking one up takes a search of the audit index.
const MAX_KNOWN_TOKENS: usize = 16_384;
/// Calls that are recorded side by side.
const CALLS_AT_ONCE: usize = 128;

/// A call as an API tells of it, every value checked.
#[derive(Debug, Clone)]
pub struct ReportedCall {
    /// Its line in the batch, from 1.
    pub line: usize,
    /// The API's own id of it.
    pub id: Uuid,
    /// When it was, by the API's clock.
    pub time: Timestamp,
    /// The API; none: the only one that the reporter has.
    pub audience: Option<Audience>,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The scope that it needed.
    pub required_scope: Scope,
    /// Where it came from, as the API saw it.
    pub source: Option<Source>,
    /// Its W3C trace id.
    pub trace_id: Option<String>,
    /// What the API answered.
    pub status: Option<u16>,
    /// The token's id, as far as the API knows.
    pub jti: Option<Uuid>,
    /// Whose token it was, as far as the API knows.
    pub client_id: Option<ApplicationUri>,
    /// Whether the API let it through.
    pub outcome: ReportedOutcome,
}

/// What an API did with a call.
#[derive(Debug, Clone)]
pub enum ReportedOutcome {
    /// It let it through.
    Authorized,
    /// It refused it.
    Denied {
        /// The error code that it told (RFC 6750 §3.1).
        error: String,
        /// Why.
        reason: DenialReason,
        /// The presented token's last 8 characters.
        token_hint: Option<String>,
    },
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// Calls that are on the record now.
    pub recorded: u64,
    /// Calls that were on the record already.
    pub duplicates: u64,
    /// Calls that are not on the record, and will not be when they are sent again as they are.
    pub rejected: Vec<Rejected>,
}

/// A call that is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its line, from 1.
    pub line: usize,
    /// Its id.
    pub id: Uuid,
    /// Why, and what would be right.
    pub reason: String,
}

/// What is remembered between batches.
pub struct Reports {
    /// One batch at a time: between looking whether a call is known and recording it nobody else may record it.
    turn: tokio::sync::Mutex<()>,
    tokens: Mutex<LruCache<Uuid, Arc<TokenIssued>>>,
}

impl Default for Reports {
    /// Nothing yet.
    fn default() -> Self {
        Self {
            turn: tokio::sync::Mutex::new(()),
            tokens: Mutex::new(LruCache::new(MAX_KNOWN_TOKENS)),
        }
    }
}

impl Service {
    /// Records a batch of calls, each once however often it is told of. Answers when they are durable; after a failure
    /// the whole batch can be told again.
    pub async fn report_calls(
        &self,
        calls: Vec<ReportedCall>,
        reporter: &Caller,
        circumstances: &Circumstances,
    ) -> Result<Reported, ServiceError> {
        let _turn = self.reports.turn.lock().await;
        // What the batch before recorded is known here, also when it broke off half-way.
        if let Some(last) = self.store.log_size().checked_sub(1) {
            self.live.reached(last).await?;
        }
        let mut reported = Reported::default();
        let mut new = Vec::new();
        {
            let known = &self.snapshot().reported_calls;
            let mut seen = HashSet::new();
            for call in calls {
                if known.contains(reporter.application_id, call.id) || !seen.insert(call.id) {
                    reported.duplicates += 1;
                } else {
                    new.push(call);
                }
            }
        }
        let own = self.apis_of(reporter);
        let mut last_index = None;
        let mut new = new.into_iter();
        loop {
            let some: Vec<_> = new.by_ref().take(CALLS_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            // The tokens first, one after the other: then the calls are recorded in the order in which they were told.
            let mut holders = Vec::with_capacity(some.len());
            for call in &some {
                holders.push(self.reported_holder(call, circumstances).await?);
            }
            let recorded = some
                .iter()
                .zip(holders)
                .map(|(call, holder)| self.report_call(call, holder, reporter, &own, circumstances));
            for (call, recorded) in some.iter().zip(join_all(recorded).await) {
                match recorded {
                    Ok(index) => {
                        reported.recorded += 1;
                        last_index = last_index.max(index);
                    }
                    Err(NotReported::Rejected(reason)) => reported.rejected.push(Rejected {
                        line: call.line,
                        id: call.id,
                        reason,
                    }),
                    Err(NotReported::Failed(error)) => return Err(error),
                }
            }
        }
        // Only when this node knows the ids may the next batch be looked at.
        if let Some(index) = last_index {
            self.live.reached(index).await?;
        }
        Ok(reported)
    }

    async fn report_call(
        &self,
        call: &ReportedCall,
        holder: Option<Holder>,
        reporter: &Caller,
        own: &[Audience],
        circumstances: &Circumstances,
    ) -> Result<Option<u64>, NotReported> {
        let audience = match (&call.audience, own) {
            (Some(audience), own) if own.contains(audience) => audience.clone(),
            (Some(audience), _) => {
                return Err(NotReported::Rejected(format!(
                    "{audience} is none of the reporter's audiences: add it to its application, or leave it out"
                )));
            }
            (None, [only]) => only.clone(),
            (None, _) => {
                return Err(NotReported::Rejected(
                    "audience: the reporter has not exactly one API of its own, so it must be named".into(),
                ));
            }
        };
        let report = CallReport {
            id: call.id,
            reporter_id: reporter.application_id,
            time: call.time,
            source: call.source.clone(),
            status: call.status,
        };
        let circumstances = Circumstances {
            trace_id: call.trace_id.clone().or_else(|| circumstances.trace_id.clone()),
            ..circumstances.clone()
        };
        match (&call.outcome, holder) {
            (ReportedOutcome::Authorized, None) => Err(NotReported::Rejected(
                "no token with this jti was issued to this client_id".into(),
            )),
            (ReportedOutcome::Authorized, Some(holder)) if !self.audiences_of_token(&holder).contains(&audience) => {
                Err(NotReported::Rejected(format!("the token is not for {audience}")))
            }
            (ReportedOutcome::Authorized, Some(holder)) => {
                let fact = |session_id| ApiCallAuthorized {
                    via: Via::Reported,
                    application_id: holder.application_id,
                    application_uri: holder.client_id.clone(),
                    jti: holder.jti,
                    token_hint: holder.hint.clone(),
                    system_user: holder.system_user.clone(),
                    org_code: holder.org_code.clone(),
                    audience: audience.clone(),
                    method: call.method.clone(),
                    path: call.path.clone(),
                    required_scope: call.required_scope.to_string(),
                    session_id,
                    token_kind: holder.kind,
                    report: Some(report.clone()),
                };
                self.metrics.api_call(Via::Reported, None);
                // A token that is over or revoked by the time its call is told of begins no session.
                let still_holds = match self.still_holds(&holder).await {
                    Ok(()) => circumstances.now < holder.expires_at,
                    Err(Undecided::Denied(_)) => false,
                    Err(Undecided::Failed(error)) => return Err(error.into()),
                };
                if still_holds {
                    let recorded = self
                        .record_call(
                            Via::Reported,
                            &holder,
                            &reporter.actor(),
                            &circumstances,
                            |session_id| fact(Some(session_id)),
                        )
                        .await;
                    match recorded {
                        Ok(_) => return Ok(Some(self.store.log_size().saturating_sub(1))),
                        // The call has been: it is on the record without a session.
                        Err(Undecided::Denied(_)) => {}
                        Err(Undecided::Failed(error)) => return Err(error.into()),
                    }
                }
                let stream = StreamName::api_calls(Some(holder.application_id));
                let facts = [fact(None).into()];
                let any = ExpectedRevision::Any;
                let appended = self
                    .record(stream, any, &reporter.actor(), &circumstances, facts)
                    .await?;
                Ok(Some(appended.last_index))
            }
            (
                ReportedOutcome::Denied {
                    error,
                    reason,
                    token_hint,
                },
                holder,
            ) => {
                let holder = holder.as_ref();
                let fact = ApiCallDenied {
                    via: Via::Reported,
                    application_id: holder.map(|holder| holder.application_id),
                    application_uri: holder.map(|holder| holder.client_id.clone()),
                    jti: holder.map(|holder| holder.jti),
                    token_hint: holder.map(|holder| holder.hint.clone()).or_else(|| token_hint.clone()),
                    audience,
                    method: call.method.clone(),
                    path: call.path.clone(),
                    required_scope: call.required_scope.to_string(),
                    error: error.clone(),
                    reason: *reason,
                    token_kind: holder.map_or(TokenKind::Jwt, |holder| holder.kind),
                    report: Some(report),
                };
                self.metrics.api_call(Via::Reported, Some(*reason));
                let stream = StreamName::api_calls(fact.application_id);
                let any = ExpectedRevision::Any;
                let appended = self
                    .record(stream, any, &reporter.actor(), &circumstances, [fact.into()])
                    .await?;
                Ok(Some(appended.last_index))
            }
        }
    }

    /// The token of a call, as the log has it: one that was issued to the client that is named.
    async fn reported_holder(
        &self,
        call: &ReportedCall,
        circumstances: &Circumstances,
    ) -> Result<Option<Holder>, ServiceError> {
        let (Some(jti), Some(client_id)) = (call.jti, &call.client_id) else {
            return Ok(None);
        };
        if let Some(holder) = self.reference_holder(jti) {
            return Ok(Some(holder).filter(|holder| holder.client_id == *client_id));
        }
        let known = self
            .reports
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&jti)
            .cloned();
        let issued = match known {
            Some(issued) => issued,
            // An id that cannot be a token's needs no search.
            None if jti.get_version_num() != 7 => return Ok(None),
            None => {
                let Some(issued) = self.token_issued(ApplicationId::of(client_id), jti).await? else {
                    return Ok(None);
                };
                let issued = Arc::new(issued);
                let mut tokens = self.reports.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                tokens.insert(jti, issued.clone());
                issued
            }
        };
        let is_the_clients = issued.application_uri == *client_id && issued.issued_at <= circumstances.now;
        Ok(is_the_clients.then(|| Holder::from(&*issued)))
    }

    /// The APIs that a reporter speaks for: all of its audiences but Grantlog's own.
    fn apis_of(&self, reporter: &Caller) -> Vec<Audience> {
        let snapshot = self.snapshot();
        let application = snapshot
            .directory
            .application(ApplicationId::of(&reporter.application_uri));
        let audiences = application.map_or_else(Vec::new, |application| self.audiences_of(application));
        audiences
            .into_iter()
            .filter(|audience| *audience != self.settings.policy.issuer)
            .collect()
    }
}

enum NotReported {
    Rejected(String),
    Failed(ServiceError),
}

impl From<ServiceError> for NotReported {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}
