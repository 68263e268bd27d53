//! The ends of sessions: by time, found in bounded work; and at once, when somebody says so.

use crate::event_store::ExpectedRevision;
use crate::policy::CommandRefused;
use crate::service::authorize_call::ended_fact;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{SessionEnd, SessionEnded};
use grantlog_projections::service_run::ServiceRun;
use grantlog_projections::sessions::Session;
use grantlog_projections::values::{Actor, ApplicationId, NodeName, Remark, StreamName, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Sessions that are ended in one go.
const MAX_ENDS: usize = 1_024;
/// Ends that one append records: all of one application.
const MAX_ENDS_PER_APPEND: usize = 64;
/// A node that has not recorded the end of one of its sessions for so long is not there, in seconds.
const GRACE_SECONDS: i64 = 60;
/// So much longer each further node waits before it takes that over, in seconds: enough to read that another did.
const TURN_SECONDS: i64 = 10;
/// Turns that are told apart; of more nodes some have the same.
const MAX_TURNS: usize = 64;

impl Service {
    /// Records the end of sessions whose time is over, wherever the server was when it came. On an old state they may
    /// seem to be over that others have used, or ended: then it is for later.
    pub async fn end_sessions_that_are_over(&self) -> Result<(), ServiceError> {
        self.sessions.forget(self.live.position());
        if self.out_of_date().is_some() {
            return Ok(());
        }
        self.state_of_now().await?;
        loop {
            let circumstances = Circumstances::of_system();
            let over = {
                let sessions = &self.snapshot().sessions;
                let turns = self.turns();
                let is_ours = |session: &Session| self.is_to_be_ended_here(session, &turns, circumstances.now);
                self.settings
                    .sessions
                    .over(sessions, circumstances.now, MAX_ENDS, is_ours)
            };
            let (found, ended) = (
                over.len(),
                self.end_sessions(over, &Actor::System, &circumstances).await?,
            );
            // Those that others are at are theirs to end, or come again.
            if found < MAX_ENDS || ended == 0 {
                return Ok(());
            }
        }
    }

    /// Whether the end of a session that is over by then is this node's to record.
    pub(super) fn is_to_be_ended_here(&self, session: &Session, turns: &Turns, now: Timestamp) -> bool {
        if session.node.as_ref() == self.settings.node.as_ref() {
            return true;
        }
        let (over_at, _) = self.settings.sessions.next_end_of(session);
        now >= over_at.plus_seconds(GRACE_SECONDS) && now >= over_at.plus_seconds(turns.wait_of(session))
    }

    /// The turns of the nodes that are up.
    pub(super) fn turns(&self) -> Turns {
        Turns::of(self.settings.node.as_ref(), &self.snapshot().service_run)
    }

    /// Ends the sessions of tokens that open nothing any more: all of an application's, but for those of tokens that
    /// are still good.
    pub(super) async fn end_revoked_sessions(
        &self,
        application: ApplicationId,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let open: Vec<Arc<Session>> = {
            let sessions = &self.snapshot().sessions;
            sessions.of_application(application).cloned().collect()
        };
        let mut revoked = Vec::new();
        for session in open {
            if self.is_session_revoked(&session).await? {
                revoked.push((session, SessionEnd::Revoked));
            }
        }
        for some in revoked.chunks(MAX_ENDS) {
            self.end_sessions(some.to_vec(), actor, circumstances).await?;
        }
        Ok(())
    }

    /// Ends a session on an administrator's word. Its token stays good, and starts a new one when it is used again.
    pub async fn end_session(
        &self,
        id: Uuid,
        remark: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<Arc<Session>, ServiceError> {
        self.show_what_was_answered().await;
        let open = self.snapshot().sessions.get(id).cloned();
        let is_live = |session: &Arc<Session>| self.settings.sessions.end_of(session, circumstances.now).is_none();
        let session = open
            .filter(is_live)
            .ok_or_else(|| CommandRefused::NotFound(format!("there is no session {id}, or it is over")))?;
        let Some(_taken) = self.sessions.end(&session) else {
            let message = "the session is being begun or ended at this moment: try again";
            return Err(CommandRefused::Conflict(message.into()).into());
        };
        if self.snapshot().sessions.get(id).is_some() {
            let fact = SessionEnded {
                remark,
                ..ended_fact(&session, SessionEnd::Revoked)
            };
            let stream = StreamName::api_calls(Some(session.application_id));
            self.record_change(stream, ExpectedRevision::Any, actor, circumstances, [fact.into()])
                .await?;
        }
        Ok(session)
    }

    /// Ends these sessions, but for those that are being begun or ended by others; says how many it ended. Answers
    /// when this node shows it.
    pub(super) async fn end_sessions(
        &self,
        sessions: Vec<(Arc<Session>, SessionEnd)>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<usize, ServiceError> {
        let mut by_application: BTreeMap<ApplicationId, Vec<_>> = BTreeMap::new();
        for (session, end) in sessions {
            let of_application = by_application.entry(session.application_id).or_default();
            of_application.extend(self.sessions.end(&session).map(|taken| (taken, session, end)));
        }
        let mut ended = 0;
        for (application, sessions) in by_application {
            let stream = StreamName::api_calls(Some(application));
            // A `Beginning` is given up only when the log has been read as far as the end of its session.
            for some in sessions.chunks(MAX_ENDS_PER_APPEND) {
                let still_open: Vec<Event> = some
                    .iter()
                    .filter(|(_, session, _)| self.snapshot().sessions.get(session.id).is_some())
                    .map(|(_, session, end)| ended_fact(session, *end).into())
                    .collect();
                if still_open.is_empty() {
                    continue;
                }
                ended += still_open.len();
                let any = ExpectedRevision::Any;
                self.record_change(stream.clone(), any, actor, circumstances, still_open)
                    .await?;
            }
        }
        Ok(ended)
    }

    /// Whether the token of a session opens nothing any more.
    async fn is_session_revoked(&self, session: &Session) -> Result<bool, ServiceError> {
        let is_active = {
            let snapshot = self.snapshot();
            let application = snapshot.directory.application(session.application_id);
            application.is_some_and(|application| application.is_enabled && !application.is_deleted())
        };
        Ok(!is_active || self.is_revoked(&session.into()).await?)
    }
}

/// Who ends the sessions of nodes that are gone, and when: the names are hashed once for all sessions.
pub(super) struct Turns {
    own: Option<u64>,
    others: Vec<(NodeName, u64)>,
}

impl Turns {
    fn of(node: Option<&NodeName>, run: &ServiceRun) -> Self {
        let others = run.running_nodes().filter(|other| Some(*other) != node);
        Self {
            own: node.map(number_of),
            others: others.map(|other| (other.clone(), number_of(other))).collect(),
        }
    }

    /// How long a node waits after the end of a session that another has begun before it records that end itself. All
    /// nodes that are up get different turns, by an order of them that is another one for each session: no two do it at
    /// once, and no node has to do it for all.
    fn wait_of(&self, session: &Session) -> i64 {
        let own = self.own.map(|own| place(own, session));
        let before = self
            .others
            .iter()
            .filter(|(other, _)| Some(other) != session.node.as_ref())
            .filter(|(_, number)| Some(place(*number, session)) < own)
            .count();
        let turn = i64::try_from(before % MAX_TURNS).unwrap_or(0);
        GRACE_SECONDS + turn * TURN_SECONDS
    }
}

/// A number for the name that all nodes agree on.
fn number_of(node: &NodeName) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(node.as_str()).into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The node's place among the others for this session: a bijection of the number, mixed with the session's random bits by
/// the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn place(number: u64, session: &Session) -> u64 {
    let (_, random) = session.id.as_u64_pair();
    let mut mixed = number ^ random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantlog_projections::event::{ServiceStarted, TokenKind};
    use grantlog_projections::recorded_event::{Envelope, RecordedEvent};
    use grantlog_projections::values::ApplicationUri;
    use std::collections::BTreeSet;

    fn name(text: &str) -> Option<NodeName> {
        NodeName::parse(text).ok()
    }

    fn session(id: u128, node: Option<NodeName>) -> Session {
        let application_uri = ApplicationUri::parse("orders").unwrap();
        let time = Timestamp::from_unix_micros(1_773_653_400_000_000);
        Session {
            id: Uuid::from_u128(id),
            application_id: ApplicationId::of(&application_uri),
            application_uri,
            jti: Uuid::from_u128(id),
            token_kind: TokenKind::Jwt,
            system_user: None,
            token_expires_at: time,
            started_at: time,
            source: None,
            node,
            last_used_at: time,
            calls: 1,
        }
    }

    fn running(nodes: &[&str]) -> ServiceRun {
        let mut run = ServiceRun::default();
        for node in nodes {
            run.apply(&RecordedEvent {
                index: 0,
                revision: 0,
                envelope: Envelope {
                    id: Uuid::nil(),
                    stream: StreamName::service(),
                    time: Timestamp::from_unix_micros(1_773_653_400_000_000),
                    actor: Actor::System,
                    source: None,
                    trace_id: None,
                    event: ServiceStarted {
                        version: "0.1.0".into(),
                        store: "kurrentdb".into(),
                        config_digest: String::new(),
                        clean: true,
                        node: name(node),
                    }
                    .into(),
                },
            });
        }
        run
    }

    #[test]
    fn nodes_take_over_from_one_that_is_gone_one_after_the_other() {
        let nodes = ["a", "b", "c", "d", "gone"];
        let run = running(&nodes);
        let mut first = BTreeSet::new();
        for id in 0..200 {
            let session = session(id, name("gone"));
            let waits: Vec<i64> = ["a", "b", "c", "d"]
                .iter()
                .map(|node| Turns::of(name(node).as_ref(), &run).wait_of(&session))
                .collect();
            let expected = [0, 1, 2, 3].map(|turn| GRACE_SECONDS + turn * TURN_SECONDS);
            let mut in_order = waits.clone();
            in_order.sort_unstable();
            assert_eq!(in_order, expected);
            first.insert(waits.iter().position(|wait| *wait == GRACE_SECONDS));
        }
        assert_eq!(first.len(), 4, "each is the first for some");
    }

    #[test]
    fn a_server_alone_takes_over_what_nodes_with_names_have_left() {
        let run = running(&["gone"]);
        assert_eq!(Turns::of(None, &run).wait_of(&session(1, name("gone"))), GRACE_SECONDS);
    }
}
