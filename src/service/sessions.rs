//! Sessions: begun with the first call of a token, ended by time or by an administrator.
//!
//! The log knows which there are (`grantlog_projections::sessions`). Here is what the log does not know yet: which
//! are being begun or ended this moment, so that no token begins two, and none is ended twice.

use grantlog_projections::event::{SessionEnd, Via};
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
    /// As they are for calls that come in this way. The limit is for APIs: were Grantlog's own endpoints behind it, an
    /// administrator with as many sessions as it may have could not end one, or disable anybody.
    pub fn of_calls_by(self, via: Via) -> Self {
        let is_own = via == Via::Admin;
        Self {
            max_per_application: self.max_per_application.filter(|_| !is_own),
            ..self
        }
    }

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

    /// Sessions that are over by then and wanted, this many at the most: looks at those that can be, not at all.
    pub fn over(
        &self,
        sessions: &Sessions,
        now: Timestamp,
        most: usize,
        is_wanted: impl Fn(&Session) -> bool,
    ) -> Vec<(Arc<Session>, SessionEnd)> {
        let is_over = |session: &&Arc<Session>| self.end_of(session, now).is_some();
        let mut over: HashMap<Uuid, (Arc<Session>, SessionEnd)> = HashMap::new();
        // Each of the three is in the order in which its sessions end.
        let orders: [&mut dyn Iterator<Item = &Arc<Session>>; 3] = [
            &mut sessions.by_token_end(),
            &mut sessions.open(),
            &mut sessions.by_last_use(),
        ];
        for order in orders {
            let wanted = order.take_while(is_over).filter(|session| is_wanted(session));
            for session in wanted.take(most) {
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
            }) if *index >= position => {
                let session_id = *session_id;
                let is_beyond = is_full(&tokens, sessions, settings, token.application_id, Some(session_id), now);
                return open_unless(is_beyond, session_id);
            }
            Some(_) => {
                tokens.remove(&token.jti);
            }
            None => {}
        }
        let over = match known {
            Some(session) => match settings.end_of(session, now) {
                None => {
                    let own = Some(session.id);
                    let is_beyond = is_full(&tokens, sessions, settings, token.application_id, own, now);
                    return open_unless(is_beyond, session.id);
                }
                Some(end) => Some((session.clone(), end)),
            },
            None => None,
        };
        if is_full(&tokens, sessions, settings, token.application_id, None, now) {
            return Turn::TooMany;
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

    /// What is being begun or ended of these tokens and applications: each channel closes when that has come to an
    /// end.
    pub fn under_way(&self, is_of: impl Fn(Uuid, ApplicationId) -> bool) -> Vec<watch::Receiver<()>> {
        let tokens = self.lock();
        let of_these = tokens.iter().filter(|(jti, token)| is_of(**jti, token.application_id));
        of_these
            .filter_map(|(_, token)| match &token.state {
                State::Appending(ended) => Some(ended.clone()),
                State::Begun(_) => None,
            })
            .collect()
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

/// A session beyond the limit has begun where there is none, and is not for calls that are limited.
fn open_unless<'a>(is_beyond: bool, session_id: Uuid) -> Turn<'a> {
    match is_beyond {
        true => Turn::TooMany,
        false => Turn::Open(session_id),
    }
}

/// Whether an application has as many sessions as it may without `own`, and without those that began after it: ids are
/// in the order of time. None: it is about to begin.
fn is_full(
    tokens: &HashMap<Uuid, UnderWay>,
    sessions: &Sessions,
    settings: &SessionSettings,
    application_id: ApplicationId,
    own: Option<Uuid>,
    now: Timestamp,
) -> bool {
    let Some(most) = settings.max_per_application else {
        return false;
    };
    let most = most as usize;
    // Nearly always: nobody has to be counted one by one.
    if sessions.number_of(application_id) + tokens.len() < most + usize::from(own.is_some()) {
        return false;
    }
    let is_of_this = |under_way: &UnderWay| {
        under_way.application_id == application_id && sessions.get(under_way.session_id).is_none()
    };
    // Where there are a few too many, the few that began last tell of all others that they are none of them.
    if let Some(own) = own {
        let number = sessions.number_of(application_id) + tokens.values().filter(|token| is_of_this(token)).count();
        let too_many = number.saturating_sub(most);
        let newest = sessions.of_application(application_id).rev();
        let began_later = newest.take_while(|session| session.id > own).take(too_many);
        if began_later.count() == too_many {
            return false;
        }
    }
    let before = own.unwrap_or(Uuid::max());
    let live = sessions
        .of_application(application_id)
        .take_while(|session| session.id < before)
        .filter(|session| settings.end_of(session, now).is_none())
        .take(most);
    let others = tokens
        .values()
        .filter(|under_way| under_way.session_id < before && is_of_this(under_way));
    live.count() + others.count() >= most
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

#[cfg(test)]
mod tests {
    use super::*;
    use grantlog_projections::event::TokenKind;
    use grantlog_projections::values::ApplicationUri;

    const SETTINGS: SessionSettings = SessionSettings {
        idle: Duration::from_secs(1_200),
        absolute: Duration::from_secs(3_600),
        max_per_application: None,
    };
    const TOKEN_LIFE: i64 = 7_200;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros((1_773_653_400 + seconds) * 1_000_000)
    }

    fn uri() -> ApplicationUri {
        ApplicationUri::parse("orders").unwrap()
    }

    fn token(number: u128) -> TokenAtWork {
        TokenAtWork {
            jti: Uuid::from_u128(number),
            application_id: ApplicationId::of(&uri()),
        }
    }

    /// A session of the token with this number, which was used last so many seconds after it began.
    fn session(number: u128, started: i64, used_after: i64) -> Session {
        Session {
            id: Uuid::from_u128(1_000 + number),
            application_id: ApplicationId::of(&uri()),
            application_uri: uri(),
            jti: Uuid::from_u128(number),
            token_kind: TokenKind::Jwt,
            system_user: None,
            token_expires_at: time(started + TOKEN_LIFE),
            started_at: time(started),
            source: None,
            last_used_at: time(started + used_after),
            calls: 1,
            node: None,
        }
    }

    fn known(some: impl IntoIterator<Item = Session>) -> Sessions {
        let mut sessions = Sessions::default();
        some.into_iter().for_each(|session| sessions.restore(session));
        sessions
    }

    fn ids(over: &[(Arc<Session>, SessionEnd)]) -> Vec<(u128, SessionEnd)> {
        let pair = |(session, end): &(Arc<Session>, SessionEnd)| (session.jti.as_u128(), *end);
        over.iter().map(pair).collect()
    }

    /// A turn without anything that would hold a lock for longer.
    #[derive(Debug, PartialEq)]
    enum Seen {
        Open(u128),
        Begin,
        BeginAfter(u128, SessionEnd),
        Wait,
        TooMany,
    }

    fn seen(turn: &Turn<'_>) -> Seen {
        match turn {
            Turn::Open(id) => Seen::Open(id.as_u128()),
            Turn::Begin(beginning) => match &beginning.over {
                None => Seen::Begin,
                Some((session, end)) => Seen::BeginAfter(session.id.as_u128(), *end),
            },
            Turn::Wait(_) => Seen::Wait,
            Turn::TooMany => Seen::TooMany,
        }
    }

    #[test]
    fn a_session_ends_idle_or_in_all_or_with_its_token() {
        let ends = |session: &Session, now: i64| SETTINGS.end_of(session, time(now));
        let busy = session(1, 0, 3_000);
        assert_eq!(ends(&busy, 3_599), None);
        assert_eq!(ends(&busy, 3_600), Some(SessionEnd::Absolute));
        let idle = session(1, 0, 100);
        assert_eq!(ends(&idle, 1_299), None);
        assert_eq!(ends(&idle, 1_300), Some(SessionEnd::Idle));
        let mut short = session(1, 0, 0);
        short.token_expires_at = time(60);
        let leeway = i64::from(super::super::authorize_call::LEEWAY_SECONDS);
        assert_eq!(ends(&short, 59 + leeway), None, "its token is still let through");
        assert_eq!(ends(&short, 60 + leeway), Some(SessionEnd::TokenExpired));
    }

    #[test]
    fn the_ends_that_have_come_are_found_whatever_they_come_from() {
        let mut short = session(3, 3_000, 0);
        short.token_expires_at = time(3_100);
        let sessions = known([session(1, 0, 3_550), session(2, 100, 50), short, session(4, 3_000, 500)]);
        assert_eq!(SETTINGS.over(&sessions, time(1_000), 10, |_| true), []);
        assert_eq!(
            ids(&SETTINGS.over(&sessions, time(3_600), 10, |_| true)),
            [
                (1, SessionEnd::Absolute),
                (2, SessionEnd::Idle),
                (3, SessionEnd::TokenExpired)
            ]
        );
    }

    #[test]
    fn no_more_ends_are_found_than_were_asked_for_and_the_rest_comes_next() {
        let mut sessions = known((1..=100).map(|number| session(number, 0, 0)));
        let mut found = 0;
        while !sessions.is_empty() {
            let over = SETTINGS.over(&sessions, time(1_200), 7, |_| true);
            assert!(!over.is_empty() && over.len() <= 7);
            found += over.len();
            let ended: Vec<Uuid> = over.iter().map(|(session, _)| session.id).collect();
            let left = sessions.open().filter(|session| !ended.contains(&session.id));
            sessions = known(left.map(|session| (**session).clone()).collect::<Vec<_>>());
        }
        assert_eq!(found, 100);
    }

    #[test]
    fn the_first_call_of_a_token_begins_its_session_and_the_next_ones_belong_to_it() {
        let under_way = SessionsUnderWay::default();
        let none = Sessions::default();
        let turn = under_way.turn(&none, 5, &SETTINGS, token(1), time(0));
        let Turn::Begin(beginning) = turn else {
            panic!("it is the first");
        };
        let session_id = beginning.session_id;
        beginning.begun(5);
        // The log has it at 5, and the snapshot has read 5 events: 0 to 4.
        let next = under_way.turn(&none, 5, &SETTINGS, token(1), time(1));
        assert_eq!(seen(&next), Seen::Open(session_id.as_u128()));
        // From there on it is the snapshot that says so.
        let mut folded = session(1, 0, 0);
        folded.id = session_id;
        let next = under_way.turn(&known([folded]), 6, &SETTINGS, token(1), time(1));
        assert_eq!(seen(&next), Seen::Open(session_id.as_u128()));
        under_way.forget(6);
        assert!(under_way.lock().is_empty(), "what the log has told is not kept twice");
    }

    #[tokio::test]
    async fn of_two_first_calls_at_once_one_begins_the_session_and_the_other_waits_for_it() {
        let under_way = SessionsUnderWay::default();
        let none = Sessions::default();
        let Turn::Begin(beginning) = under_way.turn(&none, 0, &SETTINGS, token(1), time(0)) else {
            panic!("it is the first");
        };
        let session_id = beginning.session_id;
        let Turn::Wait(mut ended) = under_way.turn(&none, 0, &SETTINGS, token(1), time(0)) else {
            panic!("the other one is at it");
        };
        assert!(matches!(
            under_way.turn(&none, 0, &SETTINGS, token(2), time(0)),
            Turn::Begin(_)
        ));
        let waited = async { ended.changed().await.is_err() };
        let begun = async { beginning.begun(0) };
        let (is_closed, ()) = tokio::join!(waited, begun);
        assert!(is_closed);
        let after = under_way.turn(&none, 0, &SETTINGS, token(1), time(0));
        assert_eq!(seen(&after), Seen::Open(session_id.as_u128()));
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_the_beginning_to_the_next() {
        let under_way = SessionsUnderWay::default();
        let none = Sessions::default();
        let Turn::Begin(beginning) = under_way.turn(&none, 0, &SETTINGS, token(1), time(0)) else {
            panic!("it is the first");
        };
        let Turn::Wait(mut ended) = under_way.turn(&none, 0, &SETTINGS, token(1), time(0)) else {
            panic!("the other one is at it");
        };
        drop(beginning);
        assert!(ended.changed().await.is_err(), "it does not wait for ever");
        let next = under_way.turn(&none, 0, &SETTINGS, token(1), time(0));
        assert_eq!(seen(&next), Seen::Begin);
    }

    #[test]
    fn a_call_after_the_end_records_it_and_begins_another_session() {
        let under_way = SessionsUnderWay::default();
        let sessions = known([session(1, 0, 0)]);
        let still = under_way.turn(&sessions, 9, &SETTINGS, token(1), time(1_199));
        assert_eq!(seen(&still), Seen::Open(1_001));
        let after = under_way.turn(&sessions, 9, &SETTINGS, token(1), time(1_200));
        assert_eq!(seen(&after), Seen::BeginAfter(1_001, SessionEnd::Idle));
    }

    #[test]
    fn a_session_that_is_being_ended_is_not_used_and_ends_once() {
        let under_way = SessionsUnderWay::default();
        let only = session(1, 0, 0);
        let sessions = known([only.clone()]);
        let taken = under_way.end(&only).unwrap();
        assert!(under_way.end(&only).is_none(), "another one is at it");
        let call = under_way.turn(&sessions, 9, &SETTINGS, token(1), time(1));
        assert_eq!(seen(&call), Seen::Wait);
        drop(taken);
        assert!(under_way.end(&only).is_some());
    }

    #[test]
    fn an_application_has_as_many_sessions_as_it_may_and_those_that_have_run_out_do_not_count() {
        let under_way = SessionsUnderWay::default();
        let settings = SessionSettings {
            max_per_application: Some(2),
            ..SETTINGS
        };
        let sessions = known([session(1, 0, 0), session(2, 0, 600)]);
        let turn = |token_number: u128, now: i64| {
            seen(&under_way.turn(&sessions, 9, &settings, token(token_number), time(now)))
        };
        assert_eq!(turn(3, 700), Seen::TooMany);
        assert_eq!(turn(1, 700), Seen::Open(1_001), "those that there are go on");
        assert_eq!(turn(3, 1_200), Seen::Begin, "the first has run out");
        assert_eq!(
            turn(1, 1_200),
            Seen::BeginAfter(1_001, SessionEnd::Idle),
            "its own end makes room for it"
        );
    }

    #[test]
    fn the_limit_is_not_for_calls_of_our_own_endpoints() {
        let under_way = SessionsUnderWay::default();
        let settings = SessionSettings {
            max_per_application: Some(1),
            ..SETTINGS
        };
        let sessions = known([session(1, 0, 0)]);
        let turn = |via| seen(&under_way.turn(&sessions, 9, &settings.of_calls_by(via), token(2), time(1)));
        assert_eq!(turn(Via::Admin), Seen::Begin);
        for via in [Via::Gateway, Via::ForwardAuth, Via::Introspection, Via::Reported] {
            assert_eq!(turn(via), Seen::TooMany, "{via:?}");
        }
    }

    #[test]
    fn a_session_that_began_at_our_own_endpoints_beyond_the_limit_is_none_for_apis() {
        let under_way = SessionsUnderWay::default();
        let settings = SessionSettings {
            max_per_application: Some(2),
            ..SETTINGS
        };
        let sessions = known([session(1, 0, 0), session(2, 0, 600), session(4, 0, 600)]);
        let turn = |number: u128, via, now: i64| {
            seen(&under_way.turn(&sessions, 9, &settings.of_calls_by(via), token(number), time(now)))
        };
        assert_eq!(turn(1, Via::Gateway, 700), Seen::Open(1_001));
        assert_eq!(turn(2, Via::Gateway, 700), Seen::Open(1_002));
        assert_eq!(turn(4, Via::Gateway, 700), Seen::TooMany);
        assert_eq!(turn(4, Via::Admin, 700), Seen::Open(1_004));
        assert_eq!(turn(4, Via::Gateway, 1_200), Seen::Open(1_004), "the first has run out");

        let none = Sessions::default();
        let at_once = |number: u128, via| under_way.turn(&none, 9, &settings.of_calls_by(via), token(number), time(0));
        for number in 11..=13 {
            let Turn::Begin(beginning) = at_once(number, Via::Admin) else {
                panic!("there is no limit");
            };
            beginning.begun(9);
        }
        let at_an_api = |number| matches!(at_once(number, Via::Gateway), Turn::Open(_));
        assert_eq!([11, 12, 13].map(at_an_api), [true, true, false]);
    }

    #[test]
    fn sessions_that_are_being_begun_count_too() {
        let under_way = SessionsUnderWay::default();
        let settings = SessionSettings {
            max_per_application: Some(2),
            ..SETTINGS
        };
        let none = Sessions::default();
        let turn = |number: u128| under_way.turn(&none, 0, &settings, token(number), time(0));
        let (first, second) = (turn(1), turn(2));
        assert_eq!((seen(&first), seen(&second)), (Seen::Begin, Seen::Begin));
        assert_eq!(seen(&turn(3)), Seen::TooMany);
        let other = TokenAtWork {
            jti: Uuid::from_u128(4),
            application_id: ApplicationId::of_client_id("billing"),
        };
        assert_eq!(seen(&under_way.turn(&none, 0, &settings, other, time(0))), Seen::Begin);
        drop(first);
        assert_eq!(seen(&turn(3)), Seen::Begin);
    }
}
