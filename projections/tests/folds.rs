//! What every fold promises, whatever the events: no sequence, however odd, makes one fail, and how the state
//! was reached (all at once, from a checkpoint, from an application's own stream) makes no difference.

use grantlog_projections::api::Api;
use grantlog_projections::directory::{Directory, Touched};
use grantlog_projections::event::*;
use grantlog_projections::key_ring::{KeyRing, KeyState};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::reported_calls::{Remembered, ReportedCalls};
use grantlog_projections::service_run::ServiceRun;
use grantlog_projections::sessions::{Session, Sessions};
use grantlog_projections::tokens::{ReferenceToken, RevokedToken, RevokedUntil, Tokens, TouchedToken};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::*;
use grantlog_projections::{Event, RecordedEvent};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

const APPLICATIONS: [&str; 3] = ["orders-worker", "my.trusted.app/service", "z"];
const APIS: [&str; 3] = ["https://orders", "https://stock", "https://id.example.com"];
const KEYS: [&str; 5] = [
    "2026-03-16",
    "2026-03-16.2",
    "2026-06-14",
    "2026-06-14-rs256",
    "2026-09-12",
];

#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    directory: Directory,
    key_ring: KeyRing,
    service_run: ServiceRun,
    tokens: Tokens,
    sessions: Sessions,
    reported_calls: ReportedCalls,
}

impl State {
    fn of(events: &[RecordedEvent]) -> Self {
        let mut state = Self::default();
        state.fold(events);
        state
    }

    fn fold(&mut self, events: &[RecordedEvent]) {
        for event in events {
            self.directory.apply(event);
            self.key_ring.apply(event);
            self.service_run.apply(event);
            self.tokens.apply(event);
            self.sessions.apply(event);
            self.reported_calls.apply(event);
        }
    }

    /// As a checkpoint does: every part to JSON and back.
    fn saved_and_restored(&self) -> Self {
        fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
            serde_json::from_slice(&serde_json::to_vec(value).expect("it becomes JSON")).expect("and comes back")
        }
        let mut directory = Directory::default();
        for application in self.directory.applications_after(None) {
            directory.restore_application(through_json::<TrustedApplication>(application));
        }
        for api in self.directory.apis_after(None) {
            directory.restore_api(through_json::<Api>(api));
        }
        let mut tokens = Tokens::default();
        for kept in self.tokens.all() {
            match kept {
                TouchedToken::Revoked(jti) => {
                    let revoked = self.tokens.revoked(jti).expect("it is one of all");
                    tokens.restore_revoked(jti, through_json::<RevokedToken>(revoked));
                }
                TouchedToken::Application(id) => {
                    let until = self.tokens.revoked_until(id).expect("it is one of all");
                    tokens.restore_application(id, through_json::<RevokedUntil>(&until));
                }
                TouchedToken::Secret(id, secret) => {
                    let revoked_at = self.tokens.secret_revoked_at(id, secret).expect("it is one of all");
                    tokens.restore_secret(id, secret, through_json::<Timestamp>(&revoked_at));
                }
                TouchedToken::Reference(id) => {
                    let token = self.tokens.reference(id).expect("it is one of all");
                    tokens.restore_reference(through_json::<ReferenceToken>(token));
                }
            }
        }
        let mut sessions = Sessions::default();
        for session in self.sessions.open() {
            sessions.restore(through_json::<Session>(session));
        }
        let mut reported_calls = ReportedCalls::default();
        for reporter in self.reported_calls.reporters() {
            let remembered = self.reported_calls.of(reporter).expect("it is one of them");
            reported_calls.restore(reporter, through_json::<Remembered>(remembered));
        }
        Self {
            tokens,
            sessions,
            reported_calls,
            directory,
            key_ring: through_json(&self.key_ring),
            service_run: through_json(&self.service_run),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_same_events_give_the_same_state(events in log()) {
        prop_assert_eq!(State::of(&events), State::of(&events));
    }

    #[test]
    fn a_state_that_was_saved_restored_and_folded_on_is_the_state_from_zero(events in log(), cuts in vec(any::<prop::sample::Index>(), 0..4)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(events.len() + 1)).collect();
        cuts.sort_unstable();
        let mut state = State::default();
        let mut folded = 0;
        for cut in cuts {
            state.fold(&events[folded..cut]);
            folded = cut;
            state = state.saved_and_restored();
        }
        state.fold(&events[folded..]);
        prop_assert_eq!(state, State::of(&events));
    }

