//! Whether a token that holds opens an endpoint.

use crate::facts::{CLIENT, deleted, disabled, enabled, registered_with, scope};
use crate::given_when_then::{Command, Fact, Given, given};
use grantlog::policy::authorize_call::{Demand, Presented, authorize_call};
use grantlog_projections::event::{DenialReason, ReferenceTokens, TokenKind};
use grantlog_projections::values::{ApplicationId, Audience, OrgCode, Scope};

const DEFAULT_AUDIENCE: &str = "https://id.example.com";
const DUTIES: [&str; 4] = ["applications:read", "applications:write", "keys:write", "audit:read"];

/// With all scopes of Grantlog's own.
fn registered() -> Fact {
    registered_with(|application| application.scope = scope(&DUTIES.join(" ")))
}

fn org(code: &str) -> OrgCode {
    OrgCode::parse(code).unwrap()
}

/// Of an organisation, with the scopes of an API.
fn registered_for(code: Option<&'static str>) -> Fact {
    registered_with(move |application| {
        application.scope = scope("read update delete");
        application.org_code = code.map(org);
    })
}

/// May have reference tokens, and is to call from 192.0.2.0/24 or 2001:db8::/32.
fn registered_with_reference_tokens(policy: ReferenceTokens) -> Fact {
    registered_with(move |application| {
        application.scope = scope("read update");
        application.reference_tokens = policy;
        application.allowed_networks = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    })
}

/// A call: what its token says, and what it asks for.
struct ACall {
    kind: TokenKind,
    scope: Scope,
    org_code: Option<OrgCode>,
    from: Option<&'static str>,
    required_scope: &'static str,
    required_org: Option<&'static str>,
    audience: Option<&'static str>,
}

fn a_call_is_made(token_scope: &str, required_scope: &'static str) -> ACall {
    ACall {
        kind: TokenKind::Jwt,
        scope: scope(token_scope),
        org_code: None,
        from: None,
        required_scope,
        required_org: None,
        audience: None,
    }
}

impl ACall {
    fn with_a_token_of(mut self, code: &str) -> Self {
        self.org_code = Some(org(code));
        self
    }

    fn for_data_of(mut self, code: &'static str) -> Self {
        self.required_org = Some(code);
        self
    }

    fn of_the_api(mut self, audience: &'static str) -> Self {
        self.audience = Some(audience);
        self
    }

    fn with_a_reference_token(mut self) -> Self {
        self.kind = TokenKind::Reference;
        self
    }

    fn from(mut self, ip: &'static str) -> Self {
        self.from = Some(ip);
        self
    }
}

