//! What resource servers ask about tokens (RFC 7662), and what clients do to their own (RFC 7009).

use crate::credentials::client_secret;
use crate::credentials::verification::{Bearer, token_hint};
use crate::event_store::ExpectedRevision;
use crate::oauth::{OAuthError, Refusal, TokenOperation};
use crate::policy::authenticate::{NotAuthenticated, PresentedCredentials, authenticate};
use crate::policy::authorize_call::Demand;
use crate::service::authorize_call::{Credential, Holder, Invalid, Undecided};
use crate::service::issue_token::{kept_client_id, source_ip, unavailable, whole_seconds};
use crate::service::record::Circumstances;
use crate::service::throttle::Verdict;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::{ApiCallAuthorized, ApiCallDenied, DenialReason, RefusalReason, TokenKind, Via};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    Actor, ApplicationId, ApplicationUri, Audience, OrgCode, Scope, StreamName, SystemUser, Timestamp,
};
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// The scope of those who may ask about tokens.
pub const INTROSPECT: &str = "introspect";
/// When to ask again after the log could not take a request, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Where a request about a token came in, as the record has it.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// In which way.
    pub via: Via,
    /// Its path.
    pub path: &'static str,
    /// The scope that the client needs, if any.
    pub required_scope: &'static str,
}

/// Of introspection.
pub const INTROSPECTION: Endpoint = Endpoint {
    via: Via::Introspection,
    path: "/connect/introspect",
    required_scope: INTROSPECT,
};
/// Of revocation.
pub const REVOCATION: Endpoint = Endpoint {
    via: Via::Admin,
    path: "/connect/revoke",
    required_scope: "",
};

/// What is said of a token that opens something of the caller's (RFC 7662 §2.2).
#[derive(Debug, Clone)]
pub struct ActiveToken {
    /// Its id.
    pub jti: Uuid,
    /// What kind it is.
    pub kind: TokenKind,
    /// Whose it is.
    pub client_id: ApplicationUri,
    /// What it allows, as the application may use it now.
    pub scope: Scope,
    /// The caller's APIs that it is for.
    pub audiences: Vec<Audience>,
    /// The service account that it acts as.
    pub system_user: Option<SystemUser>,
    /// The organisation that it is bound to.
    pub org_code: Option<OrgCode>,
    /// Its `iat`; of a reference token, when it was made.
    pub issued_at: Timestamp,
    /// Its `nbf`; of a reference token, when it was made.
    pub not_before: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
    /// The session that it works in; none where its application has as many as it may.
    pub session_id: Option<Uuid>,
}

impl Service {
    /// Answers whether a token opens something of the caller's; that it was asked is on the record first, and begins
    /// the token's session when this is its first use. `None`: it does not.
    pub async fn introspect(
        &self,
        request: &TokenOperation,
        circumstances: &Circumstances,
    ) -> Result<Option<ActiveToken>, OAuthError> {
        let caller = self.authenticated(request, INTROSPECTION, circumstances).await?;
        if !caller.scope.contains(INTROSPECT) {
            self.deny_client(
                request,
                &caller,
                DenialReason::InsufficientScope,
                INTROSPECTION,
                circumstances,
            )
            .await?;
            return Err(OAuthError::InsufficientScope { scope: INTROSPECT });
        }
        let denied = match self.active(request, &caller, circumstances).await {
            Ok(active) => {
                self.metrics.api_call(Via::Introspection, None);
                return Ok(Some(active));
            }
            Err(Undecided::Failed(error)) => return Err(unavailable(error)),
            Err(Undecided::Denied(denied)) => denied,
        };
        let fact = ApiCallDenied {
            error: "inactive".into(),
            reason: denied.reason,
            ..self.denied(request, denied.bearer.as_ref(), INTROSPECTION)
        };
        self.record_denial(fact, &Actor::Application(caller.uri.clone()), circumstances)
            .await?;
        Ok(None)
    }

