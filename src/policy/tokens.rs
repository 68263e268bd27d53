//! Making reference tokens, and revoking tokens of either kind.

use crate::policy::{CommandRefused, PolicySettings};
use grantlog_projections::event::{
    ClientType, ReferenceTokenIssued, ReferenceTokenRevoked, ReferenceTokens, TokenRevoked, TokensRevoked,
};
use grantlog_projections::tokens::ReferenceToken;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{ApplicationId, ApplicationUri, Audience, Remark, Scope, SecretHash, Timestamp};
use uuid::Uuid;

/// Reference tokens of one application that may be live at a time.
pub const MAX_LIVE_REFERENCE_TOKENS: usize = 64;
/// How long a reference token lives when its maker does not say, in seconds: 90 days.
pub const DEFAULT_REFERENCE_TOKEN_SECONDS: i64 = 90 * 86_400;
/// The longest that a reference token may live, in seconds: 366 days.
pub const MAX_REFERENCE_TOKEN_SECONDS: i64 = 366 * 86_400;

/// Make a reference token for an application.
#[derive(Debug, Clone, PartialEq)]
pub struct IssueReferenceToken {
    /// The token's id.
    pub token_id: Uuid,
    /// The token's hash.
    pub hash: SecretHash,
    /// The token's last characters.
    pub hint: String,
    /// What it is for.
    pub description: Remark,
    /// What it allows; none: all that the application may.
    pub scope: Option<Scope>,
    /// The APIs that it opens; empty: all of the application's, as they are when it is used.
    pub audiences: Vec<Audience>,
    /// How long it lives; none: the default.
    pub expires_in_seconds: Option<i64>,
    /// When it is asked for.
    pub now: Timestamp,
}

/// Decides the making of a reference token; `live` is how many the application has that are not over.
pub fn issue_reference_token(
    application: &TrustedApplication,
    settings: &PolicySettings,
    live: usize,
    command: IssueReferenceToken,
) -> Result<ReferenceTokenIssued, CommandRefused> {
    let uri = &application.uri;
    if application.reference_tokens != ReferenceTokens::AdministratorsOnly {
        return Err(CommandRefused::Conflict(format!(
            "{uri} may have no reference tokens: set its reference_tokens to AdministratorsOnly first"
        )));
    }
    if application.client_type == ClientType::Public {
        return Err(CommandRefused::Conflict(format!(
            "{uri} is a Public application, which never gets a token"
        )));
    }
    if live >= MAX_LIVE_REFERENCE_TOKENS {
        return Err(CommandRefused::Conflict(format!(
            "{uri} already has {MAX_LIVE_REFERENCE_TOKENS} reference tokens that are not over: revoke one"
        )));
    }
    if command.description.as_str().trim().is_empty() {
        let message = "is needed: whoever finds the token has to know what it is for";
        return Err(CommandRefused::invalid("description", message));
    }
    let seconds = command.expires_in_seconds.unwrap_or(DEFAULT_REFERENCE_TOKEN_SECONDS);
    if !(1..=MAX_REFERENCE_TOKEN_SECONDS).contains(&seconds) {
        let message = format!("1 to {MAX_REFERENCE_TOKEN_SECONDS}");
        return Err(CommandRefused::invalid("expires_in_seconds", message));
    }
    let scope = command.scope.unwrap_or_else(|| application.scope.clone());
    let beyond: Vec<&str> = scope
        .tokens()
        .filter(|token| !application.scope.contains(token))
        .collect();
    if !beyond.is_empty() {
        let message = format!("the application does not have {}", beyond.join(" "));
        return Err(CommandRefused::invalid("scope", message));
    }
    check_audiences(application, settings, &command.audiences)?;
    Ok(ReferenceTokenIssued {
        token_id: command.token_id,
        application_id: application.id,
        application_uri: uri.clone(),
        hash: command.hash,
        hint: command.hint,
        scope,
        audiences: command.audiences,
        expires_at: command.now.plus_seconds(seconds),
        description: command.description,
    })
}

/// An application without audiences gets tokens for the default one (docs/decisions/0004).
fn check_audiences(
    application: &TrustedApplication,
    settings: &PolicySettings,
    audiences: &[Audience],
) -> Result<(), CommandRefused> {
    let default = std::slice::from_ref(&settings.default_audience);
    let own = match &application.audiences[..] {
        [] => default,
        own => own,
    };
    for (position, audience) in audiences.iter().enumerate() {
        if !own.contains(audience) {
            let message = format!("the application may not ask for {audience}");
            return Err(CommandRefused::invalid("audiences", message));
        }
        if audiences[..position].contains(audience) {
            let message = format!("{audience} is named twice");
            return Err(CommandRefused::invalid("audiences", message));
        }
    }
    Ok(())
}

/// Decides the revocation of a reference token; `None` when it opens nothing anyway: it was revoked, or is over.
pub fn revoke_reference_token(
    token: &ReferenceToken,
    is_revoked: bool,
    reason: Option<Remark>,
    now: Timestamp,
) -> Option<ReferenceTokenRevoked> {
    (!is_revoked && now < token.expires_at).then(|| ReferenceTokenRevoked {
        token_id: token.id,
        application_id: token.application_id,
        application_uri: token.application_uri.clone(),
        reason,
    })
}

/// An access token that was given out.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessToken {
    /// Its id.
    pub jti: Uuid,
    /// Whose it is.
    pub client_id: ApplicationUri,
    /// Its `exp`.
    pub expires_at: Timestamp,
}

/// Decides the revocation of an access token; `None` when it opens nothing anyway. `leeway_seconds` is how long after
/// its `exp` a token still counts.
pub fn revoke_access_token(
    token: &AccessToken,
    is_revoked: bool,
    reason: Option<Remark>,
    now: Timestamp,
    leeway_seconds: u32,
) -> Option<TokenRevoked> {
    let end = token.expires_at.plus_seconds(leeway_seconds.into());
    (!is_revoked && now < end).then(|| TokenRevoked {
        jti: token.jti,
        application_id: ApplicationId::of(&token.client_id),
        application_uri: token.client_id.clone(),
        expires_at: token.expires_at,
        reason,
    })
}

/// Decides the revocation of all tokens that an application has at that time.
pub fn revoke_all(application: &TrustedApplication, reason: Option<Remark>, now: Timestamp) -> TokensRevoked {
    TokensRevoked {
        application_id: application.id,
        application_uri: application.uri.clone(),
        issued_until: now,
        reason,
    }
}
