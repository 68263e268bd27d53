//! For those who watch the service: is it alive, is it ready, and its figures.

use crate::http::problem::not_ready;
use crate::http::{Doors, readable};
use crate::metrics;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/health/live", live))
        .service(readable("/health/ready", ready))
        .service(readable("/metrics", figures));
}

async fn live() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(serde_json::json!({"live": true}))
}

async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    let readiness = doors.service.readiness();
    if !readiness.ready {
        return not_ready(&readiness);
    }
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(readiness)
}

async fn figures(doors: web::Data<Doors>) -> HttpResponse {
    doors.service.gauge();
    doors.forwarding.gauge();
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::CONTENT_TYPE, metrics::CONTENT_TYPE))
        .body(doors.service.metrics().encode())
}
