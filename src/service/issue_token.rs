//! A token request, from its parsed form to a durable answer.

use crate::credentials::client_secret::{self, ClientSecret};
use crate::credentials::reference_token;
use crate::event_store::ExpectedRevision;
use crate::oauth::claims::AccessTokenClaims;
use crate::oauth::{OAuthError, Refusal, TokenRequest, presented_client_id};
use crate::policy::issue_token::{Grant, IssueToken, Refused, issue_token};
use crate::service::record::Circumstances;
use crate::service::throttle::Verdict;
use crate::service::{Service, ServiceError};
use futures_util::future::join_all;
use grantlog_projections::Event;
use grantlog_projections::event::{Dialect, RequestsThrottled, TokenIssued, TokenRefused};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Actor, ApplicationId, Scope, StreamName, Timestamp};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// When to ask again after the log could not take a request, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;
/// The characters at a secret's end by which people tell secrets apart.
const SECRET_HINT_CHARS: usize = 4;
/// A request is decided anew this often when what its token says changes while the token is being recorded.
const MAX_ATTEMPTS: usize = 5;
/// Reports of suppressed requests that wait for one commit together.
const REPORTS_AT_ONCE: usize = 64;
/// The characters at a token's end that its event keeps.
const TOKEN_HINT_CHARS: usize = 8;

/// A granted token whose event is durable. No `Debug`: it holds the token.
pub struct Issued {
    /// The token.
    pub access_token: String,
    /// Its lifetime, in seconds.
    pub expires_in: u32,
    /// The granted scope.
    pub scope: Scope,
}

/// A refusal that is decided but not on the record yet.
struct Denied {
    error: OAuthError,
    actor: Actor,
    fact: TokenRefused,
}

impl Service {
    /// Answers a token request; whatever it answers is durable, but for `slow_down` (counted) and
    /// `temporarily_unavailable` (nothing could be written).
    pub async fn issue_token(
        &self,
        request: &TokenRequest,
        circumstances: &Circumstances,
    ) -> Result<Issued, OAuthError> {
        let outcome = self.grant(request, circumstances).await;
        let error = outcome.as_ref().err().map(|error| error.code(request.dialect));
        self.count(request.dialect, error);
        outcome
    }

    /// Records a request that was refused before its client was looked up, and answers what to say.
    pub async fn refuse_token(&self, refusal: Refusal, circumstances: &Circumstances) -> OAuthError {
        let Refusal {
            dialect,
            error,
            reason,
            client_id,
        } = refusal;
        let client_id = client_id.map(|client_id| kept_client_id(&client_id));
        let application_id = client_id
            .as_deref()
            .and_then(|client_id| self.known_application(client_id));
        let refused = TokenRefused {
            client_id,
            application_id,
            error: error.code(dialect).to_owned(),
            reason: reason.fact(),
            detail: reason.detail(),
            dialect,
        };
        let error = self
            .refused(
                Denied {
                    error,
                    actor: Actor::Anonymous,
                    fact: refused,
                },
                circumstances,
            )
            .await;
        self.count(dialect, Some(error.code(dialect)));
        error
    }

    /// Records what was suppressed in windows that have ended, or (`all`) so far. What cannot be recorded now is
    /// kept for the next time.
    pub async fn report_suppressed(&self, all: bool) {
        loop {
            let now = Instant::now();
            let suppressed = match all {
                true => self.throttle.drain(REPORTS_AT_ONCE),
                false => self.throttle.ended(now, REPORTS_AT_ONCE),
            };
            if suppressed.is_empty() {
                return;
            }
            let reports = suppressed.into_iter().map(async |suppressed| {
                let fact = self.throttled(suppressed.client_id.as_deref(), suppressed.source, suppressed.requests);
                let stream = StreamName::token_requests(fact.application_id);
                let circumstances = Circumstances::of_system();
                let facts = [fact.into()];
                let recorded = self.record(stream, ExpectedRevision::Any, &Actor::System, &circumstances, facts);
                recorded.await.map_err(|error| (error, suppressed))
            });
            let reported = join_all(reports).await;
            let failed: Vec<_> = reported.into_iter().filter_map(Result::err).collect();
            let Some((error, _)) = failed.first() else { continue };
            if !error.is_told_elsewhere() {
                tracing::warn!(%error, reports = failed.len(), "suppressed requests could not be recorded yet");
            }
            for (_, suppressed) in failed {
                self.throttle.put_back(suppressed, now);
            }
            return;
        }
    }