    #[test]
    fn events_that_no_state_reads_change_nothing(events in log()) {
        let state = State::of(&events);
        for noise in every_event_that_no_state_reads() {
            let mut after = state.clone();
            after.fold(&[recorded(u64::MAX, u64::MAX, 1, noise)]);
            prop_assert_eq!(&after, &state);
        }
    }

    #[test]
    fn what_a_fold_says_that_it_touched_is_all_that_has_changed(events in log()) {
        let mut before = State::default();
        for event in events {
            let mut after = before.clone();
            match after.directory.apply(&event) {
                Touched::Nothing => prop_assert_eq!(&after.directory, &before.directory),
                Touched::Application(id) => {
                    prop_assert!(after.directory.application(id).is_some());
                    for other in before.directory.applications_after(None).filter(|other| other.id != id) {
                        prop_assert_eq!(after.directory.application(other.id), Some(other));
                    }
                    prop_assert!(after.directory.apis_after(None).eq(before.directory.apis_after(None)));
                }
                Touched::Api(id) => {
                    prop_assert!(after.directory.api(id).is_some());
                    for other in before.directory.apis_after(None).filter(|other| other.id != id) {
                        prop_assert_eq!(after.directory.api(other.id), Some(other));
                    }
                    prop_assert!(after.directory.applications_after(None).eq(before.directory.applications_after(None)));
                }
            }
            if !after.key_ring.apply(&event) {
                prop_assert_eq!(&after.key_ring, &before.key_ring);
            }
            if !after.service_run.apply(&event) {
                prop_assert_eq!(&after.service_run, &before.service_run);
            }
            let touched: BTreeSet<_> = after.tokens.apply(&event).into_iter().collect();
            for known in before.tokens.all().chain(after.tokens.all()) {
                if !touched.contains(&known) {
                    prop_assert_eq!(kept(&after.tokens, known), kept(&before.tokens, known));
                }
            }
            let touched = after.sessions.apply(&event);
            for session in before.sessions.open().chain(after.sessions.open()) {
                if touched != Some(session.id) {
                    prop_assert_eq!(after.sessions.get(session.id), before.sessions.get(session.id));
                }
            }
            let touched = after.reported_calls.apply(&event);
            for reporter in after.reported_calls.reporters() {
                if touched != Some(reporter) {
                    prop_assert_eq!(after.reported_calls.of(reporter), before.reported_calls.of(reporter));
                }
            }
            before = after;
        }
    }

    #[test]
    fn the_orders_of_sessions_hold_each_once_and_are_in_order(events in log()) {
        let sessions = State::of(&events).sessions;
        let all: BTreeSet<_> = sessions.open().map(|session| session.id).collect();
        prop_assert_eq!(all.len(), sessions.len());
        let by_last_use: Vec<_> = sessions.by_last_use().collect();
        prop_assert!(by_last_use.is_sorted_by_key(|session| session.last_used_at.unix_seconds()));
        let by_token_end: Vec<_> = sessions.by_token_end().collect();
        prop_assert!(by_token_end.is_sorted_by_key(|session| session.token_expires_at));
        for order in [by_last_use, by_token_end] {
            prop_assert_eq!(order.len(), all.len());
            prop_assert_eq!(order.iter().map(|session| session.id).collect::<BTreeSet<_>>(), all.clone());
        }
        for client_id in APPLICATIONS {
            let id = ApplicationId::of_client_id(client_id);
            let of_application: Vec<_> = sessions.of_application(id).map(|session| session.id).collect();
            let expected: Vec<_> =
                sessions.open().filter(|session| session.application_id == id).map(|session| session.id).collect();
            prop_assert_eq!(of_application, expected);
        }
        for session in sessions.open() {
            let last = sessions.open().rfind(|other| other.jti == session.jti);
            prop_assert_eq!(sessions.of_token(session.jti), last);
            prop_assert!(session.started_at <= session.last_used_at);
        }
    }

