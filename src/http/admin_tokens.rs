//! `/admin/tokens`: the inventory of tokens, and their revocation.

use crate::audit::AuditQuery;
use crate::http::Doors;
use crate::http::admin_applications::{application_id, only_reason};
use crate::http::audit::{given, recorded};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::{InvalidField, Parameters};
use crate::http::problem::{Problem, use_methods};
use crate::service::list_tokens::{DEFAULT_LIMIT, TokenCursor, TokenQuery};
use crate::service::token_status::TokenStatus;
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::event::TokenKind;
use grantlog_projections::values::{ApplicationId, ApplicationUri, Timestamp};
use serde::Serialize;
use uuid::Uuid;

const REVOKE: &str = "tokens:revoke";

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |path: &str| web::resource(path.to_owned());
    config
        .service(
            of("/admin/tokens")
                .route(web::get().to(list))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/admin/tokens/{jti}")
                .route(web::get().to(show))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/admin/tokens/{jti}/revoke")
                .route(web::post().to(revoke))
                .default_service(web::to(use_methods("POST"))),
        )
        .service(
            of("/admin/applications/{id}/revoke-tokens")
                .route(web::post().to(revoke_all))
                .default_service(web::to(use_methods("POST"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, REVOKE).await?;
    let query = query(&request, call.circumstances.now)?;
    let parameters = recorded(&given(&request)?);
    let reader = &call.caller.application_uri;
    let page = call
        .service
        .list_tokens(&query, parameters, reader, &call.circumstances)
        .await?;
    Ok(ok(&page))
}

async fn show(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, REVOKE).await?;
    Parameters::parse(request.query_string())?.finish()?;
    let reader = &call.caller.application_uri;
    let token = call
        .service
        .show_token(token_id(&path)?, reader, &call.circumstances)
        .await?;
    Ok(ok(&token))
}

async fn revoke(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, REVOKE).await?;
    let id = token_id(&path)?;
    let reason = only_reason(members)?;
    let token = call
        .service
        .revoke_token(id, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(ok(&token))
}

async fn revoke_all(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, REVOKE).await?;
    let id = application_id(&path)?;
    let reason = only_reason(members)?;
    let application = call
        .service
        .revoke_tokens_of(id, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(ok(&RevokedTokens {
        id,
        client_id: &application.uri,
        issued_until: call.circumstances.now,
    }))
}

/// What was revoked.
#[derive(Serialize)]
struct RevokedTokens<'a> {
    id: ApplicationId,
    client_id: &'a ApplicationUri,
    issued_until: Timestamp,
}

fn query(request: &HttpRequest, now: Timestamp) -> Result<TokenQuery, Problem> {
    let mut parameters = Parameters::parse(request.query_string())?;
    // These four are as in a search of the trail.
    let shared = ["client_id", "since", "until", "limit"];
    let taken: Vec<(&str, String)> = shared
        .into_iter()
        .filter_map(|name| Some((name, parameters.take(name)?)))
        .collect();
    let is_limited = taken.iter().any(|(name, _)| *name == "limit");
    let audit = AuditQuery::from_parameters(taken, now)?;
    let status = parameters.take("status").map(|text| {
        TokenStatus::parse(&text)
            .ok_or_else(|| InvalidField::new("status", "must be active, expired, revoked or disabled"))
    });
    let kind = parameters.take("kind").map(|text| {
        let kinds = [TokenKind::Jwt, TokenKind::Reference];
        kinds
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| InvalidField::new("kind", "must be jwt or reference"))
    });
    let after = parameters.take("after").map(|text| {
        TokenCursor::parse(&text).ok_or_else(|| InvalidField::new("after", "must be `next` of the page before"))
    });
    let query = TokenQuery {
        client_id: audit.client_id,
        status: status.transpose()?,
        kind: kind.transpose()?,
        since: audit.since,
        until: audit.until,
        limit: if is_limited { audit.limit } else { DEFAULT_LIMIT },
        after: after.transpose()?,
    };
    parameters.finish()?;
    Ok(query)
}

fn token_id(text: &str) -> Result<Uuid, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid("jti", "must be a token's jti, or the id of a reference token: a UUID"))
}
