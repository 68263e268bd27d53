//! `/admin/applications`: Trusted Applications.

use crate::audit::event::AuditEvent;
use crate::http::Doors;
use crate::http::call::{AuthorizedCall, if_match, ok, with_revision};
use crate::http::fields::{Fields, InvalidField, Parameters};
use crate::http::problem::{Problem, use_methods};
use crate::policy::applications::ApplicationPatch;
use crate::service::Service;
use crate::service::applications::{AsOf, Registration, Switch, WithSecret};
use crate::service::usage::MAX_USAGE_DAYS;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::directory::Directory;
use grantlog_projections::event::{ClientType, ReferenceTokens};
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    ApplicationId, ApplicationUri, Audience, Name, OrgCode, Remark, Scope, SecretHash, SecretId, SystemUser, Timestamp,
    TokenLifetime,
};
use ipnet::IpNet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const READ: &str = "applications:read";
const WRITE: &str = "applications:write";
const HISTORY: &str = "audit:read";

/// Applications on a page when the caller does not say.
const DEFAULT_LIMIT: usize = 100;
/// Applications on a page at the most.
const MAX_LIMIT: usize = 1_000;
/// Days that a question for usage is about when the caller does not say.
const DEFAULT_USAGE_DAYS: u32 = 30;
const USAGE_DAYS: &str = "1 to 100";
/// Applications that one list request looks at: a search that finds little goes on from where it stopped.
const MAX_VISITED: usize = 20_000;

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |pattern: &str| web::resource(format!("/admin/applications{pattern}"));
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
            of("/{id}/enable")
                .route(web::post().to(enable))
                .default_service(web::to(use_methods("POST"))),
        )
        .service(
            of("/{id}/disable")
                .route(web::post().to(disable))
                .default_service(web::to(use_methods("POST"))),
        )
        .service(
            of("/{id}/secrets")
                .route(web::post().to(rotate))
                .default_service(web::to(use_methods("POST"))),
        )
        .service(
            of("/{id}/secrets/{secret_id}")
                .route(web::delete().to(revoke))
                .default_service(web::to(use_methods("DELETE"))),
        )
        .service(
            of("/{id}/usage")
                .route(web::get().to(usage))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/{id}/diff")
                .route(web::get().to(diff))
                .default_service(web::to(use_methods("GET"))),
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
    let registration = registration(members)?;
    let made = call
        .service
        .register_application(registration, &call.caller.commander(), &call.circumstances)
        .await?;
    let mut answer = with_secret(StatusCode::CREATED, &made, call.circumstances.now);
    let location = format!("{}/admin/applications/{}", doors.issuer_path, made.application.id);
    if let Ok(location) = header::HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let search = Search::parse(request.query_string(), &call)?;
    let directory = match search.as_of {
        None => call.service.snapshot().directory.clone(),
        Some(as_of) => {
            let reader = &call.caller.application_uri;
            call.service.directory_as_of(as_of, reader).await?
        }
    };
    let page = search.page(&directory, &call);
    if let Some(as_of) = search.as_of {
        record_looking_back("applications".to_owned(), as_of, page.applications.len(), &call).await?;
    }
    Ok(ok(&page))
}

async fn show(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let id = application_id(&path)?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let as_of = as_of_parameter(&mut parameters, &call)?;
    parameters.finish()?;
    let now = call.circumstances.now;
    let application = match as_of {
        None => call.service.application(id)?,
        Some(as_of) => {
            let application = call.service.application_as_of(id, as_of).await?;
            record_looking_back(format!("application {id}"), as_of, 1, &call).await?;
            Arc::new(application)
        }
    };
    let at = match as_of {
        Some(AsOf::Time(time)) => time,
        // As the last event by then left it.
        Some(AsOf::Index(_)) => application.changed_at,
        None => now,
    };
    let shown = ShownApplication::of(&application, at);
    // Uses are of now: they are no part of an answer about the past.
    let shown = match as_of {
        None => shown.with_usage(call.service),
        Some(_) => shown,
    };
    Ok(with_revision(StatusCode::OK, application.revision, &shown))
}

async fn change(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (application_id(&path)?, if_match(&request)?);
    let mut fields = Fields::new(members);
    let patch = attributes(&mut fields)?;
    let reason = fields.reason()?;
    fields.finish().map_err(other_ways)?;
    let service = call.service;
    let application = service
        .change_application(
            id,
            patch,
            revision,
            reason,
            &call.caller.commander(),
            &call.circumstances,
        )
        .await?;
    let shown = ShownApplication::of(&application, call.circumstances.now);
    Ok(with_revision(StatusCode::OK, application.revision, &shown))
}

