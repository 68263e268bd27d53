//! `/audit/tail`: the trail as it grows, as server-sent events (WHATWG HTML §9.2).

use crate::audit::selection::Selection;
use crate::audit::{AuditQuery, TimeBound};
use crate::http::Doors;
use crate::http::audit::{READ, given, not_for, recorded};
use crate::http::call::AuthorizedCall;
use crate::http::fields::InvalidField;
use crate::http::problem::{Problem, use_methods};
use crate::service::follow_audit::{TailBegin, TailPart, TailRequest};
use actix_web::http::header;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::convert::Infallible;
use std::fmt::Write;

/// When a reader is to come back after its connection was lost, in milliseconds.
const RETRY_MILLISECONDS: u32 = 2_000;
/// Parameters of the search that mean nothing to a tail.
const NOT_FOR_A_TAIL: [(&str, &str); 4] = [
    ("order", "a tail shows events in the order of the log"),
    ("limit", "a tail has no end"),
    (
        "after",
        "a tail goes on after the index in Last-Event-ID, or from from_index",
    ),
    ("until", "a tail has no end"),
];

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/audit/tail")
            .route(web::get().to(tail))
            .default_service(web::to(use_methods("GET"))),
    );
}

async fn tail(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    let mut given = given(&request)?;
    not_for(&given, &NOT_FOR_A_TAIL)?;
    let parameters = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut query = AuditQuery::from_parameters(parameters, call.circumstances.now)?;
    let from_index = given
        .iter()
        .any(|(name, _)| name == "from_index")
        .then_some(query.from_index);
    let last_event_id = last_event_id(&request)?;
    let begin = match (last_event_id, from_index) {
        // The id is that of a reader who began at from_index and comes back with the same URL.
        (Some(last), from) => TailBegin::At(last.saturating_add(1).max(from.unwrap_or(0))),
        (None, Some(from)) => TailBegin::At(from),
        (None, None) => TailBegin::Now,
    };
    query.from_index = 0;
    // A span back from now would mean another time whenever the reader comes back: what is behind the last event
    // that it has seen is wanted, however long it was away.
    if last_event_id.is_some() && matches!(query.since, Some(TimeBound::Ago { .. })) {
        query.since = None;
    }
    let beyond_begin = AuditQuery {
        since: None,
        ..query.clone()
    };
    if !Selection::of(beyond_begin).is_fixed() {
        let message = "takes times (RFC 3339) only in a tail: a span back from now would mean another time later";
        return Err(InvalidField::new("filter", message).into());
    }
    if let Some(last) = last_event_id {
        given.push(("last_event_id".into(), last.to_string()));
    }
    let tail = TailRequest {
        selection: Selection::of(query),
        begin,
        parameters: recorded(&given),
    };
    let reader = doors
        .service
        .follow_audit(tail, READ, call.caller, &call.circumstances)
        .await?;

    let retry = Bytes::from(format!("retry: {RETRY_MILLISECONDS}\n\n"));
    let parts = stream::unfold((Some(retry), reader), |(first, mut reader)| async move {
        match first {
            Some(first) => Some((Ok::<_, Infallible>(first), (None, reader))),
            None => {
                let part = reader.recv().await?;
                Some((Ok(Bytes::from(frame(&part))), (None, reader)))
            }
        }
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Nginx would wait until a block is full.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(parts))
}

/// The index of the last event that the reader has seen.
fn last_event_id(request: &HttpRequest) -> Result<Option<u64>, Problem> {
    let Some(value) = request.headers().get("Last-Event-ID") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("x").trim();
    match text.parse() {
        // A browser that has seen none says so.
        _ if text.is_empty() => Ok(None),
        Ok(index) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(index)),
        _ => Err(Problem::invalid(
            "Last-Event-ID",
            "must be the index of an event, as `id` gave it",
        )),
    }
}

/// As it goes over the wire. The id alone is no event to a reader: it tells a browser from where on to come back,
/// however long no event was shown.
fn frame(part: &TailPart) -> Vec<u8> {
    match part {
        TailPart::Events { events, through } => {
            let mut frame = Vec::with_capacity(events.iter().map(|(_, event)| event.len() + 40).sum());
            for (index, event) in events {
                frame.extend_from_slice(format!("id: {index}\ndata: ").as_bytes());
                frame.extend_from_slice(event);
                frame.extend_from_slice(b"\n\n");
            }
            match events.last() {
                Some((last, _)) if last + 1 < *through => frame.extend(beat(*through)),
                _ => {}
            }
            frame
        }
        TailPart::Beat { through } => beat(*through),
        TailPart::End { reason, through } => {
            let data = serde_json::json!({"reason": reason, "indexed_through": through});
            format!("event: end\ndata: {data}\n\n").into_bytes()
        }
    }
}

fn beat(through: u64) -> Vec<u8> {
    let mut beat = format!(": indexed_through {through}\n");
    if let Some(last) = through.checked_sub(1) {
        // Writing to a string does not fail.
        let _ = writeln!(beat, "id: {last}");
    }
    beat.push('\n');
    beat.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::streams::EndReason;

    fn text(part: TailPart) -> String {
        String::from_utf8(frame(&part)).unwrap()
    }

    #[test]
    fn an_event_has_its_index_as_id() {
        let events = vec![(7, b"{}".to_vec()), (9, b"{\"a\":1}".to_vec())];
        assert_eq!(
            text(TailPart::Events { events, through: 10 }),
            "id: 7\ndata: {}\n\nid: 9\ndata: {\"a\":1}\n\n"
        );
    }

    #[test]
    fn what_was_passed_over_behind_the_last_event_moves_the_id() {
        let events = vec![(7, b"{}".to_vec())];
        assert_eq!(
            text(TailPart::Events { events, through: 12 }),
            "id: 7\ndata: {}\n\n: indexed_through 12\nid: 11\n\n"
        );
        assert_eq!(text(TailPart::Beat { through: 0 }), ": indexed_through 0\n\n");
    }

    #[test]
    fn the_end_is_an_event_of_its_own_name_and_without_id() {
        let reason = EndReason::TokenExpired;
        assert_eq!(
            text(TailPart::End { reason, through: 3 }),
            "event: end\ndata: {\"indexed_through\":3,\"reason\":\"token_expired\"}\n\n"
        );
    }
}
