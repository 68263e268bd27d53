//! Of two things that are wrong, the one that comes earlier in the contract's table is told.

use super::{TokenIsAskedFor, issue_token};
use crate::facts::{OLD, deleted, disabled, registered_with, secret_revoked};
use crate::given_when_then::{Fact, given, hours};
use grantlog_projections::event::{ApplicationRegistered, ClientType, RefusalReason};

/// One thing that is wrong with an otherwise good request.
struct Defect {
    reason: RefusalReason,
    registered: fn(&mut ApplicationRegistered),
    happened: fn() -> Option<Fact>,
    asked: fn(TokenIsAskedFor) -> TokenIsAskedFor,
}

impl Defect {
    const fn new(reason: RefusalReason) -> Self {
        Self {
            reason,
            registered: |_| {},
            happened: || None,
            asked: |asked| asked,
        }
    }
}

/// In the order in which they are told.
fn defects() -> Vec<Defect> {
    vec![
        Defect {
            asked: |asked| asked.by("nobody"),
            ..Defect::new(RefusalReason::UnknownClient)
        },
        Defect {
            happened: || Some(deleted()),
            ..Defect::new(RefusalReason::Deleted)
        },
        Defect {
            registered: |application| application.client_type = ClientType::Public,
            ..Defect::new(RefusalReason::PublicClient)
        },
        Defect {
            asked: TokenIsAskedFor::with_a_wrong_secret,
            ..Defect::new(RefusalReason::SecretMismatch)
        },
        Defect {
            happened: || Some(secret_revoked(OLD)),
            ..Defect::new(RefusalReason::SecretRevoked)
        },
        Defect {
            registered: |application| application.secret = Some(crate::facts::secret_until(OLD, hours(1))),
            asked: |asked| asked.at(hours(1)),
            ..Defect::new(RefusalReason::SecretExpired)
        },
        Defect {
            happened: || Some(disabled()),
            ..Defect::new(RefusalReason::Disabled)
        },
        Defect {
            registered: |application| application.allowed_networks = vec!["10.0.0.0/8".parse().unwrap()],
            ..Defect::new(RefusalReason::NetworkNotAllowed)
        },
        Defect {
            registered: |application| application.system_user_allowed = false,
            ..Defect::new(RefusalReason::SystemUserNotAllowed)
        },
        Defect {
            asked: |asked| asked.for_audience("https://nowhere"),
            ..Defect::new(RefusalReason::AudienceNotAuthorized)
        },
        Defect {
            asked: |asked| asked.for_scope("admin"),
            ..Defect::new(RefusalReason::ScopeNotAllowed)
        },
    ]
}

#[test]
fn every_set_of_defects_is_answered_with_the_first_of_them() {
    let defects = defects();
    for set in 1_u32..1 << defects.len() {
        let of_set: Vec<&Defect> = (0..defects.len())
            .filter(|number| set & (1 << number) != 0)
            .map(|number| &defects[number])
            .collect();
        let registered = registered_with(|application| {
            of_set.iter().for_each(|defect| (defect.registered)(application));
        });
        let happened = of_set.iter().filter_map(|defect| (defect.happened)());
        let asked = of_set.iter().fold(issue_token(), |asked, defect| (defect.asked)(asked));
        let expected = of_set[0].reason;
        given(std::iter::once(registered).chain(happened))
            .when(asked)
            .then(|decision: super::Decision| assert_eq!(decision.unwrap_err().reason, expected, "{set:011b}"));
    }
}

#[test]
fn without_a_defect_there_is_a_token() {
    given([registered_with(|_| {})])
        .when(issue_token())
        .then(super::token_issued());
}

#[test]
fn every_refusal_that_needs_the_application_has_a_defect_here() {
    for reason in [
        RefusalReason::UnknownClient,
        RefusalReason::Deleted,
        RefusalReason::Disabled,
        RefusalReason::PublicClient,
        RefusalReason::SecretMismatch,
        RefusalReason::SecretExpired,
        RefusalReason::SecretRevoked,
        RefusalReason::NetworkNotAllowed,
        RefusalReason::SystemUserNotAllowed,
        RefusalReason::AudienceNotAuthorized,
        RefusalReason::ScopeNotAllowed,
    ] {
        assert!(defects().iter().any(|defect| defect.reason == reason), "{reason:?}");
    }
}
