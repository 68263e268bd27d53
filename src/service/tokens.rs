//! Revoking tokens, at once: from the answer on, no call with the token passes on this node, and its session is over.

use crate::event_store::ExpectedRevision;
use crate::policy::CommandRefused;
use crate::policy::tokens::{self, AccessToken};
use crate::service::authorize_call::{LEEWAY_SECONDS, Revocation, signed_at};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{SessionEnd, TokenKind};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, Remark, StreamName, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

/// How long a revocation waits for sessions that are being begun meanwhile; those that are left end with their time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes of tokens that can be under way at the same time, at the most.
const LANES: usize = 64;

/// One change of a token at a time, and one new reference token of an application: what is decided on is what the
/// change before has left, so that revoking twice makes one event, and nobody gets one reference token too many.
/// Where many nodes serve one log, two of them may record the same revocation; it folds to the same.
pub(super) struct TokenLanes([Mutex<()>; LANES]);

impl TokenLanes {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits for the lane of a token, or of an application.
    pub async fn take(&self, id: Uuid) -> MutexGuard<'_, ()> {
        // The last byte of a UUIDv7 is random, that of a UUIDv5 is of a digest.
        let [.., last] = *id.as_bytes();
        // A remainder of the number of lanes is one of them.
        self.0[usize::from(last) % LANES].lock().await
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
        let decide = || {
            // A token that was revoked with its secret may be revoked by itself, too.
            let issued_at = signed_at(jti).unwrap_or(circumstances.now);
            let revocation = self.revocation(TokenKind::Jwt, application, jti, issued_at);
            let is_revoked = matches!(revocation, Revocation::Certain);
            let fact = tokens::revoke_access_token(&token, is_revoked, reason, circumstances.now, LEEWAY_SECONDS);
            fact.map(Event::from)
        };
        self.revoke_one(application, jti, decide, actor, circumstances).await
    }

    /// Revokes a reference token, in the same way.
    pub async fn revoke_reference_token(
        &self,
        token_id: Uuid,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<bool, ServiceError> {
        self.state_of_now().await?;
        let known = self.snapshot().tokens.reference(token_id).cloned();
        let unknown = || CommandRefused::NotFound(format!("there is no reference token {token_id}"));
        let token = known.ok_or_else(unknown)?;
        let decide = || {
            let snapshot = self.snapshot();
            // Whether it is revoked is asked of the state of now.
            let now = snapshot.tokens.reference(token_id).unwrap_or(&token);
            let is_revoked = snapshot.tokens.reference_revoked_at(now).is_some();
            tokens::revoke_reference_token(now, is_revoked, reason, circumstances.now).map(Event::from)
        };
        self.revoke_one(token.application_id, token_id, decide, actor, circumstances)
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
        self.state_of_now().await?;
        let found = self.application(application)?;
        let fact = tokens::revoke_all(&found, reason, circumstances.now);
        let (stream, expected) = (StreamName::tokens(application), ExpectedRevision::Any);
        self.record_change(stream, expected, actor, circumstances, [fact.into()])
            .await?;
        self.end_sessions_of_revoked_tokens(application, actor, circumstances)
            .await;
        Ok(found)
    }

    /// Records a revocation, if there is one to record, and ends the token's session.
    async fn revoke_one(
        &self,
        application: ApplicationId,
        token: Uuid,
        decide: impl FnOnce() -> Option<Event>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<bool, ServiceError> {
        let lane = self.token_lanes.take(token).await;
        let Some(fact) = decide() else { return Ok(false) };
        let (stream, expected) = (StreamName::tokens(application), ExpectedRevision::Any);
        self.record_change(stream, expected, actor, circumstances, [fact])
            .await?;
        drop(lane);
        self.wait_for_sessions_under_way(|of, _| of == token).await;
        let open = self.snapshot().sessions.of_token(token).cloned();
        let open = open.map(|session| (session, SessionEnd::Revoked)).into_iter().collect();
        tell_of(
            application,
            self.end_sessions(open, actor, circumstances).await.map(drop),
        );
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
        self.wait_for_sessions_under_way(|_, of| of == application).await;
        tell_of(
            application,
            self.end_revoked_sessions(application, actor, circumstances).await,
        );
    }

    /// A call that was decided before a revocation may be beginning a session: it is refused, but the session is on
    /// the record.
    async fn wait_for_sessions_under_way(&self, is_of: impl Fn(Uuid, ApplicationId) -> bool) {
        let begun = async {
            for mut ended in self.sessions.under_way(is_of) {
                // Closed when it has come to an end.
                let _ = ended.changed().await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, begun).await;
        self.show_what_was_answered().await;
    }
}

/// The tokens are refused; that their sessions are over is another matter.
fn tell_of(application: ApplicationId, ended: Result<(), ServiceError>) {
    if let Err(error) = ended
        && !error.is_told_elsewhere()
    {
        tracing::warn!(%error, %application, "the sessions of revoked tokens are not ended yet");
    }
}