    async fn grant(&self, request: &TokenRequest, circumstances: &Circumstances) -> Result<Issued, OAuthError> {
        // Why is logged where it happened, and what `/health/ready` says: not once per request.
        if self.out_of_date().is_some() {
            return Err(OAuthError::TemporarilyUnavailable {
                retry_after_seconds: RETRY_AFTER_SECONDS,
            });
        }
        let source_ip = source_ip(circumstances);
        self.admit(&request.client_id, source_ip, circumstances).await?;
        if let Some(issued) = self.grant_once(request, source_ip, circumstances).await? {
            return Ok(issued);
        }
        for _ in 1..MAX_ATTEMPTS {
            let now = Circumstances {
                now: super::now(),
                ..circumstances.clone()
            };
            if let Some(issued) = self.grant_once(request, source_ip, &now).await? {
                return Ok(issued);
            }
        }
        Err(OAuthError::TemporarilyUnavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        })
    }

    /// Decides, signs and records; `None` when the application would get another token by now, or none.
    ///
    /// Whoever changes an application is answered when the snapshot has the change: from then on no token leaves
    /// that the application would not get now, not even one that was decided before and waited for its commit.
    async fn grant_once(
        &self,
        request: &TokenRequest,
        source_ip: IpAddr,
        circumstances: &Circumstances,
    ) -> Result<Option<Issued>, OAuthError> {
        let application_id = ApplicationId::of_client_id(&request.client_id);
        let application = self.snapshot().directory.application(application_id).cloned();
        let secrets = application
            .as_deref()
            .map_or(&[][..], |application| &application.secrets);
        let command = IssueToken {
            matching_secret: client_secret::verify(request.client_secret.expose(), secrets).secret_id(),
            source_ip,
            scope: request.scope.as_ref(),
            audiences: &request.audiences,
            resources: &request.resources,
            now: circumstances.now,
        };
        let grant = match self.decide(request, application.as_deref(), &command) {
            Ok(grant) => grant,
            Err(denied) => return Err(self.refused(denied, circumstances).await),
        };
        // `decide` grants nothing to nobody.
        let Some(application) = application else {
            return Err(OAuthError::InvalidClient);
        };

        let (issued, fact) = self.sign(request, &application, grant.clone(), circumstances.now)?;
        let actor = Actor::Application(application.uri.clone());
        let stream = StreamName::token_requests(Some(application.id));
        self.record_as(
            stream,
            ExpectedRevision::Any,
            &actor,
            circumstances,
            [(fact.jti, fact.into())],
        )
        .await
        .map_err(unavailable)?;

        Ok(self.would_get(&application, &command, &grant).then_some(issued))
    }

    /// Whether the application, as it is now, would get the very token that was decided when it was like this. Most
    /// changes (a description, a new secret beside the old one) are none of what a token says.
    fn would_get(&self, then: &Arc<TrustedApplication>, command: &IssueToken<'_>, grant: &Grant) -> bool {
        let snapshot = self.snapshot();
        let Some(now) = snapshot.directory.application(then.id) else {
            return false;
        };
        if Arc::ptr_eq(now, then) {
            return true;
        }
        let command = IssueToken {
            now: super::now(),
            ..*command
        };
        let decision = issue_token(&snapshot.directory, &self.settings.policy, Some(now), &command);
        // What `sign` takes from the application itself.
        let says_the_same = now.uri == then.uri && now.org_code == then.org_code && now.properties == then.properties;
        says_the_same && decision.is_ok_and(|decided| decided == *grant)
    }

    /// Turns away whoever has failed too often from this source; the first time in a window is recorded.
    async fn admit(&self, client_id: &str, source: IpAddr, circumstances: &Circumstances) -> Result<(), OAuthError> {
        let client_id = kept_client_id(client_id);
        let Verdict::SlowDown { retry_after, is_first } = self.throttle.admit(&client_id, source, Instant::now())
        else {
            return Ok(());
        };
        self.slow_down(Some(&client_id), source, is_first, circumstances)
            .await
            .map_err(unavailable)?;
        Err(OAuthError::SlowDown {
            retry_after_seconds: whole_seconds(retry_after),
        })
    }

    /// Whether a refusal of a request that proved nothing is still recorded for itself. `Some`: no, its source
    /// has had too many; the caller is told to come back after so many seconds.
    pub(super) async fn spend_refusal(&self, circumstances: &Circumstances) -> Result<Option<u32>, ServiceError> {
        let source = source_ip(circumstances);
        match self.throttle.refused(source, Instant::now()) {
            Verdict::Pass => Ok(None),
            Verdict::SlowDown { retry_after, is_first } => {
                self.slow_down(None, source, is_first, circumstances).await?;
                Ok(Some(whole_seconds(retry_after)))
            }
        }
    }

    /// Counts a suppressed request; the first in a window is recorded.
    pub(super) async fn slow_down(
        &self,
        client_id: Option<&str>,
        source: IpAddr,
        is_first: bool,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        self.metrics.request_throttled();
        if is_first {
            let fact = self.throttled(client_id, source, 1);
            let stream = StreamName::token_requests(fact.application_id);
            let (any, facts) = (ExpectedRevision::Any, [fact.into()]);
            self.record(stream, any, &Actor::Anonymous, circumstances, facts)
                .await?;
        }
        Ok(())
    }

    fn decide(
        &self,
        request: &TokenRequest,
        application: Option<&TrustedApplication>,
        command: &IssueToken<'_>,
    ) -> Result<Grant, Denied> {
        let snapshot = self.snapshot();
        let decision = issue_token(&snapshot.directory, &self.settings.policy, application, command);
        decision.map_err(
            |Refused {
                 error,
                 reason,
                 detail,
                 authenticated,
             }| {
                let actor = match application {
                    Some(application) if authenticated => Actor::Application(application.uri.clone()),
                    _ => Actor::Anonymous,
                };
                let client_id = kept_client_id(&request.client_id);
                if error == OAuthError::InvalidClient {
                    self.throttle.failed(&client_id, command.source_ip, Instant::now());
                }
                let refused = TokenRefused {
                    client_id: Some(client_id),
                    application_id: application.map(|application| application.id),
                    error: error.code(request.dialect).to_owned(),
                    reason,
                    detail,
                    dialect: request.dialect,
                };
                Denied {
                    error,
                    actor,
                    fact: refused,
                }
            },
        )
    }

    /// Makes the token and its event. The event keeps the token's end, so the signature comes first; the
    /// token stays here until the event is durable.
    fn sign(
        &self,
        request: &TokenRequest,
        application: &TrustedApplication,
        grant: Grant,
        now: Timestamp,
    ) -> Result<(Issued, TokenIssued), OAuthError> {
        let unavailable = OAuthError::TemporarilyUnavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        };
        let signer = self.keys.signer(grant.algorithm).ok_or_else(|| {
            tracing::error!(algorithm = %grant.algorithm, "there is no key to sign with");
            unavailable.clone()
        })?;
        let jti = Uuid::now_v7();
        let issued_at = now.unix_seconds();
        let expires_in = grant.lifetime.seconds();
        let expires_at = issued_at + i64::from(expires_in);
        let mut jti_text = Uuid::encode_buffer();
        let claims = AccessTokenClaims {
            iss: &self.settings.issuer,
            client_id: application.uri.as_str(),
            aud: &grant.audiences,
            scope: grant.scope.as_str(),
            iat: issued_at,
            exp: expires_at,
            jti: jti.hyphenated().encode_lower(&mut jti_text),
            client_system_user: grant.system_user.as_str(),
            org_code: application.org_code.as_ref().map(|org_code| org_code.as_str()),
            application_properties: &application.properties,
        };
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, kid = %signer.kid(), "a token could not be signed");
            unavailable.clone()
        };
        let claims = serde_json::to_vec(&claims).map_err(|error| failed(&error))?;
        let access_token = signer
            .sign_token(grant.token_type, &claims)
            .map_err(|error| failed(&error))?;
        let hint_starts = access_token.len().saturating_sub(TOKEN_HINT_CHARS);
        let fact = TokenIssued {
            jti,
            application_id: application.id,
            application_uri: application.uri.clone(),
            secret_id: grant.secret_id,
            auth_method: request.auth_method,
            dialect: request.dialect,
            scope_requested: request.scope.as_ref().map(|scope| Scope::of(scope.tokens())),
            scope: grant.scope.clone(),
            audiences: grant.audiences,
            system_user: grant.system_user,
            org_code: application.org_code.clone(),
            kid: signer.kid().clone(),
            alg: grant.algorithm,
            issued_at: now,
            expires_at: Timestamp::from_unix_micros(expires_at.saturating_mul(1_000_000)),
            token_hint: access_token.get(hint_starts..).unwrap_or_default().to_owned(),
        };
        Ok((
            Issued {
                access_token,
                expires_in,
                scope: grant.scope,
            },
            fact,
        ))
    }

    async fn refused(&self, denied: Denied, circumstances: &Circumstances) -> OAuthError {
        let Denied { error, actor, fact } = denied;
        if actor == Actor::Anonymous {
            match self.spend_refusal(circumstances).await {
                Ok(None) => {}
                Ok(Some(retry_after_seconds)) => return OAuthError::SlowDown { retry_after_seconds },
                Err(not_recorded) => return unavailable(not_recorded),
            }
        }
        let stream = StreamName::token_requests(fact.application_id);
        match self
            .record(
                stream,
                ExpectedRevision::Any,
                &actor,
                circumstances,
                [Event::from(fact)],
            )
            .await
        {
            Ok(_) => error,
            Err(not_recorded) => unavailable(not_recorded),
        }
    }

    fn throttled(&self, client_id: Option<&str>, source: IpAddr, suppressed: u64) -> RequestsThrottled {
        RequestsThrottled {
            client_id: client_id.map(str::to_owned),
            application_id: client_id.and_then(|client_id| self.known_application(client_id)),
            source,
            window_seconds: self.throttle.window_seconds(),
            suppressed,
        }
    }

    fn known_application(&self, client_id: &str) -> Option<ApplicationId> {
        let id = ApplicationId::of_client_id(client_id);
        self.snapshot()
            .directory
            .application(id)
            .map(|application| application.id)
    }

    fn count(&self, dialect: Dialect, error: Option<&'static str>) {
        let outcome = if error.is_none() { "success" } else { "refused" };
        self.metrics
            .token_request(dialect.as_str(), outcome, error.unwrap_or("none"));
    }
}

