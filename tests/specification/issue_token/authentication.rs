use super::{invalid_client, issue_token, refused, token_issued};
use crate::facts::{
    NEW, OLD, changed, deleted, disabled, enabled, registered, registered_with, secret_added, secret_number,
    secret_revoked, secret_rotated, secret_until,
};
use crate::given_when_then::{days, given, hours, microseconds, seconds};
use grantlog_projections::event::{ApplicationChange, ClientType, FromTo, RefusalReason};
use grantlog_projections::values::SystemUser;

#[test]
fn an_application_with_its_secret_gets_a_token() {
    given([registered()])
        .when(issue_token())
        .then(token_issued().for_holder_of(OLD));
}

#[test]
fn nobody_gets_a_token_for_an_unknown_client_id_not_even_with_a_matching_secret() {
    for asked in [issue_token(), issue_token().with_a_wrong_secret()] {
        given([registered()])
            .when(asked.by("orders-workers"))
            .then(invalid_client(RefusalReason::UnknownClient));
    }
}

#[test]
fn a_secret_that_matches_none_of_the_applications_is_refused() {
    given([registered()])
        .when(issue_token().with_a_wrong_secret())
        .then(invalid_client(RefusalReason::SecretMismatch));
    given([registered()])
        .when(issue_token().with_secret(secret_number(99)))
        .then(invalid_client(RefusalReason::SecretMismatch));
    given([registered_with(|application| application.secret = None)])
        .when(issue_token())
        .then(invalid_client(RefusalReason::SecretMismatch));
}

#[test]
fn a_rotated_secret_is_accepted_until_its_overlap_ends() {
    let rotated = || given([registered(), secret_rotated(hours(24))]);
    rotated()
        .when(issue_token().with_secret(OLD).at(hours(23)))
        .then(token_issued().for_holder_of(OLD));
    rotated()
        .when(issue_token().with_secret(OLD).at(hours(24) - microseconds(1)))
        .then(token_issued());
    rotated()
        .when(issue_token().with_secret(OLD).at(hours(24)))
        .then(invalid_client(RefusalReason::SecretExpired));
    rotated()
        .when(issue_token().with_secret(OLD).at(days(365)))
        .then(invalid_client(RefusalReason::SecretExpired));
}

#[test]
fn both_secrets_are_accepted_during_the_overlap_and_then_only_the_new_one() {
    let rotated = || given([registered(), secret_rotated(hours(24))]);
    for at in [0, hours(12), hours(24) - 1] {
        rotated()
            .when(issue_token().with_secret(NEW).at(at))
            .then(token_issued().for_holder_of(NEW));
        rotated()
            .when(issue_token().with_secret(OLD).at(at))
            .then(token_issued().for_holder_of(OLD));
    }
    rotated()
        .when(issue_token().with_secret(NEW).at(days(3_650)))
        .then(token_issued().for_holder_of(NEW));
}

#[test]
fn a_secret_rotated_without_overlap_is_refused_in_the_same_microsecond() {
    given([registered(), secret_rotated(0)])
        .when(issue_token().with_secret(OLD).at(0))
        .then(invalid_client(RefusalReason::SecretExpired));
}

#[test]
fn a_secret_is_refused_from_the_end_that_it_was_given() {
    let expiring = || {
        given([registered_with(|application| {
            application.secret = Some(secret_until(OLD, seconds(60)))
        })])
    };
    expiring().when(issue_token().at(seconds(60) - 1)).then(token_issued());
    expiring()
        .when(issue_token().at(seconds(60)))
        .then(invalid_client(RefusalReason::SecretExpired));
}

#[test]
fn a_rotation_never_prolongs_a_secret_that_would_have_ended_sooner() {
    let facts = [
        registered_with(|application| application.secret = Some(secret_until(OLD, hours(1)))),
        secret_rotated(hours(24)),
    ];
    given(facts)
        .when(issue_token().with_secret(OLD).at(hours(1)))
        .then(invalid_client(RefusalReason::SecretExpired));
}

#[test]
fn a_revoked_secret_is_refused_at_once_and_the_others_are_not() {
    let revoked = || given([registered(), secret_rotated(hours(24)), secret_revoked(OLD)]);
    revoked()
        .when(issue_token().with_secret(OLD).at(seconds(1)))
        .then(invalid_client(RefusalReason::SecretRevoked));
    revoked()
        .when(issue_token().with_secret(NEW).at(seconds(1)))
        .then(token_issued());
    // It stays revoked when its time is over, too.
    revoked()
        .when(issue_token().with_secret(OLD).at(hours(25)))
        .then(invalid_client(RefusalReason::SecretRevoked));
}

