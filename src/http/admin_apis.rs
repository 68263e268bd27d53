//! `/admin/apis`: registered APIs.

use crate::http::Doors;
use crate::http::admin_applications::{History, as_of_parameter, lifetime, limit, record_looking_back};
use crate::http::call::{AuthorizedCall, if_match, ok, with_revision};
use crate::http::fields::{Fields, InvalidField, Parameters};
use crate::http::problem::{Problem, use_methods};
use crate::policy::apis::ApiPatch;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::api::Api;
use grantlog_projections::event::ApiScope;
use grantlog_projections::values::{
    ApiId, Audience, Name, Remark, Scope, SigningAlgorithm, Timestamp, TokenLifetime, TokenType,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const READ: &str = "applications:read";
const WRITE: &str = "applications:write";
const HISTORY: &str = "audit:read";

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |pattern: &str| web::resource(format!("/admin/apis{pattern}"));
    config
        .service(
            of("")
                .route(web::post().to(register))
                .route(web::get().to(list))
                .default_service(web::to(use_methods("GET, POST"))),
        )
        .service(
            of("/{id}")
                .route(web::get().to(show))
                .route(web::patch().to(change))
                .route(web::delete().to(delete))
                .default_service(web::to(use_methods("GET, PATCH, DELETE"))),
        )
        .service(
            of("/{id}/history")
                .route(web::get().to(history))
                .default_service(web::to(use_methods("GET"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn register(request: HttpRequest, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let mut fields = Fields::new(members);
    let audience = fields
        .parsed_value("audience", Audience::parse)?
        .ok_or_else(|| InvalidField::new("audience", "is needed: it is what `aud` carries"))?;
    let patch = attributes(&mut fields)?;
    fields.finish()?;
    let api = call
        .service
        .register_api(audience, patch, &call.actor(), &call.circumstances)
        .await?;
    let mut answer = with_revision(StatusCode::CREATED, api.revision, &ShownApi::of(&api));
    let location = format!("{}/admin/apis/{}", doors.issuer_path, api.id);
    if let Ok(location) = header::HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let audience = parameters.take("audience");
    let limit = limit(&mut parameters)?;
    let as_of = as_of_parameter(&mut parameters, &call)?;
    let after = parameters.take("after").map(|text| Audience::parse(&text)).transpose();
    let after = after.map_err(|_| InvalidField::new("after", "must be `next` of the page before"))?;
    parameters.finish()?;
    let directory = match as_of {
        None => call.service.snapshot().directory.clone(),
        Some(as_of) => {
            let reader = &call.caller.application_uri;
            call.service.directory_as_of(as_of, reader).await?
        }
    };
    let mut found = directory
        .apis_after(after.as_ref())
        .filter(|api| !api.is_deleted())
        .filter(|api| audience.as_deref().is_none_or(|wanted| api.audience.as_str() == wanted));
    let apis: Vec<ShownApi<'_>> = found.by_ref().take(limit).map(|api| ShownApi::of(api)).collect();
    let next = found
        .next()
        .and_then(|_| apis.last())
        .map(|last| last.audience.to_string());
    if let Some(as_of) = as_of {
        record_looking_back("APIs".to_owned(), as_of, apis.len(), &call).await?;
    }
    Ok(ok(&Page { apis, next }))
}

async fn show(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let id = api_id(&path)?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let as_of = as_of_parameter(&mut parameters, &call)?;
    parameters.finish()?;
    let api = match as_of {
        None => call.service.api(id)?,
        Some(as_of) => {
            let api = call.service.api_as_of(id, as_of).await?;
            record_looking_back(format!("API {id}"), as_of, 1, &call).await?;
            Arc::new(api)
        }
    };
    Ok(with_revision(StatusCode::OK, api.revision, &ShownApi::of(&api)))
}

async fn change(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (api_id(&path)?, if_match(&request)?);
    let mut fields = Fields::new(members);
    let patch = attributes(&mut fields)?;
    let reason = fields.reason()?;
    fields.finish()?;
    let service = call.service;
    let api = service
        .change_api(id, patch, revision, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(with_revision(StatusCode::OK, api.revision, &ShownApi::of(&api)))
}

async fn delete(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (api_id(&path)?, if_match(&request)?);
    let mut fields = Fields::new(members);
    let reason = fields.reason()?;
    fields.finish()?;
    call.service
        .delete_api(id, revision, reason, &call.actor(), &call.circumstances)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn history(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, HISTORY).await?;
    let events = call
        .service
        .api_history(api_id(&path)?, &call.caller.application_uri, &call.circumstances)
        .await?;
    Ok(ok(&History { events }))
}

#[derive(Serialize)]
struct Page<'a> {
    apis: Vec<ShownApi<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct ShownApi<'a> {
    id: ApiId,
    audience: &'a Audience,
    name: &'a Name,
    scopes: &'a [ApiScope],
    signing_alg: Option<SigningAlgorithm>,
    token_type: TokenType,
    token_lifetime_seconds: Option<TokenLifetime>,
    registered_at: Timestamp,
    changed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    revision: u64,
}

impl<'a> ShownApi<'a> {
    fn of(api: &'a Api) -> Self {
        Self {
            id: api.id,
            audience: &api.audience,
            name: &api.name,
            scopes: &api.scopes,
            signing_alg: api.signing_alg,
            token_type: api.token_type,
            token_lifetime_seconds: api.token_lifetime_seconds,
            registered_at: api.registered_at,
            changed_at: api.changed_at,
            deleted_at: api.deleted_at,
            revision: api.revision,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenScope {
    name: String,
    #[serde(default)]
    description: Option<String>,
}

fn attributes(fields: &mut Fields) -> Result<ApiPatch, InvalidField> {
    Ok(ApiPatch {
        name: fields.parsed_value("name", Name::parse)?,
        scopes: fields
            .value::<Vec<GivenScope>>("scopes", "a list of {\"name\", \"description\"}")?
            .map(|scopes| {
                scopes
                    .into_iter()
                    .enumerate()
                    .map(|(at, scope)| api_scope(at, scope))
                    .collect()
            })
            .transpose()?,
        signing_alg: fields.optional::<SigningAlgorithm>("signing_alg", "one of ES256, RS256, PS256, EdDSA")?,
        token_type: fields.value("token_type", "at+jwt or JWT")?,
        token_lifetime_seconds: lifetime(fields)?,
    })
}

fn api_scope(position: usize, given: GivenScope) -> Result<ApiScope, InvalidField> {
    let invalid =
        |member: &str, rule: &str| InvalidField::new(format!("scopes[{position}].{member}"), format!("must be {rule}"));
    let name = Scope::parse(&given.name).map_err(|error| invalid("name", error.rule))?;
    let description = given.description.as_deref().map(Remark::parse).transpose();
    Ok(ApiScope {
        name,
        description: description.map_err(|error| invalid("description", error.rule))?,
    })
}

fn api_id(text: &str) -> Result<ApiId, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid("id", "must be a UUID; GET /admin/apis?audience=… finds it by audience"))
}
