//! Calls of the APIs behind this server: authorized, on the record, and only then on their way to the upstream.

use crate::gateway::body::{AtHand, BrokenOff, UploadBody, UploadEnd, Uploader, at_hand, download};
use crate::gateway::headers::{
    ConnectionOptions, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, goes_on, strip_answer,
};
use crate::gateway::path::{AmbiguousPath, ClearPath};
use crate::gateway::rule::{Asked, NoFit, first_that_fits};
use crate::gateway::settings::RouteSettings;
use crate::gateway::upstream::{Upstream, UpstreamFailure};
use crate::gateway::{Connections, Route};
use crate::http::Doors;
use crate::http::call::credential_beside;
use crate::http::identity;
use crate::http::origin;
use crate::http::problem::{self, NotForwarded, Problem, call_refused};
use crate::http::query_token::without_tokens;
use crate::service::authorize_call::{Call, Caller, RuledOut};
use actix_web::body::{BodyStream, BoxBody, SizedStream};
use actix_web::http::StatusCode;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse, dev, http};
use grantlog_projections::event::Via;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use hyper::{Method, Request, Response};
use std::pin::pin;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep_until};

/// How this server names itself to an upstream (RFC 9110 §7.6.3).
const PSEUDONYM: &str = "grantlog";

/// Takes what no other door took: a call of an API behind this server, or of nothing.
pub async fn call(
    request: HttpRequest,
    payload: Payload,
    doors: web::Data<Doors>,
    connections: web::Data<Connections>,
) -> Result<HttpResponse, Problem> {
    let path = request.uri().path();
    let Some((number, route)) = doors.gateway.route(path) else {
        return Err(problem::not_found().await);
    };
    let Some(upstream) = connections.of(number) else {
        return Err(problem::not_found().await);
    };
    // Before anything is decided: what does not pass is no call, and a flood of it must not fill the record. A place is
    // taken only by who may have it.
    if route.is_full() {
        return Err(NotForwarded::Busy.into());
    }
    let caller = authorize(&request, &doors, route).await?;
    let permit = route.enter().ok_or(NotForwarded::Busy)?;
    let (uploader, body) = match payload.into_inner() {
        dev::Payload::None => (None, UploadBody::none()),
        given => {
            let (uploader, body) = UploadBody::piped(content_length(&request));
            (Some((uploader, given)), body)
        }
    };
    let onward = onward(&request, &doors, &route.settings, upstream, &caller, body)?;
    let answer = exchange(upstream, onward, uploader, &route.settings).await?;
    back(answer, &request, &route.settings, permit).await
}

/// Puts the call on the record, let through or not.
async fn authorize(request: &HttpRequest, doors: &Doors, route: &Route) -> Result<Caller, Problem> {
    let settings = &route.settings;
    let uri = request.uri();
    let rest = uri.path().get(settings.prefix.len()..).unwrap_or_default();
    let path = ClearPath::parse(rest);
    let asked = asked(request, route, &path);
    let recorded = recorded_path(uri, settings.record_query);
    let call = Call {
        via: Via::Gateway,
        credential: credential_beside(request, uri.query()),
        audience: &settings.audience,
        method: request.method().as_str(),
        path: &recorded,
        required_scope: asked.as_ref().map_or("", |asked| asked.scope.as_str()),
        org_code: asked.as_ref().ok().and_then(|asked| asked.org_code),
        ruled_out: asked.as_ref().err(),
    };
    let circumstances = origin::circumstances(request, doors);
    let decided = doors.service.authorize_call(call, &circumstances).await;
    decided.map_err(|refused| call_refused(refused, &doors.service.settings().issuer))
}

/// What the first rule asks that fits, or why the request is none that can be handed on, whoever sends it.
fn asked<'r, 'p>(
    request: &HttpRequest,
    route: &'r Route,
    path: &'p Result<ClearPath<'_>, AmbiguousPath>,
) -> Result<Asked<'r, 'p>, RuledOut> {
    let path = path
        .as_ref()
        .map_err(|ambiguous| RuledOut::AmbiguousPath(ambiguous.to_string()))?;
    if route.is_of_a_route_below(path) {
        let detail = "the path is another route's but for its spelling, which not every server tells apart";
        return Err(RuledOut::AmbiguousPath(detail.into()));
    }
    // To some servers `/orders;x` is `/orders`.
    if path.has_parameters && route.looks_at_paths() {
        let detail =
            "the path has parameters (;), or dots or blanks at a name's end, which not every server reads alike";
        return Err(RuledOut::AmbiguousPath(detail.into()));
    }
    if path.has_escapes_left && (route.looks_at_paths() || route.has_routes_below()) {
        return Err(RuledOut::AmbiguousPath(AmbiguousPath::EncodedTwice.to_string()));
    }
    // RFC 9110 §9.3.8: what TRACE sends back may hold what only we know. CONNECT has no path.
    if matches!(*request.method(), http::Method::TRACE | http::Method::CONNECT) {
        return Err(RuledOut::MethodNotImplemented);
    }
    if asks_for_websocket(request) {
        return Err(RuledOut::UpgradeNotImplemented);
    }
    let most_bytes = route.settings.max_body_bytes;
    if content_length(request).is_some_and(|bytes| bytes > most_bytes) {
        return Err(RuledOut::BodyTooLarge { most_bytes });
    }
    first_that_fits(&route.settings.rules, request.method().as_str(), path).map_err(|no_fit| match no_fit {
        NoFit::NoRule => RuledOut::NoRule,
        NoFit::OtherCase => {
            let detail = "the path is a rule's but for upper and lower case, which not every server tells apart";
            RuledOut::AmbiguousPath(detail.into())
        }
    })
}

