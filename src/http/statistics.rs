//! `/audit/stats`: counts over the trail.

use crate::audit::AuditQuery;
use crate::audit::statistics::{By, Interval, StatisticsQuery};
use crate::http::Doors;
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::{InvalidField, Parameters};
use crate::http::problem::{Problem, use_methods};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use std::collections::BTreeMap;

const READ: &str = "audit:read";

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/audit/stats")
            .route(web::get().to(stats))
            .default_service(web::to(use_methods("GET"))),
    );
}

async fn stats(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let by = match parameters.take("by") {
        None => By::Type,
        Some(name) => By::parse(&name).ok_or_else(|| InvalidField::new("by", format!("must be {}", By::NAMES)))?,
    };
    let interval = match parameters.take("interval") {
        None => Interval::None,
        Some(name) => Interval::parse(&name)
            .ok_or_else(|| InvalidField::new("interval", format!("must be {}", Interval::NAMES)))?,
    };
    let bounds = [("since", parameters.take("since")), ("until", parameters.take("until"))];
    parameters.finish()?;
    let given = bounds
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    // The same words as in a search.
    let window = AuditQuery::from_parameters(given, call.circumstances.now)?;
    let query = StatisticsQuery {
        by,
        interval,
        since: window.since.map(|bound| bound.time()),
        until: window.until.map(|bound| bound.time()),
    };
    let filter: BTreeMap<String, String> = url::form_urlencoded::parse(request.query_string().as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let counted = call
        .service
        .audit_statistics(query, filter, &call.caller.application_uri, &call.circumstances)
        .await?;
    Ok(ok(&counted))
}
