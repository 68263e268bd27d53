//! Registering, changing and deleting APIs.

use crate::facts::{api, api_scope, api_with, deleted, registered, registered_for, registered_with, uri};
use crate::given_when_then::{Given, audience, given, settings};
use grantlog::policy::CommandRefused;
use grantlog::policy::apis::{ApiPatch, MAX_SCOPES, change, delete, register};
use grantlog_projections::event::{ApiChange, ApiChanged, ApiDeleted, ApiRegistered, FromTo};
use grantlog_projections::values::{ApiId, ApplicationId, ApplicationUri, SigningAlgorithm, TokenLifetime, TokenType};

const ORDERS: &str = "https://orders";

type Registration = Result<ApiRegistered, CommandRefused>;
type Change = Result<Option<ApiChanged>, CommandRefused>;
type Deletion = Result<ApiDeleted, CommandRefused>;

fn it_is_registered(attributes: ApiPatch) -> impl FnOnce(&Given) -> Registration {
    |_| register(audience(ORDERS), attributes)
}

fn it_is_changed(expected_revision: Option<u64>, patch: ApiPatch) -> impl FnOnce(&Given) -> Change {
    move |given| {
        let api = given.directory.api(ApiId::of(&audience(ORDERS))).expect("the API");
        change(&settings(), api, patch, expected_revision, None)
    }
}

fn it_is_deleted(of: &'static str) -> impl FnOnce(&Given) -> Deletion {
    move |given| {
        let api = given.directory.api(ApiId::of(&audience(of))).expect("the API");
        delete(&given.directory, &settings(), api, None)
    }
}

fn scopes(names: &[&str]) -> ApiPatch {
    ApiPatch {
        scopes: Some(names.iter().map(|name| api_scope(name)).collect()),
        ..ApiPatch::default()
    }
}

#[test]
fn an_api_needs_no_more_than_its_audience() {
    given([])
        .when(it_is_registered(ApiPatch::default()))
        .then(|registration: Registration| {
            let fact = registration.unwrap();
            assert_eq!(fact.api_id, ApiId::of(&audience(ORDERS)));
            assert_eq!(fact.name.as_str(), ORDERS);
            assert_eq!((fact.signing_alg, fact.token_lifetime_seconds), (None, None));
            assert_eq!(fact.token_type, TokenType::AtJwt);
            assert_eq!(fact.scopes, []);
        });
}

#[test]
fn a_scope_is_one_token_and_named_once() {
    let invalid = |field: &'static str| {
        move |registration: Registration| {
            let refused = registration.unwrap_err();
            assert!(
                matches!(&refused, CommandRefused::Invalid { field: of, .. } if of == field),
                "{refused:?}"
            );
        }
    };
    given([])
        .when(it_is_registered(scopes(&["read", "write now"])))
        .then(invalid("scopes[1].name"));
    given([])
        .when(it_is_registered(scopes(&[""])))
        .then(invalid("scopes[0].name"));
    given([])
        .when(it_is_registered(scopes(&["read", "update", "read"])))
        .then(invalid("scopes"));
    let numbered = |count: usize| (0..count).map(|number| format!("scope{number}")).collect::<Vec<_>>();
    let many = |count: usize| scopes(&numbered(count).iter().map(String::as_str).collect::<Vec<_>>());
    given([])
        .when(it_is_registered(many(MAX_SCOPES)))
        .then(|registration: Registration| assert!(registration.is_ok()));
    given([])
        .when(it_is_registered(many(MAX_SCOPES + 1)))
        .then(invalid("scopes"));
}

#[test]
fn a_change_holds_the_old_and_the_new_value_and_none_makes_no_fact() {
    let registered = || given([api_with(ORDERS, |api| api.signing_alg = Some(SigningAlgorithm::Rs256))]);
    let patch = ApiPatch {
        signing_alg: Some(None),
        token_type: Some(TokenType::AtJwt),
        token_lifetime_seconds: Some(TokenLifetime::parse(600).ok()),
        ..ApiPatch::default()
    };
    registered().when(it_is_changed(None, patch)).then(|change: Change| {
        let expected = [
            ApiChange::SigningAlg(FromTo {
                from: Some(SigningAlgorithm::Rs256),
                to: None,
            }),
            ApiChange::TokenLifetimeSeconds(FromTo {
                from: None,
                to: TokenLifetime::parse(600).ok(),
            }),
        ];
        assert_eq!(change.unwrap().expect("a change").changes, expected);
    });
    let same = ApiPatch {
        signing_alg: Some(Some(SigningAlgorithm::Rs256)),
        ..scopes(&[])
    };
    registered()
        .when(it_is_changed(None, same))
        .then(|change: Change| assert_eq!(change, Ok(None)));
}

#[test]
fn a_change_is_held_to_the_rules_of_a_registration_and_to_the_revision() {
    given([api(ORDERS)])
        .when(it_is_changed(None, scopes(&["read", "read"])))
        .then(|change: Change| assert!(matches!(change, Err(CommandRefused::Invalid { .. }))));
    given([api(ORDERS)])
        .when(it_is_changed(Some(7), scopes(&["read"])))
        .then(|change: Change| assert_eq!(change, Err(CommandRefused::PreconditionFailed { current: 0 })));
}

#[test]
fn an_api_is_deleted_only_when_no_application_may_ask_for_it_any_more() {
    let refused = |part: &'static str| {
        move |deletion: Deletion| match deletion {
            Err(CommandRefused::Conflict(message)) => assert!(message.contains(part), "{message}"),
            other => panic!("a conflict, not {other:?}"),
        }
    };
    given([api(ORDERS), registered()])
        .when(it_is_deleted(ORDERS))
        .then(|deletion: Deletion| assert_eq!(deletion.unwrap().audience.as_str(), ORDERS));
    given([api(ORDERS), registered_for(&[ORDERS])])
        .when(it_is_deleted(ORDERS))
        .then(refused("orders-worker may still ask for it"));
    let another = registered_with(|application| {
        application.application_uri = ApplicationUri::parse("another").unwrap();
        application.application_id = ApplicationId::of_client_id("another");
        application.audiences = vec![audience(ORDERS)];
    });
    given([api(ORDERS), registered_for(&[ORDERS]), another])
        .when(it_is_deleted(ORDERS))
        .then(refused("another and 1 more may still ask for it"));
    given([api(ORDERS), registered_for(&[ORDERS]), deleted()])
        .when(it_is_deleted(ORDERS))
        .then(|deletion: Deletion| assert!(deletion.is_ok()));
    assert_eq!(uri().as_str(), "orders-worker");
}

#[test]
fn grantlogs_own_audience_and_the_default_one_cannot_be_deleted() {
    for own in ["https://id.example.com", "https://default.example.com"] {
        given([api(own)])
            .when(it_is_deleted(own))
            .then(|deletion: Deletion| assert!(matches!(deletion, Err(CommandRefused::Conflict(_)))));
    }
}
