//! One token: what it says, what became of it, and the proof that the log has its event.

use crate::audit::{AuditEvent, AuditQuery, Filter};
use crate::oauth::claims::AccessTokenClaims;
use crate::policy::CommandRefused;
use crate::service::applications::AsOf;
use crate::service::list_tokens::ListedToken;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::{TokenIssued, TrailAccess};
use grantlog_projections::values::{Actor, ApplicationUri, Remark, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A token in full.
#[derive(Debug, Serialize)]
pub struct ShownToken {
    /// As the inventory lists it.
    #[serde(flatten)]
    pub token: ListedToken,
    /// The claims that it was signed with; a reference token has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Value>,
    /// Its last call that was let through.
    pub last_call: Option<LastCall>,
    /// The event that issued it, with who asked, and from where.
    pub event: AuditEvent,
    /// That the log has this event (C2SP tlog-proof); none while the log is not published.
    pub proof: Option<String>,
}

/// A call that was let through.
#[derive(Debug, Serialize)]
pub struct LastCall {
    /// When.
    pub time: Timestamp,
    /// Which HTTP method.
    pub method: String,
    /// Which path.
    pub path: String,
    /// The index of its event.
    pub index: u64,
}

impl Service {
    /// A token by its `jti`, or a reference token by its id. It is answered from the trail, so its reading is on the
    /// trail before it is answered.
    pub async fn show_token(
        &self,
        id: Uuid,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<ShownToken, ServiceError> {
        self.trail()?;
        self.show_what_was_answered().await;
        let found = self.find_token(id, circumstances.now).await;
        let rows = u64::from(found.is_ok());
        let parameters = BTreeMap::from([("token".to_owned(), id.to_string())]);
        let (through, via) = (self.store.log_size(), TrailAccess::Proof);
        self.record_reading(parameters, rows, through, via, reader, circumstances)
            .await?;
        found
    }

    /// Revokes a token of either kind by its id.
    pub async fn revoke_token(
        &self,
        id: Uuid,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<ListedToken, ServiceError> {
        self.state_of_now().await?;
        if self.snapshot().tokens.reference(id).is_some() {
            self.revoke_reference_token(id, reason, actor, circumstances).await?;
            return self.reference_token(id, circumstances.now);
        }
        let (event, issued) = self.issued_token(id).await?;
        self.revoke_access_token(
            id,
            &issued.application_uri,
            issued.expires_at,
            reason,
            actor,
            circumstances,
        )
        .await?;
        self.issued(&event, circumstances.now).ok_or_else(|| unknown(id))
    }

    /// A reference token as the inventory lists it.
    pub fn reference_token(&self, id: Uuid, now: Timestamp) -> Result<ListedToken, ServiceError> {
        let found = self.snapshot().tokens.reference(id).cloned();
        let found = found.ok_or_else(|| unknown(id))?;
        Ok(self.listed_reference(&found, now))
    }

    async fn find_token(&self, id: Uuid, now: Timestamp) -> Result<ShownToken, ServiceError> {
        let is_reference = self.snapshot().tokens.reference(id).is_some();
        let (mut token, event, claims) = match is_reference {
            true => {
                let token = self.reference_token(id, now)?;
                let event = self.event_at(token.index).await?.ok_or_else(|| unknown(id))?;
                (token, event, None)
            }
            false => {
                let (event, issued) = self.issued_token(id).await?;
                let token = self.issued(&event, now).ok_or_else(|| unknown(id))?;
                let claims = self.claims(&issued, event.index).await?;
                (token, event, Some(claims))
            }
        };
        let last_call = self.last_call(id).await?;
        token.last_used_at = token.last_used_at.max(last_call.as_ref().map(|call| call.time));
        Ok(ShownToken {
            proof: self.proof_text(token.index).await,
            token,
            claims,
            last_call,
            event,
        })
    }

    /// The event of an access token, and what it says.
    async fn issued_token(&self, jti: Uuid) -> Result<(AuditEvent, TokenIssued), ServiceError> {
        let index = self.index_of_token(jti).await?.ok_or_else(|| unknown(jti))?;
        let event = self.event_at(index).await?.ok_or_else(|| unknown(jti))?;
        match serde_json::from_str(event.data.get()) {
            Ok(issued) => Ok((event, issued)),
            // Given up by retention meanwhile.
            Err(_) => Err(unknown(jti)),
        }
    }

    async fn event_at(&self, index: u64) -> Result<Option<AuditEvent>, ServiceError> {
        let stored = self.store.read_indexes(&[index]).await?;
        Ok(stored.first().map(AuditEvent::read).transpose()?)
    }

    /// The claims that the token was signed with. Its event has all of them but the application's properties: those
    /// are as the application's own events had them then.
    async fn claims(&self, issued: &TokenIssued, index: u64) -> Result<Value, ServiceError> {
        let application = self
            .application_as_of(issued.application_id, AsOf::Index(index))
            .await?;
        let claims = AccessTokenClaims {
            iss: &self.settings.issuer,
            client_id: issued.application_uri.as_str(),
            aud: &issued.audiences,
            scope: issued.scope.as_str(),
            iat: issued.issued_at.unix_seconds(),
            exp: issued.expires_at.unix_seconds(),
            jti: &issued.jti.to_string(),
            client_system_user: issued.system_user.as_str(),
            org_code: issued.org_code.as_ref().map(|code| code.as_str()),
            application_properties: &application.properties,
        };
        serde_json::to_value(claims).map_err(|error| ServiceError::Audit(error.to_string()))
    }

    /// The newest call with the token that was let through, if one bounded search finds it.
    async fn last_call(&self, id: Uuid) -> Result<Option<LastCall>, ServiceError> {
        #[derive(serde::Deserialize)]
        struct Call {
            method: String,
            path: String,
        }
        let filter = Filter::parse(&format!("jti eq \"{id}\""), super::now());
        let query = AuditQuery {
            event_type: Some("ApiCallAuthorized"),
            filter: Some(filter.map_err(|error| ServiceError::Audit(error.to_string()))?),
            limit: 1,
            ..AuditQuery::default()
        };
        let page = self.search_unrecorded(&query).await?;
        Ok(page.events.first().and_then(|event| {
            let call: Call = serde_json::from_str(event.data.get()).ok()?;
            Some(LastCall {
                time: event.time,
                method: call.method,
                path: call.path,
                index: event.index,
            })
        }))
    }

    /// A token is shown whether or not the log is published at the moment.
    async fn proof_text(&self, index: u64) -> Option<String> {
        let proof = self.trail.as_ref()?.transparency.proof(index).await;
        match proof.and_then(|proof| proof.to_text()) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::warn!(%error, index, "a token is shown without the proof of its event");
                None
            }
        }
    }
}

fn unknown(id: Uuid) -> ServiceError {
    let message = format!("the log has no token {id}, or no longer: retention gives old ones up");
    CommandRefused::NotFound(message).into()
}
