//! The life of keys over years, upkeep by upkeep.

use super::{ES256, RS256, by_default, facts_of};
use crate::given_when_then::{Given, Span, after, days, given, hours, seconds};
use grantlog::policy::signing_keys::{KeyRotation, maintain, rotate};
use grantlog_projections::key_ring::KeyState;
use grantlog_projections::values::{SigningAlgorithm, Timestamp, TokenLifetime};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What is known of a key from outside: what verifiers and tokens saw.
#[derive(Debug, Default)]
struct Life {
    is_first: bool,
    published: Option<Span>,
    first_signed: Option<Span>,
    last_signed: Option<Span>,
    withdrawn: Option<Span>,
}

/// A server whose upkeep runs at given times, and a client that takes a token of each algorithm after each.
struct Server {
    given: Given,
    rotation: KeyRotation,
    lives: BTreeMap<String, Life>,
}

impl Server {
    fn new(rotation: KeyRotation) -> Self {
        Self {
            given: given([]),
            rotation,
            lives: BTreeMap::new(),
        }
    }

    fn upkeep(&mut self, algorithms: &[SigningAlgorithm], at: Span) {
        for step in maintain(&self.given.key_ring, &self.rotation, algorithms, after(at)) {
            for fact in facts_of(step, &self.given, &self.rotation, at) {
                self.given.happen(fact);
            }
        }
        let again = maintain(&self.given.key_ring, &self.rotation, algorithms, after(at));
        assert_eq!(again, [], "upkeep leaves nothing to do");
        self.look(algorithms, at);
    }

    fn command_rotation(&mut self, alg: SigningAlgorithm, at: Span) {
        let step = rotate(&self.given.key_ring, alg).expect("few keys are published");
        for fact in facts_of(step, &self.given, &self.rotation, at) {
            self.given.happen(fact);
        }
        self.look(&[alg], at);
    }

    /// Everybody looks at the JWKS and takes a token.
    fn look(&mut self, algorithms: &[SigningAlgorithm], at: Span) {
        let key_ring = &self.given.key_ring;
        for key in key_ring.published() {
            let is_first = key_ring
                .keys()
                .find(|other| other.alg == key.alg)
                .map(|other| &other.kid)
                == Some(&key.kid);
            let life = self.lives.entry(key.kid.to_string()).or_default();
            life.is_first = is_first;
            life.published.get_or_insert(at);
            assert_eq!(life.withdrawn, None, "{} is not published a second time", key.kid);
        }
        for key in key_ring
            .keys()
            .filter(|key| matches!(key.state, KeyState::Retired { .. }))
        {
            let life = self.lives.entry(key.kid.to_string()).or_default();
            life.withdrawn.get_or_insert(at);
        }
        for alg in algorithms {
            let active: Vec<_> = key_ring
                .keys()
                .filter(|key| key.alg == *alg && matches!(key.state, KeyState::Active { .. }))
                .collect();
            assert_eq!(active.len(), 1, "{alg} has one active key");
            let life = self.lives.entry(active[0].kid.to_string()).or_default();
            life.first_signed.get_or_insert(at);
            life.last_signed = Some(at);
            assert!(
                life.published.is_some(),
                "{} signs only once it is published",
                active[0].kid
            );
        }
    }

    fn age_of_active(&self, alg: SigningAlgorithm, at: Span) -> Span {
        match self.given.key_ring.active(alg).expect("an active key").state {
            KeyState::Active { since } => at - (since.unix_micros() - start().unix_micros()),
            other => panic!("not active but {other:?}"),
        }
    }

    /// No key is withdrawn while a token that it signed may live.
    fn check_withdrawals(&self) {
        let longest = seconds(i64::from(TokenLifetime::MAX_SECONDS));
        for (kid, life) in &self.lives {
            if let (Some(withdrawn), Some(last_signed)) = (life.withdrawn, life.last_signed) {
                assert!(withdrawn >= last_signed + longest, "{kid}: {life:?}");
            }
        }
    }

    /// Every key but an algorithm's first was published long enough before it signed.
    fn check_announcements(&self) {
        let ahead = seconds(self.rotation.announce_ahead_seconds);
        for (kid, life) in self.lives.iter().filter(|(_, life)| !life.is_first) {
            if let (Some(published), Some(signed)) = (life.published, life.first_signed) {
                assert!(signed - published >= ahead, "{kid}: {life:?}");
            }
        }
    }
}

fn start() -> Timestamp {
    after(0)
}

#[test]
fn over_a_year_of_days_keys_are_announced_used_and_retired_in_time() {
    let mut server = Server::new(by_default());
    let algorithms = [ES256, RS256];
    for day in 0..=365 {
        for hour in [0, 6, 12, 18] {
            let at = days(day) + hours(hour);
            server.upkeep(&algorithms, at);
            for alg in algorithms {
                assert!(server.age_of_active(alg, at) < days(90), "{alg} on day {day}");
            }
        }
    }
    server.check_announcements();
    server.check_withdrawals();
    // Days 0, 90, 180, 270 and 360 start to sign; the one that is announced for day 450 is not there yet.
    for suffix in ["", "-rs256"] {
        let kids: Vec<&String> = server
            .lives
            .keys()
            .filter(|kid| kid.len() == "2026-03-16".len() + suffix.len())
            .collect();
        assert_eq!(kids.len(), 5, "{kids:?}");
    }
    let withdrawn = server.lives.values().filter(|life| life.withdrawn.is_some()).count();
    assert_eq!(withdrawn, 8);
}

/// Upkeep runs every minute while a server runs; there are nights and weeks when none does.
fn pauses() -> impl Strategy<Value = Vec<Span>> {
    let pause = prop_oneof![
        8 => 1..days(1),
        2 => days(1)..days(20),
        1 => days(20)..days(400),
    ];
    proptest::collection::vec(pause, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whenever_upkeep_runs_the_announcement_and_the_last_token_are_waited_for(
        pauses in pauses(),
        rotate_after in 1_i64..200,
        announce_ahead in 0_i64..200,
    ) {
        let mut server = Server::new(KeyRotation {
            rotate_after_seconds: rotate_after * 86_400,
            // The configuration accepts less than rotate_after only.
            announce_ahead_seconds: announce_ahead.min(rotate_after - 1) * 86_400,
            default_algorithm: ES256,
        });
        let mut at = 0;
        for pause in pauses {
            server.upkeep(&[ES256, RS256], at);
            at += pause;
        }
        server.check_announcements();
        server.check_withdrawals();
    }

    #[test]
    fn however_often_somebody_rotates_on_command_there_is_one_active_key_and_no_token_is_orphaned(
        turns in proptest::collection::vec((1..days(30), any::<bool>(), any::<bool>()), 1..80),
    ) {
        let mut server = Server::new(by_default());
        let mut at = 0;
        server.upkeep(&[ES256, RS256], at);
        for (pause, by_command, of_rs256) in turns {
            at += pause;
            if by_command {
                server.command_rotation(if of_rs256 { RS256 } else { ES256 }, at);
            }
            server.upkeep(&[ES256, RS256], at);
        }
        server.check_withdrawals();
    }

    #[test]
    fn algorithms_that_come_and_go_find_their_key_again(
        turns in proptest::collection::vec((1..days(60), proptest::sample::subsequence(SigningAlgorithm::ALL.to_vec(), 1..=4)), 1..60),
    ) {
        let mut server = Server::new(by_default());
        let mut at = 0;
        for (pause, algorithms) in turns {
            server.upkeep(&algorithms, at);
            at += pause;
        }
        server.check_announcements();
        server.check_withdrawals();
    }
}
