//! `/verify`: forward auth. A proxy asks before it passes a request on, and passes it on when the answer is 200.
//!
//! The proxy says in the query what the endpoint needs (`audience`, `scope`, `org_code`), and in headers what it was
//! asked for itself. Envoy's `path_prefix` leaves no room for a query, since the original one follows the path: there
//! the parameters are the segment behind `/verify/`, and all that follows is the original request's.

use crate::http::call::credential_beside;
use crate::http::fields::{InvalidField, cut};
use crate::http::problem::{Problem, not_verified};
use crate::http::{Doors, identity, origin};
use crate::service::authorize_call::Call;
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use grantlog_projections::event::Via;
use grantlog_projections::values::{Audience, Scope};
use std::borrow::Cow;

const PATH: &str = "/verify";
/// What may follow it, which /openapi.json cannot name.
const ASKED: &str = "/{asked:.*}";
/// Method and URI of the original request: as nginx is configured to say it, and as Traefik and Caddy say it.
const ORIGINAL: [(HeaderName, HeaderName); 2] = [
    (
        HeaderName::from_static("x-original-method"),
        HeaderName::from_static("x-original-uri"),
    ),
    (
        HeaderName::from_static("x-forwarded-method"),
        HeaderName::from_static("x-forwarded-uri"),
    ),
];

pub(super) fn routes(config: &mut ServiceConfig) {
    // Whatever the method is: some proxies ask with that of the original request.
    config
        .service(web::resource("/verify").to(verify))
        .service(web::resource(PATH.to_owned() + ASKED).to(verify));
}

async fn verify(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(&request, &doors.issuer_path)?;
    let original = Original::of(&request, &doors, &asked)?;
    let demand = Demand::parse(asked.parameters)?;
    let circumstances = origin::circumstances(&request, &doors);
    let default_audience = &doors.service.settings().policy.default_audience;
    let call = Call {
        via: Via::ForwardAuth,
        credential: credential_beside(&request, original.query.as_deref()),
        audience: demand.audience.as_ref().unwrap_or(default_audience),
        method: &original.method,
        path: &original.path,
        required_scope: demand.scope.as_str(),
        org_code: demand.org_code.as_deref(),
        ruled_out: None,
    };
    let caller = doors.service.authorize_call(call, &circumstances).await;
    let caller = caller.map_err(|refused| not_verified(refused, &doors.service.settings().issuer))?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    for header in identity::headers(&caller).ok_or_else(Problem::no_identity)? {
        answer.insert_header(header);
    }
    Ok(answer.finish())
}

/// The URI that the proxy asks with, taken apart.
struct Asked<'a> {
    parameters: &'a str,
    /// What follows `/verify/<parameters>`.
    original_path: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a HttpRequest, issuer_path: &str) -> Result<Self, InvalidField> {
        let path = request.uri().path();
        // The route has matched, below the issuer's path or not.
        let below = path.strip_prefix(PATH);
        let below = below.or_else(|| path.strip_prefix(issuer_path)?.strip_prefix(PATH));
        let Some(below) = below.and_then(|below| below.strip_prefix('/')) else {
            return Ok(Self {
                parameters: request.uri().query().unwrap_or_default(),
                original_path: None,
            });
        };
        // The query is the original request's: whoever calls could write there what the endpoint is to need.
        let (parameters, original_path) = match below.find('/') {
            Some(at) => below.split_at(at),
            None => {
                let message = "the original path is missing: /verify?<parameters>, or /verify/<parameters>/<path>";
                return Err(InvalidField::new("path", message));
            }
        };
        Ok(Self {
            parameters,
            original_path: Some(original_path),
        })
    }
}

/// What the endpoint needs.
struct Demand<'a> {
    audience: Option<Audience>,
    scope: Scope,
    org_code: Option<Cow<'a, str>>,
}

impl<'a> Demand<'a> {
    fn parse(parameters: &'a str) -> Result<Self, InvalidField> {
        let (mut audience, mut scope, mut org_code) = (None, None, None);
        for (name, value) in url::form_urlencoded::parse(parameters.as_bytes()) {
            let slot = match &*name {
                "audience" => &mut audience,
                "scope" => &mut scope,
                "org_code" => &mut org_code,
                unknown => {
                    let message = "there is no such parameter; there are: audience, scope, org_code";
                    return Err(InvalidField::new(cut(unknown), message));
                }
            };
            if slot.replace(value).is_some() {
                return Err(InvalidField::new(cut(&name), "may be given once"));
            }
        }
        let audience = audience.map(|text| {
            Audience::parse(&text).map_err(|invalid| {
                let message = format!(
                    "must be {}, percent-encoded; leave it out for the default",
                    invalid.rule
                );
                InvalidField::new("audience", message)
            })
        });
        let scope = match scope.as_deref() {
            None => Scope::none(),
            // A variable of the proxy that nobody has set must not open the endpoint to every token.
            Some(text) if text.trim().is_empty() => {
                let message = "must not be empty; leave it out where any token will do";
                return Err(InvalidField::new("scope", message));
            }
            Some(text) => {
                Scope::parse(text).map_err(|invalid| InvalidField::new("scope", format!("must be {}", invalid.rule)))?
            }
        };
        Ok(Self {
            audience: audience.transpose()?,
            scope,
            // An empty one, too, or one that none can have: it comes from the path, so it is a caller's mistake, and
            // no token is bound to it.
            org_code,
        })
    }
}

/// The request that the proxy was asked for.
struct Original<'a> {
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
}

