//! Which of the tokens that are out open nothing any more, and the reference tokens, which are nowhere else.
//!
//! What was revoked is remembered until the token would have been over anyway: as far as the log's own times tell,
//! for a fold sees no clock.

use crate::event::{Event, ReferenceTokenIssued};
use crate::recorded_event::RecordedEvent;
use crate::values::{
    Actor, ApplicationId, ApplicationUri, Audience, Remark, Scope, SecretHash, SecretId, Timestamp, TokenLifetime,
};
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// How far the clocks of a cluster and of verifiers may be apart, and then some, in seconds.
const GRACE_SECONDS: i64 = 3_600;

/// A token that was revoked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevokedToken {
    /// Whose it was.
    pub application_id: ApplicationId,
    /// Its `exp`.
    pub expires_at: Timestamp,
    /// Since when.
    pub revoked_at: Timestamp,
}

/// A reference token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the attributes are documented at `ReferenceTokenIssued`
pub struct ReferenceToken {
    pub id: Uuid,
    pub application_id: ApplicationId,
    pub application_uri: ApplicationUri,
    pub hash: SecretHash,
    pub hint: String,
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<Audience>,
    pub description: Remark,
    pub expires_at: Timestamp,
    pub issued_at: Timestamp,
    /// Who made it.
    pub issued_by: Actor,
    /// The index of the event that says so.
    pub issued_index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Until when an application's tokens are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedUntil {
    /// Those that were signed, or made, until then.
    pub until: Timestamp,
    /// Whether it was disabled with its tokens, and not enabled since: then later ones go with them.
    #[serde(default)]
    pub is_disabled: bool,
}

/// What an event changed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TouchedToken {
    /// Whether this token is revoked.
    Revoked(Uuid),
    /// Until when this application's tokens are.
    Application(ApplicationId),
    /// Whether those that this secret of the application got are.
    Secret(ApplicationId, SecretId),
    /// This reference token.
    Reference(Uuid),
}

/// Revocations and reference tokens. A clone is cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tokens {
    revoked: OrdMap<Uuid, RevokedToken>,
    revoked_by_end: OrdSet<(Timestamp, Uuid)>,
    revoked_until: OrdMap<ApplicationId, RevokedUntil>,
    revoked_secrets: OrdMap<(ApplicationId, SecretId), Timestamp>,
    reference: OrdMap<Uuid, Arc<ReferenceToken>>,
    reference_by_hash: OrdMap<[u8; 32], Uuid>,
    reference_by_application: OrdSet<(ApplicationId, Uuid)>,
    reference_by_index: OrdMap<u64, Uuid>,
}

impl Tokens {
    /// Folds one event in and says what it changed. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Vec<TouchedToken> {
        let time = recorded.envelope.time;
        match &recorded.envelope.event {
            Event::TokenRevoked(data) => {
                let mut touched = self.forget_what_is_over(time);
                let known = self.revoked.get(&data.jti);
                // Revoked twice, it is so since the first time, and remembered for as long as either says.
                let revoked = RevokedToken {
                    application_id: data.application_id,
                    expires_at: known.map_or(data.expires_at, |known| known.expires_at.max(data.expires_at)),
                    revoked_at: known.map_or(time, |known| known.revoked_at.min(time)),
                };
                self.restore_revoked(data.jti, revoked);
                touched.push(TouchedToken::Revoked(data.jti));
                touched
            }
            Event::TokensRevoked(data) => {
                let is_disabled = self.is_disabled(data.application_id);
                self.revoke_until(data.application_id, latest(data.issued_until, recorded), is_disabled)
            }
            Event::ApplicationDisabled(data) if data.revoke_tokens => {
                self.revoke_until(data.application_id, latest(time, recorded), true)
            }
            Event::ApplicationDeleted(data) => self.revoke_until(data.application_id, latest(time, recorded), true),
            // Whatever was signed while it was being disabled, or since: none of it was good.
            Event::ApplicationEnabled(data) if self.is_disabled(data.application_id) => {
                self.revoke_until(data.application_id, latest(time, recorded), false)
            }
            Event::SecretRevoked(data) if data.revoke_tokens => {
                let mut touched = self.forget_secrets(data.application_id, time);
                let known = self.secret_revoked_at(data.application_id, data.secret_id);
                let revoked_at = known.map_or(time, |known| known.max(time));
                self.restore_secret(data.application_id, data.secret_id, revoked_at);
                touched.push(TouchedToken::Secret(data.application_id, data.secret_id));
                touched
            }
            // An id is given out once; were it not, the first would be the token.
            Event::ReferenceTokenIssued(data) if self.reference.contains_key(&data.token_id) => Vec::new(),
            Event::ReferenceTokenIssued(data) => {
                self.restore_reference(ReferenceToken::issued(data, recorded));
                vec![TouchedToken::Reference(data.token_id)]
            }
            Event::ReferenceTokenRevoked(data) => match self.reference.get_mut(&data.token_id) {
                Some(token) if token.revoked_at.is_none() => {
                    Arc::make_mut(token).revoked_at = Some(time);
                    vec![TouchedToken::Reference(data.token_id)]
                }
                _ => Vec::new(),
            },
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::ApplicationRegistered(_)
            | Event::ApplicationChanged(_)
            | Event::ApplicationEnabled(_)
            | Event::ApplicationDisabled(_)
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
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::ApiCallAuthorized(_)
            | Event::ApiCallDenied(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => Vec::new(),
        }
    }

