use super::{issue_token, lifetime, token_issued};
use crate::facts::{api, api_with, registered_for, registered_with};
use crate::given_when_then::{Fact, audience, given};
use grantlog_projections::values::{SigningAlgorithm, TokenType};

const ORDERS: &str = "https://orders";
const STOCK: &str = "https://stock";

fn living(of: &str, seconds: u32) -> Fact {
    api_with(of, |api| api.token_lifetime_seconds = Some(lifetime(seconds)))
}

fn signed_with(of: &str, algorithm: SigningAlgorithm) -> Fact {
    api_with(of, |api| api.signing_alg = Some(algorithm))
}

#[test]
fn the_lifetime_is_the_applications_else_the_apis_else_the_servers() {
    let application = || {
        registered_with(|application| {
            application.audiences = vec![audience(ORDERS)];
            application.token_lifetime_seconds = Some(lifetime(900));
        })
    };
    given([living(ORDERS, 600), application()])
        .when(issue_token())
        .then(token_issued().living(900));
    given([living(ORDERS, 600), registered_for(&[ORDERS])])
        .when(issue_token())
        .then(token_issued().living(600));
    given([api(ORDERS), registered_for(&[ORDERS])])
        .when(issue_token())
        .then(token_issued().living(3_600));
}

#[test]
fn of_several_apis_the_shortest_lifetime_counts() {
    given([
        living(ORDERS, 7_200),
        living(STOCK, 300),
        registered_for(&[ORDERS, STOCK]),
    ])
    .when(issue_token())
    .then(token_issued().living(300));
    given([
        living(ORDERS, 7_200),
        living(STOCK, 300),
        registered_for(&[ORDERS, STOCK]),
    ])
    .when(issue_token().for_audience(ORDERS))
    .then(token_issued().living(7_200));
}

#[test]
fn the_algorithm_is_that_of_the_first_api_that_wants_one_else_the_servers() {
    given([api(ORDERS), registered_for(&[ORDERS])])
        .when(issue_token())
        .then(token_issued().signed_with(SigningAlgorithm::Es256));
    for algorithm in SigningAlgorithm::ALL {
        given([
            api(ORDERS),
            signed_with(STOCK, algorithm),
            registered_for(&[ORDERS, STOCK]),
        ])
        .when(issue_token())
        .then(token_issued().signed_with(algorithm));
    }
    let two = || {
        given([
            signed_with(ORDERS, SigningAlgorithm::Rs256),
            signed_with(STOCK, SigningAlgorithm::EdDsa),
            registered_for(&[ORDERS, STOCK]),
        ])
    };
    two()
        .when(issue_token())
        .then(token_issued().signed_with(SigningAlgorithm::Rs256));
    two()
        .when(issue_token().for_audience(STOCK).for_audience(ORDERS))
        .then(token_issued().signed_with(SigningAlgorithm::EdDsa));
}

#[test]
fn the_type_is_at_jwt_unless_an_api_of_the_token_wants_jwt() {
    let of_type_jwt = |of: &str| api_with(of, |api| api.token_type = TokenType::Jwt);
    given([api(ORDERS), registered_for(&[ORDERS])])
        .when(issue_token())
        .then(token_issued().of_type(TokenType::AtJwt));
    given([api(ORDERS), of_type_jwt(STOCK), registered_for(&[ORDERS, STOCK])])
        .when(issue_token())
        .then(token_issued().of_type(TokenType::Jwt));
    given([api(ORDERS), of_type_jwt(STOCK), registered_for(&[ORDERS, STOCK])])
        .when(issue_token().for_resource(ORDERS))
        .then(token_issued().of_type(TokenType::AtJwt));
}

#[test]
fn the_default_audiences_api_is_heard_too() {
    let default = api_with("https://default.example.com", |api| {
        api.signing_alg = Some(SigningAlgorithm::Ps256);
        api.token_lifetime_seconds = Some(lifetime(120));
    });
    given([default, crate::facts::registered()])
        .when(issue_token())
        .then(token_issued().signed_with(SigningAlgorithm::Ps256).living(120));
}
