//! What clients and resource servers find out by themselves (RFC 8414, OpenID Connect Discovery, RFC 7517):
//! exactly what works, no more.

use crate::http::{Doors, readable};
use crate::oauth::AuthMethod;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use serde::Serialize;

/// How long a published document may be kept, in seconds. Keys are announced days ahead.
const MAX_AGE_SECONDS: u32 = 900;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable(
            "/.well-known/oauth-authorization-server",
            authorization_server,
        ))
        .service(readable("/.well-known/openid-configuration", openid_configuration))
        .service(readable("/.well-known/jwks.json", jwks))
        .service(readable("/.well-known/openid-configuration/jwks", jwks));
}

/// RFC 8414 §2.
#[derive(Serialize)]
struct AuthorizationServer<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: [&'static str; 2],
    // RFC 7662, RFC 7009
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
    grant_types_supported: [&'static str; 1],
    // REQUIRED, and empty: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    service_documentation: String,
}

/// OpenID Connect Discovery 1.0 §3, as far as it goes without end users.
#[derive(Serialize)]
struct OpenIdConfiguration<'a> {
    #[serde(flatten)]
    authorization_server: AuthorizationServer<'a>,
    subject_types_supported: [&'static str; 1],
    // REQUIRED, and empty: there are no ID tokens.
    id_token_signing_alg_values_supported: [&'static str; 0],
}

pub(super) async fn authorization_server(doors: web::Data<Doors>) -> HttpResponse {
    published(&describe(&doors.service.settings().issuer))
}

async fn openid_configuration(doors: web::Data<Doors>) -> HttpResponse {
    published(&OpenIdConfiguration {
        authorization_server: describe(&doors.service.settings().issuer),
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: [],
    })
}

async fn jwks(doors: web::Data<Doors>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, format!("public, max-age={MAX_AGE_SECONDS}")))
        .insert_header((header::CONTENT_TYPE, "application/jwk-set+json"))
        .body(doors.service.keys().jwks().to_vec())
}

fn describe(issuer: &str) -> AuthorizationServer<'_> {
    let auth_methods = [
        AuthMethod::ClientSecretBasic.as_str(),
        AuthMethod::ClientSecretPost.as_str(),
    ];
    AuthorizationServer {
        issuer,
        token_endpoint: format!("{issuer}/connect/token"),
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        token_endpoint_auth_methods_supported: auth_methods,
        introspection_endpoint: format!("{issuer}/connect/introspect"),
        introspection_endpoint_auth_methods_supported: auth_methods,
        revocation_endpoint: format!("{issuer}/connect/revoke"),
        revocation_endpoint_auth_methods_supported: auth_methods,
        grant_types_supported: ["client_credentials"],
        response_types_supported: [],
        service_documentation: format!("{issuer}/openapi.json"),
    }
}

fn published(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, format!("public, max-age={MAX_AGE_SECONDS}")))
        .json(document)
}
