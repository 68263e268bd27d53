//! Making reference tokens, and revoking tokens of either kind.

use crate::facts::{CLIENT, changed, deleted, disabled, id, registered_with, scope, uri};
use crate::given_when_then::{Command, Fact, Given, Span, after, audience, days, given, hours, seconds, settings};
use grantlog::policy::CommandRefused;
use grantlog::policy::tokens::{
    AccessToken, DEFAULT_REFERENCE_TOKEN_SECONDS, IssueReferenceToken, MAX_LIVE_REFERENCE_TOKENS,
    MAX_REFERENCE_TOKEN_SECONDS, issue_reference_token, revoke_access_token, revoke_all, revoke_reference_token,
};
use grantlog_projections::event::{
    ApplicationChange, ApplicationRegistered, ClientType, FromTo, ReferenceTokenIssued, ReferenceTokenRevoked,
    ReferenceTokens, TokenRevoked, TokensRevoked,
};
use grantlog_projections::values::{Remark, SecretHash, StreamName};
use uuid::Uuid;

const TOKEN: Uuid = Uuid::from_u128(7);
/// How long after its `exp` a token still counts, in seconds.
const LEEWAY: u32 = 30;

/// Registered so that administrators may make reference tokens for it.
fn allowing() -> Fact {
    allowing_with(|_| {})
}

fn allowing_with(change: impl FnOnce(&mut ApplicationRegistered)) -> Fact {
    registered_with(|application| {
        application.reference_tokens = ReferenceTokens::AdministratorsOnly;
        change(application);
    })
}

fn remark(text: &str) -> Remark {
    Remark::parse(text).expect("a remark")
}

/// Makes the reference token `TOKEN`.
#[derive(Clone)]
struct Issue(IssueReferenceToken);

fn a_reference_token_is_made() -> Issue {
    Issue(IssueReferenceToken {
        token_id: TOKEN,
        hash: SecretHash([7; 32]),
        hint: "wxyz".into(),
        description: remark("nightly export"),
        scope: None,
        audiences: Vec::new(),
        expires_in_seconds: None,
        now: after(0),
    })
}

impl Issue {
    fn with_scope(mut self, text: &str) -> Self {
        self.0.scope = Some(scope(text));
        self
    }

    fn for_audiences(mut self, audiences: &[&str]) -> Self {
        self.0.audiences = audiences.iter().map(|text| audience(text)).collect();
        self
    }

    fn living(mut self, seconds: i64) -> Self {
        self.0.expires_in_seconds = Some(seconds);
        self
    }

    fn described(mut self, text: &str) -> Self {
        self.0.description = remark(text);
        self
    }

    fn at(mut self, span: Span) -> Self {
        self.0.now = after(span);
        self
    }
}

type Issued = Result<ReferenceTokenIssued, CommandRefused>;

impl Command for Issue {
    type Outcome = Issued;
    fn decide(self, given: &Given) -> Issued {
        let is_live = |token: &&_| {
            let token: &grantlog_projections::tokens::ReferenceToken = token;
            self.0.now < token.expires_at && given.tokens.reference_revoked_at(token).is_none()
        };
        let live = given
            .tokens
            .references_of(id())
            .map(|token| &**token)
            .filter(is_live)
            .count();
        issue_reference_token(given.application(CLIENT), &settings(), live, self.0)
    }
}

fn invalid(field: &'static str) -> impl FnOnce(Issued) {
    move |issued| {
        let refused = issued.expect_err("it is refused");
        assert!(
            matches!(&refused, CommandRefused::Invalid { field: named, .. } if named == field),
            "{refused}"
        );
    }
}

fn conflicts(issued: Issued) {
    let refused = issued.expect_err("it is refused");
    assert!(matches!(refused, CommandRefused::Conflict(_)), "{refused}");
}

fn on_tokens(event: impl Into<grantlog_projections::Event>) -> Fact {
    Fact::new(StreamName::tokens(id()), event)
}

/// The reference token of that number was made, to be over after the span.
fn reference_token(number: u128, end: Span) -> Fact {
    on_tokens(ReferenceTokenIssued {
        token_id: Uuid::from_u128(number),
        application_id: id(),
        application_uri: uri(),
        hash: SecretHash([u8::try_from(number).expect("a small number"); 32]),
        hint: "wxyz".into(),
        scope: scope("read"),
        audiences: Vec::new(),
        expires_at: after(end),
        description: remark("nightly export"),
    })
}

