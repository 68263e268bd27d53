use super::invalid;
use crate::facts::{OLD, api, api_deleted, id, scope, secret};
use crate::given_when_then::{Given, audience, given, settings};
use grantlog::policy::CommandRefused;
use grantlog::policy::applications::{
    ApplicationPatch, MAX_AUDIENCES, MAX_NETWORKS, MAX_PROPERTIES, MAX_PROPERTY_NAME, MAX_PROPERTY_VALUE,
    RegisterApplication, register,
};
use grantlog_projections::event::{ApplicationRegistered, ClientType, ReferenceTokens};
use grantlog_projections::values::{ApplicationId, ApplicationUri, Audience, SystemUser};
use std::collections::BTreeMap;

type Decision = Result<ApplicationRegistered, CommandRefused>;

fn it_is_registered_as(application_uri: &str, attributes: ApplicationPatch) -> impl FnOnce(&Given) -> Decision {
    let command = RegisterApplication {
        application_uri: ApplicationUri::parse(application_uri).expect("an application_uri"),
        attributes,
        is_enabled: true,
        secret: None,
    };
    move |given| register(&given.directory, &settings(), command)
}

fn it_is_registered_with(attributes: ApplicationPatch) -> impl FnOnce(&Given) -> Decision {
    it_is_registered_as(crate::facts::CLIENT, attributes)
}

fn refused(expected: impl FnOnce(CommandRefused)) -> impl FnOnce(Decision) {
    |decision| expected(decision.expect_err("it is refused"))
}

fn audiences(named: impl IntoIterator<Item = Audience>) -> ApplicationPatch {
    ApplicationPatch {
        audiences: Some(named.into_iter().collect()),
        ..ApplicationPatch::default()
    }
}

fn properties(pairs: impl IntoIterator<Item = (String, String)>) -> ApplicationPatch {
    ApplicationPatch {
        properties: Some(pairs.into_iter().map(|(name, value)| (name, Some(value))).collect()),
        ..ApplicationPatch::default()
    }
}

#[test]
fn what_is_left_out_is_as_little_as_possible() {
    given([])
        .when(it_is_registered_with(ApplicationPatch::default()))
        .then(|decision: Decision| {
            let expected = ApplicationRegistered {
                application_id: id(),
                application_uri: crate::facts::uri(),
                name: grantlog_projections::values::Name::parse(crate::facts::CLIENT).unwrap(),
                description: None,
                client_type: ClientType::Confidential,
                scope: scope(""),
                audiences: Vec::new(),
                system_user_allowed: false,
                system_user: None,
                org_code: None,
                is_enabled: true,
                owner: None,
                properties: BTreeMap::new(),
                token_lifetime_seconds: None,
                allowed_networks: Vec::new(),
                reference_tokens: ReferenceTokens::None,
                secret: None,
            };
            assert_eq!(decision, Ok(expected));
        });
}

#[test]
fn the_id_follows_from_the_name_alone() {
    for name in ["my.trusted.app/service", "a", &"x".repeat(256)] {
        given([])
            .when(it_is_registered_as(name, ApplicationPatch::default()))
            .then(|decision: Decision| {
                assert_eq!(decision.unwrap().application_id, ApplicationId::of_client_id(name));
            });
    }
}

#[test]
fn an_application_uri_that_is_longer_than_a_name_gives_its_beginning_as_name() {
    given([])
        .when(it_is_registered_as(&"x".repeat(256), ApplicationPatch::default()))
        .then(|decision: Decision| assert_eq!(decision.unwrap().name.as_str(), "x".repeat(200)));
}

#[test]
fn naming_a_system_user_allows_it_unless_the_request_says_otherwise() {
    let system_user = || Some(SystemUser::parse("svc").ok());
    for (allowed, expected) in [(None, true), (Some(false), false)] {
        let attributes = ApplicationPatch {
            system_user: system_user(),
            system_user_allowed: allowed,
            ..ApplicationPatch::default()
        };
        given([])
            .when(it_is_registered_with(attributes))
            .then(|decision: Decision| assert_eq!(decision.unwrap().system_user_allowed, expected));
    }
}