    /// Times only go on here: what a log says is revoked stays so for as long as the token is good.
    #[test]
    fn a_token_that_was_revoked_stays_so_until_it_is_over(events in log(), later in log()) {
        let mut seconds = 0;
        let mut state = State::default();
        let mut revoked: BTreeMap<Uuid, Timestamp> = BTreeMap::new();
        for mut event in events.into_iter().chain(later) {
            seconds += 400;
            event.envelope.time = time(seconds);
            state.fold(std::slice::from_ref(&event));
            if let Event::TokenRevoked(data) = &event.envelope.event {
                let end = revoked.entry(data.jti).or_insert(data.expires_at);
                *end = data.expires_at.max(*end);
            }
            for (jti, end) in &revoked {
                let is_good_still = event.envelope.time <= *end;
                prop_assert!(!is_good_still || state.tokens.revoked(*jti).is_some());
            }
        }
    }

    #[test]
    fn an_application_and_an_api_are_what_their_own_streams_say(events in log()) {
        let state = State::of(&events);
        let stream = |name: StreamName| events.iter().filter(move |event| event.envelope.stream == name);
        for client_id in APPLICATIONS {
            let id = ApplicationId::of_client_id(client_id);
            let alone = stream(StreamName::application(id)).fold(None, TrustedApplication::fold);
            prop_assert_eq!(state.directory.application(id).map(|found| &**found), alone.as_ref());
        }
        for audience in APIS {
            let audience = Audience::parse(audience).unwrap();
            let id = ApiId::of(&audience);
            let alone = stream(StreamName::api(id)).fold(None, Api::fold);
            prop_assert_eq!(state.directory.api(id).map(|found| &**found), alone.as_ref());
            let by_audience = state.directory.api_of(&audience).map(|found| &**found);
            prop_assert_eq!(by_audience, alone.as_ref().filter(|api| !api.is_deleted()));
        }
    }

    #[test]
    fn a_revision_in_the_state_is_that_of_the_streams_last_event(events in log()) {
        let state = State::of(&events);
        for application in state.directory.applications_after(None) {
            let last = events.iter().rfind(|event| event.envelope.stream == StreamName::application(application.id));
            prop_assert_eq!(Some(application.revision), last.map(|event| event.revision));
            prop_assert_eq!(Some(application.changed_at), last.map(|event| event.envelope.time));
        }
        let last_of_keys = events.iter().rfind(|event| event.envelope.stream == StreamName::signing_keys());
        prop_assert_eq!(state.key_ring.revision, last_of_keys.map(|event| event.revision));
    }

    #[test]
    fn pages_of_applications_are_in_order_and_leave_nobody_out(events in log(), page in 1_usize..4) {
        let directory = State::of(&events).directory;
        let all: Vec<_> = directory.applications_after(None).map(|found| found.uri.clone()).collect();
        prop_assert!(all.is_sorted());
        prop_assert_eq!(all.len(), directory.application_count());
        let mut paged: Vec<ApplicationUri> = Vec::new();
        loop {
            let next: Vec<_> =
                directory.applications_after(paged.last()).take(page).map(|found| found.uri.clone()).collect();
            if next.is_empty() {
                break;
            }
            paged.extend(next);
        }
        prop_assert_eq!(paged, all);
    }

