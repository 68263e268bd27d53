//! Rotating and revoking client secrets.

use crate::facts::{
    CLIENT, NEW, OLD, changed, registered, registered_with, secret, secret_added, secret_number, secret_revoked,
    secret_rotated, secret_until,
};
use crate::given_when_then::{Fact, Given, Span, after, days, given, hours, seconds};
use grantlog::policy::CommandRefused;
use grantlog::policy::secrets::{MAX_EXPIRY_SECONDS, MAX_OVERLAP_SECONDS, RotateSecret, revoke, rotate};
use grantlog_projections::event::{ClientType, SecretRevoked, SecretRotated, SupersededSecret};
use grantlog_projections::trusted_application::MAX_SECRETS;
use grantlog_projections::values::{SecretId, StreamName};

type Rotation = Result<SecretRotated, CommandRefused>;
type Revocation = Result<Option<SecretRevoked>, CommandRefused>;

const HOUR_SECONDS: i64 = 3_600;

/// Rotates to the secret `NEW`.
#[derive(Clone)]
struct Rotate(RotateSecret);

fn it_is_rotated() -> Rotate {
    Rotate(RotateSecret {
        secret: secret(NEW),
        overlap_seconds: 24 * HOUR_SECONDS,
        now: after(0),
        expected_revision: None,
        reason: None,
    })
}

impl Rotate {
    fn with_overlap(mut self, seconds: i64) -> Self {
        self.0.overlap_seconds = seconds;
        self
    }

    fn at(mut self, span: Span) -> Self {
        self.0.now = after(span);
        self
    }

    fn ending(mut self, end: Span) -> Self {
        self.0.secret = secret_until(NEW, end);
        self
    }

    fn if_at(mut self, revision: u64) -> Self {
        self.0.expected_revision = Some(revision);
        self
    }
}

impl crate::given_when_then::Command for Rotate {
    type Outcome = Rotation;
    fn decide(self, given: &Given) -> Rotation {
        rotate(given.application(CLIENT), self.0)
    }
}

fn it_is_revoked(id: SecretId) -> impl FnOnce(&Given) -> Revocation {
    move |given| revoke(given.application(CLIENT), id, false, None)
}

fn superseding(expected: &[(SecretId, Span)]) -> impl FnOnce(Rotation) {
    let expected: Vec<SupersededSecret> = expected
        .iter()
        .map(|(id, until)| SupersededSecret {
            id: *id,
            accepted_until: after(*until),
        })
        .collect();
    move |rotation| assert_eq!(rotation.expect("it is rotated").superseded, expected)
}

fn invalid(field: &'static str) -> impl FnOnce(Rotation) {
    move |rotation| {
        let refused = rotation.expect_err("it is refused");
        assert!(
            matches!(&refused, CommandRefused::Invalid { field: of, .. } if of == field),
            "{refused:?}"
        );
    }
}

/// The application with this many secrets, numbered from 1, all accepted until further notice.
fn with_secrets(count: u128) -> Vec<Fact> {
    let more = (2..=count).map(|number| secret_added(secret(secret_number(number + 100))));
    std::iter::once(registered()).chain(more).collect()
}

#[test]
fn the_old_secret_is_accepted_for_the_overlap_and_the_new_one_from_now_on() {
    given([registered()])
        .when(it_is_rotated().at(hours(1)))
        .then(superseding(&[(OLD, hours(25))]));
}

#[test]
fn an_overlap_of_0_ends_the_old_secret_now() {
    given([registered()])
        .when(it_is_rotated().with_overlap(0).at(hours(1)))
        .then(superseding(&[(OLD, hours(1))]));
}

#[test]
fn a_secret_that_ends_sooner_by_itself_still_does() {
    given([registered_with(|application| {
        application.secret = Some(secret_until(OLD, hours(2)))
    })])
    .when(it_is_rotated().at(hours(1)))
    .then(superseding(&[(OLD, hours(2))]));
}

#[test]
fn a_second_rotation_shortens_the_overlap_of_the_first_but_never_prolongs_it() {
    let rotated = || given([registered(), secret_rotated(hours(24))]);
    rotated()
        .when(it_is_rotated().with_overlap(HOUR_SECONDS).at(hours(1)))
        .then(superseding(&[(OLD, hours(2)), (NEW, hours(2))]));
    rotated()
        .when(it_is_rotated().with_overlap(48 * HOUR_SECONDS).at(hours(1)))
        .then(superseding(&[(OLD, hours(24)), (NEW, hours(49))]));
}

