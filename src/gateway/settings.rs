//! A route as the configuration gives it, every value checked.

use super::rule::Rule;
use grantlog_projections::values::Audience;
use hyper::http::uri::Authority;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// One `[[gateway]]`.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// What paths begin with that go this way: `/api/domain`, without a slash at the end.
    pub prefix: String,
    /// Where they go: http or https, a host, and the path that theirs is put behind.
    pub upstream: Url,
    /// Its host and port.
    pub authority: Authority,
    /// Whether the upstream sees paths without the prefix.
    pub strip_prefix: bool,
    /// What tokens must be for.
    pub audience: Audience,
    /// Which scope a call needs: the first rule that fits counts, and without one the call is denied.
    pub rules: Vec<Rule>,
    /// Whether the upstream gets the caller's token.
    pub forward_token: bool,
    /// Whether events keep the query.
    pub record_query: bool,
    /// The only certificate authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to be made, name look-up and TLS together.
    pub connect_timeout: Duration,
    /// How long the upstream may take to begin its answer when it has the whole request.
    pub response_timeout: Duration,
    /// How long a body may stand still, in either direction.
    pub idle_timeout: Duration,
    /// The largest body of a request, in bytes.
    pub max_body_bytes: u64,
    /// The largest head of an answer, in bytes.
    pub max_response_header_bytes: usize,
    /// Calls that may be at the upstream at once; beyond it they get 503.
    pub max_in_flight: usize,
    /// Idle connections that each worker keeps.
    pub max_idle_connections: usize,
    /// How long it keeps them.
    pub keep_alive: Duration,
}

/// Host and port of an upstream, the port only when it is not the scheme's own.
pub fn authority(upstream: &Url) -> Option<Authority> {
    let host = upstream.host_str().filter(|host| !host.is_empty())?;
    let text = match upstream.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    text.parse().ok()
}

/// A route to nowhere.
#[cfg(test)]
pub fn for_tests(prefix: &str) -> RouteSettings {
    RouteSettings {
        prefix: prefix.to_owned(),
        upstream: "http://127.0.0.1:9/".parse().unwrap(),
        authority: Authority::from_static("127.0.0.1:9"),
        strip_prefix: false,
        audience: Audience::parse("https://api.example.com").unwrap(),
        rules: Vec::new(),
        forward_token: false,
        record_query: false,
        ca_file: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        max_body_bytes: 1,
        max_response_header_bytes: 8_192,
        max_in_flight: 1,
        max_idle_connections: 1,
        keep_alive: Duration::from_secs(1),
    }
}