async fn enable(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (application_id(&path)?, if_match(&request)?);
    let reason = only_reason(members)?;
    switch(&call, id, Switch::On, revision, reason).await
}

async fn disable(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (application_id(&path)?, if_match(&request)?);
    let (revoke_tokens, reason) = revoke_tokens_and_reason(members)?;
    switch(&call, id, Switch::Off { revoke_tokens }, revision, reason).await
}

async fn switch(
    call: &AuthorizedCall<'_>,
    id: ApplicationId,
    switch: Switch,
    revision: Option<u64>,
    reason: Option<Remark>,
) -> Answer {
    let by = call.caller.commander();
    let application = call
        .service
        .switch_application(id, switch, revision, reason, &by, &call.circumstances)
        .await?;
    let shown = ShownApplication::of(&application, call.circumstances.now);
    Ok(with_revision(StatusCode::OK, application.revision, &shown))
}

async fn delete(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (application_id(&path)?, if_match(&request)?);
    let reason = only_reason(members)?;
    call.service
        .delete_application(id, revision, reason, &call.caller.commander(), &call.circumstances)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn rotate(request: HttpRequest, path: web::Path<String>, body: Payload, doors: web::Data<Doors>) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (application_id(&path)?, if_match(&request)?);
    let mut fields = Fields::new(members);
    let overlap_seconds = fields
        .optional::<i64>("overlap_seconds", "a whole number of seconds")?
        .flatten();
    let expires_in_seconds = fields
        .optional::<i64>("expires_in_seconds", "a whole number of seconds")?
        .flatten();
    let reason = fields.reason()?;
    fields.finish()?;
    let (service, commander) = (call.service, call.caller.commander());
    let made = service
        .rotate_secret(
            id,
            overlap_seconds,
            expires_in_seconds,
            revision,
            reason,
            &commander,
            &call.circumstances,
        )
        .await?;
    Ok(with_secret(StatusCode::CREATED, &made, call.circumstances.now))
}

async fn revoke(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: Payload,
    doors: web::Data<Doors>,
) -> Answer {
    let (call, members) = AuthorizedCall::with_object(&request, body, &doors, WRITE).await?;
    let (id, revision) = (application_id(&path.0)?, if_match(&request)?);
    let secret_id: SecretId = path
        .1
        .parse()
        .map_err(|_| Problem::invalid("secret_id", "must be a UUID"))?;
    let (revoke_tokens, reason) = revoke_tokens_and_reason(members)?;
    let service = call.service;
    let application = service
        .revoke_secret(
            id,
            secret_id,
            revoke_tokens,
            revision,
            reason,
            &call.caller.commander(),
            &call.circumstances,
        )
        .await?;
    let shown = ShownApplication::of(&application, call.circumstances.now);
    Ok(with_revision(StatusCode::OK, application.revision, &shown))
}

async fn history(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, HISTORY).await?;
    let events = call
        .service
        .application_history(
            application_id(&path)?,
            &call.caller.application_uri,
            &call.circumstances,
        )
        .await?;
    Ok(ok(&History { events }))
}

async fn diff(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, HISTORY).await?;
    let id = application_id(&path)?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let mut end = |name: &'static str| {
        let text = parameters
            .take(name)
            .ok_or_else(|| InvalidField::new(name, "is needed: a time (RFC 3339) or the index of an event"))?;
        as_of(name, &text)
    };
    let (from, to) = (end("from")?, end("to")?);
    parameters.finish()?;
    let now = call.circumstances.now;
    call.service.check_past("from", from, now)?;
    // A time to come shows which secrets will have expired by then, if nobody changes anything.
    if matches!(to, AsOf::Index(_)) {
        call.service.check_past("to", to, now)?;
    }
    let reader = &call.caller.application_uri;
    let diff = call
        .service
        .application_diff(id, from, to, reader, &call.circumstances)
        .await?;
    Ok(ok(&diff))
}

async fn usage(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, HISTORY).await?;
    let id = application_id(&path)?;
    let mut parameters = Parameters::parse(request.query_string())?;
    let days: u32 = parameters.parsed("days", USAGE_DAYS)?.unwrap_or(DEFAULT_USAGE_DAYS);
    parameters.finish()?;
    if !(1..=MAX_USAGE_DAYS).contains(&days) {
        return Err(Problem::invalid("days", format!("must be {USAGE_DAYS}")));
    }
    let answer = call
        .service
        .application_usage(id, days, &call.caller.application_uri, &call.circumstances)
        .await?;
    Ok(ok(&answer))
}

