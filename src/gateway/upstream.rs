//! The connections to an upstream: HTTP/1.1, kept open between calls, TLS where its URL says so.

use super::body::UploadBody;
use super::settings::RouteSettings;
use crate::forwarding::settings::TlsFiles;
use crate::forwarding::trust::{TrustError, client_config};
use crate::outgoing::cause::is_tls;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, body::Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// Headers that an answer may have.
const MAX_ANSWER_HEADERS: usize = 128;

/// Why there is no answer of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFailure {
    /// It refuses connections, or its name is not known.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// No connection came about in time.
    #[error("the upstream did not take a connection in time")]
    ConnectTimeout,
    /// It is not who it should be.
    #[error("the upstream's TLS cannot be trusted or does not work")]
    Tls,
    /// It closed the connection, or what it sent is no HTTP, or its head is too large.
    #[error("the upstream gave no proper answer")]
    NoProperAnswer,
    /// It did not answer in time.
    #[error("the upstream did not answer in time")]
    Timeout,
}

/// An upstream as one worker talks with it.
pub struct Upstream {
    client: Client<Connector, UploadBody>,
    scheme: Scheme,
    authority: Authority,
    /// What comes before every path.
    base: String,
    /// How much of a path it does not see.
    stripped: usize,
    /// Its name, as `Host` has it.
    pub host: HeaderValue,
}

impl Upstream {
    /// Connects when there is something to send.
    pub fn new(settings: &RouteSettings, connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.keep_alive)
            .pool_max_idle_per_host(match settings.keep_alive.is_zero() {
                true => 0,
                false => settings.max_idle_connections,
            })
            .http1_max_buf_size(settings.max_response_header_bytes)
            .http1_max_headers(MAX_ANSWER_HEADERS)
            // A request is on the record once, so it is sent once, even if a repetition would be harmless.
            .retry_canceled_requests(false)
            .build(connector);
        Self {
            client,
            scheme: match settings.upstream.scheme() {
                "https" => Scheme::HTTPS,
                _ => Scheme::HTTP,
            },
            authority: settings.authority.clone(),
            base: settings.upstream.path().trim_end_matches('/').to_owned(),
            stripped: match settings.strip_prefix {
                true => settings.prefix.len(),
                false => 0,
            },
            // An authority is visible ASCII.
            host: HeaderValue::from_str(settings.authority.as_str()).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// The URI of a request's path and query, which stay as they are. None: they have no place in one.
    pub fn uri(&self, path: &str, query: Option<&str>) -> Option<Uri> {
        let below = path.get(self.stripped..)?;
        let mut target = format!("{}{below}", self.base);
        if target.is_empty() {
            target.push('/');
        }
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        let target = PathAndQuery::try_from(target).ok()?;
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
            .ok()
    }

    /// Sends a request; answers with the head of the upstream's answer. Who drops the future ends the call.
    pub fn send(
        &self,
        request: Request<UploadBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, Error>> + use<> {
        self.client.request(request)
    }
}

impl From<&Error> for UpstreamFailure {
    fn from(error: &Error) -> Self {
        if is_tls(error) {
            return Self::Tls;
        }
        match (error.is_connect(), timed_out(error)) {
            (true, true) => Self::ConnectTimeout,
            (true, false) => Self::Unreachable,
            (false, _) => Self::NoProperAnswer,
        }
    }
}

fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Makes connections, each within a time.
#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Connector {
    /// Reads the certificates to trust.
    pub fn new(settings: &RouteSettings) -> Result<Self, TrustError> {
        let tls = match settings.upstream.scheme() {
            "https" => client_config(&TlsFiles {
                ca_file: settings.ca_file.clone(),
                client: None,
            })?,
            // Reading the system's takes long, and nobody would ask for them.
            _ => without_trust()?,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Ok(Self {
            inner: hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp),
            timeout: settings.connect_timeout,
        })
    }
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.inner.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

fn without_trust() -> Result<rustls::ClientConfig, TrustError> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(error.to_string()))?;
    Ok(builder
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::settings::for_tests;

    fn uri(upstream: &str, strip_prefix: bool, path: &str, query: Option<&str>) -> String {
        let mut settings = for_tests("/api");
        settings.upstream = upstream.parse().unwrap();
        settings.authority = crate::gateway::settings::authority(&settings.upstream).unwrap();
        settings.strip_prefix = strip_prefix;
        let connector = Connector::new(&settings).unwrap();
        Upstream::new(&settings, connector)
            .uri(path, query)
            .unwrap()
            .to_string()
    }

    #[tokio::test]
    async fn path_and_query_stay_as_they_are_behind_the_upstreams_own() {
        let bare = "http://10.0.0.1:9000";
        assert_eq!(
            uri(bare, false, "/api/a%20b", Some("$top=10&a=%2F")),
            "http://10.0.0.1:9000/api/a%20b?$top=10&a=%2F"
        );
        assert_eq!(uri(bare, true, "/api/a", Some("")), "http://10.0.0.1:9000/a?");
        assert_eq!(uri(bare, true, "/api", None), "http://10.0.0.1:9000/");
        assert_eq!(uri("http://h/base/", true, "/api/a/", None), "http://h/base/a/");
        assert_eq!(
            uri("http://[::1]:9/base", false, "/api", None),
            "http://[::1]:9/base/api"
        );
    }
}
