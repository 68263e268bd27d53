//! `/audit/reports`: what can be reported, and the reports.

use crate::audit::reports::parameters::{Parameter, THROUGH_INDEX};
use crate::audit::reports::{CONTENT_SECURITY_POLICY, REPORTS, ReportFormat, ReportKind};
use crate::http::Doors;
use crate::http::audit::{READ, given};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::InvalidField;
use crate::http::problem::{Problem, no_such_report, use_methods};
use crate::service::applications::AsOf;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grantlog_projections::values::Timestamp;
use serde::Serialize;

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |path: &str| web::resource(path.to_owned());
    config
        .service(
            of("/audit/reports")
                .route(web::get().to(list))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/audit/reports/{name}")
                .route(web::get().to(report))
                .default_service(web::to(use_methods("GET"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    AuthorizedCall::of(&request, &doors, READ).await?;
    #[derive(Serialize)]
    struct List {
        reports: Vec<Shown>,
    }
    Ok(ok(&List {
        reports: REPORTS.iter().map(Shown::of).collect(),
    }))
}

async fn report(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let kind = ReportKind::named(&path).ok_or_else(|| {
        let names = REPORTS.iter().map(|kind| kind.name).collect::<Vec<_>>();
        no_such_report(&names.join(", "))
    })?;
    let given = given(&request)?;
    let format = match given.iter().find(|(name, _)| name == "format") {
        None => ReportFormat::Json,
        Some((_, name)) => {
            ReportFormat::parse(name).ok_or_else(|| InvalidField::new("format", "must be text, json, csv or html"))?
        }
    };
    // An index is held against the log where the report reads it; a report itself knows no clock.
    if let Some((_, text)) = given.iter().find(|(name, _)| name == "as_of")
        && let Ok(time) = Timestamp::parse(text)
    {
        call.service
            .check_past("as_of", AsOf::Time(time), call.circumstances.now)?;
    }
    let reader = &call.caller.application_uri;
    let made = call
        .service
        .report(kind, &given, format, reader, &call.circumstances)
        .await?;
    let extension = match format {
        ReportFormat::Text => "txt",
        other => other.as_str(),
    };
    let name = format!("grantlog-{}-{}.{extension}", kind.name, made.through_index);
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::CONTENT_TYPE, format.media_type()))
        .insert_header((header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\"")))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // RFC 9530 §2: the same digest as in the event, whatever a proxy does on the way.
        .insert_header(("content-digest", format!("sha-256=:{}:", STANDARD.encode(made.sha256))));
    if format == ReportFormat::Html {
        answer
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY.as_str()))
            .insert_header((header::REFERRER_POLICY, "no-referrer"));
    }
    Ok(answer.body(made.bytes))
}

/// A kind of report, as the list shows it.
#[derive(Serialize)]
struct Shown {
    name: &'static str,
    title: &'static str,
    purpose: &'static str,
    parameters: Vec<ShownParameter>,
    formats: Vec<&'static str>,
    controls: Vec<ShownControl>,
}

#[derive(Serialize)]
struct ShownParameter {
    name: &'static str,
    description: &'static str,
    default: Option<&'static str>,
}

#[derive(Serialize)]
struct ShownControl {
    standard: &'static str,
    control: &'static str,
    evidence: &'static str,
}

impl Shown {
    fn of(kind: &'static ReportKind) -> Self {
        let parameter = |parameter: &Parameter| ShownParameter {
            name: parameter.name,
            description: parameter.description,
            default: Some(parameter.default).filter(|default| !default.is_empty()),
        };
        let control = |control: &crate::audit::reports::controls::Control| ShownControl {
            standard: control.standard,
            control: control.control,
            evidence: control.evidence,
        };
        Self {
            name: kind.name,
            title: kind.title,
            purpose: kind.purpose,
            parameters: [THROUGH_INDEX].iter().chain(kind.parameters).map(parameter).collect(),
            formats: ReportFormat::ALL.iter().map(|format| format.as_str()).collect(),
            controls: kind.controls.iter().map(control).collect(),
        }
    }
}