    #[test]
    fn each_algorithm_has_one_active_key_at_the_most_and_a_retired_key_keeps_no_private_half(events in log()) {
        let key_ring = State::of(&events).key_ring;
        for alg in SigningAlgorithm::ALL {
            let active = key_ring.keys().filter(|key| {
                key.alg == alg && matches!(key.state, KeyState::Active { .. })
            });
            // A kid is given out once; in these logs it may be added twice, and then both are meant.
            let kids: BTreeSet<_> = active.map(|key| &key.kid).collect();
            prop_assert!(kids.len() <= 1, "{:?}", kids);
        }
        for key in key_ring.keys() {
            if matches!(key.state, KeyState::Retired { .. }) {
                prop_assert_eq!(&key.sealed_private_key, "");
                prop_assert!(key_ring.published().all(|published| !Arc::ptr_eq(published, key)));
            }
        }
    }
}

#[test]
fn every_type_is_either_generated_here_or_listed_as_noise() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut seen: BTreeSet<&str> = every_event_that_no_state_reads().iter().map(Event::type_name).collect();
    let mut runner = TestRunner::deterministic();
    for _ in 0..2_000 {
        seen.insert(state_event().new_tree(&mut runner).unwrap().current().type_name());
    }
    assert_eq!(seen, Event::TYPES.iter().copied().collect());
}

/// A log of events that some state reads in any order, makes sense or not: indexes and revisions are dense, times are not
/// in order.
fn log() -> impl Strategy<Value = Vec<RecordedEvent>> {
    vec((state_event(), 0_i64..100_000), 0..60).prop_map(|events| {
        let mut revisions: HashMap<String, u64> = HashMap::new();
        let mut log = Vec::new();
        for (event, seconds) in events {
            let index = log.len() as u64;
            let next = revisions.entry(stream_of(&event).as_str().to_owned()).or_default();
            log.push(recorded(index, *next, seconds, event));
            *next += 1;
        }
        log
    })
}

fn recorded(index: u64, revision: u64, seconds: i64, event: Event) -> RecordedEvent {
    RecordedEvent {
        index,
        revision,
        envelope: Envelope {
            id: Uuid::from_u128(u128::from(index)),
            stream: stream_of(&event),
            time: time(seconds),
            actor: Actor::System,
            source: None,
            trace_id: None,
            event,
        },
    }
}

fn stream_of(event: &Event) -> StreamName {
    match event {
        Event::ServiceStarted(_) | Event::ServiceStopped(_) => StreamName::service(),
        Event::ApplicationRegistered(data) => StreamName::application(data.application_id),
        Event::ApplicationChanged(data) => StreamName::application(data.application_id),
        Event::ApplicationEnabled(data) => StreamName::application(data.application_id),
        Event::ApplicationDisabled(data) => StreamName::application(data.application_id),
        Event::ApplicationDeleted(data) => StreamName::application(data.application_id),
        Event::SecretRotated(data) => StreamName::application(data.application_id),
        Event::SecretRevoked(data) => StreamName::application(data.application_id),
        Event::ApiRegistered(data) => StreamName::api(data.api_id),
        Event::ApiChanged(data) => StreamName::api(data.api_id),
        Event::ApiDeleted(data) => StreamName::api(data.api_id),
        Event::SigningKeyAdded(_) | Event::SigningKeyActivated(_) | Event::SigningKeyRetired(_) => {
            StreamName::signing_keys()
        }
        Event::TokenIssued(_) | Event::TokenRefused(_) | Event::RequestsThrottled(_) => {
            StreamName::token_requests(None)
        }
        Event::TokenRevoked(data) => StreamName::tokens(data.application_id),
        Event::TokensRevoked(data) => StreamName::tokens(data.application_id),
        Event::ReferenceTokenIssued(data) => StreamName::tokens(data.application_id),
        Event::ReferenceTokenRevoked(data) => StreamName::tokens(data.application_id),
        Event::SessionStarted(data) => StreamName::api_calls(Some(data.application_id)),
        Event::SessionEnded(data) => StreamName::api_calls(Some(data.application_id)),
        Event::ApiCallAuthorized(_) | Event::ApiCallDenied(_) => StreamName::api_calls(None),
        Event::AuditTrailRead(_) | Event::AuditTrailExported(_) | Event::ReportProduced(_) => {
            StreamName::audit_access()
        }
        Event::LegalHoldPlaced(_) | Event::LegalHoldReleased(_) | Event::EventsRemoved(_) | Event::IndexPruned(_) => {
            StreamName::retention()
        }
        Event::EventRemoved(_) => StreamName::token_requests(None),
    }
}

