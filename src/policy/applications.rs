//! Registering, changing, enabling, disabling and deleting Trusted Applications.

use crate::policy::{CommandRefused, FIRST_APPLICATIONS, PolicySettings, change_of, check_revision};
use grantlog_projections::directory::Directory;
use grantlog_projections::event::{
    ApplicationChange, ApplicationChanged, ApplicationDeleted, ApplicationDisabled, ApplicationEnabled,
    ApplicationRegistered, ClientType, IssuedSecret, ReferenceTokens,
};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    ApplicationId, ApplicationUri, Audience, Name, OrgCode, Remark, Scope, SystemUser, TokenLifetime,
};
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Audiences that one application may have.
pub const MAX_AUDIENCES: usize = 64;
/// Networks that one application may be held to.
pub const MAX_NETWORKS: usize = 64;
/// Properties that one application may have: they travel in each of its tokens.
pub const MAX_PROPERTIES: usize = 32;
/// Characters of a property's name.
pub const MAX_PROPERTY_NAME: usize = 64;
/// Characters of a property's value.
pub const MAX_PROPERTY_VALUE: usize = 256;

/// Attributes to set: `None` leaves one as it is (or at its default when registering), `Some(None)`
/// takes an optional one away.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // attributes are documented at `ApplicationRegistered`
pub struct ApplicationPatch {
    pub name: Option<Name>,
    pub description: Option<Option<Remark>>,
    pub client_type: Option<ClientType>,
    pub scope: Option<Scope>,
    pub audiences: Option<Vec<Audience>>,
    pub system_user_allowed: Option<bool>,
    pub system_user: Option<Option<SystemUser>>,
    pub org_code: Option<Option<OrgCode>>,
    pub owner: Option<Option<Remark>>,
    /// Each property to set, or to take away (RFC 7396 goes into objects).
    pub properties: Option<BTreeMap<String, Option<String>>>,
    pub token_lifetime_seconds: Option<Option<TokenLifetime>>,
    pub allowed_networks: Option<Vec<IpNet>>,
    pub reference_tokens: Option<ReferenceTokens>,
}

/// Register a Trusted Application.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterApplication {
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Its attributes.
    pub attributes: ApplicationPatch,
    /// Whether it may ask for tokens at once.
    pub is_enabled: bool,
    /// Its first secret; none for a Public application.
    pub secret: Option<IssuedSecret>,
}

/// Decides a registration. That the name is free is the store's to check: the stream must not exist yet.
pub fn register(
    directory: &Directory,
    settings: &PolicySettings,
    command: RegisterApplication,
) -> Result<ApplicationRegistered, CommandRefused> {
    let RegisterApplication {
        application_uri,
        attributes,
        is_enabled,
        secret,
    } = command;
    let client_type = attributes.client_type.unwrap_or_default();
    if client_type == ClientType::Public && secret.is_some() {
        return Err(CommandRefused::invalid(
            "client_type",
            "a Public application cannot keep a secret: register it without one, or as Confidential",
        ));
    }
    let audiences = attributes.audiences.unwrap_or_default();
    check_audiences(directory, settings, &audiences)?;
    let networks = attributes.allowed_networks.unwrap_or_default();
    check_networks(&networks)?;
    let properties = merged(&BTreeMap::new(), attributes.properties.unwrap_or_default());
    check_properties(&properties)?;
    let system_user = attributes.system_user.flatten();
    let name = match attributes.name {
        Some(name) => name,
        // An application_uri is longer than a name at the most: the name then keeps its beginning.
        None => Name::parse(application_uri.as_str().get(..200).unwrap_or(application_uri.as_str()))
            .map_err(|invalid| CommandRefused::invalid("name", invalid))?,
    };
    Ok(ApplicationRegistered {
        application_id: ApplicationId::of(&application_uri),
        name,
        description: attributes.description.flatten(),
        client_type,
        scope: attributes.scope.unwrap_or_else(Scope::none),
        audiences,
        system_user_allowed: attributes.system_user_allowed.unwrap_or(system_user.is_some()),
        system_user,
        org_code: attributes.org_code.flatten(),
        is_enabled,
        owner: attributes.owner.flatten(),
        properties,
        token_lifetime_seconds: attributes.token_lifetime_seconds.flatten(),
        allowed_networks: networks,
        reference_tokens: attributes.reference_tokens.unwrap_or_default(),
        secret,
        application_uri,
    })
}

