//! Registering, changing and deleting APIs.

use crate::policy::{CommandRefused, PolicySettings, change_of, check_revision};
use grantlog_projections::api::Api;
use grantlog_projections::directory::Directory;
use grantlog_projections::event::{ApiChange, ApiChanged, ApiDeleted, ApiRegistered, ApiScope};
use grantlog_projections::values::{ApiId, Audience, Name, Remark, SigningAlgorithm, TokenLifetime, TokenType};

/// Scopes that one API may define.
pub const MAX_SCOPES: usize = 128;

/// Attributes to set: `None` leaves one as it is (or at its default when registering), `Some(None)`
/// takes an optional one away.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // attributes are documented at `ApiRegistered`
pub struct ApiPatch {
    pub name: Option<Name>,
    pub scopes: Option<Vec<ApiScope>>,
    pub signing_alg: Option<Option<SigningAlgorithm>>,
    pub token_type: Option<TokenType>,
    pub token_lifetime_seconds: Option<Option<TokenLifetime>>,
}

/// Decides a registration. That the audience is free is the store's to check: the stream must not exist yet.
pub fn register(audience: Audience, attributes: ApiPatch) -> Result<ApiRegistered, CommandRefused> {
    let scopes = attributes.scopes.unwrap_or_default();
    check_scopes(&scopes)?;
    let name = match attributes.name {
        Some(name) => name,
        None => Name::parse(audience.as_str().get(..200).unwrap_or(audience.as_str()))
            .map_err(|invalid| CommandRefused::invalid("name", invalid))?,
    };
    Ok(ApiRegistered {
        api_id: ApiId::of(&audience),
        name,
        scopes,
        signing_alg: attributes.signing_alg.flatten(),
        token_type: attributes.token_type.unwrap_or_default(),
        token_lifetime_seconds: attributes.token_lifetime_seconds.flatten(),
        audience,
    })
}

/// Decides a change; `None` when every attribute already has the wanted value.
pub fn change(
    settings: &PolicySettings,
    api: &Api,
    patch: ApiPatch,
    expected_revision: Option<u64>,
    reason: Option<Remark>,
) -> Result<Option<ApiChanged>, CommandRefused> {
    check_revision(expected_revision, api.revision)?;
    if let Some(scopes) = &patch.scopes {
        check_scopes(scopes)?;
        if api.audience == settings.issuer && !scopes.is_empty() {
            let message = "Grantlog's own API defines no scopes: administrators could no longer ask for theirs";
            return Err(CommandRefused::invalid("scopes", message));
        }
    }
    let changes: Vec<ApiChange> = [
        change_of(&api.name, patch.name, ApiChange::Name),
        change_of(&api.scopes, patch.scopes, ApiChange::Scopes),
        change_of(&api.signing_alg, patch.signing_alg, ApiChange::SigningAlg),
        change_of(&api.token_type, patch.token_type, ApiChange::TokenType),
        change_of(
            &api.token_lifetime_seconds,
            patch.token_lifetime_seconds,
            ApiChange::TokenLifetimeSeconds,
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(ApiChanged {
        api_id: api.id,
        audience: api.audience.clone(),
        changes,
        reason,
    }))
}

/// Decides a deletion: only of an API that no application may ask for any more.
pub fn delete(
    directory: &Directory,
    settings: &PolicySettings,
    api: &Api,
    reason: Option<Remark>,
) -> Result<ApiDeleted, CommandRefused> {
    if api.audience == settings.issuer || api.audience == settings.default_audience {
        return Err(CommandRefused::Conflict(
            "this audience is Grantlog's own or the default one".into(),
        ));
    }
    let mut users = directory
        .applications_after(None)
        .filter(|application| !application.is_deleted() && application.audiences.contains(&api.audience));
    if let Some(first) = users.next() {
        let more = users.count();
        let others = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        return Err(CommandRefused::Conflict(format!(
            "{}{others} may still ask for it: take the audience away from them first",
            first.uri
        )));
    }
    Ok(ApiDeleted {
        api_id: api.id,
        audience: api.audience.clone(),
        reason,
    })
}

fn check_scopes(scopes: &[ApiScope]) -> Result<(), CommandRefused> {
    if scopes.len() > MAX_SCOPES {
        return Err(CommandRefused::invalid("scopes", format!("at most {MAX_SCOPES}")));
    }
    for (position, scope) in scopes.iter().enumerate() {
        if scope.name.tokens().count() != 1 {
            return Err(CommandRefused::invalid(
                format!("scopes[{position}].name"),
                "one scope token, without spaces",
            ));
        }
        if scopes[..position].iter().any(|known| known.name == scope.name) {
            return Err(CommandRefused::invalid(
                "scopes",
                format!("{} is named twice", scope.name),
            ));
        }
    }
    Ok(())
}