fn state_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => application_event(),
        2 => api_event(),
        2 => key_event(),
        3 => token_event(),
        5 => call_event(),
        1 => any::<bool>().prop_map(|up| if up { started() } else { stopped() }),
    ]
}

fn application_event() -> impl Strategy<Value = Event> {
    (0_usize..3, 0_u32..11, 1_u8..14, 0_i64..2_000, any::<bool>()).prop_map(|(which, kind, secret, seconds, flag)| {
        let application_uri = ApplicationUri::parse(APPLICATIONS[which]).unwrap();
        let application_id = ApplicationId::of(&application_uri);
        let reason = flag.then(|| remark("because"));
        let issued = IssuedSecret {
            id: secret_id(secret),
            hash: SecretHash([secret; 32]),
            hint: flag.then(|| "abcd".into()),
            expires_at: flag.then(|| time(seconds)),
        };
        match kind {
            0 => Event::from(ApplicationRegistered {
                application_id,
                application_uri,
                name: name("An application"),
                description: reason,
                client_type: ClientType::Confidential,
                scope: Scope::parse("read update").unwrap(),
                audiences: vec![audience(0)],
                system_user_allowed: flag,
                system_user: SystemUser::parse("svc").ok().filter(|_| flag),
                org_code: OrgCode::parse("ACME").ok().filter(|_| flag),
                is_enabled: flag,
                owner: None,
                properties: BTreeMap::from([("tier".into(), "gold".into())]),
                token_lifetime_seconds: TokenLifetime::parse(seconds).ok(),
                allowed_networks: vec!["10.0.0.0/8".parse().unwrap()],
                reference_tokens: ReferenceTokens::AdministratorsOnly,
                secret: flag.then_some(issued),
            }),
            1 => ApplicationEnabled {
                application_id,
                application_uri,
                reason,
            }
            .into(),
            2 => ApplicationDisabled {
                application_id,
                application_uri,
                reason,
                revoke_tokens: seconds % 2 == 0,
            }
            .into(),
            3 => ApplicationDeleted {
                application_id,
                application_uri,
                reason,
            }
            .into(),
            4..=6 => SecretRotated {
                application_id,
                application_uri,
                secret: issued,
                superseded: vec![SupersededSecret {
                    id: secret_id(secret.saturating_sub(1)),
                    accepted_until: time(seconds),
                }],
                reason,
            }
            .into(),
            7 => SecretRevoked {
                application_id,
                application_uri,
                secret_id: secret_id(secret),
                reason,
                revoke_tokens: seconds % 2 == 0,
            }
            .into(),
            _ => ApplicationChanged {
                application_id,
                application_uri,
                changes: vec![change(secret, flag)],
                reason,
            }
            .into(),
        }
    })
}

fn change(kind: u8, flag: bool) -> ApplicationChange {
    match kind {
        1 => ApplicationChange::Name(to(name("Before"), name("After"))),
        2 => ApplicationChange::Description(to(None, flag.then(|| remark("about")))),
        3 => ApplicationChange::ClientType(to(ClientType::Confidential, ClientType::Public)),
        4 => ApplicationChange::Scope(to(Scope::none(), Scope::parse("delete").unwrap())),
        5 => ApplicationChange::Audiences(to(vec![audience(0)], vec![audience(1), audience(2)])),
        6 => ApplicationChange::SystemUserAllowed(to(!flag, flag)),
        7 => ApplicationChange::SystemUser(to(None, SystemUser::parse("svc.other").ok().filter(|_| flag))),
        8 => ApplicationChange::OrgCode(to(None, OrgCode::parse("OTHER").ok().filter(|_| flag))),
        9 => ApplicationChange::Owner(to(None, flag.then(|| remark("team")))),
        10 => ApplicationChange::Properties(to(BTreeMap::new(), BTreeMap::from([("a".into(), "b".into())]))),
        11 => ApplicationChange::TokenLifetimeSeconds(to(None, TokenLifetime::parse(60).ok().filter(|_| flag))),
        12 => ApplicationChange::AllowedNetworks(to(Vec::new(), vec!["2001:db8::/32".parse().unwrap()])),
        _ => ApplicationChange::ReferenceTokens(to(ReferenceTokens::None, ReferenceTokens::AdministratorsOnly)),
    }
}