/// Behind it another protocol would follow, in which nobody authorizes anything. Others (h2c) may be ignored
/// (RFC 9110 §7.8).
fn asks_for_websocket(request: &HttpRequest) -> bool {
    let offered = request.headers().get_all(http::header::UPGRADE);
    offered
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|protocol| protocol.trim_ascii().to_ascii_lowercase().starts_with(b"websocket"))
}

/// The request as the upstream gets it.
fn onward(
    request: &HttpRequest,
    doors: &Doors,
    settings: &RouteSettings,
    upstream: &Upstream,
    caller: &Caller,
    body: UploadBody,
) -> Result<Request<UploadBody>, Problem> {
    let malformed = || NotForwarded::Malformed;
    let uri = request.uri();
    let target = upstream.uri(uri.path(), uri.query()).ok_or_else(malformed)?;
    let method = Method::from_bytes(request.method().as_str().as_bytes()).map_err(|_| malformed())?;
    let mut headers = HeaderMap::with_capacity(request.headers().len() + 12);
    let given = request.headers();
    let named = ConnectionOptions::of(given.get_all(http::header::CONNECTION).map(|value| value.as_bytes()));
    for (name, value) in given {
        if goes_on(name.as_str(), &named, settings.forward_token) {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| malformed())?;
            headers.append(
                name,
                HeaderValue::from_bytes(value.as_bytes()).map_err(|_| malformed())?,
            );
        }
    }
    let mut set = |name: HeaderName, value: &[u8]| match HeaderValue::from_bytes(value) {
        Ok(value) => {
            headers.insert(name, value);
            Ok(())
        }
        Err(_) => Err(malformed()),
    };
    for (name, value) in identity::headers(caller).ok_or_else(malformed)? {
        // What the caller has written there is gone; what its token does not say is not said.
        if !value.is_empty() {
            set(
                HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| malformed())?,
                value.as_bytes(),
            )?;
        }
    }
    let way = origin::way(request, doors, caller.source_ip);
    set(FORWARDED_FOR, way.addresses.as_bytes())?;
    set(FORWARDED_PROTO, way.scheme.as_bytes())?;
    if let Some(host) = &way.host {
        set(FORWARDED_HOST, host)?;
    }
    let version = match request.version() {
        http::Version::HTTP_2 => "2.0",
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let mut via = given
        .get_all(http::header::VIA)
        .flat_map(|value| [value.as_bytes(), b", "])
        .collect::<Vec<_>>()
        .concat();
    via.extend_from_slice(format!("{version} {PSEUDONYM}").as_bytes());
    set(VIA, &via)?;
    if let Some(length) = content_length(request) {
        set(CONTENT_LENGTH, length.to_string().as_bytes())?;
    }
    headers.insert(HOST, upstream.host.clone());
    let mut onward = Request::new(body);
    *onward.method_mut() = method;
    *onward.uri_mut() = target;
    *onward.headers_mut() = headers;
    Ok(onward)
}

/// Sends the request and whatever comes of its body, until the head of the answer is there.
async fn exchange(
    upstream: &Upstream,
    request: Request<UploadBody>,
    body: Option<(Uploader, dev::Payload)>,
    settings: &RouteSettings,
) -> Result<Response<Incoming>, Problem> {
    let mut answer = pin!(upstream.send(request));
    let (ended, mut end) = oneshot::channel();
    let mut is_sending = body.is_some();
    if let Some((uploader, payload)) = body {
        let (idle_timeout, max_bytes) = (settings.idle_timeout, settings.max_body_bytes);
        // On its own: an upstream may begin its answer while the body is still on the way.
        actix_web::rt::spawn(async move {
            // Nobody listens any more when the answer was there first.
            let _ = ended.send(uploader.send(payload, idle_timeout, max_bytes).await);
        });
    }
    let mut patience = pin!(sleep_until(Instant::now() + settings.response_timeout));
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer.map_err(|error| {
                // A body that the caller broke off looks like an upstream's failure from here.
                let of_caller = end.try_recv().ok().and_then(|end| given_up(end, settings));
                tracing::debug!(%error, prefix = settings.prefix, "a call came to nothing");
                of_caller.unwrap_or(NotForwarded::Upstream(UpstreamFailure::from(&error))).into()
            }),
            end = &mut end, if is_sending => {
                is_sending = false;
                if let Some(reason) = given_up(end.unwrap_or(UploadEnd::CallerGone), settings) {
                    return Err(reason.into());
                }
                patience.as_mut().reset(Instant::now() + settings.response_timeout);
            }
            () = &mut patience, if !is_sending => {
                return Err(NotForwarded::Upstream(UpstreamFailure::Timeout).into());
            }
        }
    }
}