/// A presented client_id as events and counters keep it. Clients that mix up id, secret and token are common enough: what
/// is one of our secrets or reference tokens is kept as its hint.
pub(super) fn kept_client_id(client_id: &str) -> String {
    let prefix = if ClientSecret::is_well_formed(client_id) {
        "gls_"
    } else if reference_token::presented_hash(client_id).is_some() {
        "glr_"
    } else {
        return presented_client_id(client_id);
    };
    let hint_starts = client_id.len().saturating_sub(SECRET_HINT_CHARS);
    format!("{prefix}…{}", client_id.get(hint_starts..).unwrap_or_default())
}

/// Rounded up: who comes back then is not too early.
pub(super) fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

pub(super) fn source_ip(circumstances: &Circumstances) -> IpAddr {
    circumstances
        .source
        .as_ref()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |source| source.ip)
}

/// Nothing is granted, and nothing refused, that is not on the record.
pub(super) fn unavailable(error: ServiceError) -> OAuthError {
    if !error.is_told_elsewhere() {
        tracing::error!(%error, "a token request could not be recorded");
    }
    OAuthError::TemporarilyUnavailable {
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::reference_token::ReferenceTokenText;

    #[test]
    fn a_secret_or_a_token_in_the_wrong_place_is_kept_as_its_hint() {
        let secret = ClientSecret::generate().unwrap();
        let token = ReferenceTokenText::generate().unwrap();
        assert_eq!(kept_client_id(secret.expose()), format!("gls_…{}", secret.hint()));
        assert_eq!(kept_client_id(token.expose()), format!("glr_…{}", token.hint()));
        assert_eq!(kept_client_id("my.trusted.app/service"), "my.trusted.app/service");
    }
}