fn api_event() -> impl Strategy<Value = Event> {
    (0_usize..3, 0_u32..8, any::<bool>()).prop_map(|(which, kind, flag)| {
        let audience = audience(which);
        let api_id = ApiId::of(&audience);
        let scope = ApiScope {
            name: Scope::parse("read").unwrap(),
            description: flag.then(|| remark("reads")),
        };
        let change = match kind {
            0 => {
                return Event::from(ApiRegistered {
                    api_id,
                    audience,
                    name: name("An API"),
                    scopes: if flag { vec![scope] } else { Vec::new() },
                    signing_alg: flag.then_some(SigningAlgorithm::Ps256),
                    token_type: if flag { TokenType::Jwt } else { TokenType::AtJwt },
                    token_lifetime_seconds: TokenLifetime::parse(600).ok().filter(|_| flag),
                });
            }
            1 => {
                let reason = flag.then(|| remark("gone"));
                return Event::from(ApiDeleted {
                    api_id,
                    audience,
                    reason,
                });
            }
            2 => ApiChange::Name(to(name("Before"), name("After"))),
            3 => ApiChange::Scopes(to(Vec::new(), vec![scope])),
            4 => ApiChange::SigningAlg(to(None, flag.then_some(SigningAlgorithm::EdDsa))),
            5 => ApiChange::TokenType(to(TokenType::AtJwt, TokenType::Jwt)),
            _ => ApiChange::TokenLifetimeSeconds(to(None, TokenLifetime::parse(60).ok().filter(|_| flag))),
        };
        ApiChanged {
            api_id,
            audience,
            changes: vec![change],
            reason: None,
        }
        .into()
    })
}

fn key_event() -> impl Strategy<Value = Event> {
    (0_usize..5, 0_u32..5).prop_map(|(which, kind)| {
        let kid = KeyId::parse(KEYS[which]).unwrap();
        let alg = if which == 3 {
            SigningAlgorithm::Rs256
        } else {
            SigningAlgorithm::Es256
        };
        let reason = remark("age");
        match kind {
            0 | 1 => Event::from(SigningKeyAdded {
                public_jwk: serde_json::json!({"kty": "EC", "kid": KEYS[which]}),
                sealed_private_key: "sealed".into(),
                kid,
                alg,
                reason,
            }),
            2 | 3 => SigningKeyActivated { kid, alg, reason }.into(),
            _ => SigningKeyRetired { kid, alg, reason }.into(),
        }
    })
}

/// What is kept of a revocation or a reference token.
fn kept(tokens: &Tokens, which: TouchedToken) -> String {
    match which {
        TouchedToken::Revoked(jti) => format!("{:?}", tokens.revoked(jti)),
        TouchedToken::Application(id) => format!("{:?}", tokens.revoked_until(id)),
        TouchedToken::Secret(id, secret) => format!("{:?}", tokens.secret_revoked_at(id, secret)),
        TouchedToken::Reference(id) => format!("{:?}", tokens.reference(id)),
    }
}