/// Why a call comes to nothing whose body ended like this. What an upstream that wants no more of it answers is still
/// to come.
fn given_up(end: UploadEnd, settings: &RouteSettings) -> Option<NotForwarded> {
    match end {
        UploadEnd::Complete | UploadEnd::UpstreamGone => None,
        UploadEnd::TooLarge => Some(NotForwarded::TooLarge(settings.max_body_bytes)),
        UploadEnd::CallerGone => Some(NotForwarded::BrokenOff),
        UploadEnd::CallerTooSlow => Some(NotForwarded::TooSlow),
        UploadEnd::UpstreamTooSlow => Some(NotForwarded::Upstream(UpstreamFailure::Timeout)),
    }
}

/// The upstream's answer as the caller gets it.
async fn back(
    answer: Response<Incoming>,
    request: &HttpRequest,
    settings: &RouteSettings,
    permit: OwnedSemaphorePermit,
) -> Result<HttpResponse, Problem> {
    let (mut head, mut body) = answer.into_parts();
    // Another protocol was not asked for (RFC 9110 §15.2.2).
    let status = match StatusCode::from_u16(head.status.as_u16()) {
        Ok(status) if !status.is_informational() => status,
        _ => return Err(NotForwarded::Upstream(UpstreamFailure::NoProperAnswer).into()),
    };
    // The connection bounds it only roughly, by what it reads at once.
    let head_bytes: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if head_bytes > settings.max_response_header_bytes {
        return Err(NotForwarded::Upstream(UpstreamFailure::NoProperAnswer).into());
    }
    strip_answer(&mut head.headers);
    let announced = head.headers.remove(CONTENT_LENGTH);
    let mut response = HttpResponse::new(status);
    for (name, value) in &head.headers {
        let name = http::header::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = http::header::HeaderValue::from_bytes(value.as_bytes());
        // What one version of the same types took, the other takes.
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
    let length = body.size_hint().exact();
    let is_head = *request.method() == http::Method::HEAD;
    if is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // RFC 9110 §8.6: what is announced is what a GET would have brought.
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        return Ok(match announced {
            Some(length) if status == StatusCode::NOT_MODIFIED => {
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_LENGTH, http::header::HeaderValue::from(length));
                response
            }
            Some(length) if status != StatusCode::NO_CONTENT => {
                let nothing = futures_util::stream::empty::<Result<web::Bytes, BrokenOff>>();
                response.set_body(BoxBody::new(SizedStream::new(length, nothing)))
            }
            _ => response,
        });
    }
    if length == Some(0) {
        return Ok(response);
    }
    let first = match at_hand(&mut body).await {
        AtHand::Data(data) if length == Some(data.len() as u64) => return Ok(response.set_body(BoxBody::new(data))),
        AtHand::Data(data) => Some(data),
        AtHand::Nothing => None,
        AtHand::End => return Ok(response),
        AtHand::BrokenOff => return Err(NotForwarded::Upstream(UpstreamFailure::NoProperAnswer).into()),
    };
    let body = Box::pin(download(first, body, settings.idle_timeout, permit));
    Ok(match length {
        Some(length) => response.set_body(BoxBody::new(SizedStream::new(length, body))),
        None => response.set_body(BoxBody::new(BodyStream::new(body))),
    })
}

/// The length that the caller announced. actix-http and hyper have refused whatever could be read in two ways;
/// what goes on is the number, not the text.
fn content_length(request: &HttpRequest) -> Option<u64> {
    let value = request.headers().get(http::header::CONTENT_LENGTH)?;
    value.to_str().ok()?.trim().parse().ok()
}

/// The path as the record has it, with its query where the route says so.
fn recorded_path(uri: &http::Uri, with_query: bool) -> String {
    match uri.query().filter(|_| with_query) {
        Some(query) => format!("{}?{}", uri.path(), without_tokens(query)),
        None => uri.path().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_has_the_query_where_the_route_says_so_and_never_a_token() {
        let uri: http::Uri = "/api/a%20b?$top=10&access%5Ftoken=gls_secret&access_token=x&b"
            .parse()
            .unwrap();
        assert_eq!(recorded_path(&uri, false), "/api/a%20b");
        assert_eq!(
            recorded_path(&uri, true),
            "/api/a%20b?$top=10&access_token&access_token&b"
        );
    }
}
