//! `/admin/sessions`: tokens at work.

use crate::http::Doors;
use crate::http::admin_applications::{limit, only_reason};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::Parameters;
use crate::http::problem::{Problem, use_methods};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::values::ApplicationId;
use uuid::Uuid;

const REVOKE: &str = "tokens:revoke";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/admin/sessions")
                .route(web::get().to(list))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            web::resource("/admin/sessions/{id}")
                .route(web::delete().to(end))
                .default_service(web::to(use_methods("DELETE"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, REVOKE).await?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let client_id = parameters.take("client_id");
    let limit = limit(&mut parameters)?;
    let after: Option<Uuid> = parameters.parsed("after", "`next` of the page before")?;
    parameters.finish()?;
    let application = client_id.as_deref().map(ApplicationId::of_client_id);
    let page = call
        .service
        .list_sessions(application, after, limit, call.circumstances.now)
        .await;
    Ok(ok(&page))
}

async fn end(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, REVOKE).await?;
    let id: Uuid = path
        .parse()
        .map_err(|_| Problem::invalid("id", "must be a session's id, a UUID"))?;
    let reason = only_reason(members)?;
    let ended = call
        .service
        .end_session(id, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(ok(&call.service.shown_session(&ended)))
}
