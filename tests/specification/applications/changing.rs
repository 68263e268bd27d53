use super::{invalid, reason};
use crate::facts::{
    CLIENT, NEW, OLD, api, changed, registered, registered_with, scope, secret_added, secret_revoked, secret_until,
};
use crate::given_when_then::{Given, audience, days, given, hours, settings};
use grantlog::policy::CommandRefused;
use grantlog::policy::applications::{ApplicationPatch, change};
use grantlog_projections::event::{ApplicationChange, ApplicationChanged, ClientType, FromTo, ReferenceTokens};
use grantlog_projections::values::{Name, OrgCode, Remark, SystemUser, TokenLifetime};
use std::collections::BTreeMap;

type Decision = Result<Option<ApplicationChanged>, CommandRefused>;

fn it_is_changed(patch: ApplicationPatch) -> impl FnOnce(&Given) -> Decision {
    it_is_changed_if_at(None, patch)
}

fn it_is_changed_if_at(revision: Option<u64>, patch: ApplicationPatch) -> impl FnOnce(&Given) -> Decision {
    move |given| {
        let application = given.application(CLIENT);
        change(
            &given.directory,
            &settings(),
            application,
            patch,
            revision,
            reason("asked for"),
        )
    }
}

fn nothing(decision: Decision) {
    assert_eq!(decision, Ok(None));
}

fn these(expected: Vec<ApplicationChange>) -> impl FnOnce(Decision) {
    move |decision| assert_eq!(decision.unwrap().expect("a change").changes, expected)
}

fn refused(expected: impl FnOnce(CommandRefused)) -> impl FnOnce(Decision) {
    |decision| expected(decision.expect_err("it is refused"))
}

/// What a freshly registered application has, put as a change.
fn the_same_again() -> ApplicationPatch {
    ApplicationPatch {
        name: Name::parse("Orders worker").ok(),
        description: Some(None),
        client_type: Some(ClientType::Confidential),
        scope: Some(scope("read update")),
        audiences: Some(Vec::new()),
        system_user_allowed: Some(true),
        system_user: Some(SystemUser::parse("svc.orders").ok()),
        org_code: Some(None),
        owner: Some(None),
        properties: Some(BTreeMap::from([("absent".to_owned(), None)])),
        token_lifetime_seconds: Some(None),
        allowed_networks: Some(Vec::new()),
        reference_tokens: Some(ReferenceTokens::None),
    }
}

#[test]
fn a_change_to_what_already_is_makes_no_fact() {
    given([registered()])
        .when(it_is_changed(ApplicationPatch::default()))
        .then(nothing);
    given([registered()])
        .when(it_is_changed(the_same_again()))
        .then(nothing);
}

#[test]
fn a_change_holds_the_old_and_the_new_value_of_each_attribute_that_differs() {
    let patch = ApplicationPatch {
        scope: Some(scope("read")),
        org_code: Some(OrgCode::parse("ACME").ok()),
        ..the_same_again()
    };
    given([registered()]).when(it_is_changed(patch)).then(these(vec![
        ApplicationChange::Scope(FromTo {
            from: scope("read update"),
            to: scope("read"),
        }),
        ApplicationChange::OrgCode(FromTo {
            from: None,
            to: OrgCode::parse("ACME").ok(),
        }),
    ]));
}

#[test]
fn every_attribute_can_change_and_what_is_folded_is_what_was_asked_for() {
    let patch = ApplicationPatch {
        name: Name::parse("Other").ok(),
        description: Some(Remark::parse("what it is for").ok()),
        client_type: None,
        scope: Some(scope("delete")),
        audiences: Some(vec![audience("https://orders")]),
        system_user_allowed: Some(false),
        system_user: Some(None),
        org_code: Some(OrgCode::parse("ACME").ok()),
        owner: Some(Remark::parse("team@example.com").ok()),
        properties: Some(BTreeMap::from([("tier".to_owned(), Some("gold".to_owned()))])),
        token_lifetime_seconds: Some(TokenLifetime::parse(60).ok()),
        allowed_networks: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        reference_tokens: Some(ReferenceTokens::AdministratorsOnly),
    };
    let facts = || [api("https://orders"), registered()];
    let fact = change(
        &given(facts()).directory,
        &settings(),
        given(facts()).application(CLIENT),
        patch.clone(),
        None,
        None,
    )
    .unwrap()
    .expect("a change");
    assert_eq!(fact.changes.len(), 12);
    let mut after = given(facts());
    after.happen(changed(fact.changes));
    let now = after.application(CLIENT);
    assert_eq!(now.revision, 1);
    assert_eq!(now.token_lifetime_seconds, TokenLifetime::parse(60).ok());
    // Asked for again, it is all there already.
    after.when(it_is_changed(patch)).then(nothing);
}