impl Command for ACall {
    type Outcome = Result<(), DenialReason>;
    fn decide(self, given: &Given) -> Self::Outcome {
        let application = given.directory.application(ApplicationId::of_client_id(CLIENT));
        let presented = Presented {
            kind: self.kind,
            scope: &self.scope,
            org_code: self.org_code.as_ref(),
            source_ip: self.from.map(|ip| ip.parse().unwrap()),
        };
        let audience = self.audience.map(|text| Audience::parse(text).unwrap());
        let demand = Demand {
            audience: audience.as_ref(),
            scope: self.required_scope,
            org_code: self.required_org,
        };
        let default_audience = Audience::parse(DEFAULT_AUDIENCE).unwrap();
        authorize_call(application.map(|found| &**found), presented, demand, &default_audience)
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
fn an_audience_that_was_taken_from_an_application_is_taken_from_its_tokens() {
    let with = |audiences: &'static [&'static str]| {
        registered_with(move |application| {
            application.scope = scope("read");
            application.audiences = audiences.iter().map(|text| Audience::parse(text).unwrap()).collect();
        })
    };
    let call = |audience| a_call_is_made("read", "read").of_the_api(audience);
    given([with(&["https://orders", "https://billing"])])
        .when(call("https://billing"))
        .then(it_is_let_through);
    given([with(&["https://orders"])])
        .when(call("https://billing"))
        .then(it_is_denied(DenialReason::WrongAudience));
    // Without any it has the default one, and no other.
    given([with(&[])]).when(call(DEFAULT_AUDIENCE)).then(it_is_let_through);
    given([with(&[])])
        .when(call("https://billing"))
        .then(it_is_denied(DenialReason::WrongAudience));
    given([with(&["https://orders"])])
        .when(call(DEFAULT_AUDIENCE))
        .then(it_is_denied(DenialReason::WrongAudience));
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

#[test]
fn of_several_scopes_a_call_needs_all() {
    for (held, required) in [
        ("read update", "read update"),
        ("update read", "read update"),
        ("read update delete", "read"),
        ("read", ""),
        ("", ""),
        ("", "  "),
    ] {
        given([registered_for(None)])
            .when(a_call_is_made(held, required))
            .then(it_is_let_through);
    }
    for (held, required) in [
        ("read", "read update"),
        ("update", "read update"),
        ("", "read"),
        ("read:update", "read update"),
        ("read", "read read2"),
    ] {
        given([registered_for(None)])
            .when(a_call_is_made(held, required))
            .then(it_is_denied(DenialReason::InsufficientScope));
    }
    // The application may not delete any more, whatever its token says.
    given([registered_with(|application| application.scope = scope("read update"))])
        .when(a_call_is_made("read delete", "read delete"))
        .then(it_is_denied(DenialReason::InsufficientScope));
}

/// As Kinde binds machine-to-machine applications to an organisation.
#[test]
fn a_token_that_is_bound_to_an_organisation_opens_the_data_of_that_one_only() {
    given([registered_for(Some("ACME"))])
        .when(
            a_call_is_made("read", "read")
                .with_a_token_of("ACME")
                .for_data_of("ACME"),
        )
        .then(it_is_let_through);
    for other in ["OTHER", "acme", "ACME2", "ACM", "ACME ", "", "*", "ACME/OTHER"] {
        given([registered_for(Some("ACME"))])
            .when(
                a_call_is_made("read", "read")
                    .with_a_token_of("ACME")
                    .for_data_of(other),
            )
            .then(it_is_denied(DenialReason::OrgMismatch));
    }
    // Where the path names none, the API goes by the token.
    given([registered_for(Some("ACME"))])
        .when(a_call_is_made("read", "read").with_a_token_of("ACME"))
        .then(it_is_let_through);
}

#[test]
fn a_token_that_is_bound_to_no_organisation_opens_the_data_of_none() {
    given([registered_for(None)])
        .when(a_call_is_made("read", "read").for_data_of("ACME"))
        .then(it_is_denied(DenialReason::OrgMismatch));
    given([registered_for(Some("ACME"))])
        .when(a_call_is_made("read", "read").for_data_of("ACME"))
        .then(it_is_denied(DenialReason::OrgMismatch));
}

#[test]
fn a_token_of_the_organisation_before_opens_neither_ones_data() {
    for now in [None, Some("OTHER")] {
        for asked in ["ACME", "OTHER"] {
            given([registered_for(now)])
                .when(
                    a_call_is_made("read", "read")
                        .with_a_token_of("ACME")
                        .for_data_of(asked),
                )
                .then(it_is_denied(DenialReason::OrgMismatch));
        }
    }
}

#[test]
fn that_a_scope_is_missing_is_told_before_the_organisation() {
    given([registered_for(Some("ACME"))])
        .when(a_call_is_made("", "read").for_data_of("OTHER"))
        .then(it_is_denied(DenialReason::InsufficientScope));
}

#[test]
fn a_reference_token_opens_nothing_once_its_application_may_not_have_any() {
    let call = || {
        a_call_is_made("read", "read")
            .with_a_reference_token()
            .from("192.0.2.7")
    };
    given([registered_with_reference_tokens(ReferenceTokens::AdministratorsOnly)])
        .when(call())
        .then(it_is_let_through);
    given([registered_with_reference_tokens(ReferenceTokens::None)])
        .when(call())
        .then(it_is_denied(DenialReason::ReferenceTokensNotAllowed));
}

#[test]
fn a_reference_token_is_used_from_the_networks_of_its_application_only() {
    let application = || registered_with_reference_tokens(ReferenceTokens::AdministratorsOnly);
    for inside in ["192.0.2.0", "192.0.2.255", "2001:db8:ffff::1"] {
        given([application()])
            .when(a_call_is_made("read", "read").with_a_reference_token().from(inside))
            .then(it_is_let_through);
    }
    for outside in ["192.0.3.1", "10.0.0.1", "2001:db9::1", "::1"] {
        given([application()])
            .when(a_call_is_made("read", "read").with_a_reference_token().from(outside))
            .then(it_is_denied(DenialReason::NetworkNotAllowed));
    }
    // An API asks about its token: where the call came from is for the API to judge.
    given([application()])
        .when(a_call_is_made("read", "read").with_a_reference_token())
        .then(it_is_let_through);
}

/// The token endpoint has looked at that, and a proxy in front of an API calls from elsewhere.
#[test]
fn an_access_token_is_used_from_anywhere() {
    given([registered_with_reference_tokens(ReferenceTokens::None)])
        .when(a_call_is_made("read", "read").from("203.0.113.9"))
        .then(it_is_let_through);
}
