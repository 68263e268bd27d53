use super::{issue_token, refused, token_issued};
use crate::facts::{api, api_defining, registered, registered_for, registered_with, scope};
use crate::given_when_then::given;
use grantlog_projections::event::RefusalReason;

#[test]
fn without_a_scope_the_token_has_all_that_the_application_has() {
    given([registered()])
        .when(issue_token())
        .then(token_issued().with_scope("read update"));
}

#[test]
fn a_request_may_ask_for_less_and_gets_it_in_its_own_order_and_each_once() {
    given([registered()])
        .when(issue_token().for_scope("update"))
        .then(token_issued().with_scope("update"));
    given([registered()])
        .when(issue_token().for_scope("update read  update"))
        .then(token_issued().with_scope("update read"));
}

#[test]
fn a_scope_that_the_application_does_not_have_is_refused_and_only_that_is_named() {
    given([registered()])
        .when(issue_token().for_scope("read admin update delete"))
        .then(refused(
            "invalid_scope",
            "Invalid scope: admin delete",
            RefusalReason::ScopeNotAllowed,
        ));
}

#[test]
fn scopes_are_compared_exactly() {
    for near in ["Read", "rea", "reads", "read\u{a0}update", "update,read"] {
        given([registered()])
            .when(issue_token().for_scope(near))
            .then(|decision: super::Decision| {
                assert_eq!(decision.unwrap_err().reason, RefusalReason::ScopeNotAllowed);
            });
    }
}

#[test]
fn an_application_without_scope_gets_a_token_that_opens_nothing_and_may_not_ask_for_more() {
    let without = || given([registered_with(|application| application.scope = scope(""))]);
    without().when(issue_token()).then(token_issued().with_scope(""));
    without().when(issue_token().for_scope("read")).then(refused(
        "invalid_scope",
        "Invalid scope: read",
        RefusalReason::ScopeNotAllowed,
    ));
}

#[test]
fn openid_profile_and_offline_access_are_dropped_from_what_is_asked_for() {
    given([registered()])
        .when(issue_token().for_scope("openid read profile offline_access"))
        .then(token_issued().with_scope("read"));
}

#[test]
fn a_scope_of_which_nothing_is_left_counts_as_omitted() {
    for meaningless in ["openid", "profile offline_access", "openid openid"] {
        given([registered()])
            .when(issue_token().for_scope(meaningless))
            .then(token_issued().with_scope("read update"));
    }
}

#[test]
fn openid_profile_and_offline_access_are_not_granted_even_to_an_application_that_has_them() {
    let with_openid = || {
        given([registered_with(|application| {
            application.scope = scope("openid read profile")
        })])
    };
    with_openid()
        .when(issue_token())
        .then(token_issued().with_scope("read"));
    with_openid()
        .when(issue_token().for_scope("openid read"))
        .then(token_issued().with_scope("read"));
}

#[test]
fn an_api_that_is_asked_for_limits_the_scope_to_what_it_defines() {
    let facts = || {
        given([
            api_defining("https://orders", &["read", "cancel"]),
            registered_for(&["https://orders"]),
        ])
    };
    facts()
        .when(issue_token().for_audience("https://orders"))
        .then(token_issued().with_scope("read"));
    facts()
        .when(issue_token().for_audience("https://orders").for_scope("read"))
        .then(token_issued().with_scope("read"));
    // The application has `update`, but this API does not know it.
    facts()
        .when(issue_token().for_audience("https://orders").for_scope("read update"))
        .then(refused(
            "invalid_scope",
            "Invalid scope: update",
            RefusalReason::ScopeNotAllowed,
        ));
    // The API defines `cancel`, but the application does not have it.
    facts()
        .when(issue_token().for_resource("https://orders").for_scope("cancel"))
        .then(refused(
            "invalid_scope",
            "Invalid scope: cancel",
            RefusalReason::ScopeNotAllowed,
        ));
}

#[test]
fn an_api_that_is_not_asked_for_by_name_limits_nothing() {
    given([
        api_defining("https://orders", &["read"]),
        registered_for(&["https://orders"]),
    ])
    .when(issue_token().for_scope("update"))
    .then(token_issued().with_scope("update").for_audiences(&["https://orders"]));
}

#[test]
fn of_several_apis_it_is_enough_that_one_defines_the_scope_or_that_one_has_no_opinion() {
    let facts = || {
        [
            api_defining("https://orders", &["read"]),
            api_defining("https://stock", &["update"]),
            api("https://anything"),
            registered_for(&["https://orders", "https://stock", "https://anything"]),
        ]
    };
    given(facts())
        .when(
            issue_token()
                .for_audience("https://orders")
                .for_resource("https://stock")
                .for_scope("update read"),
        )
        .then(token_issued().with_scope("update read"));
    given(facts())
        .when(
            issue_token()
                .for_audience("https://orders")
                .for_audience("https://anything")
                .for_scope("update"),
        )
        .then(token_issued().with_scope("update"));
    given(facts())
        .when(issue_token().for_audience("https://orders").for_scope("update"))
        .then(|decision: super::Decision| {
            assert_eq!(decision.unwrap_err().reason, RefusalReason::ScopeNotAllowed);
        });
}

#[test]
fn a_refused_scope_is_cut_and_escaped_before_anyone_sees_it() {
    given([registered()])
        .when(issue_token().for_scope(&format!("\"é\\ {}", "x".repeat(250))))
        .then(|decision: super::Decision| {
            let description = decision.unwrap_err().error.description();
            assert!(description.starts_with("Invalid scope: ??? xxx"), "{description}");
            assert!(description.ends_with("..."), "{description}");
            assert_eq!(description.len(), "Invalid scope: ".len() + 128);
        });
}
