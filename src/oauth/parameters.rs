//! The parameters of a token request, whichever syntax they came in: each at most once.

use super::client_authentication::PresentedSecret;
use super::displayable::Displayable;
use std::borrow::Cow;

/// Parameters in one request, unknown ones included.
pub const MAX_PARAMETERS: usize = 64;

/// What a body said so far. A body that breaks half-way leaves what came before, so that the audit
/// trail can name the client.
#[derive(Default)]
pub(super) struct Parameters<'a> {
    pub grant_type: Option<Cow<'a, str>>,
    pub client_id: Option<Cow<'a, str>>,
    pub client_secret: Option<PresentedSecret>,
    pub client_assertion: Option<Cow<'a, str>>,
    pub scope: Option<Cow<'a, str>>,
    pub audience: Option<Cow<'a, str>>,
    pub resources: Vec<Cow<'a, str>>,
    pub token: Option<Cow<'a, str>>,
    /// One bit for each [`Parameter`] that was there, with a value or without.
    seen: u8,
    unknown: Vec<Cow<'a, str>>,
    count: usize,
}

/// The parameters that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    GrantType,
    ClientId,
    ClientSecret,
    /// RFC 7521 §4.2: another way to authenticate. None is offered, but two at once are an error.
    ClientAssertion,
    Scope,
    Audience,
    /// RFC 8707 §2: the one parameter that may be repeated.
    Resource,
    /// RFC 7009 §2.1, RFC 7662 §2.1: the token that a question, or a revocation, is about.
    Token,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BrokenBody {
    Duplicate { name: Displayable },
    Malformed(MalformedBody),
}

/// What is wrong with a body that is malformed: for the operator; the caller is told no more than
/// `Malformed request body`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBody {
    /// It did not arrive whole.
    #[error("the body broke off")]
    BrokenOff,
    /// A `%` without two hexadecimal digits after it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    PercentEncoding,
    /// Bytes that are not UTF-8, decoded or as they came.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A NUL, a line break or another control character.
    #[error("there is a control character")]
    ControlCharacter,
    /// Not a JSON object, or more than one.
    #[error("the body is not one JSON object")]
    NotJson,
    /// A JSON member that is neither a string nor null.
    #[error("a JSON member has the wrong type")]
    WrongType,
    /// More than [`MAX_PARAMETERS`].
    #[error("there are too many parameters")]
    TooManyParameters,
    /// A scope, audience or resource beyond its bounds.
    #[error("a value is beyond its bounds")]
    ValueOutOfBounds,
}

impl From<MalformedBody> for BrokenBody {
    fn from(malformed: MalformedBody) -> Self {
        Self::Malformed(malformed)
    }
}

impl<'a> Parameters<'a> {
    /// Takes one parameter in; `parameter` is what its name means, if anything. `None` for the value
    /// is an explicit nothing (a JSON null): it counts as seen and as omitted.
    pub fn receive(
        &mut self,
        parameter: Option<Parameter>,
        name: Cow<'a, str>,
        value: Option<Cow<'a, str>>,
    ) -> Result<(), BrokenBody> {
        self.count += 1;
        if self.count > MAX_PARAMETERS {
            return Err(MalformedBody::TooManyParameters.into());
        }
        // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once", which
        // also goes for those that are ignored: whoever reads them elsewhere might not ignore them.
        let Some(parameter) = parameter else {
            if self.unknown.contains(&name) {
                return Err(BrokenBody::Duplicate {
                    name: Displayable::of(&name),
                });
            }
            self.unknown.push(name);
            return Ok(());
        };
        let bit = 1 << parameter as u8;
        if self.seen & bit != 0 && parameter != Parameter::Resource {
            return Err(BrokenBody::Duplicate {
                name: Displayable::of(&name),
            });
        }
        self.seen |= bit;
        let Some(value) = value else { return Ok(()) };
        match parameter {
            // Empty is not omitted for these two: the contract refuses it as invalid_grant.
            Parameter::ClientId => self.client_id = Some(value),
            Parameter::ClientSecret => self.client_secret = Some(PresentedSecret::new(value.into_owned())),
            // RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted".
            _ if value.is_empty() => {}
            Parameter::GrantType => self.grant_type = Some(value),
            Parameter::ClientAssertion => self.client_assertion = Some(value),
            Parameter::Scope => self.scope = Some(value),
            Parameter::Audience => self.audience = Some(value),
            Parameter::Resource => self.resources.push(value),
            Parameter::Token => self.token = Some(value),
        }
        Ok(())
    }
}

/// Text that no value of a request may be: NUL ends strings early, CR and LF split headers and log
/// lines. RFC 6749 appendix A allows none of them in any parameter that matters here.
pub(super) fn has_control_character(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_control()) || (!text.is_ascii() && text.chars().any(char::is_control))
}