    /// Revokes a token of the caller's own. A token that opens nothing anyway is answered in the same way
    /// (RFC 7009 §2.2).
    pub async fn revoke_own_token(
        &self,
        request: &TokenOperation,
        circumstances: &Circumstances,
    ) -> Result<(), OAuthError> {
        let caller = self.authenticated(request, REVOCATION, circumstances).await?;
        let credential = Credential::Token(request.token.expose());
        let Ok(holder) = self.verify_credential(credential, None, circumstances) else {
            return Ok(());
        };
        if holder.application_id != caller.id {
            self.deny_client(
                request,
                &caller,
                DenialReason::NotTheClientsToken,
                REVOCATION,
                circumstances,
            )
            .await?;
            return Err(OAuthError::NotTheClientsToken);
        }
        self.revoke_held(&holder, circumstances)
            .await
            .map(drop)
            .map_err(unavailable)
    }

    /// Puts a request that could not be read on the record, and answers what to say.
    pub async fn refuse_token_operation(
        &self,
        refusal: Refusal,
        endpoint: Endpoint,
        circumstances: &Circumstances,
    ) -> OAuthError {
        let Refusal { dialect, error, .. } = refusal;
        let fact = ApiCallDenied {
            error: error.code(dialect).to_owned(),
            reason: DenialReason::MalformedRequest,
            ..self.denied_by(endpoint)
        };
        match self.record_anonymous_denial(fact, circumstances).await {
            Ok(()) => error,
            Err(instead) => instead,
        }
    }

    async fn revoke_held(&self, holder: &Holder, circumstances: &Circumstances) -> Result<bool, ServiceError> {
        let actor = Actor::Application(holder.client_id.clone());
        match holder.kind {
            TokenKind::Jwt => {
                let (client_id, expires_at) = (&holder.client_id, holder.expires_at);
                self.revoke_access_token(holder.jti, client_id, expires_at, None, &actor, circumstances)
                    .await
            }
            TokenKind::Reference => {
                self.revoke_reference_token(holder.jti, None, &actor, circumstances)
                    .await
            }
        }
    }

    /// The token, if it opens something of the caller's; the question is on the record then.
    async fn active(
        &self,
        request: &TokenOperation,
        caller: &TrustedApplication,
        circumstances: &Circumstances,
    ) -> Result<ActiveToken, Undecided> {
        let credential = Credential::Token(request.token.expose());
        let holder = self.verify_credential(credential, None, circumstances)?;
        let not_shared = || Invalid::of(&holder, DenialReason::WrongAudience);
        let shared = self.shared_audiences(&holder, caller.id);
        let audience = shared.first().cloned().ok_or_else(not_shared)?;
        self.still_holds(&holder).await?;
        let actor = Actor::Application(caller.uri.clone());
        let fact = |session_id| ApiCallAuthorized {
            via: Via::Introspection,
            application_id: holder.application_id,
            application_uri: holder.client_id.clone(),
            jti: holder.jti,
            token_hint: holder.hint.clone(),
            system_user: holder.system_user.clone(),
            org_code: holder.org_code.clone(),
            audience: audience.clone(),
            method: "POST".into(),
            path: INTROSPECTION.path.into(),
            required_scope: String::new(),
            session_id,
            token_kind: holder.kind,
            report: None,
        };
        let recorded = self
            .record_call(Via::Introspection, &holder, &actor, circumstances, |session_id| {
                fact(Some(session_id))
            })
            .await;
        let session_id = match recorded {
            Ok(session_id) => Some(session_id),
            // RFC 7662 §2.2: `active` is about the token, and the token is good.
            Err(Undecided::Denied(denied)) if denied.reason == DenialReason::TooManySessions => {
                let stream = StreamName::api_calls(Some(holder.application_id));
                let facts = [fact(None).into()];
                self.record(stream, ExpectedRevision::Any, &actor, circumstances, facts)
                    .await?;
                None
            }
            Err(undecided) => return Err(undecided),
        };
        self.still_holds(&holder).await?;
        let audiences = self.shared_audiences(&holder, caller.id);
        if audiences.is_empty() {
            return Err(not_shared().into());
        }
        let scope = self.present_scope(&holder);
        Ok(ActiveToken {
            jti: holder.jti,
            kind: holder.kind,
            client_id: holder.client_id,
            scope,
            audiences,
            system_user: holder.system_user,
            org_code: holder.org_code,
            issued_at: holder.says_issued_at,
            not_before: holder.not_before,
            expires_at: holder.expires_at,
            session_id,
        })
    }

