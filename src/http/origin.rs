//! Where a request comes from, as far as that can be believed.

use crate::http::Doors;
use crate::http::observed::TraceId;
use crate::service;
use crate::service::record::Circumstances;
use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest};
use grantlog_projections::values::Source;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// Characters of a User-Agent that an event keeps.
const MAX_USER_AGENT_CHARS: usize = 256;
/// Hops of an `X-Forwarded-For` that are looked at.
const MAX_HOPS: usize = 32;

/// What the events of a request keep of its circumstances.
pub fn circumstances(request: &HttpRequest, doors: &Doors) -> Circumstances {
    let user_agent = request
        .headers()
        .get(header::USER_AGENT)
        .map(|value| displayable(value.as_bytes()));
    let ip = client_ip(request, &doors.trusted_proxies);
    Circumstances {
        source: Some(Source {
            ip,
            user_agent: user_agent.map(Into::into),
        }),
        trace_id: request.extensions().get::<TraceId>().map(|trace_id| trace_id.0.clone()),
        now: service::now(),
    }
}

/// Whether what the request says about the original one is believed.
pub fn is_from_trusted_proxy(request: &HttpRequest, doors: &Doors) -> bool {
    let trusted = &doors.trusted_proxies;
    !trusted.is_empty() && trusted.iter().any(|network| network.contains(&peer(request)))
}

fn peer(request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

/// The way of a request to this server, for an upstream.
pub struct Way {
    /// The client's address and, when that is another, the proxy's that it came through.
    pub addresses: String,
    /// `http` or `https`, as the client spoke it.
    pub scheme: &'static str,
    /// The host that the client asked.
    pub host: Option<Vec<u8>>,
}

/// What an upstream is told about it. Of a proxy that is not trusted nothing is believed.
pub fn way(request: &HttpRequest, doors: &Doors, client: Option<IpAddr>) -> Way {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let mut addresses: Vec<String> = client.iter().map(IpAddr::to_string).collect();
    addresses.extend(peer.filter(|_| peer != client).map(|peer| peer.to_string()));
    let is_trusted = is_from_trusted_proxy(request, doors);
    let said = |name: &str| request.headers().get(name).filter(|_| is_trusted);
    let scheme = match said("x-forwarded-proto").map(|value| value.as_bytes()) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ if doors.is_tls => "https",
        _ => "http",
    };
    let host = said("x-forwarded-host").or(request.headers().get(header::HOST));
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    // RFC 9112 §3.2.2: what the request's target says comes before Host.
    let host = match said("x-forwarded-host") {
        Some(said) => Some(said.as_bytes()),
        None => authority.or(host.map(|host| host.as_bytes())),
    };
    Way {
        addresses: addresses.join(", "),
        scheme,
        host: host.map(<[u8]>::to_vec),
    }
}

/// The peer's address; behind trusted proxies the last address in `X-Forwarded-For` that is not one of
/// theirs. Whatever an untrusted peer says about itself is not read.
fn client_ip(request: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    let peer = peer(request);
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut nearest = peer;
    let headers: Vec<&[u8]> = request
        .headers()
        .get_all("x-forwarded-for")
        .map(|value| value.as_bytes())
        .collect();
    let hops = headers
        .iter()
        .rev()
        .flat_map(|header| header.rsplit(|byte| *byte == b','));
    for hop in hops.take(MAX_HOPS) {
        // What comes before a hop that is no address was not written by our proxies.
        let Some(ip) = std::str::from_utf8(hop).ok().and_then(|hop| address(hop.trim())) else {
            return nearest;
        };
        if !is_trusted(&ip) {
            return ip;
        }
        nearest = ip;
    }
    nearest
}

/// `192.0.2.1`, `2001:db8::1`, and both with a port: `192.0.2.1:4711`, `[2001:db8::1]:4711`.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    let ip = bare
        .parse()
        .ok()
        .or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// A User-Agent as events keep it.
pub(super) fn displayable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .take(MAX_USER_AGENT_CHARS)
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:ffff::/48".parse().unwrap()];
        let mut request = TestRequest::default().peer_addr(format!("{peer}:1234").parse().unwrap());
        for header in forwarded {
            request = request.append_header(("x-forwarded-for", *header));
        }
        client_ip(&request.to_http_request(), &trusted).to_string()
    }

    #[test]
    fn an_untrusted_peer_cannot_say_where_it_comes_from() {
        assert_eq!(seen("198.51.100.1", &["192.0.2.7"]), "198.51.100.1");
    }

    #[test]
    fn behind_trusted_proxies_the_last_address_that_is_not_theirs_counts() {
        assert_eq!(seen("10.0.0.1", &["192.0.2.66, 192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["192.0.2.66", "192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
        // A byte that is no text spoils its own hop only, whoever sent it.
        assert_eq!(seen("10.0.0.1", &["\u{e9}, 192.0.2.7"]), "192.0.2.7");
    }

    #[test]
    fn without_a_usable_header_the_nearest_known_hop_counts() {
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["192.0.2.1, unknown"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["10.0.0.9"]), "10.0.0.9");
    }

    #[test]
    fn a_user_agent_is_cut_and_loses_its_control_characters() {
        assert_eq!(displayable(b"a\x1b[31m"), "a\u{fffd}[31m");
        assert_eq!(displayable("x".repeat(1_000).as_bytes()).len(), MAX_USER_AGENT_CHARS);
    }
}