impl<'a> Original<'a> {
    /// As a trusted proxy says; else the request that asks is the only one that is known.
    fn of(request: &'a HttpRequest, doors: &Doors, asked: &Asked<'a>) -> Result<Self, InvalidField> {
        let method = || Cow::Borrowed(request.method().as_str());
        let query = || request.uri().query().map(Cow::Borrowed);
        let mut told = None;
        if origin::is_from_trusted_proxy(request, doors) {
            told = asked.original_path.map(|path| Self {
                method: method(),
                path: path.into(),
                query: query(),
            });
            for (method, uri) in &ORIGINAL {
                let Some(named) = Self::named(request, method, uri)? else {
                    continue;
                };
                // The caller has written one of them, and there is no telling which.
                if told.replace(named).is_some() {
                    let message = "the original request is named twice: the proxy has to set one pair of headers and \
                                   to clear the other";
                    return Err(InvalidField::new(uri.as_str(), message));
                }
            }
        }
        Ok(told.unwrap_or_else(|| Self {
            method: method(),
            path: request.uri().path().into(),
            query: query(),
        }))
    }

    /// As this pair of headers names it.
    fn named(request: &'a HttpRequest, method: &HeaderName, uri: &HeaderName) -> Result<Option<Self>, InvalidField> {
        match (single(request, method)?, single(request, uri)?) {
            (None, None) => Ok(None),
            (Some(method), Some(uri)) => Ok(Some(Self {
                method,
                query: query_of(&uri).map(|query| query.to_owned().into()),
                path: without_query(uri),
            })),
            (None, Some(_)) => Err(InvalidField::new(method.as_str(), format!("must be there: {uri} is"))),
            (Some(_), None) => Err(InvalidField::new(uri.as_str(), format!("must be there: {method} is"))),
        }
    }
}

/// A header that may be there once.
fn single<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<Cow<'a, str>>, InvalidField> {
    let mut values = request.headers().get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(InvalidField::new(name.as_str(), "may be given once"));
    }
    Ok(first.map(|value| String::from_utf8_lossy(value.as_bytes())))
}

fn query_of(uri: &str) -> Option<&str> {
    let (before_fragment, _) = uri.split_once('#').unwrap_or((uri, ""));
    before_fragment.split_once('?').map(|(_, query)| query)
}

/// Secrets belong in no URL and are there all the same, so no record has a query.
fn without_query(uri: Cow<'_, str>) -> Cow<'_, str> {
    match (uri.find(['?', '#']), uri) {
        (None, uri) => uri,
        (Some(end), Cow::Borrowed(uri)) => uri.get(..end).unwrap_or(uri).into(),
        (Some(end), Cow::Owned(mut uri)) => {
            uri.truncate(end);
            uri.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn asked(uri: &str, issuer_path: &str) -> Result<(String, Option<String>), String> {
        let request = TestRequest::with_uri(uri).to_http_request();
        let asked = Asked::of(&request, issuer_path).map_err(|invalid| invalid.message)?;
        Ok((asked.parameters.to_owned(), asked.original_path.map(str::to_owned)))
    }

    fn refused(parameters: &str) -> String {
        let invalid = Demand::parse(parameters).map(|_| ()).unwrap_err();
        format!("{}: {}", invalid.field, invalid.message)
    }

    #[test]
    fn parameters_are_in_the_query_or_before_the_original_path() {
        let path = |path: &str| Some(path.to_owned());
        for (uri, issuer_path, parameters, original) in [
            ("/verify", "", "", None),
            ("/verify?scope=read", "", "scope=read", None),
            ("/id/verify?scope=read", "/id", "scope=read", None),
            ("/verify/scope=read/orders/7", "", "scope=read", path("/orders/7")),
            ("/id/verify/scope=read/orders/7", "/id", "scope=read", path("/orders/7")),
            (
                "/verify/scope=read/id/verify/x",
                "/id",
                "scope=read",
                path("/id/verify/x"),
            ),
            ("/verify//orders", "", "", path("/orders")),
            ("/verify/scope=read//x", "", "scope=read", path("//x")),
            // What the original request's query says is no business of the endpoint's.
            ("/verify/scope=update/?scope=read", "", "scope=update", path("/")),
        ] {
            assert_eq!(asked(uri, issuer_path), Ok((parameters.to_owned(), original)), "{uri}");
        }
        assert!(asked("/verify/scope=read", "").unwrap_err().contains("path is missing"));
    }

    #[test]
    fn what_the_endpoint_needs_is_read_strictly() {
        let demand = Demand::parse("audience=https%3A%2F%2Fapi.example&scope=read+update&org_code=ACME").unwrap();
        assert_eq!(demand.audience.unwrap().as_str(), "https://api.example");
        assert_eq!(demand.scope.as_str(), "read update");
        assert_eq!(demand.org_code.as_deref(), Some("ACME"));
        assert_eq!(Demand::parse("org_code=").unwrap().org_code.as_deref(), Some(""));

        assert_eq!(refused("scope=a&scope=b"), "scope: may be given once");
        assert!(refused("scopes=a").contains("there are: audience, scope, org_code"));
        assert!(refused("scope=").contains("must not be empty"));
        assert!(refused("scope=+").contains("must not be empty"));
        assert!(refused("scope=%22").contains("without quotes"));
        assert!(refused("audience=").contains("1 to 256 printable"));
        assert!(refused("audience=a b").contains("1 to 256 printable"));
    }

    #[test]
    fn a_recorded_path_has_no_query() {
        for (uri, path) in [("/a?b=c", "/a"), ("/a#b", "/a"), ("/a", "/a"), ("?a", ""), ("*", "*")] {
            assert_eq!(without_query(uri.into()), path);
            assert_eq!(without_query(Cow::Owned(uri.to_owned())), path);
        }
    }
}
