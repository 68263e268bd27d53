//! Whether a client is who it says it is.

use grantlog_projections::event::{ClientType, RefusalReason};
use grantlog_projections::trusted_application::{ClientSecret, TrustedApplication};
use grantlog_projections::values::{SecretId, Timestamp};
use std::net::IpAddr;

/// What a client has presented.
#[derive(Debug, Clone, Copy)]
pub struct PresentedCredentials {
    /// The secret of the application that the presented one equals, if any: found in constant time.
    pub matching_secret: Option<SecretId>,
    /// Where the request came from.
    pub source_ip: IpAddr,
    /// When.
    pub now: Timestamp,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAuthenticated {
    /// The true reason, which the caller is not told.
    pub reason: RefusalReason,
    /// Whether the caller has proved to be the application.
    pub authenticated: bool,
}

/// Decides whether the caller is the application. Pure: the caller has looked the application up, compared the secret
/// and read the clock.
///
/// A wrong secret comes before what is wrong with the application, so that every other reason tells the reader of the
/// trail that the caller held the secret.
pub fn authenticate(
    application: Option<&TrustedApplication>,
    presented: PresentedCredentials,
) -> Result<(&TrustedApplication, &ClientSecret), NotAuthenticated> {
    let Some(application) = application else {
        return Err(somebody(RefusalReason::UnknownClient));
    };
    if application.is_deleted() {
        return Err(somebody(RefusalReason::Deleted));
    }
    if application.client_type == ClientType::Public {
        return Err(somebody(RefusalReason::PublicClient));
    }
    let matching = presented
        .matching_secret
        .and_then(|id| application.secrets.iter().find(|secret| secret.id == id));
    let Some(secret) = matching else {
        return Err(somebody(RefusalReason::SecretMismatch));
    };
    if secret.revoked_at.is_some() {
        return Err(somebody(RefusalReason::SecretRevoked));
    }
    if !secret.is_accepted_at(presented.now) {
        return Err(somebody(RefusalReason::SecretExpired));
    }
    if !application.is_enabled {
        return Err(the_application(RefusalReason::Disabled));
    }
    let networks = &application.allowed_networks;
    if !networks.is_empty() && !networks.iter().any(|network| network.contains(&presented.source_ip)) {
        return Err(the_application(RefusalReason::NetworkNotAllowed));
    }
    Ok((application, secret))
}

fn somebody(reason: RefusalReason) -> NotAuthenticated {
    NotAuthenticated {
        reason,
        authenticated: false,
    }
}

fn the_application(reason: RefusalReason) -> NotAuthenticated {
    NotAuthenticated {
        reason,
        authenticated: true,
    }
}