    /// Since when this access token is revoked, if it is; `issued_at` is when it was signed. What its secret says
    /// is another question: [`Tokens::secrets_revoked_since`].
    pub fn revoked_at(&self, application: ApplicationId, jti: Uuid, issued_at: Timestamp) -> Option<Timestamp> {
        let alone = self.revoked.get(&jti).map(|revoked| revoked.revoked_at);
        let until = self.revoked_until.get(&application).map(|revoked| revoked.until);
        alone.or_else(|| until.filter(|until| issued_at <= *until))
    }

    /// Secrets of the application that took their tokens with them, and were revoked at or after that time: a
    /// token signed then may be one of theirs.
    pub fn secrets_revoked_since(&self, application: ApplicationId, time: Timestamp) -> impl Iterator<Item = SecretId> {
        self.secrets_of(application)
            .filter(move |(_, revoked_at)| *revoked_at >= time)
            .map(|(secret, _)| secret)
    }

    /// Whether this secret of the application took its tokens with it.
    pub fn is_secret_revoked(&self, application: ApplicationId, secret: SecretId) -> bool {
        self.revoked_secrets.contains_key(&(application, secret))
    }

    /// The reference token with this hash.
    pub fn reference_of(&self, hash: &SecretHash) -> Option<&Arc<ReferenceToken>> {
        self.reference.get(self.reference_by_hash.get(&hash.0)?)
    }

    /// The reference token with this id.
    pub fn reference(&self, id: Uuid) -> Option<&Arc<ReferenceToken>> {
        self.reference.get(&id)
    }

    /// All reference tokens, the oldest first: ids are in the order of time.
    pub fn references(&self) -> impl DoubleEndedIterator<Item = &Arc<ReferenceToken>> {
        self.reference.values()
    }

    /// The reference tokens of an application, the oldest first.
    pub fn references_of(&self, application: ApplicationId) -> impl DoubleEndedIterator<Item = &Arc<ReferenceToken>> {
        self.reference_by_application
            .range((application, Uuid::nil())..=(application, Uuid::max()))
            .filter_map(|(_, id)| self.reference.get(id))
    }

    /// Those of an application that are older than this one, the newest first.
    pub fn references_of_before(
        &self,
        application: ApplicationId,
        id: Uuid,
    ) -> impl Iterator<Item = &Arc<ReferenceToken>> {
        let before = self
            .reference_by_application
            .range((application, Uuid::nil())..(application, id));
        before.rev().filter_map(|(_, id)| self.reference.get(id))
    }

    /// The reference tokens that events before this index tell of, the newest first.
    pub fn references_before(&self, index: u64) -> impl Iterator<Item = &Arc<ReferenceToken>> {
        let before = self.reference_by_index.range(..index).rev();
        before.filter_map(|(_, id)| self.reference.get(id))
    }

