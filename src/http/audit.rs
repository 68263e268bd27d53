//! `/audit`: reading the trail.

use crate::audit::AuditQuery;
use crate::audit::filter::MAX_FILTER_CHARS;
use crate::http::Doors;
use crate::http::call::{AuthorizedCall, ok};
use crate::http::problem::{Problem, no_such_event, use_methods};
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use std::collections::BTreeMap;

pub(super) const READ: &str = "audit:read";
/// Parameters in one query.
const MAX_PARAMETERS: usize = 32;
/// Characters of a parameter that the event of its reading keeps.
const MAX_RECORDED_CHARS: usize = MAX_FILTER_CHARS;

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |path: &str| web::resource(path.to_owned());
    config
        .service(
            of("/audit/events")
                .route(web::get().to(search))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/audit/events/{index}")
                .route(web::get().to(show))
                .default_service(web::to(use_methods("GET"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn search(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let given = given(&request)?;
    let parameters = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let query = AuditQuery::from_parameters(parameters, call.circumstances.now)?;
    let recorded = recorded(&given);
    let reader = &call.caller.application_uri;
    let found = call
        .service
        .search_audit(&query, recorded, reader, &call.circumstances)
        .await?;
    let mut answer = ok(&found);
    if let Some(next) = &found.next {
        // RFC 8288: the same query, from where this page ends.
        let mut url = url::form_urlencoded::Serializer::new(String::new());
        url.extend_pairs(given.iter().filter(|(name, _)| name != "after"))
            .append_pair("after", &next.to_string());
        let link = format!("<{}?{}>; rel=\"next\"", request.path(), url.finish());
        if let Ok(link) = header::HeaderValue::from_str(&link) {
            answer.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(answer)
}

async fn show(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let index: u64 = path
        .parse()
        .map_err(|_| Problem::invalid("index", "must be a whole number from 0"))?;
    let found = call
        .service
        .audit_event(index, &call.caller.application_uri, &call.circumstances)
        .await?;
    match found {
        Some(event) => Ok(ok(&event)),
        None => Err(no_such_event(index)),
    }
}

/// The parameters of the query string, decoded.
pub(super) fn given(request: &HttpRequest) -> Result<Vec<(String, String)>, Problem> {
    let given: Vec<(String, String)> = url::form_urlencoded::parse(request.query_string().as_bytes())
        .take(MAX_PARAMETERS + 1)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    if given.len() > MAX_PARAMETERS {
        return Err(Problem::unreadable(format!(
            "A query may have {MAX_PARAMETERS} parameters"
        )));
    }
    Ok(given)
}

/// Refuses parameters that a search has and this way of reading does not, with the reason.
pub(super) fn not_for(given: &[(String, String)], refused: &[(&'static str, &'static str)]) -> Result<(), Problem> {
    match refused
        .iter()
        .find(|(name, _)| given.iter().any(|(given, _)| given == name))
    {
        None => Ok(()),
        Some((name, why)) => Err(Problem::invalid(*name, format!("is for a search only: {why}"))),
    }
}

/// The parameters as the event of their reading keeps them.
pub(super) fn recorded(given: &[(String, String)]) -> BTreeMap<String, String> {
    given
        .iter()
        .map(|(name, value)| (name.clone(), value.chars().take(MAX_RECORDED_CHARS).collect()))
        .collect()
}
