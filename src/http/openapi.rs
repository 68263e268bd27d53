//! `/openapi.json`: what there is, for tools.

use crate::http::{Doors, readable};
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};

/// The document, without the server's own address.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/openapi.json", document));
}

async fn document(doors: web::Data<Doors>) -> HttpResponse {
    let issuer = &doors.service.settings().issuer;
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=900"))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .body(DOCUMENT.replace("{issuer}", issuer))
}
