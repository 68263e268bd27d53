//! A call of an API: on the record before anything else happens, whichever way it came.

use crate::credentials::reference_token::{is_reference_token, presented_hash};
use crate::credentials::verification::{Bearer, token_hint};
use crate::event_store::ExpectedRevision;
use crate::policy::Authority;
use crate::policy::authorize_call::{Demand, Presented, authorize_call};
use crate::service::record::{Circumstances, Commander};
use crate::service::sessions::{TokenAtWork, Turn};
use crate::service::verified_tokens::Signed;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{
    ApiCallAuthorized, ApiCallDenied, DenialReason, SessionEnd, SessionEnded, SessionStarted, TokenIssued, TokenKind,
    Via,
};
use grantlog_projections::sessions::Session;
use grantlog_projections::tokens::time_of;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    Actor, ApplicationId, ApplicationUri, Audience, NodeName, OrgCode, Scope, SecretId, StreamName, SystemUser,
    Timestamp,
};
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// How far a verifier's clock may be off, in seconds (RFC 7519 §4.1.4).
pub const LEEWAY_SECONDS: u32 = 30;
/// A token that was signed so long after its secret was revoked cannot have been asked for with it, in seconds.
const SECRET_GRACE_SECONDS: i64 = 60;
/// Characters of a path that its event keeps.
const MAX_PATH_CHARS: usize = 1_024;
/// The same when the call was refused: anybody can make those.
const MAX_DENIED_PATH_CHARS: usize = 256;
/// Characters of a method that an event keeps.
const MAX_METHOD_CHARS: usize = 32;
/// A call is decided anew this often when what it was decided on changes while it is being recorded.
const MAX_ATTEMPTS: usize = 5;

/// What was presented with a call.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// A token.
    Token(&'a str),
    /// More than one: the next server may believe the other.
    Several,
}

impl<'a> Credential<'a> {
    /// Stands for something that was presented as a token and cannot be one.
    pub const NO_TOKEN: Self = Self::Token("?");

    /// What was presented where reference tokens alone may be. An access token in the wrong place is none: it would
    /// pass where nobody looks for it.
    pub fn of_api_key(key: &'a str) -> Self {
        match is_reference_token(key) {
            true => Self::Token(key),
            false => Self::NO_TOKEN,
        }
    }

    fn token(self) -> Option<&'a str> {
        match self {
            Self::Token(token) => Some(token),
            Self::None | Self::Several => None,
        }
    }

    pub(super) fn kind(self) -> TokenKind {
        match self.token().is_some_and(is_reference_token) {
            true => TokenKind::Reference,
            false => TokenKind::Jwt,
        }
    }
}

/// A call.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// How it came to Grantlog.
    pub via: Via,
    /// What was presented with it.
    pub credential: Credential<'a>,
    /// The API that it is for.
    pub audience: &'a Audience,
    /// The HTTP method.
    pub method: &'a str,
    /// The path as the record is to have it.
    pub path: &'a str,
    /// The scope that it needs, space-separated: all of it. Empty: any token will do.
    pub required_scope: &'a str,
    /// The organisation whose data it asks for, where the path says so.
    pub org_code: Option<&'a str>,
    /// Why it is not let through, whatever is presented: it is only to be recorded.
    pub ruled_out: Option<&'a RuledOut>,
}

/// Why a call is none that can be let through, whoever makes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuledOut {
    /// No rule of the route is for it.
    #[error("no rule lets this method and path through")]
    NoRule,
    /// Two servers could read its path in two ways: how.
    #[error("{0}")]
    AmbiguousPath(String),
    /// Its method is not for APIs.
    #[error("this method is not handed on")]
    MethodNotImplemented,
    /// It asks for another protocol.
    #[error("other protocols (WebSocket) are not handed on")]
    UpgradeNotImplemented,
    /// It announces a larger body than the API takes.
    #[error("a body may have {most_bytes} bytes")]
    BodyTooLarge {
        /// The largest that it takes.
        most_bytes: u64,
    },
}

