//! What resource servers ask about tokens (RFC 7662), and what clients do to their own (RFC 7009).

use crate::http::body::{self, NoBody};
use crate::http::problem::{no_body_problem, token_error, use_methods};
use crate::http::{Doors, origin};
use crate::oauth::token_request::MalformedBody;
use crate::oauth::{Dialect, OAuthError, Refusal, RefusalReason, RequestHeaders, TokenOperation};
use crate::service::record::Circumstances;
use crate::service::token_operations::{ActiveToken, Endpoint, INTROSPECTION, REVOCATION};
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use grantlog_projections::values::Audience;
use serde::Serialize;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig) {
    let post_only = || web::to(use_methods("POST"));
    config
        .service(
            web::resource("/connect/introspect")
                .route(web::post().to(introspect))
                .default_service(post_only()),
        )
        .service(
            web::resource("/connect/revoke")
                .route(web::post().to(revoke))
                .default_service(post_only()),
        );
}

async fn introspect(request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> HttpResponse {
    let (operation, circumstances) = match read(&request, body, &doors, INTROSPECTION).await {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    match doors.service.introspect(&operation, &circumstances).await {
        Ok(Some(active)) => answer(&Introspected::active(&active, &doors.service.settings().issuer)),
        Ok(None) => answer(&Introspected::inactive()),
        Err(error) => refused(&error, &doors),
    }
}

async fn revoke(request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> HttpResponse {
    let (operation, circumstances) = match read(&request, body, &doors, REVOCATION).await {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    match doors.service.revoke_own_token(&operation, &circumstances).await {
        // RFC 7009 §2.2: the body is of no meaning.
        Ok(()) => HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .finish(),
        Err(error) => refused(&error, &doors),
    }
}

/// Reads the request, or says what to answer instead: that is on the record then.
async fn read(
    request: &HttpRequest,
    body: Payload,
    doors: &Doors,
    endpoint: Endpoint,
) -> Result<(TokenOperation, Circumstances), HttpResponse> {
    let body = body::read(body, doors.body_timeout).await;
    // Not before the request is complete: a secret that ends while the body is on the way has ended.
    let circumstances = origin::circumstances(request, doors);
    let unread = |error, reason| {
        Err(Refusal {
            dialect: Dialect::Standard,
            error,
            reason,
            client_id: None,
        })
    };
    let authorization: Vec<&[u8]> = request
        .headers()
        .get_all(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .collect();
    let headers = RequestHeaders {
        content_type: request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes),
        authorization: &authorization,
    };
    let parsed = match body {
        Err(NoBody::TooSlow) => return Err(no_body_problem(NoBody::TooSlow).error_response()),
        Err(NoBody::TooLarge) => unread(OAuthError::BodyTooLarge, RefusalReason::BodyTooLarge),
        Err(NoBody::BrokenOff) => unread(
            OAuthError::MalformedBody,
            RefusalReason::Malformed(MalformedBody::BrokenOff),
        ),
        Ok(body) => TokenOperation::parse(headers, &body),
    };
    match parsed {
        Ok(operation) => Ok((operation, circumstances)),
        Err(refusal) => {
            let error = doors
                .service
                .refuse_token_operation(refusal, endpoint, &circumstances)
                .await;
            Err(refused(&error, doors))
        }
    }
}

/// RFC 7662 §2.2. Of a token that opens nothing of the caller's it is not said why.
#[derive(Serialize)]
struct Introspected<'a> {
    active: bool,
    #[serde(flatten)]
    token: Option<Described<'a>>,
}

#[derive(Serialize)]
struct Described<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    aud: &'a [Audience],
    scope: &'a str,
    token_type: &'static str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_system_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_code: Option<&'a str>,
    // Grantlog's own: the session that the token works in, and which kind of token it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Uuid>,
    token_kind: &'static str,
}

impl<'a> Introspected<'a> {
    fn active(token: &'a ActiveToken, issuer: &'a str) -> Self {
        Self {
            active: true,
            token: Some(Described {
                iss: issuer,
                sub: token.client_id.as_str(),
                client_id: token.client_id.as_str(),
                aud: &token.audiences,
                scope: token.scope.as_str(),
                token_type: "Bearer",
                iat: token.issued_at.unix_seconds(),
                nbf: token.not_before.unix_seconds(),
                exp: token.expires_at.unix_seconds(),
                jti: token.jti,
                client_system_user: token.system_user.as_ref().map(|user| user.as_str()),
                org_code: token.org_code.as_ref().map(|org_code| org_code.as_str()),
                session_id: token.session_id,
                token_kind: token.kind.as_str(),
            }),
        }
    }

    fn inactive() -> Self {
        Self {
            active: false,
            token: None,
        }
    }
}

fn answer(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .json(body)
}

fn refused(error: &OAuthError, doors: &Doors) -> HttpResponse {
    token_error(Dialect::Standard, error, &doors.service.settings().issuer)
}
