//! HTTP/2 towards callers, every part of it bounded (docs/decisions/0013). actix-web's own cannot be: it neither limits
//! the streams of a connection nor the size of a head. So hyper speaks HTTP/2, and hands each request to the same
//! application that HTTP/1.1 reaches.

use crate::gateway::body::BrokenOff;
use crate::http::problem::{self, Problem};
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::{BoxedPayloadStream, Payload, Request, header};
use actix_web::dev::{Response, Service, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::{ResponseError, http};
use futures_util::stream;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// Requests that a connection may have at once.
pub const MAX_STREAMS: u32 = 100;
/// The largest head of a request, in bytes as RFC 9113 §6.5.2 counts them.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// What a peer may send of one body before somebody reads it, in bytes.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same of all bodies of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// What waits to be sent of one answer, in bytes.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that a peer may reset before they are looked at (CVE-2023-44487); beyond it the connection ends.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that we reset because of the peer's mistakes; beyond it the connection ends.
const MAX_OWN_RESETS: usize = 100;
/// How often a silent peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may take nothing of an answer that is there.
const LONGEST_STALL: Duration = Duration::from_secs(30);
/// How often it is looked whether one does.
const LOOK_FOR_STALLS_EVERY: Duration = Duration::from_secs(5);

/// How long a connection may be idle.
#[derive(Debug, Clone, Copy)]
pub struct Idleness {
    /// Before its first request.
    pub first: Duration,
    /// Between requests.
    pub later: Duration,
}

/// Requests that one worker carries out at once, over all of its connections.
#[derive(Clone)]
pub struct Load {
    now: Rc<Cell<usize>>,
    most: usize,
}

/// One more, until it is dropped.
struct Carried(Rc<Cell<usize>>);

impl Load {
    /// So many.
    pub fn new(most: usize) -> Self {
        Self {
            now: Rc::default(),
            most,
        }
    }

    fn carry(&self) -> Option<Carried> {
        if self.now.get() >= self.most {
            return None;
        }
        self.now.set(self.now.get() + 1);
        Some(Carried(self.now.clone()))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Serves a connection until it is over, idle for too long, or the server stops.
pub async fn serve<S, B>(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: Option<SocketAddr>,
    application: Rc<S>,
    load: Load,
    idleness: Idleness,
    stopping: impl Future<Output = ()>,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let starved = Starved::default();
    let starved_here = starved.clone();
    let open = Rc::new(Cell::new(0_usize));
    let served = Rc::new(Cell::new(0_u64));
    let (open_here, served_here) = (open.clone(), served.clone());
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        open_here.set(open_here.get() + 1);
        served_here.set(served_here.get() + 1);
        let carried = (load.carry(), Carried(open_here.clone()));
        let (application, starved) = (application.clone(), starved_here.clone());
        async move {
            let answer = answer(request, peer, &*application, carried).await;
            Ok::<_, Infallible>(answer.map(|body| body.watched(starved)))
        }
    });
    let connection = http2::Builder::new(OnThisThread)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut stopping = pin!(stopping);
    let mut is_stopping = false;
    let (mut known, mut was_open) = (0, false);
    let mut looks = tokio::time::interval(LOOK_FOR_STALLS_EVERY);
    // Goes on whatever else happens: begun anew with each look for stalls, it would never be over.
    let mut idle = pin!(tokio::time::sleep(idleness.first));
    loop {
        tokio::select! {
            // A peer's mistakes are its own business.
            _ = connection.as_mut() => return,
            () = stopping.as_mut(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            // Its streams would keep places that others need for as long as it likes.
            _ = looks.tick() => if starved.since_long() {
                return;
            },
            () = idle.as_mut() => {
                // What has just ended was at work for as long as it took.
                let is_idle = open.get() == 0 && served.get() == known && !was_open;
                // It had its time to end by itself.
                if is_idle && is_stopping {
                    return;
                }
                if is_idle {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                known = served.get();
                was_open = open.get() > 0;
                let patience = if known == 0 { idleness.first } else { idleness.later };
                idle.as_mut().reset(tokio::time::Instant::now() + patience);
            }
        }
    }
}

type Counted = (Option<Carried>, Carried);

async fn answer<S, B>(
    request: hyper::Request<Incoming>,
    peer: Option<SocketAddr>,
    application: &S,
    carried: Counted,
) -> hyper::Response<AnswerBody>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    let is_head = request.method() == hyper::Method::HEAD;
    if carried.0.is_none() {
        let busy = problem::too_many_requests_in_flight().error_response();
        return outward(busy.into(), is_head, carried);
    }
    let Some(request) = inward(request, peer) else {
        let doubtful = Problem::unreadable("The request names no host, or two, or two lengths").error_response();
        return outward(doubtful.into(), is_head, carried);
    };
    match application.call(request).await {
        Ok(response) => outward(response.map_into_boxed_body().into(), is_head, carried),
        Err(error) => outward(error.error_response().into(), is_head, carried),
    }
}

/// The request as the application knows requests; none when it could be read in two ways.
fn inward(request: hyper::Request<Incoming>, peer: Option<SocketAddr>) -> Option<Request> {
    let (parts, body) = request.into_parts();
    // RFC 9113 §8.3.1: the target and Host must not name two hosts, and Host alone is looked at further on.
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes().to_vec());
    let hosts: Vec<&[u8]> = parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes).collect();
    let host = match (&authority, &hosts[..]) {
        (Some(authority), []) => authority.clone(),
        (Some(authority), [host]) if authority.eq_ignore_ascii_case(host) => authority.clone(),
        (None, [host]) => host.to_vec(),
        _ => return None,
    };
    if parts.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return None;
    }
    let payload = match body.is_end_stream() {
        true => Payload::None,
        false => Payload::Stream { payload: data(body) },
    };
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    head.version = http::Version::HTTP_2;
    head.method = http::Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
    head.uri = parts.uri.to_string().parse().ok()?;
    head.peer_addr = peer;
    for (name, value) in &parts.headers {
        if !matches!(*name, HOST | COOKIE) {
            let name = header::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            head.headers
                .append(name, header::HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    head.headers
        .insert(header::HOST, header::HeaderValue::from_bytes(&host).ok()?);
    // RFC 9113 §8.2.3: they come in pieces, and are one header elsewhere.
    let cookies: Vec<&[u8]> = parts
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if !cookies.is_empty() {
        let cookies = header::HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok()?;
        head.headers.insert(header::COOKIE, cookies);
    }
    Some(request)
}

fn data(body: Incoming) -> BoxedPayloadStream {
    Box::pin(stream::unfold(Some(body), |body| async {
        let mut body = body?;
        loop {
            return match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await? {
                Err(_) => Some((Err(PayloadError::Incomplete(None)), None)),
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Some((Ok(data), Some(body))),
                    // Trailers say nothing to anybody here.
                    Err(_) => continue,
                },
            };
        }
    }))
}

/// The application's answer as hyper sends it.
fn outward(response: Response<BoxBody>, is_head: bool, carried: Counted) -> hyper::Response<AnswerBody> {
    let (response, body) = response.into_parts();
    // Two versions of one type, which take the same numbers.
    let status = hyper::StatusCode::from_u16(response.status().as_u16()).expect("three digits");
    let mut headers = HeaderMap::with_capacity(response.headers().len() + 1);
    for (name, value) in response.headers() {
        // RFC 9113 §8.2.2: what is about a connection has no place here.
        if matches!(
            *name,
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::CONTENT_LENGTH
        ) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        // What one version of the same types took, the other takes.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    let has_content = !matches!(status, hyper::StatusCode::NO_CONTENT | hyper::StatusCode::NOT_MODIFIED);
    let announced = match body.size() {
        BodySize::Sized(length) if has_content => Some(length),
        BodySize::None if has_content => Some(0),
        _ => None,
    };
    let kept = response.headers().get(header::CONTENT_LENGTH);
    match (announced, kept) {
        (Some(length), _) => {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        (None, Some(kept)) if status == hyper::StatusCode::NOT_MODIFIED => {
            if let Ok(kept) = HeaderValue::from_bytes(kept.as_bytes()) {
                headers.insert(CONTENT_LENGTH, kept);
            }
        }
        _ => {}
    }
    let body = match is_head || !has_content || announced == Some(0) {
        true => AnswerBody {
            body: None,
            watch: None,
            _carried: None,
        },
        false => AnswerBody {
            body: Some(body),
            watch: None,
            _carried: Some(carried),
        },
    };
    let mut answer = hyper::Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// An answer's body. As long as it is on the way its request is not over.
struct AnswerBody {
    body: Option<BoxBody>,
    watch: Option<Watch>,
    _carried: Option<Counted>,
}

impl AnswerBody {
    fn watched(mut self, starved: Starved) -> Self {
        self.watch = self.body.as_ref().map(|_| Watch::begin(starved));
        self
    }
}

/// The bodies of a connection that have something to send which their peer does not take, and since when.
#[derive(Clone, Default)]
struct Starved {
    since: Rc<RefCell<BTreeMap<u64, Instant>>>,
    begun: Rc<Cell<u64>>,
}

impl Starved {
    fn since_long(&self) -> bool {
        self.since
            .borrow()
            .values()
            .any(|since| since.elapsed() >= LONGEST_STALL)
    }
}

/// One body among them.
struct Watch {
    starved: Starved,
    number: u64,
}

impl Watch {
    fn begin(starved: Starved) -> Self {
        let number = starved.begun.get();
        starved.begun.set(number + 1);
        let watch = Self { starved, number };
        watch.has_something();
        watch
    }

    /// What was asked for is there, and is asked for again only when the peer has taken it.
    fn has_something(&self) {
        self.starved.since.borrow_mut().insert(self.number, Instant::now());
    }

    /// The peer has taken all that there is.
    fn has_nothing(&self) {
        self.starved.since.borrow_mut().remove(&self.number);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.has_nothing();
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_next(context);
        if let Some(watch) = &self.watch {
            match &polled {
                Poll::Ready(Some(_)) => watch.has_something(),
                Poll::Ready(None) | Poll::Pending => watch.has_nothing(),
            }
        }
        polled.map(|part| part.map(|part| part.map(Frame::data).map_err(|_| BrokenOff)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.as_ref().map(|body| body.size()) {
            None | Some(BodySize::None) => SizeHint::with_exact(0),
            Some(BodySize::Sized(length)) => SizeHint::with_exact(length),
            Some(BodySize::Stream) => SizeHint::default(),
        }
    }
}

/// Runs a connection's requests where the connection is.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
