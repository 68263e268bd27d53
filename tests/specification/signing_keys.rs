//! When signing keys are made, announced, put to use and retired.

mod years;

use crate::given_when_then::{Fact, Given, Span, after, days, given};
use grantlog::policy::CommandRefused;
use grantlog::policy::signing_keys::{KeyRotation, KeyStep, MAX_PUBLISHED_KEYS, maintain, next_key_id, retire, rotate};
use grantlog_projections::event::{SigningKeyActivated, SigningKeyAdded, SigningKeyRetired};
use grantlog_projections::key_ring::KeyState;
use grantlog_projections::values::{KeyId, Remark, SigningAlgorithm, StreamName};
use serde_json::Value;

const ES256: SigningAlgorithm = SigningAlgorithm::Es256;
const RS256: SigningAlgorithm = SigningAlgorithm::Rs256;

/// Every 90 days, announced 14 days ahead: the defaults.
fn by_default() -> KeyRotation {
    KeyRotation {
        rotate_after_seconds: 90 * 86_400,
        announce_ahead_seconds: 14 * 86_400,
        default_algorithm: ES256,
    }
}

fn upkeep(at: Span) -> impl FnOnce(&Given) -> Vec<KeyStep> {
    move |given| maintain(&given.key_ring, &by_default(), &[ES256], after(at))
}

fn these(expected: Vec<KeyStep>) -> impl FnOnce(Vec<KeyStep>) {
    move |steps| assert_eq!(steps, expected)
}

fn kid(text: &str) -> KeyId {
    KeyId::parse(text).expect("a kid")
}

fn because(reason: &str) -> Remark {
    Remark::parse(reason).expect("a reason")
}

fn added(of: &str, alg: SigningAlgorithm) -> Fact {
    Fact::new(
        StreamName::signing_keys(),
        SigningKeyAdded {
            kid: kid(of),
            alg,
            public_jwk: Value::Null,
            sealed_private_key: "sealed".into(),
            reason: because("age"),
        },
    )
}

fn activated(of: &str, alg: SigningAlgorithm) -> Fact {
    Fact::new(
        StreamName::signing_keys(),
        SigningKeyActivated {
            kid: kid(of),
            alg,
            reason: because("age"),
        },
    )
}

fn retired(of: &str, alg: SigningAlgorithm) -> Fact {
    Fact::new(
        StreamName::signing_keys(),
        SigningKeyRetired {
            kid: kid(of),
            alg,
            reason: because("age"),
        },
    )
}

fn activation(of: &str, reason: &'static str) -> KeyStep {
    KeyStep::Activate {
        kid: kid(of),
        alg: ES256,
        reason,
    }
}

/// What a step leaves in the log: as `service/signing_keys.rs` does, without making a key.
fn facts_of(step: KeyStep, given: &Given, rotation: &KeyRotation, at: Span) -> Vec<Fact> {
    match step {
        KeyStep::Add { alg, activate, .. } => {
            let kid = next_key_id(&given.key_ring, rotation, alg, after(at));
            let mut facts = vec![added(&kid, alg).at(at)];
            facts.extend(activate.then(|| activated(&kid, alg).at(at)));
            facts
        }
        KeyStep::Activate { kid, alg, .. } => vec![activated(kid.as_str(), alg).at(at)],
        KeyStep::Retire { kid, alg, .. } => vec![retired(kid.as_str(), alg).at(at)],
    }
}

#[test]
fn the_first_key_of_an_algorithm_signs_at_once() {
    given([]).when(upkeep(0)).then(these(vec![KeyStep::Add {
        alg: ES256,
        activate: true,
        reason: "first key",
    }]));
}

#[test]
fn a_successor_is_announced_14_days_before_the_key_is_90_days_old_and_not_sooner() {
    let one_key = || given([added("a", ES256), activated("a", ES256)]);
    one_key().when(upkeep(days(76) - 1)).then(these(vec![]));
    one_key().when(upkeep(days(76))).then(these(vec![KeyStep::Add {
        alg: ES256,
        activate: false,
        reason: "age",
    }]));
}

