//! Revoking tokens, at once: from the answer on, no call with the token passes on this node, and its session is over.

use crate::event_store::ExpectedRevision;
use crate::policy::CommandRefused;
use crate::policy::tokens::{self, AccessToken};
use crate::service::authorize_call::{LEEWAY_SECONDS, Revocation, signed_at};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::TokenKind;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, Remark, StreamName, Timestamp};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

/// Applications whose tokens can be changed at the same time, at the most.
const LANES: usize = 64;

/// One change of an application's tokens at a time: what is decided on is what the change before has left, so that
/// revoking twice makes one event, and nobody gets one reference token too many. Where many nodes serve one log, two
/// of them may record the same revocation; it folds to the same.
#[derive(Default)]
pub(super) struct TokenLanes(Vec<Mutex<()>>);

impl TokenLanes {
    pub fn new() -> Self {
        Self((0..LANES).map(|_| Mutex::new(())).collect())
    }

    pub async fn take(&self, application: ApplicationId) -> Option<MutexGuard<'_, ()>> {
        let lane = application.0.as_u128() % LANES as u128;
        match usize::try_from(lane).ok().and_then(|lane| self.0.get(lane)) {
            Some(lane) => Some(lane.lock().await),
            None => None,
        }
    }
}

impl Service {
    /// Revokes an access token that has been verified, or is in the log. Says whether it opened anything until then:
    /// of a token that was revoked before, or is over, nothing more is recorded.
    pub async fn revoke_access_token(
        &self,
        jti: Uuid,
        client_id: &ApplicationUri,
        expires_at: Timestamp,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<bool, ServiceError> {
        let application = ApplicationId::of(client_id);
        let token = AccessToken {
            jti,
            client_id: client_id.clone(),
            expires_at,
        };
        let _lane = self.token_lanes.take(application).await;
        // A token that was revoked with its secret may be revoked by itself, too.
        let issued_at = signed_at(jti).unwrap_or(circumstances.now);
        let revocation = self.revocation(TokenKind::Jwt, application, jti, issued_at);
        let is_revoked = matches!(revocation, Revocation::Certain);
        let fact = tokens::revoke_access_token(&token, is_revoked, reason, circumstances.now, LEEWAY_SECONDS);
        self.record_token_change(application, fact.map(Event::from), actor, circumstances)
            .await
    }

    /// Revokes a reference token, in the same way.
    pub async fn revoke_reference_token(
        &self,
        token_id: Uuid,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<bool, ServiceError> {
        let find = || self.snapshot().tokens.reference(token_id).cloned();
        let unknown = || CommandRefused::NotFound(format!("there is no reference token {token_id}"));
        let application = find().ok_or_else(unknown)?.application_id;
        let _lane = self.token_lanes.take(application).await;
        let token = find().ok_or_else(unknown)?;
        let is_revoked = self.snapshot().tokens.reference_revoked_at(&token).is_some();
        let fact = tokens::revoke_reference_token(&token, is_revoked, reason, circumstances.now);
        self.record_token_change(application, fact.map(Event::from), actor, circumstances)
            .await
    }

    /// Revokes all tokens that an application has, of either kind; those that it gets from then on are good.
    pub async fn revoke_tokens_of(
        &self,
        application: ApplicationId,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        let found = self.application(application)?;
        let fact = tokens::revoke_all(&found, reason, circumstances.now);
        self.record_token_change(application, Some(fact.into()), actor, circumstances)
            .await?;
        Ok(found)
    }

    async fn record_token_change(
        &self,
        application: ApplicationId,
        fact: Option<Event>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<bool, ServiceError> {
        let Some(fact) = fact else { return Ok(false) };
        let (stream, expected) = (StreamName::tokens(application), ExpectedRevision::Any);
        self.record_change(stream, expected, actor, circumstances, [fact])
            .await?;
        self.end_sessions_of_revoked_tokens(application, actor, circumstances)
            .await;
        Ok(true)
    }

    /// Ends the sessions of an application's tokens that open nothing any more. The tokens are refused whether or not
    /// this can be recorded now: sessions that stay open end with their time.
    pub(super) async fn end_sessions_of_revoked_tokens(
        &self,
        application: ApplicationId,
        actor: &Actor,
        circumstances: &Circumstances,
    ) {
        if let Err(error) = self.end_revoked_sessions(application, actor, circumstances).await
            && !error.is_told_elsewhere()
        {
            tracing::warn!(%error, %application, "the sessions of revoked tokens are not ended yet");
        }
    }
}
