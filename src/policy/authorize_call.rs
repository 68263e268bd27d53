//! Whether a bearer token opens an endpoint.

use grantlog_projections::event::DenialReason;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::Scope;

/// Decides a call whose token holds (signature, issuer, audience and time are checked): the application
/// must still be there and enabled, and both the token and the application, as it is now, must have the scope:
/// what is taken from an application is taken from its tokens too.
pub fn authorize_call(
    application: Option<&TrustedApplication>,
    token_scope: &Scope,
    required_scope: &str,
) -> Result<(), DenialReason> {
    let Some(application) = application.filter(|application| application.is_enabled && !application.is_deleted())
    else {
        return Err(DenialReason::ApplicationDisabled);
    };
    if !token_scope.contains(required_scope) || !application.scope.contains(required_scope) {
        return Err(DenialReason::InsufficientScope);
    }
    Ok(())
}
