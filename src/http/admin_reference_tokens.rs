//! `/admin/applications/{id}/reference-tokens`: opaque tokens that administrators make for an application.

use crate::http::Doors;
use crate::http::admin_applications::{application_id, limit, only_reason};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::{Fields, InvalidField, Parameters};
use crate::http::problem::{Problem, use_methods};
use crate::policy::CommandRefused;
use crate::service::list_tokens::ListedToken;
use crate::service::reference_tokens::NewReferenceToken;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::values::{Audience, Remark, Scope};
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

const READ: &str = "applications:read";
const WRITE: &str = "applications:write";

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |path: &str| web::resource(path.to_owned());
    config
        .service(
            of("/admin/applications/{id}/reference-tokens")
                .route(web::post().to(issue))
                .route(web::get().to(list))
                .default_service(web::to(use_methods("GET, POST"))),
        )
        .service(
            of("/admin/applications/{id}/reference-tokens/{token_id}")
                .route(web::delete().to(revoke))
                .default_service(web::to(use_methods("DELETE"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn issue(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let id = application_id(&path)?;
    let new = new_token(members)?;
    let issued = call
        .service
        .issue_reference_token(id, new, &call.caller.commander(), &call.circumstances)
        .await?;
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        token: ListedToken,
        reference_token: &'a str,
    }
    let location = format!("{}/admin/tokens/{}", doors.issuer_path, issued.token.id);
    let shown = Shown {
        token: call
            .service
            .listed_reference(&Arc::new(issued.token), call.circumstances.now),
        reference_token: issued.text.expose(),
    };
    Ok(HttpResponse::build(StatusCode::CREATED)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::LOCATION, location))
        .json(&shown))
}

async fn list(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let id = application_id(&path)?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let limit = limit(&mut parameters)?;
    let after: Option<Uuid> = parameters.parsed("after", "`next` of the page before")?;
    parameters.finish()?;
    call.service.application(id)?;
    let snapshot = call.service.snapshot();
    let mut older = snapshot.tokens.references_of_before(id, after.unwrap_or(Uuid::max()));
    let mut page = Page {
        reference_tokens: Vec::new(),
        next: None,
    };
    for token in older.by_ref().take(limit) {
        let shown = call.service.listed_reference(token, call.circumstances.now);
        page.reference_tokens.push(shown);
    }
    if older.next().is_some() {
        page.next = page.reference_tokens.last().map(|last| last.id);
    }
    Ok(ok(&page))
}

async fn revoke(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: Payload,
    doors: web::Data<Doors>,
) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let id = application_id(&path.0)?;
    let token_id: Uuid = path
        .1
        .parse()
        .map_err(|_| Problem::invalid("token_id", "must be a UUID"))?;
    let reason = only_reason(members)?;
    let (service, now) = (call.service, call.circumstances.now);
    let known = service.reference_token(token_id, now)?;
    if known.application_id != id {
        return Err(CommandRefused::NotFound(format!("the application has no reference token {token_id}")).into());
    }
    service
        .revoke_reference_token(token_id, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(ok(&service.reference_token(token_id, now)?))
}

#[derive(Serialize)]
struct Page {
    reference_tokens: Vec<ListedToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

fn new_token(members: serde_json::Map<String, serde_json::Value>) -> Result<NewReferenceToken, InvalidField> {
    let mut fields = Fields::new(members);
    let description = fields
        .parsed_value("description", Remark::parse)?
        .ok_or_else(|| InvalidField::new("description", "is needed: what the token is for"))?;
    let new = NewReferenceToken {
        description,
        scope: fields.parsed_value("scope", Scope::parse)?,
        audiences: fields
            .parsed_list("audiences", |text| {
                Audience::parse(text).map_err(|invalid| format!("must be {}", invalid.rule))
            })?
            .unwrap_or_default(),
        expires_in_seconds: fields.value("expires_in_seconds", "a whole number of seconds")?,
    };
    fields.finish()?;
    Ok(new)
}