    /// Since when this reference token is revoked, if it is: itself, or with all of its application's.
    pub fn reference_revoked_at(&self, token: &ReferenceToken) -> Option<Timestamp> {
        let until = self
            .revoked_until
            .get(&token.application_id)
            .map(|revoked| revoked.until);
        token
            .revoked_at
            .or_else(|| until.filter(|until| token.issued_at <= *until))
    }

    /// What is remembered of a revoked token.
    pub fn revoked(&self, jti: Uuid) -> Option<&RevokedToken> {
        self.revoked.get(&jti)
    }

    /// Until when an application's tokens are revoked.
    pub fn revoked_until(&self, application: ApplicationId) -> Option<RevokedUntil> {
        self.revoked_until.get(&application).copied()
    }

    /// When a secret was revoked with its tokens.
    pub fn secret_revoked_at(&self, application: ApplicationId, secret: SecretId) -> Option<Timestamp> {
        self.revoked_secrets.get(&(application, secret)).copied()
    }

    /// How many revocations and reference tokens there are.
    pub fn len(&self) -> usize {
        self.revoked.len() + self.revoked_until.len() + self.revoked_secrets.len() + self.reference.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that is here, as a checkpoint names it.
    pub fn all(&self) -> impl Iterator<Item = TouchedToken> {
        let revoked = self.revoked.keys().copied().map(TouchedToken::Revoked);
        let until = self.revoked_until.keys().copied().map(TouchedToken::Application);
        let secrets = self.revoked_secrets.keys();
        let secrets = secrets.map(|(application, secret)| TouchedToken::Secret(*application, *secret));
        let reference = self.reference.keys().copied().map(TouchedToken::Reference);
        revoked.chain(until).chain(secrets).chain(reference)
    }

    /// Puts a revoked token back as a checkpoint kept it.
    pub fn restore_revoked(&mut self, jti: Uuid, revoked: RevokedToken) {
        if let Some(known) = self.revoked.get(&jti) {
            self.revoked_by_end.remove(&(known.expires_at, jti));
        }
        self.revoked_by_end.insert((revoked.expires_at, jti));
        self.revoked.insert(jti, revoked);
    }

    /// Puts back until when an application's tokens are revoked.
    pub fn restore_application(&mut self, application: ApplicationId, until: RevokedUntil) {
        self.revoked_until.insert(application, until);
    }

    /// Puts back when a secret was revoked with its tokens.
    pub fn restore_secret(&mut self, application: ApplicationId, secret: SecretId, revoked_at: Timestamp) {
        self.revoked_secrets.insert((application, secret), revoked_at);
    }

    /// Puts a reference token back.
    pub fn restore_reference(&mut self, token: ReferenceToken) {
        self.reference_by_hash.insert(token.hash.0, token.id);
        self.reference_by_application.insert((token.application_id, token.id));
        self.reference_by_index.insert(token.issued_index, token.id);
        self.reference.insert(token.id, Arc::new(token));
    }

    fn is_disabled(&self, application: ApplicationId) -> bool {
        let known = self.revoked_until.get(&application);
        known.is_some_and(|known| known.is_disabled)
    }

    fn revoke_until(&mut self, application: ApplicationId, until: Timestamp, is_disabled: bool) -> Vec<TouchedToken> {
        let known = self.revoked_until.get(&application).copied();
        let next = RevokedUntil {
            until: known.map_or(until, |known| known.until.max(until)),
            is_disabled,
        };
        if known == Some(next) {
            return Vec::new();
        }
        self.revoked_until.insert(application, next);
        vec![TouchedToken::Application(application)]
    }

    fn forget_what_is_over(&mut self, time: Timestamp) -> Vec<TouchedToken> {
        let mut forgotten = Vec::new();
        while let Some((end, jti)) = self.revoked_by_end.get_min().copied()
            && end.plus_seconds(GRACE_SECONDS) < time
        {
            self.revoked_by_end.remove(&(end, jti));
            self.revoked.remove(&jti);
            forgotten.push(TouchedToken::Revoked(jti));
        }
        forgotten
    }

    fn forget_secrets(&mut self, application: ApplicationId, time: Timestamp) -> Vec<TouchedToken> {
        let longest = i64::from(TokenLifetime::MAX_SECONDS) + GRACE_SECONDS;
        let over: Vec<SecretId> = self
            .secrets_of(application)
            .filter(|(_, revoked_at)| revoked_at.plus_seconds(longest) < time)
            .map(|(secret, _)| secret)
            .collect();
        over.into_iter()
            .map(|secret| {
                self.revoked_secrets.remove(&(application, secret));
                TouchedToken::Secret(application, secret)
            })
            .collect()
    }

    fn secrets_of(&self, application: ApplicationId) -> impl Iterator<Item = (SecretId, Timestamp)> {
        let (first, last) = (SecretId(Uuid::nil()), SecretId(Uuid::max()));
        self.revoked_secrets
            .range((application, first)..=(application, last))
            .map(|((_, secret), revoked_at)| (*secret, *revoked_at))
    }
}

/// The later of the time that the event says and that of its id. A token's time is that of its id, and ids never go
/// back on a node, also when its clock does: a revocation must reach all that were signed before it.
fn latest(time: Timestamp, recorded: &RecordedEvent) -> Timestamp {
    time_of(recorded.envelope.id).map_or(time, |drawn| drawn.max(time))
}

/// The time in a UUIDv7, to the millisecond; none in another.
pub fn time_of(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)? + i64::from(nanoseconds / 1_000);
    Some(Timestamp::from_unix_micros(micros))
}