#[test]
fn the_successor_signs_when_the_key_is_90_days_old_and_not_sooner() {
    let announced = || given([added("a", ES256), activated("a", ES256), added("b", ES256).at(days(76))]);
    announced().when(upkeep(days(90) - 1)).then(these(vec![]));
    announced()
        .when(upkeep(days(90)))
        .then(these(vec![activation("b", "age")]));
}

#[test]
fn a_successor_that_was_announced_late_waits_its_14_days() {
    let late = || {
        given([
            added("a", ES256),
            activated("a", ES256),
            added("b", ES256).at(days(200)),
        ])
    };
    late().when(upkeep(days(214) - 1)).then(these(vec![]));
    late().when(upkeep(days(214))).then(these(vec![activation("b", "age")]));
}

#[test]
fn a_superseded_key_is_retired_when_the_longest_token_and_a_clock_s_error_are_over() {
    let superseded = || {
        given([
            added("a", ES256),
            activated("a", ES256),
            added("b", ES256).at(days(76)),
            activated("b", ES256).at(days(90)),
        ])
    };
    let end = days(91) + crate::given_when_then::seconds(300);
    superseded().when(upkeep(end - 1)).then(these(vec![]));
    superseded().when(upkeep(end)).then(these(vec![KeyStep::Retire {
        kid: kid("a"),
        alg: ES256,
        reason: "its last token has expired",
    }]));
}

#[test]
fn without_an_active_key_the_announced_one_signs_at_once() {
    given([added("a", ES256)])
        .when(upkeep(1))
        .then(these(vec![activation("a", "no active key")]));
}

#[test]
fn each_algorithm_in_use_has_its_own_keys_and_one_that_is_not_in_use_is_left_alone() {
    let facts = || given([added("a", RS256), activated("a", RS256)]);
    facts()
        .when(|given: &Given| maintain(&given.key_ring, &by_default(), &[ES256, RS256], after(0)))
        .then(these(vec![KeyStep::Add {
            alg: ES256,
            activate: true,
            reason: "first key",
        }]));
    facts()
        .when(|given: &Given| maintain(&given.key_ring, &by_default(), &[], after(days(1_000))))
        .then(these(vec![]));
}

#[test]
fn without_an_announcement_the_new_key_signs_as_soon_as_it_is_made() {
    let rotation = KeyRotation {
        announce_ahead_seconds: 0,
        ..by_default()
    };
    given([added("a", ES256), activated("a", ES256)])
        .when(|given: &Given| maintain(&given.key_ring, &rotation, &[ES256], after(days(90))))
        .then(these(vec![KeyStep::Add {
            alg: ES256,
            activate: true,
            reason: "age",
        }]));
}

#[test]
fn a_rotation_on_command_takes_the_announced_key_for_verifiers_know_it_already() {
    given([added("a", ES256), activated("a", ES256), added("b", ES256)])
        .when(|given: &Given| rotate(&given.key_ring, ES256))
        .then(|step: Result<KeyStep, CommandRefused>| assert_eq!(step, Ok(activation("b", "on command"))));
    given([added("a", ES256), activated("a", ES256), added("b", RS256)])
        .when(|given: &Given| rotate(&given.key_ring, ES256))
        .then(|step: Result<KeyStep, CommandRefused>| {
            let expected = KeyStep::Add {
                alg: ES256,
                activate: true,
                reason: "on command",
            };
            assert_eq!(step, Ok(expected));
        });
}

#[test]
fn a_rotation_on_command_is_refused_when_verifiers_would_have_too_many_keys_to_read() {
    let kids: Vec<String> = (0..MAX_PUBLISHED_KEYS).map(|n| format!("k{n}")).collect();
    let facts: Vec<_> = kids
        .iter()
        .flat_map(|kid| [added(kid, ES256), activated(kid, ES256)])
        .collect();
    given(facts)
        .when(|given: &Given| rotate(&given.key_ring, ES256))
        .then(|step: Result<KeyStep, CommandRefused>| assert!(matches!(step, Err(CommandRefused::Conflict(_)))));
}