#[test]
fn a_disabled_application_is_refused_until_it_is_enabled_again() {
    given([registered(), disabled()])
        .when(issue_token())
        .then(invalid_client(RefusalReason::Disabled));
    given([registered(), disabled(), enabled()])
        .when(issue_token())
        .then(token_issued());
    given([registered_with(|application| application.is_enabled = false)])
        .when(issue_token())
        .then(invalid_client(RefusalReason::Disabled));
}

#[test]
fn a_deleted_application_is_refused_for_ever() {
    given([registered(), deleted()])
        .when(issue_token())
        .then(invalid_client(RefusalReason::Deleted));
    given([registered(), deleted(), enabled()])
        .when(issue_token())
        .then(invalid_client(RefusalReason::Deleted));
}

#[test]
fn a_public_application_never_gets_a_token_even_if_it_has_a_secret() {
    let public = || registered_with(|application| application.client_type = ClientType::Public);
    given([public()])
        .when(issue_token())
        .then(invalid_client(RefusalReason::PublicClient));
    given([public(), secret_added(secret_until(NEW, days(1)))])
        .when(issue_token().with_secret(NEW))
        .then(invalid_client(RefusalReason::PublicClient));
    let became_public = changed(vec![ApplicationChange::ClientType(FromTo {
        from: ClientType::Confidential,
        to: ClientType::Public,
    })]);
    given([registered(), became_public])
        .when(issue_token())
        .then(invalid_client(RefusalReason::PublicClient));
}

#[test]
fn requests_must_come_from_the_allowed_networks_when_there_are_any() {
    let held_to_networks = || {
        given([registered_with(|application| {
            application.allowed_networks = vec!["192.0.2.0/25".parse().unwrap(), "2001:db8:7::/48".parse().unwrap()];
        })])
    };
    for allowed in ["192.0.2.0", "192.0.2.127", "2001:db8:7::1", "2001:db8:7:ffff::"] {
        held_to_networks()
            .when(issue_token().from(allowed))
            .then(token_issued());
    }
    for other in ["192.0.2.128", "192.0.1.255", "2001:db8:8::1", "::1", "127.0.0.1"] {
        held_to_networks()
            .when(issue_token().from(other))
            .then(invalid_client(RefusalReason::NetworkNotAllowed));
    }
    given([registered()])
        .when(issue_token().from("203.0.113.9"))
        .then(token_issued());
}

#[test]
fn an_application_without_a_system_user_may_not_use_the_grant() {
    let description = "The client is not authorized to use this grant type";
    let not_allowed = registered_with(|application| application.system_user_allowed = false);
    let none = registered_with(|application| application.system_user = None);
    for facts in [not_allowed, none] {
        given([facts]).when(issue_token()).then(refused(
            "unauthorized_client",
            description,
            RefusalReason::SystemUserNotAllowed,
        ));
    }
    let given_one = changed(vec![ApplicationChange::SystemUser(FromTo {
        from: None,
        to: SystemUser::parse("svc.late").ok(),
    })]);
    given([registered_with(|application| application.system_user = None), given_one])
        .when(issue_token())
        .then(|decision: super::Decision| assert_eq!(decision.unwrap().system_user.as_str(), "svc.late"));
}

#[test]
fn only_who_held_a_valid_secret_counts_as_authenticated() {
    let authenticated =
        |expected: bool| move |decision: super::Decision| assert_eq!(decision.unwrap_err().authenticated, expected);
    given([]).when(issue_token()).then(authenticated(false));
    given([registered(), deleted()])
        .when(issue_token())
        .then(authenticated(false));
    given([registered(), secret_revoked(OLD)])
        .when(issue_token())
        .then(authenticated(false));
    given([registered(), secret_rotated(0)])
        .when(issue_token())
        .then(authenticated(false));
    given([registered()])
        .when(issue_token().with_a_wrong_secret())
        .then(authenticated(false));
    given([registered(), disabled()])
        .when(issue_token())
        .then(authenticated(true));
    given([registered()])
        .when(issue_token().for_scope("admin"))
        .then(authenticated(true));
}