fn token_event() -> impl Strategy<Value = Event> {
    (0_usize..3, 0_u32..6, 1_u8..6, 0_i64..10_000, any::<bool>()).prop_map(|(which, kind, token, seconds, flag)| {
        let application_uri = ApplicationUri::parse(APPLICATIONS[which]).unwrap();
        let application_id = ApplicationId::of(&application_uri);
        let reason = flag.then(|| remark("leaked"));
        match kind {
            0 | 1 => Event::from(TokenRevoked {
                jti: token_id(token),
                application_id,
                application_uri,
                expires_at: time(seconds),
                reason,
            }),
            2 => TokensRevoked {
                application_id,
                application_uri,
                issued_until: time(seconds),
                reason,
            }
            .into(),
            3 | 4 => ReferenceTokenIssued {
                token_id: token_id(token),
                application_id,
                application_uri,
                hash: SecretHash([token; 32]),
                hint: "abcd".into(),
                scope: Scope::parse("read").unwrap(),
                audiences: flag.then(|| audience(which)).into_iter().collect(),
                expires_at: time(seconds),
                description: remark("import"),
            }
            .into(),
            _ => ReferenceTokenRevoked {
                token_id: token_id(token),
                application_id,
                application_uri,
                reason,
            }
            .into(),
        }
    })
}

fn call_event() -> impl Strategy<Value = Event> {
    let values = (0_usize..3, 0_u32..7, 1_u8..6, 1_u8..8, 0_i64..10_000, any::<bool>());
    values.prop_map(|(which, kind, token, session, seconds, flag)| {
        let application_uri = ApplicationUri::parse(APPLICATIONS[which]).unwrap();
        let application_id = ApplicationId::of(&application_uri);
        let (jti, session_id) = (token_id(token), Uuid::from_u128(u128::from(session) + 100));
        let token_kind = if flag { TokenKind::Jwt } else { TokenKind::Reference };
        let report = |is_reported: bool| {
            is_reported.then(|| CallReport {
                id: Uuid::from_u128(u128::from(session)),
                reporter_id: ApplicationId::of_client_id(APPLICATIONS[usize::from(token) % 3]),
                time: time(seconds),
                source: None,
                status: Some(200),
            })
        };
        match kind {
            0 | 1 => Event::from(SessionStarted {
                session_id,
                application_id,
                application_uri,
                jti,
                token_kind,
                system_user: SystemUser::parse("svc").ok().filter(|_| flag),
                token_expires_at: time(seconds),
                node: None,
            }),
            2 => SessionEnded {
                session_id,
                application_id,
                application_uri,
                jti,
                reason: SessionEnd::Idle,
                remark: None,
            }
            .into(),
            3..=5 => ApiCallAuthorized {
                via: Via::Gateway,
                application_id,
                application_uri,
                jti,
                token_hint: "abcdefgh".into(),
                system_user: None,
                org_code: None,
                audience: audience(which),
                method: "GET".into(),
                path: "/".into(),
                required_scope: "read".into(),
                session_id: Some(session_id).filter(|_| flag || kind == 3),
                token_kind,
                report: report(kind == 5),
            }
            .into(),
            _ => ApiCallDenied {
                via: Via::Reported,
                application_id: Some(application_id),
                application_uri: Some(application_uri),
                jti: Some(jti),
                token_hint: None,
                audience: audience(which),
                method: "GET".into(),
                path: "/".into(),
                required_scope: "read".into(),
                error: "insufficient_scope".into(),
                reason: DenialReason::RefusedByApi,
                token_kind,
                report: report(flag),
            }
            .into(),
        }
    })
}