#[test]
fn the_key_that_signs_can_be_retired_when_nobody_uses_its_algorithm() {
    given([added("r", RS256), activated("r", RS256)])
        .when(|given: &Given| retire(&given.key_ring, "r", &[ES256]))
        .then(|step: Result<KeyStep, CommandRefused>| assert!(matches!(step, Ok(KeyStep::Retire { .. }))));
}

#[test]
fn activating_a_key_supersedes_only_the_active_one_of_its_algorithm() {
    let given = given([
        added("a", ES256),
        activated("a", ES256),
        added("r", RS256),
        activated("r", RS256),
        added("c", ES256),
        added("b", ES256),
        activated("b", ES256).at(days(1)),
    ]);
    let state = |kid: &str| given.key_ring.key(kid).expect("the key").state;
    assert_eq!(state("a"), KeyState::Superseded { at: after(days(1)) });
    assert_eq!(state("b"), KeyState::Active { since: after(days(1)) });
    assert_eq!(state("c"), KeyState::Announced);
    assert_eq!(state("r"), KeyState::Active { since: after(0) });
}

#[test]
fn any_key_but_the_one_that_signs_can_be_retired_on_command_and_once() {
    let facts = || {
        given([
            added("a", ES256),
            activated("a", ES256),
            added("b", ES256),
            activated("b", ES256),
            added("c", ES256),
            added("d", ES256),
            retired("d", ES256),
        ])
    };
    type Retirement = Result<KeyStep, CommandRefused>;
    for retirable in ["a", "c"] {
        facts()
            .when(|given: &Given| retire(&given.key_ring, retirable, &[ES256]))
            .then(|step: Retirement| {
                let expected = KeyStep::Retire {
                    kid: kid(retirable),
                    alg: ES256,
                    reason: "on command",
                };
                assert_eq!(step, Ok(expected));
            });
    }
    for conflicting in ["b", "d"] {
        facts()
            .when(|given: &Given| retire(&given.key_ring, conflicting, &[ES256]))
            .then(|step: Retirement| assert!(matches!(step, Err(CommandRefused::Conflict(_)))));
    }
    facts()
        .when(|given: &Given| retire(&given.key_ring, "z", &[ES256]))
        .then(|step: Retirement| assert!(matches!(step, Err(CommandRefused::NotFound(_)))));
}

#[test]
fn a_retired_key_is_published_no_longer_and_its_private_half_is_forgotten() {
    let given = given([
        added("a", ES256),
        activated("a", ES256),
        added("b", ES256),
        activated("b", ES256),
        retired("a", ES256),
    ]);
    let published: Vec<&str> = given.key_ring.published().map(|key| key.kid.as_str()).collect();
    assert_eq!(published, ["b"]);
    assert_eq!(given.key_ring.key("a").expect("still known").sealed_private_key, "");
}

#[test]
fn a_kid_is_the_day_the_algorithm_where_it_is_not_the_default_and_a_number_from_the_second_on() {
    let next = |given: &Given, alg| next_key_id(&given.key_ring, &by_default(), alg, after(0));
    let mut given = given([]);
    for expected in ["2026-03-16", "2026-03-16.2", "2026-03-16.3"] {
        assert_eq!(next(&given, ES256), expected);
        given.happen(added(expected, ES256));
    }
    for expected in ["2026-03-16-rs256", "2026-03-16-rs256.2"] {
        assert_eq!(next(&given, RS256), expected);
        given.happen(added(expected, RS256));
    }
    // Not even a retired key's id is given out again.
    given.happen(retired("2026-03-16.3", ES256));
    assert_eq!(next(&given, ES256), "2026-03-16.4");
    for alg in SigningAlgorithm::ALL {
        assert!(KeyId::parse(&next(&given, alg)).is_ok());
    }
}
