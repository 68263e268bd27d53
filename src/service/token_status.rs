//! Whether a token opens anything, as the inventory tells it.

use crate::service::Service;
use crate::service::authorize_call::signed_at;
use grantlog_projections::event::{ReferenceTokens, TokenIssued};
use grantlog_projections::tokens::ReferenceToken;
use grantlog_projections::values::Timestamp;
use serde::Serialize;

/// Whether a token opens anything. In this order: what is over is `expired`, whatever happened to it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenStatus {
    /// Its time is over.
    Expired,
    /// It was revoked before: itself, with all of its application's, or with its secret.
    Revoked,
    /// Its application is disabled, or may have no reference tokens any more: it is good again when that changes.
    Disabled,
    /// It opens what it is for.
    Active,
}

impl TokenStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Expired, Self::Revoked, Self::Disabled];

    /// Its wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Active => "active",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    fn of(is_over: bool, is_revoked: bool, is_disabled: bool) -> Self {
        match (is_over, is_revoked, is_disabled) {
            (true, _, _) => Self::Expired,
            (false, true, _) => Self::Revoked,
            (false, false, true) => Self::Disabled,
            (false, false, false) => Self::Active,
        }
    }
}

/// How things are with a token.
pub(super) struct Standing {
    pub status: TokenStatus,
    /// Since when it is revoked, as long as that is remembered.
    pub revoked_at: Option<Timestamp>,
}

impl Service {
    /// As a call with the token would be decided.
    pub(super) fn standing_of_access_token(&self, issued: &TokenIssued, now: Timestamp) -> Standing {
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(issued.application_id);
        let signed_at = signed_at(issued.jti).unwrap_or(issued.issued_at);
        let alone = snapshot.tokens.revoked_at(issued.application_id, issued.jti, signed_at);
        let with_secret = || {
            snapshot
                .tokens
                .secret_revoked_at(issued.application_id, issued.secret_id)
        };
        let revoked_at = alone.or_else(with_secret);
        let is_disabled = application.is_none_or(|application| !application.is_enabled || application.is_deleted());
        Standing {
            status: TokenStatus::of(now >= issued.expires_at, revoked_at.is_some(), is_disabled),
            revoked_at,
        }
    }

    /// The same of a reference token.
    pub(super) fn standing_of_reference_token(&self, token: &ReferenceToken, now: Timestamp) -> Standing {
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(token.application_id);
        let revoked_at = snapshot.tokens.reference_revoked_at(token);
        let is_disabled = application.is_none_or(|application| {
            !application.is_enabled || application.is_deleted() || application.reference_tokens == ReferenceTokens::None
        });
        Standing {
            status: TokenStatus::of(now >= token.expires_at, revoked_at.is_some(), is_disabled),
            revoked_at,
        }
    }
}
