//! Sessions as administrators see them.

use crate::service::Service;
use crate::service::sessions::SessionSettings;
use grantlog_projections::event::{SessionEnd, TokenKind};
use grantlog_projections::sessions::Session;
use grantlog_projections::values::{ApplicationId, ApplicationUri, Source, SystemUser, Timestamp};
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

/// How long an answer waits for the state.
const PATIENCE: Duration = Duration::from_millis(250);
/// Sessions that one page looks at, at the most.
const MAX_VISITED: usize = 20_000;

/// A page of sessions.
#[derive(Debug, Serialize)]
pub struct SessionPage {
    /// Those that began first before the others.
    pub sessions: Vec<ShownSession>,
    /// For the parameter `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Uuid>,
}

/// A session that is not over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownSession {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub client_id: ApplicationUri,
    /// The same by its id.
    pub application_id: ApplicationId,
    /// The token that it is of.
    pub token_id: Uuid,
    /// What kind of token that is.
    pub token_kind: TokenKind,
    /// The service account that the token acts as.
    pub system_user: Option<SystemUser>,
    /// Its first call.
    pub started_at: Timestamp,
    /// Where that came from.
    pub source: Option<Source>,
    /// Its last call.
    pub last_used_at: Timestamp,
    /// How many calls it has had.
    pub calls: u64,
    /// When it ends if nothing more happens.
    pub ends_at: Timestamp,
    /// Why it will: `idle`, `absolute` or `token_expired`.
    pub ends_by: SessionEnd,
}

impl Service {
    /// Sessions after the one with this id, of one application or of all, with the calls that were answered before.
    pub async fn list_sessions(
        &self,
        application: Option<ApplicationId>,
        after: Option<Uuid>,
        limit: usize,
        now: Timestamp,
    ) -> SessionPage {
        self.show_what_was_answered().await;
        let snapshot = self.snapshot();
        let settings = &self.settings.sessions;
        let mut page = SessionPage {
            sessions: Vec::new(),
            next: None,
        };
        let mut last = None;
        let open = snapshot.sessions.after(application, after.unwrap_or(Uuid::nil()));
        for (visited, session) in open.enumerate() {
            if page.sessions.len() == limit || visited == MAX_VISITED {
                page.next = last;
                break;
            }
            last = Some(session.id);
            // One whose end is due has no event of it yet, and is none any more.
            if settings.end_of(session, now).is_none() {
                page.sessions.push(ShownSession::of(session, settings));
            }
        }
        page
    }

    /// Waits, for a moment at the most, until this node's state has all that was answered before: calls change it a
    /// little later.
    pub(super) async fn show_what_was_answered(&self) {
        if let Some(last) = self.store.log_size().checked_sub(1) {
            let _ = tokio::time::timeout(PATIENCE, self.live.reached(last)).await;
        }
    }

    /// A session as administrators see it.
    pub fn shown_session(&self, session: &Session) -> ShownSession {
        ShownSession::of(session, &self.settings.sessions)
    }
}

impl ShownSession {
    fn of(session: &Session, settings: &SessionSettings) -> Self {
        let (ends_at, ends_by) = settings.next_end_of(session);
        Self {
            id: session.id,
            client_id: session.application_uri.clone(),
            application_id: session.application_id,
            token_id: session.jti,
            token_kind: session.token_kind,
            system_user: session.system_user.clone(),
            started_at: session.started_at,
            source: session.source.clone(),
            last_used_at: session.last_used_at,
            calls: session.calls,
            ends_at,
            ends_by,
        }
    }
}
