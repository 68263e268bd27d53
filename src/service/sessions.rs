//! Sessions: begun with the first call of a token, ended by time or by an administrator.
//!
//! The log knows which there are (`grantlog_projections::sessions`). Here is what the log does not know yet: which
//! are being begun or ended this moment, so that no token begins two, and none is ended twice.

use grantlog_projections::event::SessionEnd;
use grantlog_projections::sessions::{Session, Sessions};
use grantlog_projections::values::{ApplicationId, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct SessionSettings {
    /// A session whose token is not used for so long ends.
    pub idle: Duration,
    /// A session ends after so long in any case.
    pub absolute: Duration,
    /// Sessions that one application may have at a time; none: any number.
    pub max_per_application: Option<u32>,
}

impl SessionSettings {
    /// Why the session is over by then, if it is.
    pub fn end_of(&self, session: &Session, now: Timestamp) -> Option<SessionEnd> {
        let due = self.ends_of(session).into_iter().find(|(at, _)| now >= *at);
        due.map(|(_, end)| end)
    }

    /// When the session is over if its token is not used any more, and why.
    pub fn next_end_of(&self, session: &Session) -> (Timestamp, SessionEnd) {
        let [token, absolute, idle] = self.ends_of(session);
        [absolute, idle]
            .into_iter()
            .fold(token, |first, end| if end.0 < first.0 { end } else { first })
    }

    /// The ends that time brings. Of several that have come, the first here is the reason.
    fn ends_of(&self, session: &Session) -> [(Timestamp, SessionEnd); 3] {
        let leeway = super::authorize_call::LEEWAY_SECONDS.into();
        [
            (session.token_expires_at.plus_seconds(leeway), SessionEnd::TokenExpired),
            (later(session.started_at, self.absolute), SessionEnd::Absolute),
            (later(session.last_used_at, self.idle), SessionEnd::Idle),
        ]
    }

    /// Sessions that are over by then, this many at the most: looks at those that can be, not at all.
    pub fn over(&self, sessions: &Sessions, now: Timestamp, most: usize) -> Vec<(Arc<Session>, SessionEnd)> {
        let is_over = |session: &&Arc<Session>| self.end_of(session, now).is_some();
        let mut over: HashMap<Uuid, (Arc<Session>, SessionEnd)> = HashMap::new();
        // Each of the three is in the order in which its sessions end.
        let orders: [&mut dyn Iterator<Item = &Arc<Session>>; 3] = [
            &mut sessions.by_token_end(),
            &mut sessions.open(),
            &mut sessions.by_last_use(),
        ];
        for order in orders {
            for session in order.take_while(is_over).take(most) {
                if let Some(end) = self.end_of(session, now) {
                    over.insert(session.id, (session.clone(), end));
                }
            }
        }
        let mut over: Vec<_> = over.into_values().collect();
        over.sort_by_key(|(session, _)| session.id);
        over.truncate(most);
        over
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.plus_seconds(i64::try_from(by.as_secs()).unwrap_or(i64::MAX))
}

/// What is being begun or ended, by token.
#[derive(Default)]
pub struct SessionsUnderWay {
    tokens: Mutex<HashMap<Uuid, UnderWay>>,
}

struct UnderWay {
    application_id: ApplicationId,
    /// The session that the log will have.
    session_id: Uuid,
    state: State,
}

enum State {
    /// Somebody appends; the channel closes when that has come to an end.
    Appending(watch::Receiver<()>),
    /// The log has it at this index: whoever has folded that far knows it from there.
    Begun(u64),
}

/// What a call has to do about its session.
pub enum Turn<'a> {
    /// The session is there.
    Open(Uuid),
    /// It is this call's to begin one.
    Begin(Beginning<'a>),
    /// Somebody else is at it: look again when the channel closes.
    Wait(watch::Receiver<()>),
    /// The application has as many as it may.
    TooMany,
}

/// What a session is of.
#[derive(Debug, Clone, Copy)]
pub struct TokenAtWork {
    /// The token's id.
    pub jti: Uuid,
    /// Whose it is.
    pub application_id: ApplicationId,
}

impl SessionsUnderWay {
    /// What a call with this token has to do, by what the log says (`sessions`, which has read at least as far as
    /// `position`) and what is under way.
    pub fn turn(
        &self,
        sessions: &Sessions,
        position: u64,
        settings: &SessionSettings,
        token: TokenAtWork,
        now: Timestamp,
    ) -> Turn<'_> {
        let known = sessions.of_token(token.jti);
        let mut tokens = self.lock();
        // Looked at first: it may be newer than what the log says.
        match tokens.get(&token.jti) {
            Some(UnderWay {
                state: State::Appending(ended),
                ..
            }) => return Turn::Wait(ended.clone()),
            Some(UnderWay {
                state: State::Begun(index),
                session_id,
                ..
            }) if *index >= position => return Turn::Open(*session_id),
            Some(_) => {
                tokens.remove(&token.jti);
            }
            None => {}
        }
        let over = match known {
            Some(session) => match settings.end_of(session, now) {
                None => return Turn::Open(session.id),
                Some(end) => Some((session.clone(), end)),
            },
            None => None,
        };
        if let Some(most) = settings.max_per_application {
            let most = most as usize;
            let live = sessions.of_application(token.application_id);
            let live = live
                .filter(|session| settings.end_of(session, now).is_none())
                .take(most);
            let others = tokens.values().filter(|under_way| {
                under_way.application_id == token.application_id && sessions.get(under_way.session_id).is_none()
            });
            if live.count() + others.count() >= most {
                return Turn::TooMany;
            }
        }
        let session_id = Uuid::now_v7();
        Turn::Begin(self.begin(&mut tokens, token.jti, token.application_id, session_id, over))
    }

    /// Takes a session in hand to end it; `None` when somebody else has it.
    pub fn end(&self, session: &Session) -> Option<Beginning<'_>> {
        let mut tokens = self.lock();
        match tokens.get(&session.jti) {
            // Whoever knows the session from the log has read that it has begun.
            Some(UnderWay {
                state: State::Begun(_),
                session_id,
                ..
            }) if *session_id == session.id => {}
            Some(_) => return None,
            None => {}
        }
        Some(self.begin(&mut tokens, session.jti, session.application_id, session.id, None))
    }

    /// Forgets what the log has told by now.
    pub fn forget(&self, position: u64) {
        self.lock()
            .retain(|_, under_way| !matches!(under_way.state, State::Begun(index) if index < position));
    }

    fn begin(
        &self,
        tokens: &mut HashMap<Uuid, UnderWay>,
        jti: Uuid,
        application_id: ApplicationId,
        session_id: Uuid,
        over: Option<(Arc<Session>, SessionEnd)>,
    ) -> Beginning<'_> {
        let (ends, ended) = watch::channel(());
        let state = State::Appending(ended);
        tokens.insert(
            jti,
            UnderWay {
                application_id,
                session_id,
                state,
            },
        );
        Beginning {
            under_way: self,
            jti,
            session_id,
            over,
            begun_at: None,
            _ends: ends,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, UnderWay>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is being begun, or ended. Whoever gives it up leaves the next one to it.
pub struct Beginning<'a> {
    under_way: &'a SessionsUnderWay,
    jti: Uuid,
    /// Its id.
    pub session_id: Uuid,
    /// The token's session before, which has run out and whose end nobody has recorded yet.
    pub over: Option<(Arc<Session>, SessionEnd)>,
    begun_at: Option<u64>,
    _ends: watch::Sender<()>,
}

impl Beginning<'_> {
    /// The log has its beginning, at this index or before.
    pub fn begun(mut self, index: u64) {
        self.begun_at = Some(index);
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        let mut tokens = self.under_way.lock();
        match (self.begun_at, tokens.get_mut(&self.jti)) {
            (Some(index), Some(under_way)) => under_way.state = State::Begun(index),
            (None, Some(_)) => {
                tokens.remove(&self.jti);
            }
            (_, None) => {}
        }
    }
}
