//! Rotating and revoking client secrets.

use crate::policy::{CommandRefused, check_revision};
use grantlog_projections::event::{ClientType, IssuedSecret, SecretRevoked, SecretRotated, SupersededSecret};
use grantlog_projections::trusted_application::{MAX_SECRETS, TrustedApplication};
use grantlog_projections::values::{Remark, SecretId, Timestamp};

/// The longest that an old secret may stay valid beside a new one, in seconds: 90 days.
pub const MAX_OVERLAP_SECONDS: i64 = 90 * 86_400;
/// The longest that a secret may be valid, in seconds: ten years.
pub const MAX_EXPIRY_SECONDS: i64 = 3_653 * 86_400;

/// Give an application a new secret.
#[derive(Debug, Clone, PartialEq)]
pub struct RotateSecret {
    /// The new secret.
    pub secret: IssuedSecret,
    /// How long the secrets of now stay valid; 0: not at all.
    pub overlap_seconds: i64,
    /// When it is asked for.
    pub now: Timestamp,
    /// The revision that the caller has seen.
    pub expected_revision: Option<u64>,
    /// Why.
    pub reason: Option<Remark>,
}

/// Decides a rotation.
pub fn rotate(application: &TrustedApplication, command: RotateSecret) -> Result<SecretRotated, CommandRefused> {
    check_revision(command.expected_revision, application.revision)?;
    if application.client_type == ClientType::Public {
        return Err(CommandRefused::Conflict(
            "a Public application cannot keep a secret".into(),
        ));
    }
    if !(0..=MAX_OVERLAP_SECONDS).contains(&command.overlap_seconds) {
        let message = format!("0 to {MAX_OVERLAP_SECONDS}");
        return Err(CommandRefused::invalid("overlap_seconds", message));
    }
    if command
        .secret
        .expires_at
        .is_some_and(|end| end > command.now.plus_seconds(MAX_EXPIRY_SECONDS))
    {
        return Err(CommandRefused::invalid(
            "expires_in_seconds",
            format!("at most {MAX_EXPIRY_SECONDS}"),
        ));
    }
    let accepted_until = command.now.plus_seconds(command.overlap_seconds);
    let superseded: Vec<SupersededSecret> = application
        .secrets_accepted_at(command.now)
        .map(|secret| SupersededSecret {
            id: secret.id,
            accepted_until: secret.expires_at.map_or(accepted_until, |end| end.min(accepted_until)),
        })
        .collect();
    if command.overlap_seconds > 0 && superseded.len() >= MAX_SECRETS {
        return Err(CommandRefused::Conflict(format!(
            "the application already has {MAX_SECRETS} valid secrets: revoke one, or rotate with overlap_seconds 0"
        )));
    }
    Ok(SecretRotated {
        application_id: application.id,
        application_uri: application.uri.clone(),
        secret: command.secret,
        superseded,
        reason: command.reason,
    })
}

/// Decides a revocation, with `revoke_tokens` also of the tokens that the secret got; `None` when there is nothing to
/// do.
pub fn revoke(
    application: &TrustedApplication,
    secret_id: SecretId,
    revoke_tokens: bool,
    reason: Option<Remark>,
) -> Result<Option<SecretRevoked>, CommandRefused> {
    let Some(secret) = application.secrets.iter().find(|secret| secret.id == secret_id) else {
        return Err(CommandRefused::NotFound(format!(
            "the application has no secret {secret_id}"
        )));
    };
    Ok((secret.revoked_at.is_none() || revoke_tokens).then(|| SecretRevoked {
        application_id: application.id,
        application_uri: application.uri.clone(),
        secret_id,
        reason,
        revoke_tokens,
    }))
}
