//! Whether a token request is granted, and what the token says.

use crate::oauth::{Displayable, OAuthError, RequestedScope};
use crate::policy::PolicySettings;
use crate::policy::authenticate::{PresentedCredentials, authenticate};
use grantlog_projections::api::Api;
use grantlog_projections::directory::Directory;
use grantlog_projections::event::RefusalReason;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    Audience, Scope, SecretId, SigningAlgorithm, SystemUser, Timestamp, TokenLifetime, TokenType,
};
use std::net::IpAddr;

/// OpenID Connect's scopes: without meaning for a service, and dropped from what is granted.
const MEANINGLESS_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

/// Issue a token.
#[derive(Debug, Clone, Copy)]
pub struct IssueToken<'a> {
    /// The secret of the application that the presented one equals, if any: found in constant time.
    pub matching_secret: Option<SecretId>,
    /// Where the request came from.
    pub source_ip: IpAddr,
    /// The scope asked for; none: all that the application has.
    pub scope: Option<&'a RequestedScope>,
    /// What `audience` asked for.
    pub audiences: &'a [String],
    /// What `resource` asked for (RFC 8707).
    pub resources: &'a [String],
    /// When.
    pub now: Timestamp,
}

/// What the token will say.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The secret that it was asked for with.
    pub secret_id: SecretId,
    /// The granted scope.
    pub scope: Scope,
    /// Its `aud`; never empty.
    pub audiences: Vec<Audience>,
    /// The service account that it acts as.
    pub system_user: SystemUser,
    /// What signs it.
    pub algorithm: SigningAlgorithm,
    /// Its `typ`.
    pub token_type: TokenType,
    /// How long it lives.
    pub lifetime: TokenLifetime,
}

/// Why not.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What the caller is told.
    pub error: OAuthError,
    /// The true reason.
    pub reason: RefusalReason,
    /// What exactly was refused, cut.
    pub detail: Option<String>,
    /// Whether the caller has proved to be the application.
    pub authenticated: bool,
}

/// Decides a token request. Pure: the caller has looked the application up, compared the secret and
/// read the clock. The checks are in the contract's order.
pub fn issue_token(
    directory: &Directory,
    settings: &PolicySettings,
    application: Option<&TrustedApplication>,
    command: &IssueToken<'_>,
) -> Result<Grant, Refused> {
    let presented = PresentedCredentials {
        matching_secret: command.matching_secret,
        source_ip: command.source_ip,
        now: command.now,
    };
    let (application, secret) = authenticate(application, presented).map_err(|failed| Refused {
        error: OAuthError::InvalidClient,
        reason: failed.reason,
        detail: None,
        authenticated: failed.authenticated,
    })?;
    let system_user = match &application.system_user {
        Some(system_user) if application.system_user_allowed => system_user.clone(),
        _ => {
            return Err(authorized_no_further(
                OAuthError::UnauthorizedGrant,
                RefusalReason::SystemUserNotAllowed,
                None,
            ));
        }
    };
    let requested = requested_audiences(directory, settings, application, command)?;
    let scope = granted_scope(application, command.scope, &requested)?;
    let apis = if requested.is_empty() {
        default_audiences(directory, settings, application)?
    } else {
        requested
    };
    let shortest_of_apis = apis
        .iter()
        .filter_map(|(_, api)| api.as_ref()?.token_lifetime_seconds)
        .min();
    Ok(Grant {
        secret_id: secret.id,
        scope,
        system_user,
        // Tokens for several APIs follow the first one that has a wish.
        algorithm: apis
            .iter()
            .find_map(|(_, api)| api.as_ref()?.signing_alg)
            .unwrap_or(settings.default_algorithm),
        token_type: apis
            .iter()
            .filter_map(|(_, api)| Some(api.as_ref()?.token_type))
            .find(|token_type| *token_type != TokenType::default())
            .unwrap_or_default(),
        lifetime: application
            .token_lifetime_seconds
            .or(shortest_of_apis)
            .unwrap_or(settings.default_lifetime),
        audiences: apis.into_iter().map(|(audience, _)| audience).collect(),
    })
}

/// An audience of the token, and its API where one is registered.
type RequestedApi<'a> = (Audience, Option<&'a Api>);

