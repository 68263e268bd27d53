//! The token endpoint (RFC 6749 §3.2) in its three dialects.

use crate::http::body::{self, NoBody};
use crate::http::problem::{no_body_problem, token_error, use_post};
use crate::http::{Doors, origin};
use crate::oauth::token_request::MalformedBody;
use crate::oauth::{
    Dialect, OAuthError, Refusal, RefusalReason, RequestHeaders, TokenRequest, TokenResponse, answer_dialect,
};
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

/// Paths and the dialect that is spoken there.
const ENDPOINTS: [(&str, Dialect); 4] = [
    ("/connect/token", Dialect::Standard),
    ("/id/connect/token", Dialect::Standard),
    ("/oauth2/token", Dialect::Audience),
    ("/token", Dialect::Json),
];

pub(super) fn routes(config: &mut ServiceConfig) {
    for (path, dialect) in ENDPOINTS {
        let answer = move |request: HttpRequest, body: Payload, doors: web::Data<Doors>| async move {
            token(dialect, request, body, doors).await
        };
        let resource = web::resource(path).route(web::post().to(answer));
        config.service(resource.default_service(web::to(move || async move { use_post(dialect) })));
    }
}

async fn token(endpoint: Dialect, request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> HttpResponse {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let dialect = answer_dialect(endpoint, content_type);
    let body = body::read(body, doors.body_timeout).await;
    // Not before the request is complete: a secret that ends while the body is on the way has ended.
    let circumstances = origin::circumstances(&request, &doors);
    let unread = |error, reason| {
        Err(Refusal {
            dialect,
            error,
            reason,
            client_id: None,
        })
    };
    let parsed = match body {
        Err(NoBody::TooLarge) => unread(OAuthError::BodyTooLarge, RefusalReason::BodyTooLarge),
        // A chunk that is none, or a connection that is gone: the first can still be answered.
        Err(NoBody::BrokenOff) => unread(
            OAuthError::MalformedBody,
            RefusalReason::Malformed(MalformedBody::BrokenOff),
        ),
        Err(NoBody::TooSlow) => return no_body_problem(NoBody::TooSlow).error_response(),
        Ok(body) => {
            let authorization: Vec<&[u8]> = request
                .headers()
                .get_all(header::AUTHORIZATION)
                .map(HeaderValue::as_bytes)
                .collect();
            TokenRequest::parse(
                endpoint,
                RequestHeaders {
                    content_type,
                    authorization: &authorization,
                },
                &body,
            )
        }
    };
    let service = &doors.service;
    let error = match parsed {
        Err(refusal) => service.refuse_token(refusal, &circumstances).await,
        Ok(request) => match service.issue_token(&request, &circumstances).await {
            Err(error) => error,
            Ok(issued) => {
                let response = TokenResponse {
                    access_token: &issued.access_token,
                    expires_in: issued.expires_in,
                    scope: issued.scope.as_str(),
                };
                return HttpResponse::Ok()
                    .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
                    // RFC 6749 §5.1
                    .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
                    .insert_header((header::PRAGMA, HeaderValue::from_static("no-cache")))
                    .body(response.encode(request.dialect));
            }
        },
    };
    token_error(dialect, &error, &doors.service.settings().issuer)
}