/// Decides a change; `None` when every attribute already has the wanted value.
pub fn change(
    directory: &Directory,
    settings: &PolicySettings,
    application: &TrustedApplication,
    patch: ApplicationPatch,
    expected_revision: Option<u64>,
    reason: Option<Remark>,
) -> Result<Option<ApplicationChanged>, CommandRefused> {
    check_revision(expected_revision, application.revision)?;
    if let Some(audiences) = &patch.audiences {
        check_audiences(directory, settings, audiences)?;
    }
    if let Some(networks) = &patch.allowed_networks {
        check_networks(networks)?;
    }
    let properties = patch
        .properties
        .map(|properties| merged(&application.properties, properties));
    if let Some(properties) = &properties {
        check_properties(properties)?;
    }
    if patch.client_type == Some(ClientType::Public) && application.secrets.iter().any(|s| s.revoked_at.is_none()) {
        return Err(CommandRefused::invalid(
            "client_type",
            "a Public application cannot keep a secret: revoke its secrets first",
        ));
    }
    let a = application;
    let changes: Vec<ApplicationChange> = [
        change_of(&a.name, patch.name, ApplicationChange::Name),
        change_of(&a.description, patch.description, ApplicationChange::Description),
        change_of(&a.client_type, patch.client_type, ApplicationChange::ClientType),
        change_of(&a.scope, patch.scope, ApplicationChange::Scope),
        change_of(&a.audiences, patch.audiences, ApplicationChange::Audiences),
        change_of(
            &a.system_user_allowed,
            patch.system_user_allowed,
            ApplicationChange::SystemUserAllowed,
        ),
        change_of(&a.system_user, patch.system_user, ApplicationChange::SystemUser),
        change_of(&a.org_code, patch.org_code, ApplicationChange::OrgCode),
        change_of(&a.owner, patch.owner, ApplicationChange::Owner),
        change_of(&a.properties, properties, ApplicationChange::Properties),
        change_of(
            &a.token_lifetime_seconds,
            patch.token_lifetime_seconds,
            ApplicationChange::TokenLifetimeSeconds,
        ),
        change_of(
            &a.allowed_networks,
            patch.allowed_networks,
            ApplicationChange::AllowedNetworks,
        ),
        change_of(
            &a.reference_tokens,
            patch.reference_tokens,
            ApplicationChange::ReferenceTokens,
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(ApplicationChanged {
        application_id: application.id,
        application_uri: application.uri.clone(),
        changes,
        reason,
    }))
}

/// Decides whether an application is switched on; `None` when it already is.
pub fn enable(application: &TrustedApplication, reason: Option<Remark>) -> Option<ApplicationEnabled> {
    (!application.is_enabled).then(|| ApplicationEnabled {
        application_id: application.id,
        application_uri: application.uri.clone(),
        reason,
    })
}

/// Decides whether an application is switched off, and with `revoke_tokens` whether its tokens stay refused when it is
/// switched on again; `None` when there is nothing to do.
pub fn disable(
    application: &TrustedApplication,
    revoke_tokens: bool,
    reason: Option<Remark>,
) -> Option<ApplicationDisabled> {
    (application.is_enabled || revoke_tokens).then(|| ApplicationDisabled {
        application_id: application.id,
        application_uri: application.uri.clone(),
        reason,
        revoke_tokens,
    })
}

/// Decides a deletion.
pub fn delete(application: &TrustedApplication, reason: Option<Remark>) -> Result<ApplicationDeleted, CommandRefused> {
    let uri = application.uri.as_str();
    if FIRST_APPLICATIONS.iter().any(|first| first.client_id == uri) {
        let message = format!("{uri} cannot be deleted, for its name would be gone for ever: disable it");
        return Err(CommandRefused::Conflict(message));
    }
    Ok(ApplicationDeleted {
        application_id: application.id,
        application_uri: application.uri.clone(),
        reason,
    })
}

fn merged(known: &BTreeMap<String, String>, patch: BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    let mut properties = known.clone();
    for (name, value) in patch {
        match value {
            Some(value) => properties.insert(name, value),
            None => properties.remove(&name),
        };
    }
    properties
}

fn check_audiences(
    directory: &Directory,
    settings: &PolicySettings,
    audiences: &[Audience],
) -> Result<(), CommandRefused> {
    if audiences.len() > MAX_AUDIENCES {
        return Err(CommandRefused::invalid("audiences", format!("at most {MAX_AUDIENCES}")));
    }
    for (position, audience) in audiences.iter().enumerate() {
        if audiences[..position].contains(audience) {
            return Err(CommandRefused::invalid(
                "audiences",
                format!("{audience} is named twice"),
            ));
        }
        let is_own = *audience == settings.issuer || *audience == settings.default_audience;
        if !is_own && directory.api_of(audience).is_none() {
            let message = format!(
                "{audience} is no registered API: register it first (POST /admin/apis, `grantlog api register`)"
            );
            return Err(CommandRefused::invalid("audiences", message));
        }
    }
    Ok(())
}

fn check_networks(networks: &[IpNet]) -> Result<(), CommandRefused> {
    if networks.len() > MAX_NETWORKS {
        return Err(CommandRefused::invalid(
            "allowed_networks",
            format!("at most {MAX_NETWORKS}"),
        ));
    }
    Ok(())
}

fn check_properties(properties: &BTreeMap<String, String>) -> Result<(), CommandRefused> {
    if properties.len() > MAX_PROPERTIES {
        return Err(CommandRefused::invalid(
            "properties",
            format!("at most {MAX_PROPERTIES}"),
        ));
    }
    for (name, value) in properties {
        let name_fits = (1..=MAX_PROPERTY_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        let value_fits = value.chars().count() <= MAX_PROPERTY_VALUE && !value.chars().any(char::is_control);
        if !name_fits || !value_fits {
            let message = format!(
                "a name is 1 to {MAX_PROPERTY_NAME} and a value at most {MAX_PROPERTY_VALUE} characters without control characters"
            );
            return Err(CommandRefused::invalid("properties", message));
        }
    }
    Ok(())
}
