//! For those who watch the service: is it alive, is it ready, and its figures.

use crate::http::Doors;
use crate::http::problem::use_methods;
use crate::metrics;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};

pub(super) fn routes(config: &mut ServiceConfig) {
    let probes = [
        ("/health/live", web::get().to(live), web::head().to(live)),
        ("/health/ready", web::get().to(ready), web::head().to(ready)),
        ("/metrics", web::get().to(figures), web::head().to(figures)),
    ];
    for (path, get, head) in probes {
        let resource = web::resource(path).route(get).route(head);
        config.service(resource.default_service(web::to(use_methods("GET, HEAD"))));
    }
}

async fn live() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(serde_json::json!({"live": true}))
}

async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    let readiness = doors.service.readiness();
    let mut response = if readiness.ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(readiness)
}

async fn figures(doors: web::Data<Doors>) -> HttpResponse {
    doors.service.gauge();
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::CONTENT_TYPE, metrics::CONTENT_TYPE))
        .body(doors.service.metrics().encode())
}
