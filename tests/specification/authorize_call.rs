//! Whether a bearer token that holds opens an endpoint.

use crate::facts::{CLIENT, deleted, disabled, enabled, registered_with, scope};
use crate::given_when_then::{Fact, Given, given};
use grantlog::policy::authorize_call::authorize_call;
use grantlog_projections::event::DenialReason;
use grantlog_projections::values::ApplicationId;

const DUTIES: [&str; 4] = ["applications:read", "applications:write", "keys:write", "audit:read"];

/// With all scopes of Grantlog's own.
fn registered() -> Fact {
    registered_with(|application| application.scope = scope(&DUTIES.join(" ")))
}

fn a_call_is_made(
    token_scope: &'static str,
    required: &'static str,
) -> impl FnOnce(&Given) -> Result<(), DenialReason> {
    move |given| {
        let application = given.directory.application(ApplicationId::of_client_id(CLIENT));
        authorize_call(application.map(|found| &**found), &scope(token_scope), required)
    }
}

fn it_is_let_through(outcome: Result<(), DenialReason>) {
    assert_eq!(outcome, Ok(()));
}

fn it_is_denied(reason: DenialReason) -> impl FnOnce(Result<(), DenialReason>) {
    move |outcome| assert_eq!(outcome, Err(reason))
}

#[test]
fn a_token_with_the_scope_opens_the_endpoint() {
    given([registered()])
        .when(a_call_is_made("applications:read audit:read", "audit:read"))
        .then(it_is_let_through);
}

#[test]
fn scopes_of_different_duties_never_imply_each_other() {
    for held in DUTIES {
        for required in DUTIES.into_iter().filter(|required| *required != held) {
            given([registered()])
                .when(a_call_is_made(held, required))
                .then(it_is_denied(DenialReason::InsufficientScope));
        }
    }
    for near in [
        "",
        "applications",
        "applications:*",
        "audit:read:all",
        "AUDIT:READ",
        "*",
    ] {
        given([registered()])
            .when(a_call_is_made(near, "audit:read"))
            .then(it_is_denied(DenialReason::InsufficientScope));
    }
}

#[test]
fn a_good_token_opens_nothing_once_its_application_is_disabled_or_deleted() {
    for facts in [vec![registered(), disabled()], vec![registered(), deleted()], vec![]] {
        given(facts)
            .when(a_call_is_made("audit:read", "audit:read"))
            .then(it_is_denied(DenialReason::ApplicationDisabled));
    }
    given([registered(), disabled(), enabled()])
        .when(a_call_is_made("audit:read", "audit:read"))
        .then(it_is_let_through);
    given([registered(), deleted(), enabled()])
        .when(a_call_is_made("audit:read", "audit:read"))
        .then(it_is_denied(DenialReason::ApplicationDisabled));
}

#[test]
fn that_the_application_is_gone_is_told_before_the_scope() {
    given([registered(), disabled()])
        .when(a_call_is_made("", "audit:read"))
        .then(it_is_denied(DenialReason::ApplicationDisabled));
}

#[test]
fn what_is_taken_from_an_application_is_taken_from_its_tokens_too() {
    given([registered_with(|application| {
        application.scope = scope("applications:read")
    })])
    .when(a_call_is_made("applications:read audit:read", "audit:read"))
    .then(it_is_denied(DenialReason::InsufficientScope));
}