impl ReferenceToken {
    fn issued(data: &ReferenceTokenIssued, recorded: &RecordedEvent) -> Self {
        Self {
            id: data.token_id,
            application_id: data.application_id,
            application_uri: data.application_uri.clone(),
            hash: data.hash,
            hint: data.hint.clone(),
            scope: data.scope.clone(),
            audiences: data.audiences.clone(),
            description: data.description.clone(),
            expires_at: data.expires_at,
            issued_at: recorded.envelope.time,
            issued_by: recorded.envelope.actor.clone(),
            issued_index: recorded.index,
            revoked_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        ApplicationDisabled, ApplicationEnabled, ReferenceTokenRevoked, SecretRevoked, TokenRevoked, TokensRevoked,
    };
    use crate::recorded_event::Envelope;
    use crate::values::StreamName;

    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;

    fn uri() -> ApplicationUri {
        ApplicationUri::parse("orders").unwrap()
    }

    fn application() -> ApplicationId {
        ApplicationId::of(&uri())
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros((1_773_653_400 + seconds) * 1_000_000)
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn secret(number: u128) -> SecretId {
        SecretId(id(number))
    }

    fn at(seconds: i64, event: impl Into<Event>) -> RecordedEvent {
        RecordedEvent {
            index: 7,
            revision: 0,
            envelope: Envelope {
                id: Uuid::nil(),
                stream: StreamName::tokens(application()),
                time: time(seconds),
                actor: Actor::System,
                source: None,
                trace_id: None,
                event: event.into(),
            },
        }
    }

    fn revoked(token: u128, expires: i64) -> TokenRevoked {
        TokenRevoked {
            jti: id(token),
            application_id: application(),
            application_uri: uri(),
            expires_at: time(expires),
            reason: None,
        }
    }

    fn all_revoked(issued_until: i64) -> TokensRevoked {
        TokensRevoked {
            application_id: application(),
            application_uri: uri(),
            issued_until: time(issued_until),
            reason: None,
        }
    }

    fn secret_revoked(number: u128, revoke_tokens: bool) -> SecretRevoked {
        SecretRevoked {
            application_id: application(),
            application_uri: uri(),
            secret_id: secret(number),
            reason: None,
            revoke_tokens,
        }
    }

    fn enabled() -> ApplicationEnabled {
        ApplicationEnabled {
            application_id: application(),
            application_uri: uri(),
            reason: None,
        }
    }

    fn disabled(revoke_tokens: bool) -> ApplicationDisabled {
        ApplicationDisabled {
            application_id: application(),
            application_uri: uri(),
            reason: None,
            revoke_tokens,
        }
    }

    fn reference(token: u128) -> ReferenceTokenIssued {
        ReferenceTokenIssued {
            token_id: id(token),
            application_id: application(),
            application_uri: uri(),
            hash: SecretHash([u8::try_from(token).unwrap(); 32]),
            hint: "abcd".into(),
            scope: Scope::none(),
            audiences: Vec::new(),
            expires_at: time(DAY),
            description: Remark::parse("import").unwrap(),
        }
    }

    fn reference_revoked(token: u128) -> ReferenceTokenRevoked {
        ReferenceTokenRevoked {
            token_id: id(token),
            application_id: application(),
            application_uri: uri(),
            reason: None,
        }
    }

    fn tokens(events: impl IntoIterator<Item = RecordedEvent>) -> Tokens {
        let mut tokens = Tokens::default();
        for event in events {
            tokens.apply(&event);
        }
        tokens
    }

    #[test]
    fn a_revoked_token_is_refused_and_no_other_is() {
        let tokens = tokens([at(10, revoked(1, HOUR))]);
        assert_eq!(tokens.revoked_at(application(), id(1), time(0)), Some(time(10)));
        assert_eq!(tokens.revoked_at(application(), id(2), time(0)), None);
    }

    #[test]
    fn a_revoked_token_is_remembered_until_it_would_have_been_over_everywhere() {
        let remembered = tokens([at(10, revoked(1, HOUR)), at(2 * HOUR, revoked(2, 3 * HOUR))]);
        assert!(remembered.revoked(id(1)).is_some(), "to the second within the grace");
        let mut tokens = tokens([at(10, revoked(1, HOUR))]);
        let touched = tokens.apply(&at(2 * HOUR + 1, revoked(2, 3 * HOUR)));
        assert_eq!(touched, [TouchedToken::Revoked(id(1)), TouchedToken::Revoked(id(2))]);
        assert_eq!(tokens.all().collect::<Vec<_>>(), [TouchedToken::Revoked(id(2))]);
    }

    #[test]
    fn a_token_that_is_revoked_twice_is_so_since_the_first_time_and_for_the_longer() {
        for ends in [[HOUR, 5 * HOUR], [5 * HOUR, HOUR]] {
            let mut tokens = tokens([at(10, revoked(1, ends[0])), at(20, revoked(1, ends[1]))]);
            let known = tokens.revoked(id(1)).unwrap();
            assert_eq!((known.revoked_at, known.expires_at), (time(10), time(5 * HOUR)));
            tokens.apply(&at(4 * HOUR, revoked(2, 9 * HOUR)));
            assert!(
                tokens.revoked(id(1)).is_some(),
                "the end that was said first is not the end"
            );
        }
    }

    #[test]
    fn all_tokens_of_an_application_are_those_issued_until_then() {
        let tokens = tokens([at(100, all_revoked(100))]);
        for (issued, is_revoked) in [(0, true), (100, true), (101, false)] {
            let revoked_at = tokens.revoked_at(application(), id(1), time(issued));
            assert_eq!(revoked_at.is_some(), is_revoked, "{issued}");
        }
        let other = ApplicationId::of(&ApplicationUri::parse("billing").unwrap());
        assert_eq!(tokens.revoked_at(other, id(1), time(0)), None);
    }

    #[test]
    fn an_earlier_end_gives_no_token_back() {
        let mut tokens = tokens([at(100, all_revoked(100))]);
        assert_eq!(tokens.apply(&at(200, all_revoked(50))), []);
        let until = tokens.revoked_until(application()).map(|revoked| revoked.until);
        assert_eq!(until, Some(time(100)));
    }

    #[test]
    fn a_disabled_application_loses_its_tokens_for_good_when_asked() {
        assert_eq!(tokens([at(100, disabled(false))]).revoked_until(application()), None);
        let mut tokens = tokens([at(100, disabled(true))]);
        assert!(tokens.revoked_at(application(), id(1), time(100)).is_some());
        // Signed while it was being disabled, or since: gone when it is enabled, and what comes then is good.
        tokens.apply(&at(150, all_revoked(120)));
        tokens.apply(&at(200, enabled()));
        assert!(tokens.revoked_at(application(), id(1), time(200)).is_some());
        assert_eq!(tokens.revoked_at(application(), id(1), time(201)), None);
        tokens.apply(&at(300, enabled()));
        assert_eq!(tokens.revoked_at(application(), id(1), time(250)), None);
    }

    #[test]
    fn a_clock_that_was_put_back_leaves_no_token_out() {
        // Ids never go back on a node: that of the event is later than its time.
        let mut revoked = at(100, all_revoked(100));
        let millis = u128::try_from(time(400).unix_micros() / 1_000).unwrap();
        revoked.envelope.id = Uuid::from_u128((millis << 80) | (0x7 << 76) | (0x2 << 62));
        let tokens = tokens([revoked]);
        assert!(tokens.revoked_at(application(), id(1), time(400)).is_some());
        assert_eq!(tokens.revoked_at(application(), id(1), time(401)), None);
    }

    #[test]
    fn a_secret_that_is_revoked_takes_its_tokens_with_it_when_asked() {
        let without = tokens([at(100, secret_revoked(1, false))]);
        assert!(!without.is_secret_revoked(application(), secret(1)));
        let tokens = tokens([at(100, secret_revoked(1, true))]);
        assert!(tokens.is_secret_revoked(application(), secret(1)));
        assert!(!tokens.is_secret_revoked(application(), secret(2)));
        let suspects = |since: i64| {
            tokens
                .secrets_revoked_since(application(), time(since))
                .collect::<Vec<_>>()
        };
        assert_eq!(suspects(99), [secret(1)]);
        assert_eq!(suspects(100), [secret(1)]);
        assert_eq!(suspects(101), [], "a token that was signed later is of another secret");
    }

    #[test]
    fn a_revoked_secret_is_forgotten_when_no_token_of_it_can_be_left() {
        let longest = i64::from(TokenLifetime::MAX_SECONDS) + GRACE_SECONDS;
        let mut tokens = tokens([at(100, secret_revoked(1, true))]);
        tokens.apply(&at(100 + longest, secret_revoked(2, true)));
        assert!(tokens.is_secret_revoked(application(), secret(1)));
        let touched = tokens.apply(&at(101 + longest, secret_revoked(3, true)));
        assert_eq!(
            touched,
            [
                TouchedToken::Secret(application(), secret(1)),
                TouchedToken::Secret(application(), secret(3)),
            ]
        );
        assert!(!tokens.is_secret_revoked(application(), secret(1)));
    }

    #[test]
    fn a_reference_token_is_found_by_its_hash_until_it_is_revoked_and_then_is_known_to_be() {
        let mut tokens = tokens([at(0, reference(1)), at(0, reference(2))]);
        let found = tokens.reference_of(&SecretHash([1; 32])).unwrap().clone();
        assert_eq!((found.id, found.issued_index), (id(1), 7));
        assert_eq!(tokens.reference_revoked_at(&found), None);
        assert!(tokens.reference_of(&SecretHash([9; 32])).is_none());
        tokens.apply(&at(50, reference_revoked(1)));
        assert_eq!(tokens.apply(&at(60, reference_revoked(1))), [], "once");
        assert_eq!(
            tokens.apply(&at(60, reference_revoked(9))),
            [],
            "there is no such token"
        );
        let found = tokens.reference_of(&SecretHash([1; 32])).unwrap();
        assert_eq!(tokens.reference_revoked_at(found), Some(time(50)));
        assert_eq!(tokens.reference_revoked_at(tokens.reference(id(2)).unwrap()), None);
    }

    #[test]
    fn reference_tokens_are_revoked_with_all_of_their_application() {
        let tokens = tokens([at(0, reference(1)), at(100, all_revoked(100)), at(101, reference(2))]);
        let revoked_at = |token: u128| tokens.reference_revoked_at(tokens.reference(id(token)).unwrap());
        assert_eq!((revoked_at(1), revoked_at(2)), (Some(time(100)), None));
        let of_application: Vec<_> = tokens.references_of(application()).map(|token| token.id).collect();
        assert_eq!(of_application, [id(1), id(2)]);
    }
}
