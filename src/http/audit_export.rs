//! `/audit/export`: a copy of the trail, streamed, and its manifest.

use crate::audit::AuditQuery;
use crate::audit::export::ExportFormat;
use crate::audit::selection::Selection;
use crate::http::Doors;
use crate::http::audit::{given, not_for};
use crate::http::call::{AuthorizedCall, ok};
use crate::http::fields::InvalidField;
use crate::http::problem::{Problem, use_methods};
use crate::service::export_audit::ExportRequest;
use actix_web::http::header;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use grantlog_projections::values::Timestamp;

const EXPORT: &str = "audit:export";
/// Parameters of the search that mean nothing to an export.
const NOT_FOR_AN_EXPORT: [(&str, &str); 3] = [
    ("order", "an export has events in the order of the log"),
    ("limit", "an export has all events of its range; through_index ends it"),
    ("after", "an export goes on from from_index"),
];

pub(super) fn routes(config: &mut ServiceConfig) {
    let of = |path: &str| web::resource(path.to_owned());
    config
        .service(
            of("/audit/export")
                .route(web::get().to(export))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            of("/audit/export/manifest")
                .route(web::get().to(manifest))
                .default_service(web::to(use_methods("GET"))),
        );
}

async fn export(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let call = AuthorizedCall::of(&request, &doors, EXPORT).await?;
    let wanted = wanted(&request, call.circumstances.now)?;
    let format = wanted.format;
    let export = doors
        .service
        .export_audit(wanted, EXPORT, call.caller, &call.circumstances)
        .await?;
    let (from, through) = (export.range.start, export.range.end);
    let parts = stream::unfold(export.parts, |mut parts| async move {
        let part = parts.recv().await?;
        Some((part.map(Bytes::from), parts))
    });
    let disposition = format!(
        "attachment; filename=\"grantlog-{from}-{through}.{}\"",
        format.extension()
    );
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, format.media_type()))
        .insert_header((header::CONTENT_DISPOSITION, disposition))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("Grantlog-From-Index", from.to_string()))
        .insert_header(("Grantlog-Through-Index", through.to_string()))
        .streaming(parts))
}

async fn manifest(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let call = AuthorizedCall::of(&request, &doors, EXPORT).await?;
    let wanted = wanted(&request, call.circumstances.now)?;
    let manifest = doors
        .service
        .export_manifest(wanted, &call.caller, &call.circumstances)
        .await?;
    Ok(ok(&manifest))
}

fn wanted(request: &HttpRequest, now: Timestamp) -> Result<ExportRequest, Problem> {
    let mut given = given(request)?;
    not_for(&given, &NOT_FOR_AN_EXPORT)?;
    let names = ExportFormat::ALL.map(ExportFormat::as_str).join(", ");
    let format = match take(&mut given, "format")? {
        None => ExportFormat::Ndjson,
        Some(name) => name
            .parse()
            .map_err(|()| InvalidField::new("format", format!("must be one of {names}")))?,
    };
    let through_index = take(&mut given, "through_index")?
        .map(|text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.then(|| text.parse().ok()).flatten();
            number.ok_or_else(|| InvalidField::new("through_index", "must be an index: a whole number from 0 on"))
        })
        .transpose()?;
    let parameters = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let query = AuditQuery::from_parameters(parameters, now)?;
    let selection = Selection::of(query);
    if !selection.is_fixed() {
        let message = "an export takes times (RFC 3339) only: a span back from now would choose other events each time";
        let name = given.iter().map(|(name, _)| name.as_str());
        let name = name
            .into_iter()
            .find(|name| matches!(*name, "since" | "until"))
            .unwrap_or("filter");
        return Err(InvalidField::new(name, message).into());
    }
    if format == ExportFormat::Log && !selection.takes_everything() {
        let message = "log has every event of its range, or it could not be checked: leave the conditions out";
        return Err(InvalidField::new("format", message).into());
    }
    Ok(ExportRequest {
        format,
        selection,
        filter: given.into_iter().filter(|(name, _)| name != "from_index").collect(),
        through_index,
    })
}

/// A parameter that is the export's alone.
fn take(given: &mut Vec<(String, String)>, name: &str) -> Result<Option<String>, InvalidField> {
    let Some(position) = given.iter().position(|(given, _)| given == name) else {
        return Ok(None);
    };
    let (_, value) = given.remove(position);
    match given.iter().any(|(given, _)| given == name) {
        true => Err(InvalidField::new(name, "may be given once only")),
        false => Ok(Some(value)),
    }
}
