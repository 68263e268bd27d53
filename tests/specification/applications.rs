//! Registering, changing, enabling, disabling and deleting Trusted Applications.

mod changing;

mod registering;

use crate::facts::{deleted, disabled, enabled, registered, registered_with};
use crate::given_when_then::{Given, given};
use grantlog::policy::{CommandRefused, applications};
use grantlog_projections::event::{ApplicationDisabled, ApplicationEnabled};
use grantlog_projections::values::Remark;

/// A command that is refused because of one field.
fn invalid(field: &'static str, part_of_message: &'static str) -> impl FnOnce(CommandRefused) {
    move |refused| match refused {
        CommandRefused::Invalid { field: of, message } => {
            assert_eq!(of, field);
            assert!(message.contains(part_of_message), "{message}");
        }
        other => panic!("{field} is refused, not {other:?}"),
    }
}

fn reason(text: &str) -> Option<Remark> {
    Remark::parse(text).ok()
}

#[test]
fn an_application_is_disabled_once_and_says_why() {
    let disable =
        |given: &Given| applications::disable(given.application(crate::facts::CLIENT), false, reason("leaked"));
    given([registered()])
        .when(disable)
        .then(|fact: Option<ApplicationDisabled>| {
            let fact = fact.expect("a fact");
            assert_eq!(fact.reason, reason("leaked"));
            assert_eq!(fact.application_uri.as_str(), crate::facts::CLIENT);
        });
    given([registered(), disabled()])
        .when(disable)
        .then(|fact| assert_eq!(fact, None));
}

#[test]
fn an_application_is_enabled_only_when_it_is_not() {
    let enable = |given: &Given| applications::enable(given.application(crate::facts::CLIENT), None);
    given([registered()]).when(enable).then(|fact| assert_eq!(fact, None));
    given([registered(), disabled()])
        .when(enable)
        .then(|fact: Option<ApplicationEnabled>| assert!(fact.is_some()));
    given([registered_with(|application| application.is_enabled = false)])
        .when(enable)
        .then(|fact: Option<ApplicationEnabled>| assert!(fact.is_some()));
    given([registered(), disabled(), enabled()])
        .when(enable)
        .then(|fact| assert_eq!(fact, None));
}

#[test]
fn a_deleted_application_is_disabled_and_keeps_its_name() {
    let given = given([registered(), deleted()]);
    let application = given.application(crate::facts::CLIENT);
    assert!(application.is_deleted());
    assert!(!application.is_enabled);
    assert_eq!(given.directory.application_count(), 1);
}
