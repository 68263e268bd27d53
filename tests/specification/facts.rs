//! Facts as specifications name them.

use crate::given_when_then::{Fact, Span, after, audience};
use grantlog_projections::event::{
    ApiDeleted, ApiRegistered, ApiScope, ApplicationChange, ApplicationChanged, ApplicationDeleted,
    ApplicationDisabled, ApplicationEnabled, ApplicationRegistered, ClientType, IssuedSecret, ReferenceTokens,
    SecretRevoked, SecretRotated, SupersededSecret,
};
use grantlog_projections::values::{
    ApiId, ApplicationId, ApplicationUri, Name, Scope, SecretHash, SecretId, StreamName, SystemUser, TokenType,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The application that every specification is about.
pub const CLIENT: &str = "orders-worker";
/// Its first secret.
pub const OLD: SecretId = secret_number(1);
/// Its next one.
pub const NEW: SecretId = secret_number(2);

pub const fn secret_number(number: u128) -> SecretId {
    SecretId(Uuid::from_u128(number))
}

pub fn uri() -> ApplicationUri {
    ApplicationUri::parse(CLIENT).expect("an application_uri")
}

pub fn id() -> ApplicationId {
    ApplicationId::of_client_id(CLIENT)
}

pub fn scope(text: &str) -> Scope {
    Scope::parse(text).expect("a scope")
}

/// The secret of that number, as events keep it.
pub fn secret(id: SecretId) -> IssuedSecret {
    IssuedSecret {
        id,
        hash: SecretHash([u8::try_from(id.0.as_u128()).expect("a small number"); 32]),
        hint: Some("abcd".into()),
        expires_at: None,
    }
}

pub fn secret_until(id: SecretId, end: Span) -> IssuedSecret {
    IssuedSecret {
        expires_at: Some(after(end)),
        ..secret(id)
    }
}

/// Registered with the secret `OLD`, a system user, and the scope `read update`.
pub fn registered() -> Fact {
    registered_with(|_| {})
}

pub fn registered_with(change: impl FnOnce(&mut ApplicationRegistered)) -> Fact {
    let mut fact = ApplicationRegistered {
        application_id: id(),
        application_uri: uri(),
        name: Name::parse("Orders worker").expect("a name"),
        description: None,
        client_type: ClientType::Confidential,
        scope: scope("read update"),
        audiences: Vec::new(),
        system_user_allowed: true,
        system_user: SystemUser::parse("svc.orders").ok(),
        org_code: None,
        is_enabled: true,
        owner: None,
        properties: BTreeMap::new(),
        token_lifetime_seconds: None,
        allowed_networks: Vec::new(),
        reference_tokens: ReferenceTokens::None,
        secret: Some(secret(OLD)),
    };
    change(&mut fact);
    Fact::new(StreamName::application(fact.application_id), fact)
}

/// Registered for these audiences.
pub fn registered_for(audiences: &[&str]) -> Fact {
    registered_with(|application| application.audiences = audiences.iter().map(|text| audience(text)).collect())
}

pub fn changed(changes: Vec<ApplicationChange>) -> Fact {
    let (application_id, application_uri) = (id(), uri());
    about_application(ApplicationChanged {
        application_id,
        application_uri,
        changes,
        reason: None,
    })
}

pub fn enabled() -> Fact {
    let (application_id, application_uri) = (id(), uri());
    about_application(ApplicationEnabled {
        application_id,
        application_uri,
        reason: None,
    })
}

pub fn disabled() -> Fact {
    let (application_id, application_uri) = (id(), uri());
    about_application(ApplicationDisabled {
        application_id,
        application_uri,
        reason: None,
        revoke_tokens: false,
    })
}

pub fn deleted() -> Fact {
    let (application_id, application_uri) = (id(), uri());
    about_application(ApplicationDeleted {
        application_id,
        application_uri,
        reason: None,
    })
}

/// `NEW` takes the place of `OLD`, which is accepted for the overlap, counted from the start.
pub fn secret_rotated(overlap: Span) -> Fact {
    about_application(SecretRotated {
        application_id: id(),
        application_uri: uri(),
        secret: secret(NEW),
        superseded: vec![SupersededSecret {
            id: OLD,
            accepted_until: after(overlap),
        }],
        reason: None,
    })
}

/// One more secret, and none superseded.
pub fn secret_added(secret: IssuedSecret) -> Fact {
    about_application(SecretRotated {
        application_id: id(),
        application_uri: uri(),
        secret,
        superseded: Vec::new(),
        reason: None,
    })
}

pub fn secret_revoked(secret_id: SecretId) -> Fact {
    about_application(SecretRevoked {
        application_id: id(),
        application_uri: uri(),
        secret_id,
        reason: None,
        revoke_tokens: false,
    })
}

pub fn api(of: &str) -> Fact {
    api_with(of, |_| {})
}

pub fn api_with(of: &str, change: impl FnOnce(&mut ApiRegistered)) -> Fact {
    let of = audience(of);
    let mut fact = ApiRegistered {
        api_id: ApiId::of(&of),
        name: Name::parse("An API").expect("a name"),
        audience: of,
        scopes: Vec::new(),
        signing_alg: None,
        token_type: TokenType::default(),
        token_lifetime_seconds: None,
    };
    change(&mut fact);
    Fact::new(StreamName::api(fact.api_id), fact)
}

/// An API that defines these scopes.
pub fn api_defining(of: &str, scopes: &[&str]) -> Fact {
    api_with(of, |api| {
        api.scopes = scopes.iter().map(|name| api_scope(name)).collect()
    })
}

pub fn api_scope(name: &str) -> ApiScope {
    ApiScope {
        name: scope(name),
        description: None,
    }
}

pub fn api_deleted(of: &str) -> Fact {
    let of = audience(of);
    let api_id = ApiId::of(&of);
    Fact::new(
        StreamName::api(api_id),
        ApiDeleted {
            api_id,
            audience: of,
            reason: None,
        },
    )
}

fn about_application(event: impl Into<grantlog_projections::Event>) -> Fact {
    Fact::new(StreamName::application(id()), event)
}
