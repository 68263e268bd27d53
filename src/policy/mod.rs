//! Decisions. Pure: `decide(state, command) -> events or a refusal`; the time, ids and the outcome of
//! checking a secret arrive inside the command.

pub mod issue_token;

pub mod authorize_call;

pub mod applications;

pub mod secrets;

pub mod apis;

pub mod signing_keys;

use grantlog_projections::event::FromTo;
use grantlog_projections::values::{Audience, SigningAlgorithm, TokenLifetime};

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