    /// The APIs of the caller's that a token is for, as things are now.
    fn shared_audiences(&self, holder: &Holder, caller: ApplicationId) -> Vec<Audience> {
        let caller = self.snapshot().directory.application(caller).cloned();
        let of_caller = caller.map_or_else(Vec::new, |caller| self.audiences_of(&caller));
        let mut shared = self.present_audiences(holder);
        shared.retain(|audience| of_caller.contains(audience));
        shared
    }

    /// What can change from one moment to the next: revocation and the application. Where the call came from is not
    /// known here.
    pub(super) async fn still_holds(&self, holder: &Holder) -> Result<(), Undecided> {
        self.still_known(holder)?;
        if self.is_revoked(holder).await? {
            return Err(Invalid::of(holder, DenialReason::TokenRevoked).into());
        }
        let nothing = Demand {
            audience: None,
            scope: "",
            org_code: None,
        };
        self.may(holder, nothing, None)
            .map_err(|reason| Invalid::of(holder, reason).into())
    }

    /// The client, when it has proved who it is; else its failure is on the record.
    async fn authenticated(
        &self,
        request: &TokenOperation,
        endpoint: Endpoint,
        circumstances: &Circumstances,
    ) -> Result<Arc<TrustedApplication>, OAuthError> {
        if self.out_of_date().is_some() {
            return Err(OAuthError::TemporarilyUnavailable {
                retry_after_seconds: RETRY_AFTER_SECONDS,
            });
        }
        let client_id = kept_client_id(&request.client_id);
        let source = source_ip(circumstances);
        if let Verdict::SlowDown { retry_after, is_first } = self.throttle.admit(&client_id, source, Instant::now()) {
            self.slow_down(Some(&client_id), source, is_first, circumstances)
                .await
                .map_err(unavailable)?;
            return Err(OAuthError::SlowDown {
                retry_after_seconds: whole_seconds(retry_after),
            });
        }
        let application_id = ApplicationId::of_client_id(&request.client_id);
        let application = self.snapshot().directory.application(application_id).cloned();
        let secrets = application
            .as_deref()
            .map_or(&[][..], |application| &application.secrets);
        let presented = PresentedCredentials {
            matching_secret: client_secret::verify(request.client_secret.expose(), secrets).secret_id(),
            source_ip: source,
            now: circumstances.now,
        };
        let NotAuthenticated { reason, authenticated } = match authenticate(application.as_deref(), presented) {
            Ok(_) => return application.ok_or(OAuthError::InvalidClient),
            Err(failed) => failed,
        };
        self.throttle.failed(&client_id, source, Instant::now());
        match application.filter(|_| authenticated) {
            Some(application) => {
                self.deny_client(request, &application, denial(reason), endpoint, circumstances)
                    .await?;
            }
            None => {
                let fact = ApiCallDenied {
                    error: OAuthError::InvalidClient
                        .code(crate::oauth::Dialect::Standard)
                        .to_owned(),
                    reason: denial(reason),
                    ..self.denied(request, None, endpoint)
                };
                self.record_anonymous_denial(fact, circumstances).await?;
            }
        }
        Err(OAuthError::InvalidClient)
    }