#[test]
fn a_property_is_set_or_taken_away_alone_and_the_others_stay() {
    let with_two = || {
        registered_with(|application| {
            application.properties =
                BTreeMap::from([("tier".into(), "gold".into()), ("region".into(), "north".into())]);
        })
    };
    let patch = |pairs: &[(&str, Option<&str>)]| ApplicationPatch {
        properties: Some(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
                .collect(),
        ),
        ..ApplicationPatch::default()
    };
    given([with_two()])
        .when(it_is_changed(patch(&[("tier", None), ("zone", Some("a"))])))
        .then(these(vec![ApplicationChange::Properties(FromTo {
            from: BTreeMap::from([("region".into(), "north".into()), ("tier".into(), "gold".into())]),
            to: BTreeMap::from([("region".into(), "north".into()), ("zone".into(), "a".into())]),
        })]));
    given([with_two()])
        .when(it_is_changed(patch(&[("tier", Some("gold")), ("zone", None)])))
        .then(nothing);
}

#[test]
fn bounds_hold_for_what_a_change_leads_to_not_only_for_what_it_brings() {
    let full = registered_with(|application| {
        application.properties = (0..32).map(|number| (number.to_string(), String::new())).collect();
    });
    let one_more = BTreeMap::from([("more".to_owned(), Some(String::new()))]);
    let patch = ApplicationPatch {
        properties: Some(one_more),
        ..ApplicationPatch::default()
    };
    given([full])
        .when(it_is_changed(patch))
        .then(refused(invalid("properties", "at most 32")));
}

#[test]
fn a_new_audience_must_be_a_registered_api() {
    let patch = || ApplicationPatch {
        audiences: Some(vec![audience("https://orders")]),
        ..ApplicationPatch::default()
    };
    given([registered()])
        .when(it_is_changed(patch()))
        .then(refused(invalid("audiences", "no registered API")));
    given([registered(), api("https://orders")])
        .when(it_is_changed(patch()))
        .then(|decision: Decision| assert!(decision.unwrap().is_some()));
}

#[test]
fn a_change_of_a_revision_that_is_no_longer_the_present_one_is_refused_and_names_it() {
    let renamed = |to: &str| ApplicationPatch {
        name: Name::parse(to).ok(),
        ..ApplicationPatch::default()
    };
    let twice_changed = || given([registered(), changed(Vec::new()), changed(Vec::new())]);
    for outdated in [0, 1, 3, u64::MAX] {
        twice_changed()
            .when(it_is_changed_if_at(Some(outdated), renamed("Other")))
            .then(refused(|refused| {
                assert_eq!(refused, CommandRefused::PreconditionFailed { current: 2 });
            }));
    }
    twice_changed()
        .when(it_is_changed_if_at(Some(2), renamed("Other")))
        .then(|decision: Decision| assert!(decision.unwrap().is_some()));
    // Even when there would be nothing to do: the caller's idea of the application is wrong.
    twice_changed()
        .when(it_is_changed_if_at(Some(1), ApplicationPatch::default()))
        .then(refused(|refused| {
            assert_eq!(refused, CommandRefused::PreconditionFailed { current: 2 });
        }));
}

#[test]
fn an_application_becomes_public_only_when_its_secrets_are_revoked() {
    let to_public = || ApplicationPatch {
        client_type: Some(ClientType::Public),
        ..ApplicationPatch::default()
    };
    given([registered()])
        .when(it_is_changed(to_public()))
        .then(refused(invalid("client_type", "revoke its secrets first")));
    given([
        registered(),
        secret_added(secret_until(NEW, days(1))),
        secret_revoked(OLD),
    ])
    .when(it_is_changed(to_public()))
    .then(refused(invalid("client_type", "revoke its secrets first")));
    given([registered(), secret_revoked(OLD)])
        .when(it_is_changed(to_public()))
        .then(|decision: Decision| assert_eq!(decision.unwrap().expect("a change").changes.len(), 1));
    given([registered_with(|application| application.secret = None)])
        .when(it_is_changed(to_public()))
        .then(|decision: Decision| assert!(decision.unwrap().is_some()));
}

#[test]
fn the_reason_is_kept() {
    let patch = ApplicationPatch {
        scope: Some(scope("")),
        ..ApplicationPatch::default()
    };
    given([registered().at(hours(1))])
        .when(it_is_changed(patch))
        .then(|decision: Decision| {
            assert_eq!(decision.unwrap().expect("a change").reason, reason("asked for"));
        });
}