#[derive(Serialize)]
pub(super) struct History {
    pub(super) events: Vec<AuditEvent>,
}

#[derive(Serialize)]
struct Page<'a> {
    applications: Vec<ShownApplication<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// An application as callers see it: its secrets' hashes stay inside.
#[derive(Serialize)]
struct ShownApplication<'a> {
    id: ApplicationId,
    client_id: &'a ApplicationUri,
    application_uri: &'a ApplicationUri,
    name: &'a Name,
    description: Option<&'a Remark>,
    client_type: ClientType,
    scope: &'a Scope,
    audiences: &'a [Audience],
    system_user_allowed: bool,
    system_user: Option<&'a SystemUser>,
    org_code: Option<&'a OrgCode>,
    is_enabled: bool,
    owner: Option<&'a Remark>,
    properties: &'a BTreeMap<String, String>,
    token_lifetime_seconds: Option<TokenLifetime>,
    allowed_networks: &'a [IpNet],
    reference_tokens: ReferenceTokens,
    secrets: Vec<ShownSecret<'a>>,
    registered_at: Timestamp,
    changed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    revision: u64,
    /// How many events of the log the secrets' uses speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_through: Option<u64>,
}

#[derive(Serialize)]
struct ShownSecret<'a> {
    id: SecretId,
    hint: Option<&'a str>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    accepted: bool,
    /// Not in an answer about the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<Timestamp>,
}

impl<'a> ShownApplication<'a> {
    /// `at` decides which secrets are accepted.
    fn of(application: &'a TrustedApplication, at: Timestamp) -> Self {
        let secrets = application.secrets.iter().map(|secret| ShownSecret {
            id: secret.id,
            hint: secret.hint.as_deref(),
            created_at: secret.created_at,
            expires_at: secret.expires_at,
            revoked_at: secret.revoked_at,
            accepted: secret.is_accepted_at(at),
            uses: None,
            last_used: None,
        });
        Self {
            id: application.id,
            client_id: &application.uri,
            application_uri: &application.uri,
            name: &application.name,
            description: application.description.as_ref(),
            client_type: application.client_type,
            scope: &application.scope,
            audiences: &application.audiences,
            system_user_allowed: application.system_user_allowed,
            system_user: application.system_user.as_ref(),
            org_code: application.org_code.as_ref(),
            is_enabled: application.is_enabled,
            owner: application.owner.as_ref(),
            properties: &application.properties,
            token_lifetime_seconds: application.token_lifetime_seconds,
            allowed_networks: &application.allowed_networks,
            reference_tokens: application.reference_tokens,
            secrets: secrets.collect(),
            registered_at: application.registered_at,
            changed_at: application.changed_at,
            deleted_at: application.deleted_at,
            revision: application.revision,
            usage_through: None,
        }
    }

    /// The same with how often each secret was used, as of now.
    fn with_usage(mut self, service: &Service) -> Self {
        let Some(usage) = service.usage() else { return self };
        self.usage_through = Some(usage.through());
        for secret in &mut self.secrets {
            let used = usage.secret(self.id, secret.id);
            secret.uses = Some(used.map_or(0, |(count, _)| count));
            secret.last_used = used.map(|(_, last)| last);
        }
        self
    }
}

fn with_secret(status: StatusCode, made: &WithSecret, now: Timestamp) -> HttpResponse {
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        application: ShownApplication<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_id: Option<SecretId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_secret: Option<&'a str>,
    }
    let shown = Shown {
        application: ShownApplication::of(&made.application, now),
        secret_id: made.secret_id,
        client_secret: made.secret.as_ref().map(|secret| secret.expose()),
    };
    with_revision(status, made.application.revision, &shown)
}