fn requested_audiences<'a>(
    directory: &'a Directory,
    settings: &PolicySettings,
    application: &TrustedApplication,
    command: &IssueToken<'_>,
) -> Result<Vec<RequestedApi<'a>>, Refused> {
    let mut requested: Vec<RequestedApi<'a>> = Vec::new();
    let audiences = command.audiences.iter().map(|text| (text, false));
    let resources = command.resources.iter().map(|text| (text, true));
    for (text, is_resource) in audiences.chain(resources) {
        let Some(found) = allowed_audience(directory, settings, application, text) else {
            let shown = Displayable::of(text);
            let detail = Some(shown.to_string());
            let error = if is_resource {
                OAuthError::InvalidTarget { resource: shown }
            } else {
                OAuthError::AudienceNotAuthorized { audience: shown }
            };
            return Err(authorized_no_further(
                error,
                RefusalReason::AudienceNotAuthorized,
                detail,
            ));
        };
        if !requested.iter().any(|(known, _)| *known == found.0) {
            requested.push(found);
        }
    }
    Ok(requested)
}

/// An application without audiences may ask for the default one by name.
fn allowed_audience<'a>(
    directory: &'a Directory,
    settings: &PolicySettings,
    application: &TrustedApplication,
    text: &str,
) -> Option<RequestedApi<'a>> {
    if application.audiences.is_empty() {
        let audience = Some(&settings.default_audience).filter(|audience| audience.as_str() == text)?;
        return Some((audience.clone(), directory.api_of(audience).map(|api| &**api)));
    }
    let audience = application
        .audiences
        .iter()
        .find(|audience| audience.as_str() == text)?;
    let api = directory.api_of(audience).map(|api| &**api);
    (api.is_some() || *audience == settings.issuer || *audience == settings.default_audience)
        .then(|| (audience.clone(), api))
}

fn default_audiences<'a>(
    directory: &'a Directory,
    settings: &PolicySettings,
    application: &TrustedApplication,
) -> Result<Vec<RequestedApi<'a>>, Refused> {
    if application.audiences.is_empty() {
        let audience = settings.default_audience.clone();
        let api = directory.api_of(&audience).map(|api| &**api);
        return Ok(vec![(audience, api)]);
    }
    let apis: Vec<RequestedApi<'a>> = application
        .audiences
        .iter()
        .filter_map(|audience| allowed_audience(directory, settings, application, audience.as_str()))
        .collect();
    if let (true, Some(first)) = (apis.is_empty(), application.audiences.first()) {
        let error = OAuthError::AudienceNotAuthorized {
            audience: Displayable::of(first.as_str()),
        };
        let detail = Some(first.to_string());
        return Err(authorized_no_further(
            error,
            RefusalReason::AudienceNotAuthorized,
            detail,
        ));
    }
    Ok(apis)
}

/// `requested` are the APIs that the request names: only those limit the scope.
fn granted_scope(
    application: &TrustedApplication,
    asked: Option<&RequestedScope>,
    requested: &[RequestedApi<'_>],
) -> Result<Scope, Refused> {
    let is_defined = |token: &str| {
        requested.is_empty()
            || requested
                .iter()
                .any(|(_, api)| api.is_none_or(|api| api.defines(token)))
    };
    let has_meaning = |token: &&str| !MEANINGLESS_SCOPES.contains(token);
    let mut wanted = asked
        .into_iter()
        .flat_map(RequestedScope::tokens)
        .filter(has_meaning)
        .peekable();
    if wanted.peek().is_none() {
        // RFC 6749 §3.3: the server's default, which is all that the application has and the APIs define.
        let all = application.scope.tokens().filter(has_meaning);
        return Ok(
            if application
                .scope
                .tokens()
                .all(|token| has_meaning(&token) && is_defined(token))
            {
                application.scope.clone()
            } else {
                Scope::of(all.filter(|token| is_defined(token)))
            },
        );
    }
    let (granted, refused): (Vec<&str>, Vec<&str>) =
        wanted.partition(|token| application.scope.contains(token) && is_defined(token));
    if refused.is_empty() {
        return Ok(Scope::of(granted.into_iter()));
    }
    let refused = Displayable::list(refused);
    let detail = Some(refused.to_string());
    Err(authorized_no_further(
        OAuthError::InvalidScope { refused },
        RefusalReason::ScopeNotAllowed,
        detail,
    ))
}

fn authorized_no_further(error: OAuthError, reason: RefusalReason, detail: Option<String>) -> Refused {
    Refused {
        error,
        reason,
        detail,
        authenticated: true,
    }
}
