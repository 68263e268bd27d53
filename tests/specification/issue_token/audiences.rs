use super::{Decision, issue_token, refused, token_issued};
use crate::facts::{api, api_deleted, registered, registered_for};
use crate::given_when_then::{Given, given};
use grantlog_projections::event::RefusalReason;

const ORDERS: &str = "https://orders";
const STOCK: &str = "https://stock";
const DEFAULT: &str = "https://default.example.com";
const ISSUER: &str = "https://id.example.com";

fn orders_and_stock() -> Given {
    given([
        api(ORDERS),
        api(STOCK),
        api("https://other"),
        registered_for(&[ORDERS, STOCK]),
    ])
}

fn not_authorized(audience: &str) -> super::TokenRefused {
    refused(
        "unauthorized_client",
        format!("The client is not authorized for the audience: {audience}"),
        RefusalReason::AudienceNotAuthorized,
    )
}

#[test]
fn without_an_audience_the_token_is_for_all_of_the_applications() {
    orders_and_stock()
        .when(issue_token())
        .then(token_issued().for_audiences(&[ORDERS, STOCK]));
}

#[test]
fn an_application_without_audiences_gets_the_default_one() {
    given([registered()])
        .when(issue_token())
        .then(token_issued().for_audiences(&[DEFAULT]));
}

#[test]
fn an_audience_or_a_resource_narrows_it_in_the_order_asked_for_and_each_once() {
    orders_and_stock()
        .when(issue_token().for_audience(STOCK))
        .then(token_issued().for_audiences(&[STOCK]));
    orders_and_stock()
        .when(issue_token().for_resource(STOCK))
        .then(token_issued().for_audiences(&[STOCK]));
    orders_and_stock()
        .when(issue_token().for_audience(STOCK).for_audience(ORDERS))
        .then(token_issued().for_audiences(&[STOCK, ORDERS]));
    orders_and_stock()
        .when(
            issue_token()
                .for_resource(STOCK)
                .for_audience(ORDERS)
                .for_resource(ORDERS),
        )
        .then(token_issued().for_audiences(&[ORDERS, STOCK]));
}

#[test]
fn an_audience_of_others_and_one_that_does_not_exist_get_the_same_answer() {
    for not_mine in [
        "https://other",
        "https://nowhere",
        "https://orders/",
        "HTTPS://ORDERS",
        DEFAULT,
        ISSUER,
    ] {
        orders_and_stock()
            .when(issue_token().for_audience(not_mine))
            .then(not_authorized(not_mine));
        orders_and_stock()
            .when(issue_token().for_audience(ORDERS).for_audience(not_mine))
            .then(not_authorized(not_mine));
    }
}

#[test]
fn a_refused_resource_is_an_invalid_target() {
    orders_and_stock()
        .when(issue_token().for_resource("https://other"))
        .then(refused(
            "invalid_target",
            "The client is not authorized for the audience: https://other",
            RefusalReason::AudienceNotAuthorized,
        ));
}

#[test]
fn what_was_refused_is_kept_for_the_trail() {
    orders_and_stock()
        .when(issue_token().for_audience("https://other"))
        .then(|decision: Decision| assert_eq!(decision.unwrap_err().detail.as_deref(), Some("https://other")));
}

#[test]
fn an_application_without_audiences_may_name_the_default_one_and_no_other() {
    given([registered(), api(ORDERS)])
        .when(issue_token().for_audience(DEFAULT))
        .then(token_issued().for_audiences(&[DEFAULT]));
    // Grantlog itself neither: a scope of another API may have the name of one of its own.
    for other in [ORDERS, ISSUER] {
        given([registered(), api(ORDERS)])
            .when(issue_token().for_audience(other))
            .then(not_authorized(other));
    }
}

#[test]
fn an_application_with_grantlogs_own_audience_among_others_gets_it() {
    given([api(ORDERS), registered_for(&[ORDERS, ISSUER])])
        .when(issue_token().for_audience(ISSUER))
        .then(token_issued().for_audiences(&[ISSUER]));
}

#[test]
fn a_deleted_api_is_nobodys_audience_any_more() {
    let facts = || {
        given([
            api(ORDERS),
            api(STOCK),
            registered_for(&[ORDERS, STOCK]),
            api_deleted(ORDERS),
        ])
    };
    facts()
        .when(issue_token().for_audience(ORDERS))
        .then(not_authorized(ORDERS));
    facts().when(issue_token()).then(token_issued().for_audiences(&[STOCK]));
    // Of none left, the default audience would be more than the application was ever given.
    given([api(ORDERS), registered_for(&[ORDERS]), api_deleted(ORDERS)])
        .when(issue_token())
        .then(not_authorized(ORDERS));
}