fn reference_token_revoked(number: u128) -> Fact {
    on_tokens(ReferenceTokenRevoked {
        token_id: Uuid::from_u128(number),
        application_id: id(),
        application_uri: uri(),
        reason: None,
    })
}

fn all_revoked(until: Span) -> Fact {
    on_tokens(TokensRevoked {
        application_id: id(),
        application_uri: uri(),
        issued_until: after(until),
        reason: None,
    })
    .at(until)
}

#[test]
fn a_reference_token_has_all_that_its_application_may_for_ninety_days_by_default() {
    given([allowing()])
        .when(a_reference_token_is_made())
        .then(|issued: Issued| {
            let fact = issued.expect("it is made");
            assert_eq!(fact.scope, scope("read update"));
            assert!(
                fact.audiences.is_empty(),
                "all of the application's, as they are when it is used"
            );
            assert_eq!(fact.expires_at, after(days(90)));
            assert_eq!(DEFAULT_REFERENCE_TOKEN_SECONDS, 90 * 86_400);
            assert_eq!((fact.token_id, fact.application_id), (TOKEN, id()));
            assert_eq!(fact.description, remark("nightly export"));
        });
}

#[test]
fn a_reference_token_may_have_less_than_its_application() {
    let application = allowing_with(|application| {
        application.audiences = vec![audience("https://a"), audience("https://b")];
    });
    given([application])
        .when(
            a_reference_token_is_made()
                .with_scope("read")
                .for_audiences(&["https://b"])
                .living(60),
        )
        .then(|issued: Issued| {
            let fact = issued.expect("it is made");
            assert_eq!(fact.scope, scope("read"));
            assert_eq!(fact.audiences, [audience("https://b")]);
            assert_eq!(fact.expires_at, after(seconds(60)));
        });
}

#[test]
fn a_reference_token_has_nothing_that_its_application_lacks() {
    for text in ["read audit:read", "*", "READ"] {
        given([allowing()])
            .when(a_reference_token_is_made().with_scope(text))
            .then(invalid("scope"));
    }
    let application = || allowing_with(|application| application.audiences = vec![audience("https://a")]);
    for audiences in [
        &["https://b"][..],
        &["https://a", "https://b"],
        &["https://a", "https://a"],
    ] {
        given([application()])
            .when(a_reference_token_is_made().for_audiences(audiences))
            .then(invalid("audiences"));
    }
}

#[test]
fn a_reference_token_of_an_application_without_audiences_is_for_the_default_one() {
    let default = settings().default_audience;
    given([allowing()])
        .when(a_reference_token_is_made().for_audiences(&[default.as_str()]))
        .then(|issued: Issued| assert_eq!(issued.expect("it is made").audiences, [default]));
    given([allowing()])
        .when(a_reference_token_is_made().for_audiences(&["https://elsewhere"]))
        .then(invalid("audiences"));
}

#[test]
fn only_an_application_that_may_have_reference_tokens_gets_one() {
    given([registered_with(|_| {})])
        .when(a_reference_token_is_made())
        .then(conflicts);
    let taken_back = changed(vec![ApplicationChange::ReferenceTokens(FromTo {
        from: ReferenceTokens::AdministratorsOnly,
        to: ReferenceTokens::None,
    })]);
    given([allowing(), taken_back])
        .when(a_reference_token_is_made())
        .then(conflicts);
    given([allowing_with(|application| {
        application.client_type = ClientType::Public
    })])
    .when(a_reference_token_is_made())
    .then(conflicts);
}

#[test]
fn a_reference_token_says_what_it_is_for_and_has_an_end_within_a_year() {
    for text in ["", "  ", "\n"] {
        given([allowing()])
            .when(a_reference_token_is_made().described(text))
            .then(invalid("description"));
    }
    for seconds in [i64::MIN, -1, 0, MAX_REFERENCE_TOKEN_SECONDS + 1, i64::MAX] {
        given([allowing()])
            .when(a_reference_token_is_made().living(seconds))
            .then(invalid("expires_in_seconds"));
    }
    for seconds in [1, MAX_REFERENCE_TOKEN_SECONDS] {
        given([allowing()])
            .when(a_reference_token_is_made().living(seconds))
            .then(|issued: Issued| assert!(issued.is_ok()));
    }
}