    /// Puts on the record that a client which proved who it is was refused.
    async fn deny_client(
        &self,
        request: &TokenOperation,
        client: &TrustedApplication,
        reason: DenialReason,
        endpoint: Endpoint,
        circumstances: &Circumstances,
    ) -> Result<(), OAuthError> {
        let error = match reason {
            DenialReason::InsufficientScope => "insufficient_scope",
            DenialReason::NotTheClientsToken => "unauthorized_client",
            _ => "invalid_client",
        };
        let fact = ApiCallDenied {
            application_id: Some(client.id),
            application_uri: Some(client.uri.clone()),
            error: error.into(),
            reason,
            ..self.denied(request, None, endpoint)
        };
        self.record_denial(fact, &Actor::Application(client.uri.clone()), circumstances)
            .await
    }

    async fn record_anonymous_denial(
        &self,
        fact: ApiCallDenied,
        circumstances: &Circumstances,
    ) -> Result<(), OAuthError> {
        match self.spend_refusal(circumstances).await {
            Ok(None) => self.record_denial(fact, &Actor::Anonymous, circumstances).await,
            Ok(Some(retry_after_seconds)) => Err(OAuthError::SlowDown { retry_after_seconds }),
            Err(not_recorded) => Err(unavailable(not_recorded)),
        }
    }

    async fn record_denial(
        &self,
        fact: ApiCallDenied,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), OAuthError> {
        self.metrics.api_call(fact.via, Some(fact.reason));
        let stream = StreamName::api_calls(fact.application_id);
        self.record(stream, ExpectedRevision::Any, actor, circumstances, [fact.into()])
            .await
            .map(drop)
            .map_err(unavailable)
    }

    fn denied(&self, request: &TokenOperation, bearer: Option<&Bearer>, endpoint: Endpoint) -> ApiCallDenied {
        let token = request.token.expose();
        ApiCallDenied {
            application_id: bearer.map(|bearer| ApplicationId::of(&bearer.client_id)),
            application_uri: bearer.map(|bearer| bearer.client_id.clone()),
            jti: bearer.map(|bearer| bearer.jti),
            token_hint: token_hint(token),
            token_kind: Credential::Token(token).kind(),
            ..self.denied_by(endpoint)
        }
    }

    fn denied_by(&self, endpoint: Endpoint) -> ApiCallDenied {
        ApiCallDenied {
            via: endpoint.via,
            application_id: None,
            application_uri: None,
            jti: None,
            token_hint: None,
            audience: self.settings.policy.issuer.clone(),
            method: "POST".into(),
            path: endpoint.path.into(),
            required_scope: endpoint.required_scope.into(),
            error: String::new(),
            reason: DenialReason::MalformedRequest,
            token_kind: TokenKind::Jwt,
            report: None,
        }
    }
}

fn denial(reason: RefusalReason) -> DenialReason {
    match reason {
        RefusalReason::UnknownClient => DenialReason::UnknownClient,
        RefusalReason::SecretMismatch => DenialReason::SecretMismatch,
        RefusalReason::SecretExpired => DenialReason::SecretExpired,
        RefusalReason::SecretRevoked => DenialReason::SecretRevoked,
        RefusalReason::PublicClient => DenialReason::PublicClient,
        RefusalReason::NetworkNotAllowed => DenialReason::NetworkNotAllowed,
        RefusalReason::Deleted | RefusalReason::Disabled => DenialReason::ApplicationDisabled,
        // Of token requests; no decision about who a client is gives these.
        RefusalReason::UnsupportedContentType
        | RefusalReason::BodyTooLarge
        | RefusalReason::DuplicateParameter
        | RefusalReason::Malformed
        | RefusalReason::MissingGrantType
        | RefusalReason::UnsupportedGrantType
        | RefusalReason::SeveralAuthenticationMethods
        | RefusalReason::UnreadableAuthorization
        | RefusalReason::EmptyCredentials
        | RefusalReason::MissingClientId
        | RefusalReason::MissingClientSecret
        | RefusalReason::MissingAudience
        | RefusalReason::SystemUserNotAllowed
        | RefusalReason::AudienceNotAuthorized
        | RefusalReason::ScopeNotAllowed => DenialReason::MalformedRequest,
    }
}
