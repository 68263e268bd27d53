//! Which headers go on to an upstream, and which of its headers go back.

use hyper::header::{CONNECTION, HeaderMap, HeaderName};

/// Which addresses the request came through.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// http or https.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the caller asked.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// RFC 9110 §7.6.1: they are for the next server alone.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Written anew for the upstream: `Host` and the length belong to the connection, `Expect` is answered here.
const WRITTEN_ANEW: [&str; 3] = ["host", "content-length", "expect"];

/// What an upstream would believe although only we may say it, or what would make it another call than the one that
/// was authorized: another address, another identity, another host, another method, another path.
const NOT_THE_CALLERS: [&str; 23] = [
    "x-client-id",
    "x-system-user",
    "x-scope",
    "x-org-code",
    "x-session-id",
    "x-token-id",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "fastly-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "cf-access-jwt-assertion",
    // CGI makes it HTTP_PROXY, through which some libraries then call others (CVE-2016-5385).
    "proxy",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-rewrite-url",
];

/// What begins like that is about the request, or about who makes it, as a proxy has seen it.
const NOT_THE_CALLERS_FAMILIES: [&str; 20] = [
    "x-forwarded-",
    "x-original-",
    "remote-",
    "x-remote-",
    "x-auth-request-",
    "x-webauth-",
    "x-amzn-oidc-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-authentik-",
    "x-pomerium-",
    // Not `CF-Access-Client-Id` and its secret: with those a caller proves to Cloudflare, in front of the upstream, who
    // it is.
    "cf-access-authenticated-",
    "x-goog-iap-",
    // RFC 9440 and what was there before it.
    "client-cert",
    "x-client-cert",
    "ssl-client-",
    "x-ssl-client-",
    "x-amzn-mtls-",
    "x-arr-clientcert",
    // Addresses, and what makes of one call several, or another; Envoy takes them from strangers, too.
    "x-envoy-",
];

/// Where the caller's token is.
const TOKEN: [&str; 2] = ["authorization", "x-api-key"];

/// Whether a caller's header goes on to the upstream. `named` are the options of its `Connection`.
pub fn goes_on(name: &str, named: &ConnectionOptions, forward_token: bool) -> bool {
    // To CGI and WSGI `X_Client_Id`, `X.Client.Id` and `X-Client-Id` are the same.
    let is_one_of = |names: &[&str]| names.iter().any(|known| same_name(known, name));
    !is_one_of(&HOP_BY_HOP)
        && !is_one_of(&WRITTEN_ANEW)
        && !is_one_of(&NOT_THE_CALLERS)
        && !NOT_THE_CALLERS_FAMILIES.iter().any(|family| begins_with(family, name))
        // As the token was read here, and in no other spelling: that would be a second one.
        && (!is_one_of(&TOKEN) || forward_token && TOKEN.iter().any(|known| known.eq_ignore_ascii_case(name)))
        && !named.name(name)
}

/// Removes what was for us alone from an upstream's answer.
pub fn strip_answer(headers: &mut HeaderMap) {
    let named = ConnectionOptions::of(headers.get_all(CONNECTION).iter().map(|value| value.as_bytes()));
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| HOP_BY_HOP.contains(&name.as_str()) || named.name(name.as_str()))
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// The headers that a `Connection` names.
pub struct ConnectionOptions(Vec<String>);

impl ConnectionOptions {
    /// Reads the values of `Connection`.
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let options = values.flat_map(|value| value.split(|byte| *byte == b','));
        Self(
            options
                .map(|option| String::from_utf8_lossy(option).trim().to_ascii_lowercase())
                .filter(|option| !option.is_empty())
                .collect(),
        )
    }

    fn name(&self, name: &str) -> bool {
        self.0.iter().any(|option| option.eq_ignore_ascii_case(name))
    }
}

fn same_name(known: &str, name: &str) -> bool {
    known.len() == name.len() && begins_with(known, name)
}

fn begins_with(known: &str, name: &str) -> bool {
    known.len() <= name.len()
        && known.bytes().zip(name.bytes()).all(|(known, given)| match given {
            given if given.is_ascii_alphanumeric() => known == given.to_ascii_lowercase(),
            // Some servers write all others alike.
            _ => known == b'-',
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(name: &str, connection: &[&str]) -> bool {
        let named = ConnectionOptions::of(connection.iter().map(|value| value.as_bytes()));
        goes_on(name, &named, false)
    }

    #[test]
    fn what_only_we_may_say_does_not_go_on_however_it_is_written() {
        for name in [
            "X-Client-Id",
            "x_client_id",
            "X_CLIENT-ID",
            "X.Client.Id",
            "x+client!id",
            "X-Scope",
            "X_Org_Code",
            "X-Token-Id",
        ] {
            assert!(!passes(name, &[]), "{name}");
        }
        for name in [
            "X-Forwarded-For",
            "Forwarded",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X-Original-URI",
            "X-Original-Method",
            "X-Forwarded-Prefix",
            "X_Forwarded_User",
            "True-Client-Ip",
            "Proxy",
            "CF-Connecting-IP",
            "Fastly_Client_IP",
            "X-Envoy-External-Address",
            "Remote-User",
            "REMOTE_USER",
            "X-Remote-User",
            "X-Remote-Group",
            "X-Remote-Addr",
            "X-Auth-Request-Email",
            "X-WebAuth-User",
            "X-MS-CLIENT-PRINCIPAL",
            "X-Ssl-Client-Verify",
            "Remote-Groups",
            "Remote_Email",
            "Client-Cert",
            "Client-Cert-Chain",
            "X-Client-Cert",
            "X-Client-Certificate",
            "Ssl-Client-Verify",
            "SSL_CLIENT_S_DN",
            "X-Amzn-Mtls-Clientcert",
            "X-ARR-ClientCert",
            "Cf-Access-Jwt-Assertion",
            "Cf-Access-Authenticated-User-Email",
            "X-Authentik-Username",
            "X-Pomerium-Claim-Email",
            "X-Goog-IAP-JWT-Assertion",
            "X-Envoy-Original-Path",
            "X-Envoy-Retry-On",
        ] {
            assert!(!passes(name, &[]), "{name}");
        }
        assert!(passes("X-Client-Identity", &[]));
        assert!(passes("X-Request-Id", &[]));
        assert!(passes("CF-Access-Client-Secret", &[]));
        assert!(passes("traceparent", &[]));
    }

    #[test]
    fn what_is_for_the_next_server_alone_does_not_go_on() {
        for name in HOP_BY_HOP {
            assert!(!passes(name, &[]), "{name}");
        }
        assert!(!passes("X-Secret-Hop", &["close, x-secret-hop"]));
        assert!(!passes("X-Other", &["close", " X-Other "]));
        assert!(passes("X-Other", &["close"]));
    }

    #[test]
    fn a_token_goes_on_where_the_route_says_so() {
        let none = ConnectionOptions::of(std::iter::empty());
        for name in ["Authorization", "X-Api-Key"] {
            assert!(!goes_on(name, &none, false), "{name}");
            assert!(goes_on(name, &none, true), "{name}");
        }
        // Nobody has looked at this one.
        assert!(!goes_on("X_Api_Key", &none, true));
    }

    #[test]
    fn an_answer_loses_what_its_connection_names() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-end", "1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip_answer(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
    }
}
