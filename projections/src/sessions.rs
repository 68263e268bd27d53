//! Sessions: a token at work, from its first use until it was idle for long enough, or lasted long enough, or was
//! revoked. Here is what the log says; when a session is to end is decided elsewhere, with a clock.

use crate::event::{Event, SessionStarted, TokenKind};
use crate::recorded_event::RecordedEvent;
use crate::values::{ApplicationId, ApplicationUri, Source, SystemUser, Timestamp};
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::sync::Arc;
use uuid::Uuid;

/// A session that is not over, as far as the log says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub application_id: ApplicationId,
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// The token's id.
    pub jti: Uuid,
    /// What kind of token it is.
    pub token_kind: TokenKind,
    /// The service account that the token acts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_user: Option<SystemUser>,
    /// When the token is over.
    pub token_expires_at: Timestamp,
    /// Its first call.
    pub started_at: Timestamp,
    /// Where the first call came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Its last call.
    pub last_used_at: Timestamp,
    /// How many calls it has had.
    pub calls: u64,
}

/// The sessions that are not over. A clone is cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sessions {
    open: OrdMap<Uuid, Arc<Session>>,
    by_application: OrdSet<(ApplicationId, Uuid)>,
    by_token: OrdMap<Uuid, Uuid>,
    /// By the second of the last use: a busy session moves once a second.
    by_last_use: OrdSet<(i64, Uuid)>,
    by_token_end: OrdSet<(Timestamp, Uuid)>,
}

impl Sessions {
    /// Folds one event in and says which session it changed. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Option<Uuid> {
        match &recorded.envelope.event {
            // An id is given out once; were it not, the first would be the session.
            Event::SessionStarted(data) if self.open.contains_key(&data.session_id) => None,
            Event::SessionStarted(data) => {
                self.restore(Session::started(data, recorded));
                Some(data.session_id)
            }
            Event::SessionEnded(data) => {
                let ended = self.open.remove(&data.session_id)?;
                self.by_application.remove(&(ended.application_id, ended.id));
                self.by_last_use.remove(&(ended.last_used_at.unix_seconds(), ended.id));
                self.by_token_end.remove(&(ended.token_expires_at, ended.id));
                if self.by_token.get(&ended.jti) == Some(&ended.id) {
                    self.by_token.remove(&ended.jti);
                }
                Some(data.session_id)
            }
            Event::ApiCallAuthorized(data) => data
                .session_id
                .filter(|session_id| self.call(*session_id, recorded.envelope.time)),
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::ApplicationRegistered(_)
            | Event::ApplicationChanged(_)
            | Event::ApplicationEnabled(_)
            | Event::ApplicationDisabled(_)
            | Event::ApplicationDeleted(_)
            | Event::SecretRotated(_)
            | Event::SecretRevoked(_)
            | Event::ApiRegistered(_)
            | Event::ApiChanged(_)
            | Event::ApiDeleted(_)
            | Event::SigningKeyAdded(_)
            | Event::SigningKeyActivated(_)
            | Event::SigningKeyRetired(_)
            | Event::TokenIssued(_)
            | Event::TokenRefused(_)
            | Event::RequestsThrottled(_)
            | Event::TokenRevoked(_)
            | Event::TokensRevoked(_)
            | Event::ReferenceTokenIssued(_)
            | Event::ReferenceTokenRevoked(_)
            | Event::ApiCallDenied(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => None,
        }
    }

    /// Folds in a call of which no more than this has been read; says whether there is such a session.
    pub fn call(&mut self, session_id: Uuid, time: Timestamp) -> bool {
        let Some(session) = self.open.get_mut(&session_id) else {
            return false;
        };
        let session = Arc::make_mut(session);
        session.calls += 1;
        let before = session.last_used_at.unix_seconds();
        session.last_used_at = session.last_used_at.max(time);
        let now = session.last_used_at.unix_seconds();
        if now != before {
            self.by_last_use.remove(&(before, session_id));
            self.by_last_use.insert((now, session_id));
        }
        true
    }

    /// Puts a session back as a checkpoint kept it. There is none of that id.
    pub fn restore(&mut self, session: Session) {
        self.by_application.insert((session.application_id, session.id));
        self.by_token.insert(session.jti, session.id);
        self.by_last_use
            .insert((session.last_used_at.unix_seconds(), session.id));
        self.by_token_end.insert((session.token_expires_at, session.id));
        self.open.insert(session.id, Arc::new(session));
    }

    /// The session with this id, if it is not over.
    pub fn get(&self, id: Uuid) -> Option<&Arc<Session>> {
        self.open.get(&id)
    }

    /// All of them, those that began first before the others: ids are in the order of time.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &Arc<Session>> {
        self.open.values()
    }

    /// Those of an application, in the same order.
    pub fn of_application(&self, id: ApplicationId) -> impl DoubleEndedIterator<Item = &Arc<Session>> {
        self.by_application
            .range((id, Uuid::nil())..=(id, Uuid::max()))
            .filter_map(|(_, session_id)| self.open.get(session_id))
    }

    /// Those whose ids are greater, all or of an application, in the same order.
    pub fn after(&self, application: Option<ApplicationId>, id: Uuid) -> Box<dyn Iterator<Item = &Arc<Session>> + '_> {
        match application {
            None => Box::new(
                self.open
                    .range((Bound::Excluded(id), Bound::Unbounded))
                    .map(|(_, session)| session),
            ),
            Some(application) => {
                let (from, to) = (
                    Bound::Excluded((application, id)),
                    Bound::Included((application, Uuid::max())),
                );
                let found = self.by_application.range((from, to));
                Box::new(found.filter_map(|(_, session_id)| self.open.get(session_id)))
            }
        }
    }

    /// The session of a token: the last that began, if there are several.
    pub fn of_token(&self, jti: Uuid) -> Option<&Arc<Session>> {
        self.open.get(self.by_token.get(&jti)?)
    }

    /// Those that were last used longest ago first, to the second.
    pub fn by_last_use(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_last_use.iter().filter_map(|(_, id)| self.open.get(id))
    }

    /// Those whose tokens are over first.
    pub fn by_token_end(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_token_end.iter().filter_map(|(_, id)| self.open.get(id))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Session {
    fn started(data: &SessionStarted, recorded: &RecordedEvent) -> Self {
        Self {
            id: data.session_id,
            application_id: data.application_id,
            application_uri: data.application_uri.clone(),
            jti: data.jti,
            token_kind: data.token_kind,
            system_user: data.system_user.clone(),
            token_expires_at: data.token_expires_at,
            started_at: recorded.envelope.time,
            source: recorded.envelope.source.clone(),
            last_used_at: recorded.envelope.time,
            calls: 0,
        }
    }
}