fn registration(members: serde_json::Map<String, serde_json::Value>) -> Result<Registration, InvalidField> {
    let mut fields = Fields::new(members);
    let application_uri = fields
        .parsed_value("application_uri", ApplicationUri::parse)?
        .ok_or_else(|| InvalidField::new("application_uri", "is needed: it becomes the client_id"))?;
    let attributes = attributes(&mut fields)?;
    let registration = Registration {
        application_uri,
        attributes,
        is_enabled: fields.value("is_enabled", "true or false")?.unwrap_or(true),
        secret_hash: fields.parsed("application_secret_hash", SecretHash::parse)?.flatten(),
        secret_expires_in_seconds: fields
            .optional::<i64>("secret_expires_in_seconds", "a whole number of seconds")?
            .flatten(),
    };
    fields.finish()?;
    if registration.attributes.client_type == Some(ClientType::Public) && registration.secret_hash.is_some() {
        let message = "a Public application cannot keep a secret";
        return Err(InvalidField::new("application_secret_hash", message));
    }
    Ok(registration)
}

fn attributes(fields: &mut Fields) -> Result<ApplicationPatch, InvalidField> {
    Ok(ApplicationPatch {
        name: fields.parsed_value("name", Name::parse)?,
        description: fields.parsed("description", Remark::parse)?,
        client_type: fields.value("client_type", "Confidential or Public")?,
        scope: fields.parsed_value("scope", Scope::parse)?,
        audiences: fields.parsed_list("audiences", |text| {
            Audience::parse(text).map_err(|invalid| format!("must be {}", invalid.rule))
        })?,
        system_user_allowed: fields.value("system_user_allowed", "true or false")?,
        system_user: fields.parsed("system_user", SystemUser::parse)?,
        org_code: fields.parsed("org_code", OrgCode::parse)?,
        owner: fields.parsed("owner", Remark::parse)?,
        properties: fields.value("properties", "an object of texts")?,
        token_lifetime_seconds: lifetime(fields)?,
        allowed_networks: fields.parsed_list("allowed_networks", network)?,
        reference_tokens: fields.value("reference_tokens", "None or AdministratorsOnly")?,
    })
}

pub(super) fn lifetime(fields: &mut Fields) -> Result<Option<Option<TokenLifetime>>, InvalidField> {
    const NAME: &str = "token_lifetime_seconds";
    match fields.optional::<i64>(NAME, "a whole number of seconds")? {
        None => Ok(None),
        Some(None) => Ok(Some(None)),
        Some(Some(seconds)) => TokenLifetime::parse(seconds)
            .map(|lifetime| Some(Some(lifetime)))
            .map_err(|invalid| InvalidField::new(NAME, format!("must be {}", invalid.rule))),
    }
}

/// A network as people write it: `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or("must be a network such as 10.0.0.0/8 or 2001:db8::/32, or one address")?;
    if let IpNet::V6(v6) = network
        && v6.network().to_ipv4_mapped().is_some()
    {
        // Addresses are compared in their IPv4 form.
        return Err("must be written in its IPv4 form".into());
    }
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!("has bits beyond its prefix: {} is meant", network.trunc()))
    }
}

/// Whether the tokens go with what they were given for, and why.
fn revoke_tokens_and_reason(
    members: serde_json::Map<String, serde_json::Value>,
) -> Result<(bool, Option<Remark>), InvalidField> {
    let mut fields = Fields::new(members);
    let reason = fields.reason()?;
    let revoke_tokens = fields.value("revoke_tokens", "true or false")?.unwrap_or(false);
    fields.finish()?;
    Ok((revoke_tokens, reason))
}

pub(super) fn only_reason(members: serde_json::Map<String, serde_json::Value>) -> Result<Option<Remark>, InvalidField> {
    let mut fields = Fields::new(members);
    let reason = fields.reason()?;
    fields.finish()?;
    Ok(reason)
}

/// Attributes that are changed in another way.
fn other_ways(invalid: InvalidField) -> InvalidField {
    let way = match invalid.field.as_str() {
        "is_enabled" => "use POST /enable or /disable",
        "secrets" | "client_secret" | "application_secret_hash" => "use POST /secrets to rotate",
        "application_uri" | "client_id" | "id" => "cannot change: register another application",
        _ => return invalid,
    };
    InvalidField {
        message: way.into(),
        ..invalid
    }
}

struct Search {
    client_id: Option<String>,
    org_code: Option<String>,
    enabled: Option<bool>,
    query: Option<String>,
    limit: usize,
    after: Option<ApplicationUri>,
    as_of: Option<AsOf>,
}

