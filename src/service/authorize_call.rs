//! A call of Grantlog's own endpoints: on the record before anything else happens.

use crate::credentials::verification::{Bearer, VerifiedToken, token_hint, verify_access_token};
use crate::event_store::ExpectedRevision;
use crate::policy::Authority;
use crate::policy::authorize_call::authorize_call;
use crate::service::record::{Circumstances, Commander};
use crate::service::{Service, ServiceError};
use grantlog_projections::event::{ApiCallAuthorized, ApiCallDenied, DenialReason, Via};
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, Scope, StreamName, Timestamp};

/// How far a verifier's clock may be off, in seconds.
pub(super) const LEEWAY_SECONDS: u32 = 30;
/// Characters of a path that its event keeps.
const MAX_PATH_CHARS: usize = 1_024;
/// The same when the call was refused: anybody can make those.
const MAX_DENIED_PATH_CHARS: usize = 256;

/// A call.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The bearer token, if there is one.
    pub bearer: Option<&'a str>,
    /// The HTTP method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The scope that it needs.
    pub required_scope: &'static str,
}

/// A caller that was let through.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is.
    pub application_uri: ApplicationUri,
    /// What its token allows.
    pub scope: Scope,
    /// When its token is over.
    pub token_expires_at: Timestamp,
}

impl Caller {
    /// As events name it.
    pub fn actor(&self) -> Actor {
        Actor::Application(self.application_uri.clone())
    }

    /// As somebody who gives commands.
    pub fn commander(&self) -> Commander {
        Commander {
            actor: self.actor(),
            authority: Authority::Scope(self.scope.clone()),
        }
    }
}

/// Why a call was not let through (RFC 6750 §3.1).
#[derive(Debug, thiserror::Error)]
pub enum CallRefused {
    /// There is no token.
    #[error("a bearer token is needed")]
    NoToken,
    /// The token opens nothing.
    #[error("the bearer token is not valid: {0}")]
    InvalidToken(&'static str),
    /// The token lacks the scope.
    #[error("the bearer token lacks the scope {0}")]
    InsufficientScope(&'static str),
    /// Too many calls of this source were refused.
    #[error("too many refused requests from this address")]
    SlowDown {
        /// When to come back, in seconds.
        retry_after_seconds: u32,
    },
    /// The call cannot be recorded, so it did not happen.
    #[error(transparent)]
    NotRecorded(#[from] ServiceError),
}

impl Service {
    /// Decides a call and records the decision; answers when that is durable.
    pub async fn authorize_call(&self, call: Call<'_>, circumstances: &Circumstances) -> Result<Caller, CallRefused> {
        if let Some(reason) = self.out_of_date() {
            return Err(ServiceError::Busy(reason).into());
        }
        match self.decide_call(call, circumstances) {
            Ok(token) => {
                let caller = Caller {
                    application_uri: token.client_id.clone(),
                    scope: token.scope.clone(),
                    token_expires_at: token.expires_at,
                };
                let fact = self.authorized(call, &token);
                let stream = StreamName::api_calls(Some(fact.application_id));
                self.record(
                    stream,
                    ExpectedRevision::Any,
                    &caller.actor(),
                    circumstances,
                    [fact.into()],
                )
                .await?;
                Ok(caller)
            }
            Err((reason, bearer)) => {
                let refused = refusal(reason, call.required_scope);
                // Whoever lacks a scope has a token that is in order.
                if reason != DenialReason::InsufficientScope
                    && let Some(retry_after_seconds) = self.spend_refusal(circumstances).await?
                {
                    return Err(CallRefused::SlowDown { retry_after_seconds });
                }
                let fact = self.denied(call, bearer.as_ref(), reason, &refused);
                let stream = StreamName::api_calls(fact.application_id);
                let actor = bearer.map_or(Actor::Anonymous, |bearer| Actor::Application(bearer.client_id));
                self.record(stream, ExpectedRevision::Any, &actor, circumstances, [fact.into()])
                    .await?;
                Err(refused)
            }
        }
    }

    /// The token if it opens the endpoint; else why not, and whose it is when that is proven.
    fn decide_call(
        &self,
        call: Call<'_>,
        circumstances: &Circumstances,
    ) -> Result<VerifiedToken, (DenialReason, Option<Bearer>)> {
        let token = verify_access_token(
            call.bearer.unwrap_or(""),
            &self.keys.verification(),
            &self.settings.issuer,
            &self.settings.policy.issuer,
            circumstances.now,
            LEEWAY_SECONDS,
        )
        .map_err(|invalid| (invalid.reason(), invalid.bearer().cloned()))?;
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(ApplicationId::of(&token.client_id));
        match authorize_call(application.map(|found| &**found), &token.scope, call.required_scope) {
            Ok(()) => Ok(token),
            Err(reason) => Err((
                reason,
                Some(Bearer {
                    jti: token.jti,
                    client_id: token.client_id,
                }),
            )),
        }
    }

    fn authorized(&self, call: Call<'_>, token: &VerifiedToken) -> ApiCallAuthorized {
        ApiCallAuthorized {
            via: Via::Admin,
            application_id: ApplicationId::of(&token.client_id),
            application_uri: token.client_id.clone(),
            jti: token.jti,
            token_hint: token.token_hint.clone(),
            system_user: token.system_user.clone(),
            org_code: token.org_code.clone(),
            audience: self.settings.policy.issuer.clone(),
            method: call.method.to_owned(),
            path: cut(call.path, MAX_PATH_CHARS),
            required_scope: call.required_scope.to_owned(),
        }
    }

    fn denied(
        &self,
        call: Call<'_>,
        bearer: Option<&Bearer>,
        reason: DenialReason,
        refused: &CallRefused,
    ) -> ApiCallDenied {
        ApiCallDenied {
            via: Via::Admin,
            application_id: bearer.map(|bearer| ApplicationId::of(&bearer.client_id)),
            application_uri: bearer.map(|bearer| bearer.client_id.clone()),
            jti: bearer.map(|bearer| bearer.jti),
            token_hint: call.bearer.and_then(token_hint),
            audience: self.settings.policy.issuer.clone(),
            method: call.method.to_owned(),
            path: cut(call.path, MAX_DENIED_PATH_CHARS),
            required_scope: call.required_scope.to_owned(),
            error: refused.code().to_owned(),
            reason,
        }
    }
}

impl CallRefused {
    /// The error code that the caller is told (RFC 6750 §3.1).
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "missing_token",
            Self::InvalidToken(_) => "invalid_token",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::SlowDown { .. } => "slow_down",
            Self::NotRecorded(_) => "temporarily_unavailable",
        }
    }
}

fn refusal(reason: DenialReason, required_scope: &'static str) -> CallRefused {
    match reason {
        DenialReason::MissingToken => CallRefused::NoToken,
        DenialReason::InsufficientScope => CallRefused::InsufficientScope(required_scope),
        DenialReason::TokenExpired => CallRefused::InvalidToken("it has expired"),
        DenialReason::TokenNotYetValid => CallRefused::InvalidToken("it is not valid yet"),
        DenialReason::WrongIssuer => CallRefused::InvalidToken("it is of another issuer"),
        DenialReason::WrongAudience => CallRefused::InvalidToken("it is for another audience"),
        DenialReason::ApplicationDisabled => CallRefused::InvalidToken("its application is disabled or deleted"),
        DenialReason::MalformedToken | DenialReason::UnknownKey | DenialReason::BadSignature => {
            CallRefused::InvalidToken("it is not a token of this server")
        }
    }
}

fn cut(path: &str, most: usize) -> String {
    path.chars().take(most).collect()
}