#[test]
fn secrets_that_no_longer_count_are_not_superseded() {
    given([registered(), secret_revoked(OLD)])
        .when(it_is_rotated())
        .then(superseding(&[]));
    given([registered_with(|application| {
        application.secret = Some(secret_until(OLD, hours(1)))
    })])
    .when(it_is_rotated().at(hours(1)))
    .then(superseding(&[]));
    given([registered_with(|application| application.secret = None)])
        .when(it_is_rotated())
        .then(superseding(&[]));
}

#[test]
fn the_overlap_is_0_to_90_days() {
    for seconds in [-1, i64::MIN, MAX_OVERLAP_SECONDS + 1, i64::MAX] {
        given([registered()])
            .when(it_is_rotated().with_overlap(seconds))
            .then(invalid("overlap_seconds"));
    }
    given([registered()])
        .when(it_is_rotated().with_overlap(MAX_OVERLAP_SECONDS))
        .then(superseding(&[(OLD, days(90))]));
}

#[test]
fn a_secret_lives_ten_years_at_the_most() {
    given([registered()])
        .when(it_is_rotated().ending(seconds(MAX_EXPIRY_SECONDS)))
        .then(|rotation: Rotation| assert!(rotation.is_ok()));
    given([registered()])
        .when(it_is_rotated().ending(seconds(MAX_EXPIRY_SECONDS) + 1))
        .then(invalid("expires_in_seconds"));
}

#[test]
fn a_public_application_gets_no_secret() {
    let public = registered_with(|application| {
        application.client_type = ClientType::Public;
        application.secret = None;
    });
    given([public])
        .when(it_is_rotated())
        .then(|rotation: Rotation| assert!(matches!(rotation, Err(CommandRefused::Conflict(_)))));
}

#[test]
fn with_the_most_secrets_valid_only_a_rotation_without_overlap_is_possible() {
    let most = MAX_SECRETS as u128;
    given(with_secrets(most - 1))
        .when(it_is_rotated())
        .then(|rotation: Rotation| assert_eq!(rotation.unwrap().superseded.len(), MAX_SECRETS - 1));
    given(with_secrets(most))
        .when(it_is_rotated())
        .then(|rotation: Rotation| assert!(matches!(rotation, Err(CommandRefused::Conflict(_)))));
    given(with_secrets(most))
        .when(it_is_rotated().with_overlap(0))
        .then(|rotation: Rotation| assert_eq!(rotation.unwrap().superseded.len(), MAX_SECRETS));
}

#[test]
fn however_often_an_application_rotates_it_keeps_the_most_secrets_and_the_last_one_is_accepted() {
    let mut facts = given([registered()]);
    for number in 0..50_u128 {
        let overlap = if number % 3 == 0 { 0 } else { HOUR_SECONDS };
        let at = hours(i64::try_from(number).unwrap()) / 2;
        let mut command = it_is_rotated().with_overlap(overlap).at(at);
        command.0.secret = secret(secret_number(number + 10));
        let fact = rotate(facts.application(CLIENT), command.0).expect("there is room");
        facts.happen(Fact::new(StreamName::application(fact.application_id), fact).at(at));
        let application = facts.application(CLIENT);
        assert!(application.secrets.len() <= MAX_SECRETS);
        let accepted: Vec<SecretId> = application
            .secrets_accepted_at(after(at))
            .map(|secret| secret.id)
            .collect();
        assert_eq!(accepted.last(), Some(&secret_number(number + 10)));
        if overlap == 0 {
            assert_eq!(accepted.len(), 1);
        }
    }
}

#[test]
fn a_rotation_of_another_revision_is_refused() {
    given([registered(), changed(Vec::new())])
        .when(it_is_rotated().if_at(0))
        .then(|rotation: Rotation| {
            assert_eq!(rotation, Err(CommandRefused::PreconditionFailed { current: 1 }));
        });
    given([registered(), changed(Vec::new())])
        .when(it_is_rotated().if_at(1))
        .then(|rotation: Rotation| assert!(rotation.is_ok()));
}

#[test]
fn a_secret_is_revoked_once_whether_it_still_counts_or_not() {
    given([registered()])
        .when(it_is_revoked(OLD))
        .then(|revocation: Revocation| assert_eq!(revocation.unwrap().expect("a fact").secret_id, OLD));
    given([registered(), secret_rotated(0)])
        .when(it_is_revoked(OLD))
        .then(|revocation: Revocation| assert!(revocation.unwrap().is_some()));
    given([registered(), secret_revoked(OLD)])
        .when(it_is_revoked(OLD))
        .then(|revocation: Revocation| assert_eq!(revocation, Ok(None)));
}

#[test]
fn a_secret_that_the_application_does_not_have_cannot_be_revoked() {
    given([registered()])
        .when(it_is_revoked(NEW))
        .then(|revocation: Revocation| assert!(matches!(revocation, Err(CommandRefused::NotFound(_)))));
}