/// One of each type that is recorded for the trail only.
fn every_event_that_no_state_reads() -> Vec<Event> {
    let application_uri = ApplicationUri::parse(APPLICATIONS[0]).unwrap();
    let application_id = ApplicationId::of(&application_uri);
    vec![
        TokenIssued {
            jti: Uuid::nil(),
            application_id,
            application_uri: application_uri.clone(),
            secret_id: secret_id(1),
            auth_method: AuthMethod::ClientSecretBasic,
            dialect: Dialect::Standard,
            scope_requested: None,
            scope: Scope::none(),
            audiences: vec![audience(0)],
            system_user: SystemUser::parse("svc").unwrap(),
            org_code: None,
            kid: KeyId::parse(KEYS[0]).unwrap(),
            alg: SigningAlgorithm::Es256,
            issued_at: time(0),
            expires_at: time(3_600),
            token_hint: "abcdefgh".into(),
        }
        .into(),
        TokenRefused {
            client_id: Some(APPLICATIONS[0].into()),
            application_id: Some(application_id),
            error: "invalid_client".into(),
            reason: RefusalReason::SecretMismatch,
            detail: None,
            dialect: Dialect::Json,
        }
        .into(),
        RequestsThrottled {
            client_id: Some(APPLICATIONS[0].into()),
            application_id: Some(application_id),
            source: "192.0.2.1".parse().unwrap(),
            window_seconds: 60,
            suppressed: 7,
        }
        .into(),
        ApiCallAuthorized {
            via: Via::Admin,
            application_id,
            application_uri: application_uri.clone(),
            jti: Uuid::nil(),
            token_hint: "abcdefgh".into(),
            system_user: None,
            org_code: None,
            audience: audience(2),
            method: "GET".into(),
            path: "/admin/applications".into(),
            required_scope: "applications:read".into(),
            session_id: None,
            token_kind: TokenKind::Jwt,
            report: None,
        }
        .into(),
        ApiCallDenied {
            via: Via::Admin,
            application_id: Some(application_id),
            application_uri: Some(application_uri.clone()),
            jti: None,
            token_hint: None,
            audience: audience(2),
            method: "GET".into(),
            path: "/admin/applications".into(),
            required_scope: "applications:read".into(),
            error: "invalid_token".into(),
            reason: DenialReason::TokenExpired,
            token_kind: TokenKind::Jwt,
            report: None,
        }
        .into(),
        AuditTrailRead {
            application_uri: application_uri.clone(),
            filter: BTreeMap::new(),
            rows: 0,
            through_index: 0,
            via: TrailAccess::Search,
        }
        .into(),
        AuditTrailExported {
            application_uri: application_uri.clone(),
            format: "ndjson".into(),
            filter: BTreeMap::new(),
            from_index: 0,
            through_index: 0,
        }
        .into(),
        ReportProduced {
            application_uri,
            report: "inventory".into(),
            format: "text".into(),
            parameters: BTreeMap::new(),
            rows: 0,
            through_index: 0,
            sha256: String::new(),
        }
        .into(),
        LegalHoldPlaced {
            hold_id: Uuid::from_u128(7),
            from_index: 0,
            through_index: None,
            reason: Remark::parse("case 7").unwrap(),
        }
        .into(),
        LegalHoldReleased {
            hold_id: Uuid::from_u128(7),
            reason: None,
        }
        .into(),
        EventsRemoved {
            from_index: 0,
            through_index: 16_384,
            events: 16_000,
            rule: RetentionRule::Age,
        }
        .into(),
        IndexPruned {
            through_index: 16_384,
            rule: RetentionRule::Size,
        }
        .into(),
        EventRemoved {
            leaf_hash: LeafHash([7; 32]),
        }
        .into(),
    ]
}

fn started() -> Event {
    ServiceStarted {
        version: "0.1.0".into(),
        store: "sqlite".into(),
        config_digest: String::new(),
        clean: true,
        node: None,
    }
    .into()
}

fn stopped() -> Event {
    ServiceStopped {
        version: "0.1.0".into(),
        reason: "SIGTERM".into(),
        node: None,
    }
    .into()
}

fn to<T>(from: T, to: T) -> FromTo<T> {
    FromTo { from, to }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_773_653_400_000_000 + seconds * 1_000_000)
}

fn token_id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1_000)
}

fn secret_id(number: u8) -> SecretId {
    SecretId(Uuid::from_u128(u128::from(number)))
}

fn audience(which: usize) -> Audience {
    Audience::parse(APIS[which]).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn remark(text: &str) -> Remark {
    Remark::parse(text).unwrap()
}
