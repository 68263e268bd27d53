//! What an administrator may hand on.

use crate::facts::scope;
use grantlog::policy::{Authority, CommandRefused, OWN_SCOPES};

#[test]
fn nobody_hands_on_a_scope_of_grantlogs_own_that_they_do_not_have() {
    for held in OWN_SCOPES {
        for given in OWN_SCOPES {
            let checked = Authority::Scope(scope(held)).check(&scope(given));
            if held == given {
                assert_eq!(checked, Ok(()));
            } else {
                assert_eq!(checked, Err(CommandRefused::BeyondCaller(given.into())));
            }
        }
    }
}

#[test]
fn scopes_of_other_apis_are_handed_on_freely() {
    let administrator = Authority::Scope(scope("applications:write"));
    assert_eq!(administrator.check(&scope("read update DomainApi")), Ok(()));
    assert_eq!(
        administrator.check(&scope("read audit:read")),
        Err(CommandRefused::BeyondCaller("audit:read".into()))
    );
}

#[test]
fn grantlog_itself_hands_on_everything() {
    assert_eq!(Authority::Everything.check(&scope(&OWN_SCOPES.join(" "))), Ok(()));
}