impl RuledOut {
    fn reason(&self) -> DenialReason {
        match self {
            Self::NoRule => DenialReason::NoRule,
            Self::AmbiguousPath(_) => DenialReason::AmbiguousPath,
            Self::MethodNotImplemented => DenialReason::MethodNotImplemented,
            Self::UpgradeNotImplemented => DenialReason::UpgradeNotImplemented,
            Self::BodyTooLarge { .. } => DenialReason::BodyTooLarge,
        }
    }

    /// The error code that the caller is told.
    fn code(&self) -> &'static str {
        match self {
            Self::NoRule => "insufficient_scope",
            Self::AmbiguousPath(_) => "ambiguous_request",
            Self::MethodNotImplemented => "method_not_implemented",
            Self::UpgradeNotImplemented => "upgrade_not_implemented",
            Self::BodyTooLarge { .. } => "body_too_large",
        }
    }
}

/// A caller that was let through.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is.
    pub application_uri: ApplicationUri,
    /// Its id.
    pub application_id: ApplicationId,
    /// What its token allows, and the application still may.
    pub scope: Scope,
    /// The service account that the token acts as.
    pub system_user: Option<SystemUser>,
    /// The organisation that the token is bound to.
    pub org_code: Option<OrgCode>,
    /// The token's id.
    pub token_id: Uuid,
    /// What kind of token it is.
    pub token_kind: TokenKind,
    /// When the token was signed, or made.
    pub token_issued_at: Timestamp,
    /// When its token is over.
    pub token_expires_at: Timestamp,
    /// The session that the call belongs to.
    pub session_id: Uuid,
    /// Where it called from.
    pub source_ip: Option<IpAddr>,
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

    /// What its token says.
    pub(super) fn presented(&self) -> Presented<'_> {
        Presented {
            kind: self.token_kind,
            scope: &self.scope,
            org_code: self.org_code.as_ref(),
            source_ip: self.source_ip,
        }
    }
}

