//! Whether a token is granted, and what it says.

mod audiences;

mod authentication;

mod order_of_checks;

mod scope;

mod what_the_token_says;

use crate::facts::{CLIENT, OLD};
use crate::given_when_then::{Command, Expectation, Given, Span, after, audience, settings};
use grantlog::oauth::{Dialect, OAuthError, RequestHeaders, RequestedScope, TokenRequest};
use grantlog::policy::issue_token::{self, Grant, IssueToken, Refused};
use grantlog_projections::event::RefusalReason;
use grantlog_projections::values::{
    ApplicationId, Audience, SecretId, SigningAlgorithm, Timestamp, TokenLifetime, TokenType,
};
use std::net::IpAddr;

type Decision = Result<Grant, Refused>;

/// A token request of [`CLIENT`] with its first secret, at the start, that asks for nothing in particular.
#[derive(Clone)]
pub struct TokenIsAskedFor {
    client_id: &'static str,
    matching_secret: Option<SecretId>,
    source_ip: IpAddr,
    scope: Option<RequestedScope>,
    audiences: Vec<String>,
    resources: Vec<String>,
    now: Timestamp,
}

pub fn issue_token() -> TokenIsAskedFor {
    TokenIsAskedFor {
        client_id: CLIENT,
        matching_secret: Some(OLD),
        source_ip: "192.0.2.7".parse().expect("an address"),
        scope: None,
        audiences: Vec::new(),
        resources: Vec::new(),
        now: after(0),
    }
}

impl TokenIsAskedFor {
    fn by(mut self, client_id: &'static str) -> Self {
        self.client_id = client_id;
        self
    }

    fn with_secret(mut self, id: SecretId) -> Self {
        self.matching_secret = Some(id);
        self
    }

    fn with_a_wrong_secret(mut self) -> Self {
        self.matching_secret = None;
        self
    }

    fn from(mut self, source_ip: &str) -> Self {
        self.source_ip = source_ip.parse().expect("an address");
        self
    }

    fn at(mut self, span: Span) -> Self {
        self.now = after(span);
        self
    }

    /// As it would arrive: there is no other way to make a [`RequestedScope`].
    fn for_scope(mut self, scope: &str) -> Self {
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "client_credentials"),
                ("client_id", "any"),
                ("client_secret", "any"),
                ("scope", scope),
            ])
            .finish();
        let headers = RequestHeaders {
            content_type: Some(b"application/x-www-form-urlencoded"),
            authorization: &[],
        };
        let request = TokenRequest::parse(Dialect::Standard, headers, form.as_bytes());
        self.scope = request.expect("a well-formed request").scope;
        self
    }

    fn for_audience(mut self, audience: &str) -> Self {
        self.audiences.push(audience.to_owned());
        self
    }

    fn for_resource(mut self, resource: &str) -> Self {
        self.resources.push(resource.to_owned());
        self
    }
}

impl Command for TokenIsAskedFor {
    type Outcome = Decision;

    fn decide(self, given: &Given) -> Decision {
        let application = given.directory.application(ApplicationId::of_client_id(self.client_id));
        let command = IssueToken {
            matching_secret: self.matching_secret,
            source_ip: self.source_ip,
            scope: self.scope.as_ref(),
            audiences: &self.audiences,
            resources: &self.resources,
            now: self.now,
        };
        issue_token::issue_token(
            &given.directory,
            &settings(),
            application.map(|found| &**found),
            &command,
        )
    }
}

/// A token, and what is expected of it.
#[derive(Default)]
struct TokenIssued {
    secret_id: Option<SecretId>,
    scope: Option<&'static str>,
    audiences: Option<Vec<Audience>>,
    lifetime: Option<u32>,
    algorithm: Option<SigningAlgorithm>,
    token_type: Option<TokenType>,
}

fn token_issued() -> TokenIssued {
    TokenIssued::default()
}

impl TokenIssued {
    fn for_holder_of(mut self, secret_id: SecretId) -> Self {
        self.secret_id = Some(secret_id);
        self
    }

    fn with_scope(mut self, scope: &'static str) -> Self {
        self.scope = Some(scope);
        self
    }

    fn for_audiences(mut self, audiences: &[&str]) -> Self {
        self.audiences = Some(audiences.iter().map(|text| audience(text)).collect());
        self
    }

    fn living(mut self, seconds: u32) -> Self {
        self.lifetime = Some(seconds);
        self
    }

    fn signed_with(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    fn of_type(mut self, token_type: TokenType) -> Self {
        self.token_type = Some(token_type);
        self
    }
}

impl Expectation<Decision> for TokenIssued {
    #[track_caller]
    fn check(self, decision: Decision) {
        let grant = decision.expect("a token is issued");
        if let Some(expected) = self.secret_id {
            assert_eq!(grant.secret_id, expected);
        }
        if let Some(expected) = self.scope {
            assert_eq!(grant.scope.as_str(), expected);
        }
        if let Some(expected) = self.audiences {
            assert_eq!(grant.audiences, expected);
        }
        if let Some(expected) = self.lifetime {
            assert_eq!(grant.lifetime, lifetime(expected));
        }
        if let Some(expected) = self.algorithm {
            assert_eq!(grant.algorithm, expected);
        }
        if let Some(expected) = self.token_type {
            assert_eq!(grant.token_type, expected);
        }
        assert!(
            !grant.audiences.is_empty(),
            "a token without audience would be good anywhere"
        );
    }
}

/// A refusal: its true reason, and what the caller is told.
struct TokenRefused {
    reason: RefusalReason,
    description: String,
    code: &'static str,
}

/// What hides why: one answer for everything that is wrong with who asks.
fn invalid_client(reason: RefusalReason) -> TokenRefused {
    TokenRefused {
        reason,
        description: "Invalid client_id or client_secret".to_owned(),
        code: "invalid_client",
    }
}

fn refused(code: &'static str, description: impl Into<String>, reason: RefusalReason) -> TokenRefused {
    TokenRefused {
        reason,
        description: description.into(),
        code,
    }
}

impl Expectation<Decision> for TokenRefused {
    #[track_caller]
    fn check(self, decision: Decision) {
        let refused = decision.expect_err("the token is refused");
        assert_eq!(refused.reason, self.reason);
        assert_eq!(refused.error.code(Dialect::Standard), self.code);
        assert_eq!(refused.error.description(), self.description);
        if refused.error == OAuthError::InvalidClient {
            assert_eq!(
                refused.detail, None,
                "the answer's sameness must not depend on a detail"
            );
        }
    }
}

fn lifetime(seconds: u32) -> TokenLifetime {
    TokenLifetime::parse(i64::from(seconds)).expect("a lifetime")
}
