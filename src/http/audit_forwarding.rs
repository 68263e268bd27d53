//! `/audit/forwarding`: how the sinks of the trail are doing.

use crate::forwarding::SinkStatus;
use crate::http::Doors;
use crate::http::call::{AuthorizedCall, ok};
use crate::http::problem::{Problem, use_methods};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

const READ: &str = "audit:read";

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/audit/forwarding")
            .route(web::get().to(show))
            .default_service(web::to(use_methods("GET"))),
    );
}

#[derive(Serialize)]
struct Shown {
    sinks: Vec<SinkStatus>,
}

/// No event is read here, so beyond the call itself there is nothing to put on the record.
async fn show(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    AuthorizedCall::of(&request, &doors, READ).await?;
    Ok(ok(&Shown {
        sinks: doors.forwarding.status(),
    }))
}