/// Why a call was not let through (RFC 6750 §3.1).
#[derive(Debug, thiserror::Error)]
pub enum CallRefused {
    /// There is no token.
    #[error("a bearer token is needed")]
    NoToken,
    /// The token is in more than one place.
    #[error("one token is needed, not several")]
    SeveralTokens,
    /// The token opens nothing.
    #[error("the bearer token is not valid: {0}")]
    InvalidToken(&'static str),
    /// The token lacks the scope.
    #[error("the bearer token lacks the scope {0}")]
    InsufficientScope(String),
    /// The token is bound to another organisation, or to none.
    #[error("the token is not bound to this organisation")]
    OrgMismatch,
    /// The token has no session, and its application has as many as it may.
    #[error("the application has as many sessions as it may: let one end, or use a token that has one")]
    TooManySessions,
    /// Whoever made the call, it would not be let through.
    #[error(transparent)]
    RuledOut(RuledOut),
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

/// A token that holds, of either kind.
#[derive(Clone)]
pub(super) struct Holder {
    pub kind: TokenKind,
    pub jti: Uuid,
    pub client_id: ApplicationUri,
    pub application_id: ApplicationId,
    pub scope: Scope,
    pub system_user: Option<SystemUser>,
    pub org_code: Option<OrgCode>,
    /// When it was made, to the millisecond where that is known: revocations go by it.
    pub issued_at: Timestamp,
    /// What the token itself says (`iat`, in whole seconds).
    pub says_issued_at: Timestamp,
    /// What the token itself says (`nbf`).
    pub not_before: Timestamp,
    pub expires_at: Timestamp,
    pub hint: String,
    /// The APIs of an access token that nobody presented: its event tells.
    audiences: Vec<Audience>,
    /// An access token, with what is remembered of it.
    signed: Option<Arc<Signed>>,
}

/// A token as its event has it: no signature was looked at.
impl From<&TokenIssued> for Holder {
    fn from(issued: &TokenIssued) -> Self {
        Self {
            kind: TokenKind::Jwt,
            jti: issued.jti,
            client_id: issued.application_uri.clone(),
            application_id: issued.application_id,
            scope: issued.scope.clone(),
            system_user: Some(issued.system_user.clone()),
            org_code: issued.org_code.clone(),
            issued_at: issued.issued_at,
            says_issued_at: issued.issued_at,
            not_before: issued.issued_at,
            expires_at: issued.expires_at,
            hint: issued.token_hint.clone(),
            audiences: issued.audiences.clone(),
            signed: None,
        }
    }
}

/// The token of a session, as far as a revocation has to know it.
impl From<&Session> for Holder {
    fn from(session: &Session) -> Self {
        let issued_at = signed_at(session.jti).unwrap_or(session.started_at);
        Self {
            kind: session.token_kind,
            jti: session.jti,
            client_id: session.application_uri.clone(),
            application_id: session.application_id,
            scope: Scope::none(),
            system_user: session.system_user.clone(),
            org_code: None,
            issued_at,
            says_issued_at: issued_at,
            not_before: issued_at,
            expires_at: session.token_expires_at,
            hint: String::new(),
            audiences: Vec::new(),
            signed: None,
        }
    }
}

/// Why a token opens nothing, and whose it is when that is proven.
pub(super) struct Invalid {
    pub reason: DenialReason,
    pub bearer: Option<Bearer>,
}

impl Invalid {
    pub fn of(holder: &Holder, reason: DenialReason) -> Self {
        let bearer = Bearer {
            jti: holder.jti,
            client_id: holder.client_id.clone(),
        };
        Self {
            reason,
            bearer: Some(bearer),
        }
    }

    fn of_nobody(reason: DenialReason) -> Self {
        Self { reason, bearer: None }
    }
}

/// Why a decision could not be made, or what it is.
pub(super) enum Undecided {
    Denied(Invalid),
    Failed(ServiceError),
}

impl From<Invalid> for Undecided {
    fn from(invalid: Invalid) -> Self {
        Self::Denied(invalid)
    }
}

impl From<ServiceError> for Undecided {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

impl Service {
    /// Decides a call and records the decision; answers when that is durable.
    pub async fn authorize_call(&self, call: Call<'_>, circumstances: &Circumstances) -> Result<Caller, CallRefused> {
        if let Some(reason) = self.out_of_date() {
            return Err(ServiceError::Busy(reason).into());
        }
        let denied = match self.let_through(call, circumstances).await {
            Ok(caller) => {
                self.metrics.api_call(call.via, None);
                return Ok(caller);
            }
            Err(Undecided::Failed(error)) => return Err(error.into()),
            Err(Undecided::Denied(denied)) => denied,
        };
        // Whoever lacks a scope has a token that is in order.
        if !has_a_token_in_order(denied.reason)
            && let Some(retry_after_seconds) = self.spend_refusal(circumstances).await?
        {
            return Err(CallRefused::SlowDown { retry_after_seconds });
        }
        let refused = match call.ruled_out {
            Some(ruled_out) if ruled_out.reason() == denied.reason => CallRefused::RuledOut(ruled_out.clone()),
            _ => refusal(denied.reason, call.required_scope),
        };
        let bearer = denied.bearer;
        let actor = bearer
            .as_ref()
            .map_or(Actor::Anonymous, |bearer| Actor::Application(bearer.client_id.clone()));
        let fact = denied_fact(call, bearer.as_ref(), denied.reason, refused.code());
        let stream = StreamName::api_calls(fact.application_id);
        self.record(stream, ExpectedRevision::Any, &actor, circumstances, [fact.into()])
            .await?;
        self.metrics.api_call(call.via, Some(denied.reason));
        Err(refused)
    }

    /// Decides, and records a call that is let through. What it was decided on is looked at once more when it is on
    /// the record: whoever revokes a token is answered when the snapshot has that, and from then on no call passes.
    async fn let_through(&self, call: Call<'_>, circumstances: &Circumstances) -> Result<Caller, Undecided> {
        let holder = self.decide_call(call, circumstances).await?;
        let actor = Actor::Application(holder.client_id.clone());
        let session_id = self
            .record_call(call.via, &holder, &actor, circumstances, |session_id| {
                authorized_fact(call, &holder, session_id)
            })
            .await?;
        self.check(call, &holder, circumstances).await?;
        let scope = self.present_scope(&holder);
        Ok(Caller {
            application_uri: holder.client_id,
            application_id: holder.application_id,
            scope,
            system_user: holder.system_user,
            org_code: holder.org_code,
            token_id: holder.jti,
            token_kind: holder.kind,
            token_issued_at: holder.issued_at,
            token_expires_at: holder.expires_at,
            session_id,
            source_ip: circumstances.source.as_ref().map(|source| source.ip),
        })
    }

    /// Records a call with this token, and the beginning of a session when the token has none; answers with the
    /// session.
    pub(super) async fn record_call(
        &self,
        via: Via,
        holder: &Holder,
        actor: &Actor,
        circumstances: &Circumstances,
        call: impl Fn(Uuid) -> ApiCallAuthorized,
    ) -> Result<Uuid, Undecided> {
        let stream = StreamName::api_calls(Some(holder.application_id));
        let token = TokenAtWork {
            jti: holder.jti,
            application_id: holder.application_id,
        };
        for _ in 0..MAX_ATTEMPTS {
            // In this order: the snapshot has read at least as far.
            let position = self.live.position();
            let snapshot = self.snapshot();
            let settings = self.settings.sessions.of_calls_by(via);
            let turn = self
                .sessions
                .turn(&snapshot.sessions, position, &settings, token, circumstances.now);
            drop(snapshot);
            match turn {
                Turn::Open(session_id) => {
                    let facts = [call(session_id).into()];
                    self.record(stream, ExpectedRevision::Any, actor, circumstances, facts)
                        .await?;
                    return Ok(session_id);
                }
                Turn::TooMany => return Err(Invalid::of(holder, DenialReason::TooManySessions).into()),
                Turn::Wait(mut ended) => {
                    // Closed, or given up: either way it is time to look again.
                    let _ = ended.changed().await;
                }
                Turn::Begin(beginning) => {
                    let session_id = beginning.session_id;
                    let mut facts: Vec<Event> = Vec::with_capacity(3);
                    // Its end is this node's to record, or another's which has not come to it yet.
                    if let Some((over, end)) = &beginning.over
                        && self.is_to_be_ended_here(over, &self.turns(), circumstances.now)
                    {
                        facts.push(ended_fact(over, *end).into());
                    }
                    facts.push(started_fact(holder, session_id, self.settings.node.clone()).into());
                    facts.push(call(session_id).into());
                    let appended = self
                        .record(stream, ExpectedRevision::Any, actor, circumstances, facts)
                        .await?;
                    beginning.begun(appended.last_index);
                    return Ok(session_id);
                }
            }
        }
        Err(ServiceError::Busy("the token's session is being begun and ended all the time".into()).into())
    }

    /// The token if it opens the endpoint; else why not.
    async fn decide_call(&self, call: Call<'_>, circumstances: &Circumstances) -> Result<Holder, Undecided> {
        let holder = self.verify_credential(call.credential, Some(call.audience), circumstances)?;
        self.check(call, &holder, circumstances).await?;
        Ok(holder)
    }

    /// What can change from one moment to the next.
    async fn check(&self, call: Call<'_>, holder: &Holder, circumstances: &Circumstances) -> Result<(), Undecided> {
        self.still_known(holder)?;
        if self.is_revoked(holder).await? {
            return Err(Invalid::of(holder, DenialReason::TokenRevoked).into());
        }
        // Whoever has no token is told that first, and nobody else what is wrong with the request.
        if let Some(ruled_out) = call.ruled_out {
            return Err(Invalid::of(holder, ruled_out.reason()).into());
        }
        let demand = Demand {
            audience: Some(call.audience),
            scope: call.required_scope,
            org_code: call.org_code,
        };
        let source_ip = circumstances.source.as_ref().map(|source| source.ip);
        self.may(holder, demand, source_ip)
            .map_err(|reason| Invalid::of(holder, reason))?;
        Ok(())
    }

    /// Whether the key that signed a token is still published: it may have been retired since.
    pub(super) fn still_known(&self, holder: &Holder) -> Result<(), Invalid> {
        match &holder.signed {
            Some(signed) if !signed.token.is_of(&self.keys.verification()) => {
                Err(Invalid::of_nobody(DenialReason::UnknownKey))
            }
            _ => Ok(()),
        }
    }

    /// Whether whoever holds this token may do what is asked for, as things are now; `source_ip`: where from, when the
    /// call came here.
    pub(super) fn may(
        &self,
        holder: &Holder,
        demand: Demand<'_>,
        source_ip: Option<IpAddr>,
    ) -> Result<(), DenialReason> {
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(holder.application_id);
        let presented = Presented {
            kind: holder.kind,
            scope: &holder.scope,
            org_code: holder.org_code.as_ref(),
            source_ip,
        };
        let default_audience = &self.settings.policy.default_audience;
        authorize_call(application.map(|found| &**found), presented, demand, default_audience)
    }

    /// The token behind what was presented, if it is one of ours, of this time, and for this audience (none: for any).
    /// Whether it was revoked is another question.
    pub(super) fn verify_credential(
        &self,
        credential: Credential<'_>,
        audience: Option<&Audience>,
        circumstances: &Circumstances,
    ) -> Result<Holder, Invalid> {
        let token = match credential {
            Credential::None | Credential::Token("") => return Err(Invalid::of_nobody(DenialReason::MissingToken)),
            Credential::Several => return Err(Invalid::of_nobody(DenialReason::SeveralTokens)),
            Credential::Token(token) => token,
        };
        match credential.kind() {
            TokenKind::Reference => self.verify_reference_token(token, audience, circumstances),
            TokenKind::Jwt => self.verify_jwt(token, audience, circumstances),
        }
    }

    fn verify_jwt(
        &self,
        token: &str,
        audience: Option<&Audience>,
        circumstances: &Circumstances,
    ) -> Result<Holder, Invalid> {
        let signed = self
            .verified_tokens
            .open(token, &self.keys.verification())
            .map_err(|invalid| Invalid::of_nobody(invalid.reason()))?;
        // Each of its own audiences is one that it is for.
        let audience = audience.or(signed.token.audiences().first());
        let audience = audience.unwrap_or(&self.settings.policy.issuer);
        let verified = signed
            .token
            .verify(&self.settings.issuer, audience, circumstances.now, LEEWAY_SECONDS)
            .map_err(|invalid| Invalid {
                reason: invalid.reason(),
                bearer: invalid.bearer().cloned(),
            })?;
        Ok(Holder {
            kind: TokenKind::Jwt,
            jti: verified.jti,
            application_id: signed.application_id,
            client_id: verified.client_id,
            scope: verified.scope,
            system_user: verified.system_user,
            org_code: verified.org_code,
            issued_at: signed_at(verified.jti).unwrap_or(verified.issued_at),
            says_issued_at: verified.issued_at,
            not_before: verified.not_before,
            expires_at: verified.expires_at,
            hint: verified.token_hint,
            audiences: Vec::new(),
            signed: Some(signed),
        })
    }

    fn verify_reference_token(
        &self,
        token: &str,
        audience: Option<&Audience>,
        circumstances: &Circumstances,
    ) -> Result<Holder, Invalid> {
        let Some(hash) = presented_hash(token) else {
            return Err(Invalid::of_nobody(DenialReason::MalformedToken));
        };
        let found = self.snapshot().tokens.reference_of(&hash).map(|found| found.id);
        let Some(holder) = found.and_then(|id| self.reference_holder(id)) else {
            return Err(Invalid::of_nobody(DenialReason::UnknownToken));
        };
        if circumstances.now >= holder.expires_at {
            return Err(Invalid::of(&holder, DenialReason::TokenExpired));
        }
        if audience.is_some_and(|audience| !self.audiences_of_token(&holder).contains(audience)) {
            return Err(Invalid::of(&holder, DenialReason::WrongAudience));
        }
        Ok(holder)
    }

    /// The holder of the reference token with this id. What it acts as is what its application acts as now.
    pub(super) fn reference_holder(&self, id: Uuid) -> Option<Holder> {
        let snapshot = self.snapshot();
        let found = snapshot.tokens.reference(id)?;
        let application = snapshot.directory.application(found.application_id);
        let system_user = application.and_then(|application| {
            let system_user = application.system_user.clone();
            system_user.filter(|_| application.system_user_allowed)
        });
        Some(Holder {
            kind: TokenKind::Reference,
            jti: found.id,
            client_id: found.application_uri.clone(),
            application_id: found.application_id,
            scope: found.scope.clone(),
            system_user,
            org_code: application.and_then(|application| application.org_code.clone()),
            issued_at: found.issued_at,
            says_issued_at: found.issued_at,
            not_before: found.issued_at,
            expires_at: found.expires_at,
            hint: found.hint.clone(),
            audiences: Vec::new(),
            signed: None,
        })
    }

    /// What a token allows and its application still may: what is taken from an application is taken from its tokens.
    pub(super) fn present_scope(&self, holder: &Holder) -> Scope {
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(holder.application_id);
        match application.map(|application| &application.scope) {
            Some(present) if holder.scope.tokens().all(|token| present.contains(token)) => holder.scope.clone(),
            Some(present) => Scope::of(holder.scope.tokens().filter(|token| present.contains(token))),
            None => Scope::none(),
        }
    }

    /// The APIs that a token is for and its application still may ask for.
    pub(super) fn present_audiences(&self, holder: &Holder) -> Vec<Audience> {
        let mut audiences = self.audiences_of_token(holder);
        if let Some(application) = self.snapshot().directory.application(holder.application_id) {
            let present = self.audiences_of(application);
            audiences.retain(|audience| present.contains(audience));
        }
        audiences
    }

    /// The APIs that a token is for.
    pub(super) fn audiences_of_token(&self, holder: &Holder) -> Vec<Audience> {
        if let Some(signed) = &holder.signed {
            return signed.token.audiences().to_vec();
        }
        if holder.kind == TokenKind::Jwt {
            return holder.audiences.clone();
        }
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(holder.application_id);
        // What is taken from an application is taken from its reference tokens, too.
        let mut audiences = application.map_or_else(Vec::new, |application| self.audiences_of(application));
        if let Some(token) = snapshot
            .tokens
            .reference(holder.jti)
            .filter(|token| !token.audiences.is_empty())
        {
            audiences.retain(|audience| token.audiences.contains(audience));
        }
        audiences
    }

    /// The APIs that an application may ask for; one that has none gets the default one (docs/decisions/0004).
    pub(super) fn audiences_of(&self, application: &TrustedApplication) -> Vec<Audience> {
        match &application.audiences[..] {
            [] => vec![self.settings.policy.default_audience.clone()],
            audiences => audiences.to_vec(),
        }
    }

    /// Whether a token was revoked: itself, with all of its application's, or with its secret.
    pub(super) async fn is_revoked(&self, holder: &Holder) -> Result<bool, ServiceError> {
        let suspects = match self.revocation(holder.kind, holder.application_id, holder.jti, holder.issued_at) {
            Revocation::None => return Ok(false),
            Revocation::Certain => return Ok(true),
            Revocation::WithSecret(suspects) => suspects,
        };
        // A token does not say which secret it was asked for with; its event does.
        let known = holder.signed.as_ref().map(|signed| &signed.secret_id);
        let secret_id = match known.and_then(|known| known.get()) {
            Some(secret_id) => Some(*secret_id),
            None => self.secret_of_token(holder.application_id, holder.jti).await?,
        };
        if let (Some(known), Some(secret_id)) = (known, secret_id) {
            let _ = known.set(secret_id);
        }
        // A token without an event is none that we have given out.
        Ok(secret_id.is_none_or(|secret_id| suspects.contains(&secret_id)))
    }

    /// What the state alone tells about the revocation of a token.
    pub(super) fn revocation(
        &self,
        kind: TokenKind,
        application: ApplicationId,
        jti: Uuid,
        issued_at: Timestamp,
    ) -> Revocation {
        let tokens = &self.snapshot().tokens;
        match kind {
            TokenKind::Reference => match tokens.reference(jti) {
                Some(token) if tokens.reference_revoked_at(token).is_none() => Revocation::None,
                _ => Revocation::Certain,
            },
            TokenKind::Jwt if tokens.revoked_at(application, jti, issued_at).is_some() => Revocation::Certain,
            TokenKind::Jwt => {
                let since = issued_at.plus_seconds(-SECRET_GRACE_SECONDS);
                let suspects: Vec<SecretId> = tokens.secrets_revoked_since(application, since).collect();
                match suspects.is_empty() {
                    true => Revocation::None,
                    false => Revocation::WithSecret(suspects),
                }
            }
        }
    }
}

/// What the state tells about the revocation of a token.
pub(super) enum Revocation {
    /// It was not revoked.
    None,
    /// It was.
    Certain,
    /// It was, if it was asked for with one of these secrets.
    WithSecret(Vec<SecretId>),
}

/// A token's id is that of its event, a UUIDv7, so it tells when it was made, to the millisecond.
pub(super) fn signed_at(jti: Uuid) -> Option<Timestamp> {
    time_of(jti)
}

fn authorized_fact(call: Call<'_>, holder: &Holder, session_id: Uuid) -> ApiCallAuthorized {
    ApiCallAuthorized {
        via: call.via,
        application_id: holder.application_id,
        application_uri: holder.client_id.clone(),
        jti: holder.jti,
        token_hint: holder.hint.clone(),
        system_user: holder.system_user.clone(),
        org_code: holder.org_code.clone(),
        audience: call.audience.clone(),
        method: cut(call.method, MAX_METHOD_CHARS),
        path: cut(call.path, MAX_PATH_CHARS),
        required_scope: call.required_scope.to_owned(),
        session_id: Some(session_id),
        token_kind: holder.kind,
        report: None,
    }
}

fn denied_fact(call: Call<'_>, bearer: Option<&Bearer>, reason: DenialReason, error: &str) -> ApiCallDenied {
    ApiCallDenied {
        via: call.via,
        application_id: bearer.map(|bearer| ApplicationId::of(&bearer.client_id)),
        application_uri: bearer.map(|bearer| bearer.client_id.clone()),
        jti: bearer.map(|bearer| bearer.jti),
        token_hint: call.credential.token().and_then(token_hint),
        audience: call.audience.clone(),
        method: cut(call.method, MAX_METHOD_CHARS),
        path: cut(call.path, MAX_DENIED_PATH_CHARS),
        required_scope: call.required_scope.to_owned(),
        error: error.to_owned(),
        reason,
        token_kind: call.credential.kind(),
        report: None,
    }
}

fn started_fact(holder: &Holder, session_id: Uuid, node: Option<NodeName>) -> SessionStarted {
    SessionStarted {
        session_id,
        application_id: holder.application_id,
        application_uri: holder.client_id.clone(),
        jti: holder.jti,
        token_kind: holder.kind,
        system_user: holder.system_user.clone(),
        token_expires_at: holder.expires_at,
        node,
    }
}

pub(super) fn ended_fact(session: &Session, reason: SessionEnd) -> SessionEnded {
    SessionEnded {
        session_id: session.id,
        application_id: session.application_id,
        application_uri: session.application_uri.clone(),
        jti: session.jti,
        reason,
        remark: None,
    }
}

impl CallRefused {
    /// The error code that the caller is told (RFC 6750 §3.1).
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "missing_token",
            Self::SeveralTokens => "invalid_request",
            Self::InvalidToken(_) => "invalid_token",
            Self::InsufficientScope(_) | Self::OrgMismatch | Self::TooManySessions => "insufficient_scope",
            Self::RuledOut(ruled_out) => ruled_out.code(),
            Self::SlowDown { .. } => "slow_down",
            Self::NotRecorded(_) => "temporarily_unavailable",
        }
    }
}

/// Whether a call was refused although its token is good for other calls: such a caller guesses nothing.
fn has_a_token_in_order(reason: DenialReason) -> bool {
    matches!(
        reason,
        DenialReason::InsufficientScope
            | DenialReason::OrgMismatch
            | DenialReason::TooManySessions
            | DenialReason::NoRule
            | DenialReason::AmbiguousPath
            | DenialReason::MethodNotImplemented
            | DenialReason::UpgradeNotImplemented
            | DenialReason::BodyTooLarge
    )
}

fn refusal(reason: DenialReason, required_scope: &str) -> CallRefused {
    match reason {
        DenialReason::MissingToken => CallRefused::NoToken,
        DenialReason::SeveralTokens => CallRefused::SeveralTokens,
        DenialReason::InsufficientScope => CallRefused::InsufficientScope(required_scope.to_owned()),
        DenialReason::OrgMismatch => CallRefused::OrgMismatch,
        DenialReason::TooManySessions => CallRefused::TooManySessions,
        DenialReason::TokenExpired => CallRefused::InvalidToken("it has expired"),
        DenialReason::TokenNotYetValid => CallRefused::InvalidToken("it is not valid yet"),
        DenialReason::TokenRevoked => CallRefused::InvalidToken("it was revoked"),
        DenialReason::WrongIssuer => CallRefused::InvalidToken("it is of another issuer"),
        DenialReason::WrongAudience => CallRefused::InvalidToken("it is for another audience"),
        DenialReason::ApplicationDisabled => CallRefused::InvalidToken("its application is disabled or deleted"),
        DenialReason::ReferenceTokensNotAllowed => {
            CallRefused::InvalidToken("its application may not use reference tokens")
        }
        DenialReason::NetworkNotAllowed => CallRefused::InvalidToken("it may not be used from this address"),
        DenialReason::MalformedToken
        | DenialReason::UnknownKey
        | DenialReason::BadSignature
        | DenialReason::UnknownToken
        // Of calls that are ruled out, of requests about tokens, and of reports: no decision here gives these.
        | DenialReason::NoRule
        | DenialReason::AmbiguousPath
        | DenialReason::MethodNotImplemented
        | DenialReason::UpgradeNotImplemented
        | DenialReason::BodyTooLarge
        | DenialReason::UnknownClient
        | DenialReason::SecretMismatch
        | DenialReason::SecretExpired
        | DenialReason::SecretRevoked
        | DenialReason::PublicClient
        | DenialReason::NotTheClientsToken
        | DenialReason::MalformedRequest
        | DenialReason::RefusedByApi => CallRefused::InvalidToken("it is not a token of this server"),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
