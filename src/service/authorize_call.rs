//! A call of Grantlog's own endpoints: on the record before anything else happens.

use crate::credentials::{TokenInvalid, VerifiedToken, verify_access_token};
use crate::event_store::ExpectedRevision;
use crate::policy::authorize_call::authorize_call;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::{ApiCallAuthorized, ApiCallDenied, DenialReason, Via};
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, StreamName};

/// How far a verifier's clock may be off, in seconds.
const LEEWAY_SECONDS: i64 = 30;
/// Characters of a path that its event keeps.
const MAX_PATH_CHARS: usize = 1_024;
/// The characters at a token's end that an event keeps.
const TOKEN_HINT_CHARS: usize = 8;

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
}

impl Caller {
    /// As events name it.
    pub fn actor(&self) -> Actor {
        Actor::Application(self.application_uri.clone())
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
    /// The call cannot be recorded, so it did not happen.
    #[error(transparent)]
    NotRecorded(#[from] ServiceError),
}

impl Service {
    /// Decides a call and records the decision; answers when that is durable.
    pub async fn authorize_call(&self, call: Call<'_>, circumstances: &Circumstances) -> Result<Caller, CallRefused> {
        let verified = self.verify(call.bearer, circumstances);
        let (token, denial) = match verified {
            Err(denial) => (None, Some(denial)),
            Ok(token) => {
                let snapshot = self.snapshot();
                let application = snapshot.directory.application(ApplicationId::of(&token.client_id));
                let decision = authorize_call(application.map(|found| &**found), &token.scope, call.required_scope);
                (Some(token), decision.err())
            }
        };
        match (token, denial) {
            (Some(token), None) => {
                let caller = Caller { application_uri: token.client_id.clone() };
                let fact = self.authorized(call, &token);
                let stream = StreamName::api_calls(Some(fact.application_id));
                self.record(stream, ExpectedRevision::Any, &caller.actor(), circumstances, [fact.into()]).await?;
                Ok(caller)
            }
            (token, denial) => {
                let reason = denial.unwrap_or(DenialReason::MissingToken);
                let refused = refusal(reason, call.required_scope);
                let fact = self.denied(call, token.as_ref(), reason, &refused);
                let stream = StreamName::api_calls(fact.application_id);
                let actor = token.map_or(Actor::Anonymous, |token| Actor::Application(token.client_id));
                self.record(stream, ExpectedRevision::Any, &actor, circumstances, [fact.into()]).await?;
                Err(refused)
            }
        }
    }

    fn verify(&self, bearer: Option<&str>, circumstances: &Circumstances) -> Result<VerifiedToken, DenialReason> {
        let token = bearer.ok_or(DenialReason::MissingToken)?;
        verify_access_token(
            token,
            &self.keys.verification(),
            &self.settings.issuer,
            self.settings.policy.issuer.as_str(),
            circumstances.now,
            LEEWAY_SECONDS,
        )
        .map_err(TokenInvalid::into)
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
            path: cut(call.path),
            required_scope: call.required_scope.to_owned(),
        }
    }

    fn denied(
        &self,
        call: Call<'_>,
        token: Option<&VerifiedToken>,
        reason: DenialReason,
        refused: &CallRefused,
    ) -> ApiCallDenied {
        ApiCallDenied {
            via: Via::Admin,
            application_id: token.map(|token| ApplicationId::of(&token.client_id)),
            application_uri: token.map(|token| token.client_id.clone()),
            jti: token.map(|token| token.jti),
            token_hint: call.bearer.map(hint),
            audience: self.settings.policy.issuer.clone(),
            method: call.method.to_owned(),
            path: cut(call.path),
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

/// The end of what was presented, if it is long enough for its end to tell nothing.
fn hint(token: &str) -> String {
    const MUCH_LONGER_CHARS: usize = 64;
    let chars = token.chars().count();
    if chars < MUCH_LONGER_CHARS || !token.is_ascii() {
        return String::new();
    }
    token.chars().skip(chars - TOKEN_HINT_CHARS).collect()
}

fn cut(path: &str) -> String {
    path.chars().take(MAX_PATH_CHARS).collect()
}
