//! Decisions. Pure: `decide(state, command) -> events or a refusal`; the time, ids and the outcome of
//! checking a secret arrive inside the command.

pub mod authenticate;

pub mod issue_token;

pub mod authorize_call;

pub mod applications;

pub mod secrets;

pub mod tokens;

pub mod apis;

pub mod signing_keys;

pub mod retention;

use grantlog_projections::event::FromTo;
use grantlog_projections::values::{ApplicationId, Audience, Scope, SigningAlgorithm, TokenLifetime};

/// What the operator has set and decisions depend on.
#[derive(Debug, Clone)]
pub struct PolicySettings {
    /// The issuer, which is also the audience of Grantlog's own endpoints.
    pub issuer: Audience,
    /// The audience of tokens for applications that have none.
    pub default_audience: Audience,
    /// How long tokens live where neither application nor API says.
    pub default_lifetime: TokenLifetime,
    /// What signs tokens where no API says.
    pub default_algorithm: SigningAlgorithm,
}

/// The scopes that open Grantlog's own endpoints.
pub const OWN_SCOPES: [&str; 9] = [
    "applications:read",
    "applications:write",
    "keys:write",
    "tokens:revoke",
    "audit:read",
    "audit:export",
    "audit:hold",
    "introspect",
    "calls:report",
];
/// An application that the first start registers: without it nobody could use what Grantlog's own endpoints
/// offer.
#[derive(Debug, Clone, Copy)]
pub struct FirstApplication {
    /// Its client_id.
    pub client_id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What it may do: nobody can give it more than they have themselves, so each duty needs one who has it.
    pub scopes: &'static [&'static str],
}

/// Who administers. Cannot take the trail out.
pub const ADMINISTRATOR: FirstApplication = FirstApplication {
    client_id: "grantlog.admin",
    name: "Grantlog administrator",
    scopes: &[
        "applications:read",
        "applications:write",
        "keys:write",
        "tokens:revoke",
        "audit:read",
        // Of resource servers: to have them is to be able to hand them on.
        "introspect",
        "calls:report",
    ],
};
/// Who audits: may take the trail out and hold it, and can change nothing. `applications:read` is what an
/// access review needs.
pub const AUDITOR: FirstApplication = FirstApplication {
    client_id: "grantlog.auditor",
    name: "Grantlog auditor",
    scopes: &["applications:read", "audit:read", "audit:export", "audit:hold"],
};
/// All of them.
pub const FIRST_APPLICATIONS: [FirstApplication; 2] = [ADMINISTRATOR, AUDITOR];

impl FirstApplication {
    /// Its id.
    pub fn id(&self) -> ApplicationId {
        ApplicationId::of_client_id(self.client_id)
    }
}

/// What whoever gives a command may hand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Grantlog itself, or an operator at the machine.
    Everything,
    /// A caller with a token of this scope.
    Scope(Scope),
}

impl Authority {
    /// Duties stay apart: nobody gives, or takes over by a new secret, a scope of Grantlog's own that they do
    /// not have themselves.
    pub fn check(&self, scope: &Scope) -> Result<(), CommandRefused> {
        let Self::Scope(own) = self else { return Ok(()) };
        let beyond = scope
            .tokens()
            .find(|token| OWN_SCOPES.contains(token) && !own.contains(token));
        match beyond {
            None => Ok(()),
            Some(beyond) => Err(CommandRefused::BeyondCaller(beyond.to_owned())),
        }
    }
}

/// Why a command of an administrator is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// A field's value is not acceptable.
    #[error("{field}: {message}")]
    Invalid {
        /// The field as the caller named it.
        field: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It concerns an application that has, or would have, a scope of Grantlog's own that the caller lacks.
    #[error("this concerns the scope {0}, which your token does not have: who does not have it cannot give it")]
    BeyondCaller(String),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The caller's idea of the revision is not the present one.
    #[error("the revision is {current} now: read it again, then repeat the change")]
    PreconditionFailed {
        /// The present revision.
        current: u64,
    },
}

impl CommandRefused {
    /// A field's value is not acceptable.
    pub fn invalid(field: impl Into<String>, message: impl ToString) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.to_string(),
        }
    }
}

/// Holds `If-Match` against the present revision.
pub fn check_revision(expected: Option<u64>, current: u64) -> Result<(), CommandRefused> {
    match expected {
        Some(expected) if expected != current => Err(CommandRefused::PreconditionFailed { current }),
        _ => Ok(()),
    }
}

/// The change of an attribute to a wanted value, unless it has that value already.
fn change_of<T: PartialEq + Clone, C>(from: &T, to: Option<T>, change: fn(FromTo<T>) -> C) -> Option<C> {
    to.filter(|to| to != from)
        .map(|to| change(FromTo { from: from.clone(), to }))
}
