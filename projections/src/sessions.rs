//! Sessions: a token at work, from its first use until it was idle for long enough, or lasted long enough, or was
//! revoked. Here is what the log says; when a session is to end is decided elsewhere, with a clock.

use crate::event::{Event, SessionStarted, TokenKind};
use crate::recorded_event::RecordedEvent;
use crate::values::{ApplicationId, ApplicationUri, NodeName, Source, SystemUser, Timestamp};
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
    /// The node that began it, where there can be several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
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
    /// How many each application has, where it has any.
    counts: OrdMap<ApplicationId, usize>,
    by_token: OrdSet<(Uuid, Uuid)>,
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
                match self.number_of(ended.application_id) {
                    0 | 1 => self.counts.remove(&ended.application_id),
                    number => self.counts.insert(ended.application_id, number - 1),
                };
                self.by_last_use.remove(&(ended.last_used_at.unix_seconds(), ended.id));
                self.by_token_end.remove(&(ended.token_expires_at, ended.id));
                self.by_token.remove(&(ended.jti, ended.id));
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
        let after = session.last_used_at.unix_seconds();
        if after != before {
            self.by_last_use.remove(&(before, session_id));
            self.by_last_use.insert((after, session_id));
        }
        true
    }

    /// Puts a session back as a checkpoint kept it. There is none of that id.
    pub fn restore(&mut self, session: Session) {
        self.by_application.insert((session.application_id, session.id));
        self.counts
            .insert(session.application_id, self.number_of(session.application_id) + 1);
        self.by_token.insert((session.jti, session.id));
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

    /// How many an application has.
    pub fn number_of(&self, id: ApplicationId) -> usize {
        self.counts.get(&id).copied().unwrap_or_default()
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
        let mut of_token = self.by_token.range((jti, Uuid::nil())..=(jti, Uuid::max()));
        self.open.get(&of_token.next_back()?.1)
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
            node: data.node.clone(),
            last_used_at: recorded.envelope.time,
            calls: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ApiCallAuthorized, SessionEnd, SessionEnded, Via};
    use crate::recorded_event::Envelope;
    use crate::values::{Actor, Audience, StreamName};

    fn uri(name: &str) -> ApplicationUri {
        ApplicationUri::parse(name).unwrap()
    }

    fn time(milliseconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(1_773_653_400_000_000 + milliseconds * 1_000)
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn recorded(milliseconds: i64, event: impl Into<Event>) -> RecordedEvent {
        RecordedEvent {
            index: 0,
            revision: 0,
            envelope: Envelope {
                id: Uuid::nil(),
                stream: StreamName::api_calls(None),
                time: time(milliseconds),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event: event.into(),
            },
        }
    }

    fn started(session: u128, token: u128, milliseconds: i64) -> RecordedEvent {
        of_application("orders", session, token, milliseconds)
    }

    fn of_application(name: &str, session: u128, token: u128, milliseconds: i64) -> RecordedEvent {
        let application_uri = uri(name);
        let data = SessionStarted {
            session_id: id(session),
            application_id: ApplicationId::of(&application_uri),
            application_uri,
            jti: id(token),
            token_kind: TokenKind::Jwt,
            system_user: None,
            token_expires_at: time(3_600_000 - i64::try_from(session).unwrap()),
            node: None,
        };
        recorded(milliseconds, data)
    }

    fn ended(session: u128, token: u128) -> RecordedEvent {
        let application_uri = uri("orders");
        let data = SessionEnded {
            session_id: id(session),
            application_id: ApplicationId::of(&application_uri),
            application_uri,
            jti: id(token),
            reason: SessionEnd::Idle,
            remark: None,
        };
        recorded(0, data)
    }

    fn called(session: Option<u128>, milliseconds: i64) -> RecordedEvent {
        let application_uri = uri("orders");
        let data = ApiCallAuthorized {
            via: Via::Gateway,
            application_id: ApplicationId::of(&application_uri),
            application_uri,
            jti: id(1),
            token_hint: "abcdefgh".into(),
            system_user: None,
            org_code: None,
            audience: Audience::parse("https://api").unwrap(),
            method: "GET".into(),
            path: "/".into(),
            required_scope: String::new(),
            session_id: session.map(id),
            token_kind: TokenKind::Jwt,
            report: None,
        };
        recorded(milliseconds, data)
    }

    fn sessions(events: &[RecordedEvent]) -> Sessions {
        let mut sessions = Sessions::default();
        for event in events {
            sessions.apply(event);
        }
        sessions
    }

    fn ids<'a>(sessions: impl Iterator<Item = &'a Arc<Session>>) -> Vec<u128> {
        sessions.map(|session| session.id.as_u128()).collect()
    }

    #[test]
    fn a_session_is_there_from_its_first_call_until_its_end() {
        let mut sessions = sessions(&[started(1, 10, 0)]);
        assert_eq!(sessions.of_token(id(10)).map(|found| found.id), Some(id(1)));
        assert_eq!(sessions.apply(&ended(1, 10)), Some(id(1)));
        assert!(sessions.is_empty() && sessions.get(id(1)).is_none() && sessions.of_token(id(10)).is_none());
        assert_eq!(sessions, Sessions::default(), "nothing is left of it in any order");
        assert_eq!(sessions.apply(&ended(1, 10)), None, "it ends once");
    }

    #[test]
    fn a_call_makes_its_session_younger_and_is_counted() {
        let sessions = sessions(&[started(1, 10, 0), called(Some(1), 0), called(Some(1), 2_500)]);
        let session = sessions.get(id(1)).unwrap();
        assert_eq!(
            (session.calls, session.started_at, session.last_used_at),
            (2, time(0), time(2_500))
        );
    }

    #[test]
    fn a_call_whose_time_steps_back_does_not_make_its_session_older() {
        let sessions = sessions(&[started(1, 10, 5_000), called(Some(1), 1_000)]);
        let session = sessions.get(id(1)).unwrap();
        assert_eq!((session.calls, session.last_used_at), (1, time(5_000)));
    }

    #[test]
    fn a_call_without_a_session_or_of_one_that_is_over_changes_nothing() {
        let mut sessions = sessions(&[started(1, 10, 0)]);
        let before = sessions.clone();
        assert_eq!(sessions.apply(&called(None, 9_000)), None);
        assert_eq!(sessions.apply(&called(Some(7), 9_000)), None);
        assert_eq!(sessions, before);
    }

    #[test]
    fn those_that_were_used_longest_ago_come_first() {
        let mut sessions = sessions(&[started(1, 10, 0), started(2, 20, 1_000), started(3, 30, 2_000)]);
        assert_eq!(ids(sessions.by_last_use()), [1, 2, 3]);
        sessions.apply(&called(Some(1), 9_000));
        assert_eq!(ids(sessions.by_last_use()), [2, 3, 1]);
        sessions.apply(&called(Some(3), 9_999));
        sessions.apply(&called(Some(2), 10_000));
        assert_eq!(ids(sessions.by_last_use()), [1, 3, 2], "to the second");
        sessions.apply(&ended(3, 30));
        assert_eq!(ids(sessions.by_last_use()), [1, 2]);
    }

    #[test]
    fn those_whose_tokens_are_over_first_come_first() {
        let sessions = sessions(&[started(1, 10, 0), started(2, 20, 0), started(3, 30, 0)]);
        assert_eq!(ids(sessions.by_token_end()), [3, 2, 1]);
    }

    #[test]
    fn the_session_of_a_token_is_the_last_that_began() {
        let mut sessions = sessions(&[started(1, 10, 0), started(2, 10, 1_000)]);
        assert_eq!(sessions.of_token(id(10)).map(|found| found.id), Some(id(2)));
        sessions.apply(&ended(2, 10));
        assert_eq!(sessions.of_token(id(10)).map(|found| found.id), Some(id(1)));
    }

    #[test]
    fn an_id_that_comes_twice_is_the_first_session() {
        let sessions = sessions(&[started(1, 10, 0), started(1, 20, 9_000)]);
        assert_eq!((sessions.len(), sessions.get(id(1)).unwrap().jti), (1, id(10)));
        assert!(sessions.of_token(id(20)).is_none());
    }

    #[test]
    fn an_application_has_its_own_sessions() {
        let mut sessions = sessions(&[
            of_application("orders", 1, 10, 0),
            of_application("billing", 2, 20, 0),
            of_application("orders", 3, 30, 0),
        ]);
        assert_eq!(ids(sessions.of_application(ApplicationId::of(&uri("orders")))), [1, 3]);
        assert_eq!(ids(sessions.of_application(ApplicationId::of(&uri("billing")))), [2]);
        assert_eq!(ids(sessions.of_application(ApplicationId::of(&uri("nobody")))), []);
        let numbers = ["orders", "billing", "nobody"].map(|name| sessions.number_of(ApplicationId::of(&uri(name))));
        assert_eq!(numbers, [2, 1, 0]);
        sessions.apply(&ended(1, 10));
        sessions.apply(&ended(1, 10));
        assert_eq!(sessions.number_of(ApplicationId::of(&uri("orders"))), 1);
    }
}
