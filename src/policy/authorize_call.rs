//! Whether a token opens an endpoint.

use grantlog_projections::event::{DenialReason, ReferenceTokens, TokenKind};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Audience, OrgCode, Scope};
use std::net::IpAddr;

/// What a token says that holds: signature, issuer, audience and time, or hash and time, are checked.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// What kind of token it is.
    pub kind: TokenKind,
    /// What it allows.
    pub scope: &'a Scope,
    /// The organisation that it is bound to.
    pub org_code: Option<&'a OrgCode>,
    /// Where the call came from; none: it did not come here, an API asked about its token.
    pub source_ip: Option<IpAddr>,
}

/// What the endpoint asks for.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The API that the call is for; none: it is only asked whether the token opens anything.
    pub audience: Option<&'a Audience>,
    /// The scope, space-separated: all of it. Empty: any token will do.
    pub scope: &'a str,
    /// The organisation whose data is asked for, where the path says so.
    pub org_code: Option<&'a str>,
}

/// Decides a call. The application must still be there and enabled, and both the token and the application, as it is
/// now, must have the audience, the scope and the organisation: what is taken from an application is taken from its
/// tokens too. An application without audiences has the default one.
pub fn authorize_call(
    application: Option<&TrustedApplication>,
    presented: Presented<'_>,
    demand: Demand<'_>,
    default_audience: &Audience,
) -> Result<(), DenialReason> {
    let Some(application) = application.filter(|application| application.is_enabled && !application.is_deleted())
    else {
        return Err(DenialReason::ApplicationDisabled);
    };
    // That the token names it was looked at with its signature.
    let has = |audience: &Audience| match &application.audiences[..] {
        [] => audience == default_audience,
        audiences => audiences.contains(audience),
    };
    if demand.audience.is_some_and(|audience| !has(audience)) {
        return Err(DenialReason::WrongAudience);
    }
    if presented.kind == TokenKind::Reference {
        if application.reference_tokens == ReferenceTokens::None {
            return Err(DenialReason::ReferenceTokensNotAllowed);
        }
        // Whoever holds one never asks the token endpoint, which looks at this for all others.
        if !is_from_allowed_network(application, presented.source_ip) {
            return Err(DenialReason::NetworkNotAllowed);
        }
    }
    let mut wanted = demand.scope.split(' ').filter(|token| !token.is_empty());
    if !wanted.all(|token| presented.scope.contains(token) && application.scope.contains(token)) {
        return Err(DenialReason::InsufficientScope);
    }
    if let Some(org_code) = demand.org_code {
        let is_bound_to_it = |bound: Option<&OrgCode>| bound.is_some_and(|bound| bound.as_str() == org_code);
        if !is_bound_to_it(presented.org_code) || !is_bound_to_it(application.org_code.as_ref()) {
            return Err(DenialReason::OrgMismatch);
        }
    }
    Ok(())
}

fn is_from_allowed_network(application: &TrustedApplication, source_ip: Option<IpAddr>) -> bool {
    let networks = &application.allowed_networks;
    networks.is_empty() || source_ip.is_none_or(|ip| networks.iter().any(|network| network.contains(&ip)))
}
