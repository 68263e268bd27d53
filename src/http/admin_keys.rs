//! `/admin/signing-keys`: list, rotate, retire.

use crate::http::Doors;
use crate::http::admin_applications::{History, as_of_parameter, record_looking_back};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::{Fields, Parameters};
use crate::http::problem::{Problem, use_methods};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::key_ring::{KeyRing, KeyState};
use grantlog_projections::values::{KeyId, SigningAlgorithm, Timestamp};
use serde::Serialize;
use serde_json::Value;

const WRITE: &str = "keys:write";
const HISTORY: &str = "audit:read";

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |pattern: &str| web::resource(format!("/admin/signing-keys{pattern}"));
    config
        .service(
            of("")
                .route(web::get().to(list))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/history")
                .route(web::get().to(history))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/rotate")
                .route(web::post().to(rotate))
                .default_service(web::to(use_methods("POST"))),
        )
        .service(
            of("/{kid}/retire")
                .route(web::post().to(retire))
                .default_service(web::to(use_methods("POST"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, WRITE).await?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let as_of = as_of_parameter(&mut parameters, &call)?;
    parameters.finish()?;
    Ok(match as_of {
        None => shown(&call.service.snapshot().key_ring),
        Some(as_of) => {
            let key_ring = call.service.key_ring_as_of(as_of).await?;
            record_looking_back("signing keys".to_owned(), as_of, key_ring.keys().count(), &call).await?;
            shown(&key_ring)
        }
    })
}

async fn history(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, HISTORY).await?;
    let events = call
        .service
        .signing_key_history(&call.caller.application_uri, &call.circumstances)
        .await?;
    Ok(ok(&History { events }))
}

async fn rotate(request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let mut fields = Fields::new(members);
    let algorithm = fields
        .optional::<SigningAlgorithm>("alg", "one of ES256, RS256, PS256, EdDSA")?
        .flatten();
    let reason = fields.reason()?;
    fields.finish()?;
    let algorithm = algorithm.unwrap_or(call.service.settings().policy.default_algorithm);
    call.service
        .rotate_signing_key(algorithm, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(shown(&call.service.snapshot().key_ring))
}

async fn retire(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let mut fields = Fields::new(members);
    let reason = fields.reason()?;
    fields.finish()?;
    call.service
        .retire_signing_key(&path, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(shown(&call.service.snapshot().key_ring))
}

/// A key as callers see it: without its private half, sealed or not.
#[derive(Serialize)]
struct ShownKey<'a> {
    kid: &'a KeyId,
    alg: SigningAlgorithm,
    added_at: Timestamp,
    #[serde(flatten)]
    state: KeyState,
    public_jwk: &'a Value,
}

fn shown(key_ring: &KeyRing) -> HttpResponse {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: Vec<ShownKey<'a>>,
    }
    let keys = key_ring.keys().map(|key| ShownKey {
        kid: &key.kid,
        alg: key.alg,
        added_at: key.added_at,
        state: key.state,
        public_jwk: &key.public_jwk,
    });
    ok(&Keys { keys: keys.collect() })
}