impl Search {
    /// What is found, up to the limit, and where the next page begins.
    fn page<'a>(&self, directory: &'a Directory, call: &AuthorizedCall<'_>) -> Page<'a> {
        if let Some(client_id) = &self.client_id {
            let found = directory.application(ApplicationId::of_client_id(client_id));
            let found = found.filter(|application| self.accepts(application));
            let applications = found.into_iter().map(|application| self.shown(application, call));
            return Page {
                applications: applications.collect(),
                next: None,
            };
        }
        let mut applications = Vec::new();
        let mut next = None;
        let mut last_visited: Option<&Arc<TrustedApplication>> = None;
        for (visited, application) in directory.applications_after(self.after.as_ref()).enumerate() {
            if applications.len() == self.limit || visited == MAX_VISITED {
                next = last_visited.map(|last| last.uri.to_string());
                break;
            }
            last_visited = Some(application);
            if self.accepts(application) {
                applications.push(self.shown(application, call));
            }
        }
        Page { applications, next }
    }

    fn shown<'a>(&self, application: &'a TrustedApplication, call: &AuthorizedCall<'_>) -> ShownApplication<'a> {
        match self.as_of {
            None => ShownApplication::of(application, call.circumstances.now).with_usage(call.service),
            Some(AsOf::Time(time)) => ShownApplication::of(application, time),
            Some(AsOf::Index(_)) => ShownApplication::of(application, application.changed_at),
        }
    }

    fn parse(query: &str, call: &AuthorizedCall<'_>) -> Result<Self, Problem> {
        let mut parameters = Parameters::parse(query)?;
        let search = Self {
            client_id: parameters.take("client_id"),
            org_code: parameters.take("org_code"),
            enabled: parameters.parsed("enabled", "true or false")?,
            query: parameters.take("q").map(|text| text.to_lowercase()),
            limit: limit(&mut parameters)?,
            after: parameters
                .take("after")
                .map(|text| ApplicationUri::parse(&text))
                .transpose()
                .map_err(|_| InvalidField::new("after", "must be `next` of the page before"))?,
            as_of: as_of_parameter(&mut parameters, call)?,
        };
        parameters.finish()?;
        Ok(search)
    }

    fn accepts(&self, application: &TrustedApplication) -> bool {
        let holds = |text: &str, part: &str| text.to_lowercase().contains(part);
        !application.is_deleted()
            && self.enabled.is_none_or(|enabled| application.is_enabled == enabled)
            && self.org_code.as_ref().is_none_or(|wanted| {
                application
                    .org_code
                    .as_ref()
                    .is_some_and(|code| code.as_str() == wanted)
            })
            && self.query.as_ref().is_none_or(|part| {
                holds(application.uri.as_str(), part)
                    || holds(application.name.as_str(), part)
                    || application
                        .owner
                        .as_ref()
                        .is_some_and(|owner| holds(owner.as_str(), part))
            })
    }
}

pub(super) fn limit(parameters: &mut Parameters) -> Result<usize, InvalidField> {
    let limit: Option<usize> = parameters.parsed("limit", "1 to 1000")?;
    match limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => Err(InvalidField::new("limit", "must be 1 to 1000")),
    }
}

fn as_of(name: &'static str, text: &str) -> Result<AsOf, InvalidField> {
    if let Ok(index) = text.parse() {
        return Ok(AsOf::Index(index));
    }
    Timestamp::parse(text)
        .map(AsOf::Time)
        .map_err(|_| InvalidField::new(name, "must be RFC 3339 (2026-03-16T09:30:00Z) or the index of an event"))
}

/// A point of the past.
pub(super) fn as_of_parameter(parameters: &mut Parameters, call: &AuthorizedCall<'_>) -> Result<Option<AsOf>, Problem> {
    let Some(text) = parameters.take("as_of") else {
        return Ok(None);
    };
    let as_of = as_of("as_of", &text)?;
    call.service.check_past("as_of", as_of, call.circumstances.now)?;
    Ok(Some(as_of))
}

/// Whoever looks at the past is on the record before it is shown.
pub(super) async fn record_looking_back(
    state_of: String,
    as_of: AsOf,
    rows: usize,
    call: &AuthorizedCall<'_>,
) -> Result<(), Problem> {
    let reader = &call.caller.application_uri;
    let recorded = call
        .service
        .record_looking_back(state_of, as_of, rows, reader, &call.circumstances);
    Ok(recorded.await?)
}

pub(super) fn application_id(text: &str) -> Result<ApplicationId, Problem> {
    text.parse().map_err(|_| {
        Problem::invalid(
            "id",
            "must be a UUID; GET /admin/applications?client_id=… finds it by client_id",
        )
    })
}