#[test]
fn a_public_application_has_no_secret() {
    let command = |secret| RegisterApplication {
        application_uri: crate::facts::uri(),
        attributes: ApplicationPatch {
            client_type: Some(ClientType::Public),
            ..ApplicationPatch::default()
        },
        is_enabled: true,
        secret,
    };
    given([])
        .when(|given: &Given| register(&given.directory, &settings(), command(Some(secret(OLD)))))
        .then(refused(invalid("client_type", "cannot keep a secret")));
    given([])
        .when(|given: &Given| register(&given.directory, &settings(), command(None)))
        .then(|decision: Decision| assert_eq!(decision.unwrap().client_type, ClientType::Public));
}

#[test]
fn its_audiences_are_registered_apis_or_grantlogs_own_each_once() {
    let (orders, issuer) = (audience("https://orders"), settings().issuer);
    given([api("https://orders")])
        .when(it_is_registered_with(audiences([
            orders.clone(),
            issuer.clone(),
            settings().default_audience,
        ])))
        .then(|decision: Decision| assert_eq!(decision.unwrap().audiences.len(), 3));
    given([])
        .when(it_is_registered_with(audiences([issuer, orders.clone()])))
        .then(refused(invalid("audiences", "https://orders is no registered API")));
    given([api("https://orders"), api_deleted("https://orders")])
        .when(it_is_registered_with(audiences([orders.clone()])))
        .then(refused(invalid("audiences", "no registered API")));
    given([api("https://orders")])
        .when(it_is_registered_with(audiences([orders.clone(), orders])))
        .then(refused(invalid("audiences", "named twice")));
}

#[test]
fn lists_have_their_bounds() {
    let many = |count: usize| (0..count).map(|number| audience(&format!("https://api/{number}")));
    let apis = || many(MAX_AUDIENCES + 1).map(|of| api(of.as_str()));
    given(apis())
        .when(it_is_registered_with(audiences(many(MAX_AUDIENCES))))
        .then(|decision: Decision| assert!(decision.is_ok()));
    given(apis())
        .when(it_is_registered_with(audiences(many(MAX_AUDIENCES + 1))))
        .then(refused(invalid("audiences", "at most 64")));

    let networks = |count: usize| ApplicationPatch {
        allowed_networks: Some(vec!["10.0.0.0/8".parse().unwrap(); count]),
        ..ApplicationPatch::default()
    };
    given([])
        .when(it_is_registered_with(networks(MAX_NETWORKS)))
        .then(|decision: Decision| assert!(decision.is_ok()));
    given([])
        .when(it_is_registered_with(networks(MAX_NETWORKS + 1)))
        .then(refused(invalid("allowed_networks", "at most 64")));

    let numbered = |count: usize| properties((0..count).map(|number| (number.to_string(), String::new())));
    given([])
        .when(it_is_registered_with(numbered(MAX_PROPERTIES)))
        .then(|decision: Decision| assert_eq!(decision.unwrap().properties.len(), MAX_PROPERTIES));
    given([])
        .when(it_is_registered_with(numbered(MAX_PROPERTIES + 1)))
        .then(refused(invalid("properties", "at most 32")));
}

#[test]
fn property_names_and_values_have_bounds_and_no_control_characters() {
    let one = |name: &str, value: &str| properties([(name.to_owned(), value.to_owned())]);
    let (longest_name, longest_value) = ("é".repeat(MAX_PROPERTY_NAME), "é".repeat(MAX_PROPERTY_VALUE));
    given([])
        .when(it_is_registered_with(one(&longest_name, &longest_value)))
        .then(|decision: Decision| assert!(decision.is_ok()));
    for (name, value) in [
        ("", "value"),
        (&*format!("{longest_name}x"), "value"),
        ("name", &*format!("{longest_value}x")),
        ("na\nme", "value"),
        ("name", "va\u{0}lue"),
    ] {
        given([])
            .when(it_is_registered_with(one(name, value)))
            .then(refused(invalid("properties", "without control characters")));
    }
}
