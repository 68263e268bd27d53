//! `/audit/retention` and `/audit/holds`: what is kept, and what must be.

use crate::http::Doors;
use crate::http::audit::READ;
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::Fields;
use crate::http::problem::{Problem, use_methods};
use crate::service::retention::HoldFrom;
use actix_web::http::header;
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::values::Timestamp;
use serde_json::json;
use uuid::Uuid;

/// Places and releases holds. To know what is kept of the trail, whoever may read it has the right.
const HOLD: &str = "audit:hold";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/audit/retention")
                .route(web::get().to(status))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            web::resource("/audit/holds")
                .route(web::get().to(list))
                .route(web::post().to(place))
                .default_service(web::to(use_methods("GET, POST"))),
        )
        .service(
            web::resource("/audit/holds/{id}")
                .route(web::delete().to(release))
                .default_service(web::to(use_methods("DELETE"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn status(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    Ok(ok(&call.service.retention_status().await?))
}

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    Ok(ok(&json!({"holds": call.service.retention_status().await?.holds})))
}

async fn place(request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, HOLD).await?;
    let mut fields = Fields::new(members);
    let from_index = fields.value::<u64>("from_index", "an index: a whole number from 0")?;
    let since = fields.parsed("since", Timestamp::parse)?.flatten();
    let through_index = fields
        .optional::<u64>("through_index", "an index: a whole number from 0")?
        .flatten();
    let reason = fields.reason()?;
    fields.finish()?;
    let from = match (from_index, since) {
        (Some(index), None) => HoldFrom::Index(index),
        (None, Some(time)) => HoldFrom::Time(time),
        (None, None) => {
            return Err(Problem::invalid(
                "from_index",
                "is missing: say from which index, or `since` when",
            ));
        }
        (Some(_), Some(_)) => return Err(Problem::invalid("since", "and from_index exclude each other")),
    };
    let Some(reason) = reason else {
        return Err(Problem::invalid(
            "reason",
            "is missing: whoever wonders later should know why",
        ));
    };
    let placed = call
        .service
        .place_hold(from, through_index, reason, &call.actor(), &call.circumstances)
        .await?;
    let location = format!("{}/{}", request.path(), placed.id);
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::LOCATION, location))
        .json(placed))
}

async fn release(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, HOLD).await?;
    let mut fields = Fields::new(members);
    let reason = fields.reason()?;
    fields.finish()?;
    let id = Uuid::try_parse(&path).map_err(|_| Problem::invalid("id", "must be a hold's UUID"))?;
    call.service
        .release_hold(id, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(HttpResponse::NoContent()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish())
}
