//! Reference tokens: made by administrators, shown once.

use crate::credentials::reference_token::ReferenceTokenText;
use crate::event_store::ExpectedRevision;
use crate::policy::tokens::{self, IssueReferenceToken};
use crate::service::record::{Circumstances, Commander};
use crate::service::{Service, ServiceError};
use grantlog_projections::tokens::ReferenceToken;
use grantlog_projections::values::{ApplicationId, Audience, Remark, Scope, StreamName};
use std::sync::Arc;
use uuid::Uuid;

/// Make a reference token, as a caller puts it.
#[derive(Debug, Clone)]
pub struct NewReferenceToken {
    /// What it is for.
    pub description: Remark,
    /// What it allows; none: all that the application may.
    pub scope: Option<Scope>,
    /// The APIs that it opens; empty: all of the application's.
    pub audiences: Vec<Audience>,
    /// How long it lives; none: the default.
    pub expires_in_seconds: Option<i64>,
}

/// A reference token, and itself in the clear: shown once, stored nowhere.
pub struct IssuedReferenceToken {
    /// What is kept of it.
    pub token: ReferenceToken,
    /// The token.
    pub text: ReferenceTokenText,
}

impl Service {
    /// Makes a reference token.
    pub async fn issue_reference_token(
        &self,
        application: ApplicationId,
        new: NewReferenceToken,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<IssuedReferenceToken, ServiceError> {
        let _lane = self.token_lanes.take(application.0).await;
        self.state_of_now().await?;
        let found = self.application(application)?;
        let now = circumstances.now;
        let live = {
            let known = &self.snapshot().tokens;
            let is_live =
                |token: &&Arc<ReferenceToken>| now < token.expires_at && known.reference_revoked_at(token).is_none();
            known.references_of(application).filter(is_live).count()
        };
        let text = ReferenceTokenText::generate()?;
        let command = IssueReferenceToken {
            token_id: Uuid::now_v7(),
            hash: text.hash(),
            hint: text.hint(),
            description: new.description,
            scope: new.scope,
            audiences: new.audiences,
            expires_in_seconds: new.expires_in_seconds,
            now,
        };
        let fact = tokens::issue_reference_token(&found, &self.settings.policy, live, command)?;
        by.authority.check(&fact.scope)?;
        let mut token = ReferenceToken {
            id: fact.token_id,
            application_id: fact.application_id,
            application_uri: fact.application_uri.clone(),
            hash: fact.hash,
            hint: fact.hint.clone(),
            scope: fact.scope.clone(),
            audiences: fact.audiences.clone(),
            description: fact.description.clone(),
            expires_at: fact.expires_at,
            issued_at: now,
            issued_by: by.actor.clone(),
            issued_index: 0,
            revoked_at: None,
        };
        let stream = StreamName::tokens(application);
        let appended = self
            .record(stream, ExpectedRevision::Any, &by.actor, circumstances, [fact.into()])
            .await?;
        token.issued_index = appended.last_index;
        // A durable token must reach its caller, for it is shown once.
        if let Err(late) = self.live.reached(appended.last_index).await {
            tracing::warn!(%late, id = %token.id, "a new reference token is answered before this node accepts it");
        }
        Ok(IssuedReferenceToken { token, text })
    }
}