#[test]
fn tokens_that_are_over_or_revoked_make_room_for_others() {
    let most = u128::try_from(MAX_LIVE_REFERENCE_TOKENS).expect("a small number");
    let full = || {
        let tokens = (1..=most).map(|number| reference_token(number, hours(1)));
        std::iter::once(allowing()).chain(tokens)
    };
    given(full()).when(a_reference_token_is_made()).then(conflicts);
    let made = |issued: Issued| assert!(issued.is_ok(), "{issued:?}");
    given(full()).when(a_reference_token_is_made().at(hours(1))).then(made);
    given(full().chain([reference_token_revoked(9)]))
        .when(a_reference_token_is_made())
        .then(made);
    given(full().chain([all_revoked(seconds(1))]))
        .when(a_reference_token_is_made().at(seconds(1)))
        .then(made);
}

fn reference_token_is_revoked(at: Span) -> impl FnOnce(&Given) -> Option<ReferenceTokenRevoked> {
    move |given| {
        let token = given.tokens.reference(TOKEN).expect("it was made");
        let is_revoked = given.tokens.reference_revoked_at(token).is_some();
        revoke_reference_token(token, is_revoked, Some(remark("leaked")), after(at))
    }
}

#[test]
fn a_reference_token_is_revoked_once_and_not_when_it_is_over() {
    let made = || [allowing(), reference_token(7, hours(1))];
    given(made())
        .when(reference_token_is_revoked(seconds(1)))
        .then(|revoked: Option<ReferenceTokenRevoked>| {
            let fact = revoked.expect("it is revoked");
            assert_eq!((fact.token_id, fact.reason), (TOKEN, Some(remark("leaked"))));
        });
    let nothing = |revoked: Option<ReferenceTokenRevoked>| assert_eq!(revoked, None);
    given(made()).when(reference_token_is_revoked(hours(1))).then(nothing);
    for before in [reference_token_revoked(7), all_revoked(seconds(1)), deleted()] {
        given(made().into_iter().chain([before]))
            .when(reference_token_is_revoked(seconds(2)))
            .then(nothing);
    }
}

fn access_token() -> AccessToken {
    AccessToken {
        jti: TOKEN,
        client_id: uri(),
        expires_at: after(hours(1)),
    }
}

fn access_token_is_revoked(at: Span) -> impl FnOnce(&Given) -> Option<TokenRevoked> {
    move |given| {
        let is_revoked = given.tokens.revoked_at(id(), TOKEN, after(0)).is_some();
        revoke_access_token(&access_token(), is_revoked, None, after(at), LEEWAY)
    }
}

#[test]
fn an_access_token_is_revoked_once_and_as_long_as_it_counts() {
    for at in [0, seconds(1), hours(1), hours(1) + seconds(29)] {
        given([allowing()])
            .when(access_token_is_revoked(at))
            .then(|revoked: Option<TokenRevoked>| {
                let fact = revoked.expect("it is revoked");
                assert_eq!((fact.jti, fact.application_id), (TOKEN, id()));
                assert_eq!(fact.expires_at, after(hours(1)), "so long it is to be remembered");
            });
    }
    let nothing = |revoked: Option<TokenRevoked>| assert_eq!(revoked, None);
    given([allowing()])
        .when(access_token_is_revoked(hours(1) + seconds(30)))
        .then(nothing);
    let alone = on_tokens(TokenRevoked {
        jti: TOKEN,
        application_id: id(),
        application_uri: uri(),
        expires_at: after(hours(1)),
        reason: None,
    });
    for before in [alone, all_revoked(seconds(1)), deleted().at(seconds(1))] {
        given([allowing(), before])
            .when(access_token_is_revoked(seconds(2)))
            .then(nothing);
    }
    // Disabled alone it would come back.
    given([allowing(), disabled()])
        .when(access_token_is_revoked(seconds(2)))
        .then(|revoked: Option<TokenRevoked>| assert!(revoked.is_some()));
}

#[test]
fn all_tokens_of_an_application_are_those_issued_until_then() {
    let everything = |given: &Given| revoke_all(given.application(CLIENT), None, after(hours(2)));
    given([allowing()])
        .when(everything)
        .then(|fact: TokensRevoked| assert_eq!((fact.application_id, fact.issued_until), (id(), after(hours(2)))));
    let given = given([allowing(), reference_token(7, hours(9)), all_revoked(hours(2))]);
    let reference = given.tokens.reference(TOKEN).expect("it was made");
    assert_eq!(given.tokens.reference_revoked_at(reference), Some(after(hours(2))));
    let revoked_at = |issued| given.tokens.revoked_at(id(), Uuid::from_u128(8), after(issued));
    assert_eq!(revoked_at(hours(2)), Some(after(hours(2))));
    assert_eq!(revoked_at(hours(2) + 1), None);
}
