use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const ENDPOINTS: [Dialect; 3] = [Dialect::Standard, Dialect::Audience, Dialect::Json];

/// A request that can be broken row by row, and printed in either syntax.
#[derive(Clone)]
struct Request {
    endpoint: Dialect,
    content_type: Option<&'static str>,
    authorization: Vec<String>,
    parameters: Vec<(&'static str, String)>,
    broken_body: bool,
}

impl Request {
    fn new(endpoint: Dialect) -> Self {
        let parameters = [
            ("grant_type", "client_credentials"),
            ("client_id", "my.trusted.app/service"),
            ("client_secret", "gls_s+cr t"),
            ("scope", "read update"),
            ("audience", "https://api.example.com"),
        ];
        Self {
            endpoint,
            content_type: Some(if endpoint == Dialect::Json { JSON } else { FORM }),
            authorization: vec![],
            parameters: parameters.map(|(name, value)| (name, value.to_owned())).into(),
            broken_body: false,
        }
    }

    fn basic(endpoint: Dialect, credentials: &str) -> Self {
        let mut request = Self::new(endpoint).without("client_id").without("client_secret");
        request.authorization.push(basic(credentials));
        request
    }

    fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(present, _)| *present != name);
        self
    }

    fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        let mut request = self.without(name);
        request.parameters.push((name, value.into()));
        request
    }

    fn with_header(mut self, header: impl Into<String>) -> Self {
        self.authorization.push(header.into());
        self
    }

    fn is_json(&self) -> bool {
        self.endpoint == Dialect::Json && self.content_type != Some(FORM)
    }

    fn body(&self) -> String {
        if self.is_json() {
            let members = self.parameters.iter().map(|(name, value)| {
                let name = match *name {
                    "grant_type" => "grantType",
                    "client_id" => "clientId",
                    "client_secret" => "clientSecret",
                    other => other,
                };
                format!("{}:{}", json!(name), json!(value))
            });
            let end = if self.broken_body { ",}" } else { "}" };
            format!("{{{}{end}", members.collect::<Vec<_>>().join(","))
        } else {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&self.parameters)
                .finish();
            if self.broken_body { body + "&broken=%zz" } else { body }
        }
    }

    fn parse(&self) -> Result<TokenRequest, Refusal> {
        let authorization: Vec<&[u8]> = self.authorization.iter().map(String::as_bytes).collect();
        let content_type = self.content_type.map(str::as_bytes);
        let headers = RequestHeaders {
            content_type,
            authorization: &authorization,
        };
        TokenRequest::parse(self.endpoint, headers, self.body().as_bytes())
    }

    fn refusal(&self) -> Refusal {
        self.parse().expect_err("the request is refused")
    }

    fn error(&self) -> (&'static str, String) {
        let refusal = self.refusal();
        (refusal.error.code(refusal.dialect), refusal.error.description())
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

fn parse_form(endpoint: Dialect, body: impl AsRef<[u8]>) -> Result<TokenRequest, Refusal> {
    let headers = RequestHeaders {
        content_type: Some(FORM.as_bytes()),
        authorization: &[],
    };
    TokenRequest::parse(endpoint, headers, body.as_ref())
}

#[test]
fn a_request_is_read_in_every_dialect() {
    for endpoint in ENDPOINTS {
        let request = Request::new(endpoint).parse().unwrap();
        assert_eq!(request.dialect, endpoint);
        assert_eq!(request.client_id, "my.trusted.app/service");
        assert_eq!(request.client_secret.expose(), "gls_s+cr t");
        assert_eq!(request.auth_method, AuthMethod::ClientSecretPost);
        assert_eq!(request.scope.unwrap().as_str(), "read update");
        assert_eq!(request.audiences, ["https://api.example.com"]);
        assert!(request.resources.is_empty());
    }
}

#[test]
fn a_form_at_the_json_endpoint_is_read_and_answered_as_standard() {
    let mut request = Request::new(Dialect::Json);
    request.content_type = Some(FORM);
    assert_eq!(request.parse().unwrap().dialect, Dialect::Standard);
    let refusal = request.with("grant_type", "password").refusal();
    assert_eq!(refusal.dialect, Dialect::Standard);
}

#[test]
fn credentials_may_come_in_a_basic_header_in_every_dialect() {
    for endpoint in ENDPOINTS {
        let request = Request::basic(endpoint, "my.trusted.app%2Fservice:gls_s%2Bcr+t")
            .parse()
            .unwrap();
        assert_eq!(request.auth_method, AuthMethod::ClientSecretBasic);
        assert_eq!(request.client_id, "my.trusted.app/service");
        assert_eq!(request.client_secret.expose(), "gls_s+cr t");
    }
}

#[test]
fn an_audience_is_a_list_and_a_resource_may_be_repeated() {
    let body =
        "grant_type=client_credentials&client_id=a&client_secret=b&audience=x++y&resource=r1&resource=r2&resource=";
    let request = parse_form(Dialect::Standard, body).unwrap();
    assert_eq!(request.audiences, ["x", "y"]);
    assert_eq!(request.resources, ["r1", "r2"]);
    assert_eq!(request.scope, None);
}

#[test]
fn either_audience_or_resource_names_the_audience() {
    let body = "grant_type=client_credentials&client_id=a&client_secret=b&";
    assert!(parse_form(Dialect::Audience, format!("{body}audience=x")).is_ok());
    assert!(parse_form(Dialect::Audience, format!("{body}resource=x")).is_ok());
    for none in ["", "audience=", "audience=+", "resource="] {
        let refusal = parse_form(Dialect::Audience, format!("{body}{none}")).unwrap_err();
        assert_eq!(refusal.error, OAuthError::MissingAudience, "{none:?}");
    }
    assert!(parse_form(Dialect::Standard, body).is_ok());
}

#[test]
fn every_row_of_the_table_has_its_code_and_description() {
    let standard = || Request::new(Dialect::Standard);
    let of_type = |endpoint, content_type| Request {
        content_type,
        ..Request::new(endpoint)
    };
    let repeated = |endpoint| {
        let mut request = Request::new(endpoint);
        request.parameters.push(("client_id", "another".into()));
        request
    };
    let broken = |endpoint| Request {
        broken_body: true,
        ..Request::new(endpoint)
    };
    let credentials_bad = "Client credentials are invalid or missing";
    let one_method = "Use one client authentication method";
    let must_be_form = "Content-Type must be application/x-www-form-urlencoded";
    for (request, code, description) in [
        (of_type(Dialect::Standard, None), "invalid_request", must_be_form),
        (of_type(Dialect::Standard, Some(JSON)), "invalid_request", must_be_form),
        (
            of_type(Dialect::Standard, Some("multipart/form-data; boundary=x")),
            "invalid_request",
            must_be_form,
        ),
        (of_type(Dialect::Audience, Some(JSON)), "invalid_request", must_be_form),
        (
            of_type(Dialect::Json, Some("text/plain")),
            "invalid_request",
            "Content-Type must be application/json",
        ),
        (
            of_type(Dialect::Json, None),
            "invalid_request",
            "Content-Type must be application/json",
        ),
        (
            repeated(Dialect::Standard),
            "invalid_request",
            "Duplicate parameter: client_id",
        ),
        (
            repeated(Dialect::Json),
            "invalid_request",
            "Duplicate parameter: clientId",
        ),
        (broken(Dialect::Standard), "invalid_request", "Malformed request body"),
        (broken(Dialect::Json), "invalid_request", "Malformed request body"),
        (
            standard().without("grant_type"),
            "invalid_request",
            "Missing grant_type",
        ),
        (
            standard().with("grant_type", ""),
            "invalid_request",
            "Missing grant_type",
        ),
        (
            Request::new(Dialect::Json).without("grant_type"),
            "invalid_request",
            "Missing grant_type",
        ),
        (
            standard().with("grant_type", "password"),
            "unsupported_grant_type",
            "Unsupported grant type: password",
        ),
        (
            standard().with("grant_type", "Client_Credentials"),
            "unsupported_grant_type",
            "Unsupported grant type: Client_Credentials",
        ),
        (
            Request::new(Dialect::Json).with("grant_type", "refresh_token"),
            "unsupported_grant_type",
            "Unsupported grant type: refresh_token",
        ),
        (
            Request::new(Dialect::Audience).with("grant_type", "refresh_token"),
            "invalid_request",
            "Unsupported grant type: refresh_token",
        ),
        (
            standard().with_header(basic("my.trusted.app/service:x")),
            "invalid_request",
            one_method,
        ),
        (
            Request::new(Dialect::Json).with_header(basic("a:b")),
            "invalid_request",
            one_method,
        ),
        (
            Request::basic(Dialect::Standard, "no colon"),
            "invalid_grant",
            credentials_bad,
        ),
        (
            Request::basic(Dialect::Json, ":secret"),
            "invalid_grant",
            credentials_bad,
        ),
        (
            Request::basic(Dialect::Standard, "id:"),
            "invalid_grant",
            credentials_bad,
        ),
        (standard().with("client_id", ""), "invalid_grant", credentials_bad),
        (standard().with("client_secret", ""), "invalid_grant", credentials_bad),
        (
            standard().with("client_id", "").without("client_secret"),
            "invalid_grant",
            credentials_bad,
        ),
        (
            Request::new(Dialect::Json).with("client_secret", ""),
            "invalid_grant",
            credentials_bad,
        ),
        (standard().without("client_id"), "invalid_request", "Missing client_id"),
        (
            standard().without("client_id").without("client_secret"),
            "invalid_request",
            "Missing client_id",
        ),
        (
            standard().without("client_secret"),
            "invalid_request",
            "Missing client_secret",
        ),
        (
            Request::new(Dialect::Json).without("client_secret"),
            "invalid_request",
            "Missing client_secret",
        ),
        (
            Request::new(Dialect::Audience).without("audience"),
            "invalid_request",
            "Missing audience",
        ),
    ] {
        assert_eq!(request.error(), (code, description.to_owned()), "{}", request.body());
    }
}

type Break = fn(Request) -> Request;

/// One way to break each row, in the table's order, that leaves the later rows free to be broken too.
const ROWS: [(&str, Break); 9] = [
    ("Content-Type must be", |request| Request {
        content_type: Some("text/plain"),
        ..request
    }),
    ("Malformed request body", |request| Request {
        broken_body: true,
        ..request
    }),
    ("Missing grant_type", |request| request.without("grant_type")),
    ("Unsupported grant type", |mut request| {
        if request.parameters.iter().any(|(name, _)| *name == "grant_type") {
            request = request.with("grant_type", "password");
        }
        request
    }),
    ("Use one client authentication method", |request| {
        request.with_header(basic("a:b")).with_header(basic("a:b"))
    }),
    ("Client credentials are invalid", |request| {
        request.with("client_id", "")
    }),
    ("Missing client_id", |mut request| {
        if request
            .parameters
            .iter()
            .all(|(name, value)| *name != "client_id" || !value.is_empty())
        {
            request = request.without("client_id");
        }
        request
    }),
    ("Missing client_secret", |request| request.without("client_secret")),
    ("Missing audience", |request| request.without("audience")),
];

#[test]
fn of_all_that_is_wrong_the_earliest_row_is_told() {
    for endpoint in ENDPOINTS {
        let rows = if endpoint == Dialect::Audience {
            &ROWS[..]
        } else {
            &ROWS[..8]
        };
        // Every set of broken rows, not only every pair.
        for set in 1_u32..1 << rows.len() {
            let broken = rows.iter().enumerate().filter(|(row, _)| set & 1 << row != 0);
            let request = broken.fold(Request::new(endpoint), |request, (_, (_, break_row))| {
                break_row(request)
            });
            let (earliest, _) = rows[set.trailing_zeros() as usize];
            let (_, description) = request.error();
            assert!(description.starts_with(earliest), "{endpoint:?} {set:b}: {description}");
        }
    }
}

#[test]
fn a_secret_in_the_body_beside_any_authorization_header_is_a_second_method() {
    for header in [
        basic("a:b"),
        basic("broken"),
        "Bearer abc".into(),
        String::new(),
        "Basic".into(),
    ] {
        let request = Request::new(Dialect::Standard).with_header(header);
        assert_eq!(request.refusal().error, OAuthError::SeveralAuthenticationMethods);
        let empty_secret = request.with("client_secret", "");
        assert_eq!(empty_secret.refusal().error, OAuthError::SeveralAuthenticationMethods);
    }
}

#[test]
fn an_id_repeated_beside_basic_is_accepted_only_when_it_is_the_same() {
    let request = Request::basic(Dialect::Standard, "orders:x");
    assert_eq!(
        request.clone().with("client_id", "orders").parse().unwrap().client_id,
        "orders"
    );
    for another in ["Orders", "orders ", ""] {
        let error = request.clone().with("client_id", another).refusal().error;
        assert_eq!(error, OAuthError::SeveralAuthenticationMethods, "{another:?}");
    }
}

#[test]
fn an_assertion_beside_a_secret_is_a_second_method_and_alone_it_is_no_secret() {
    let basic = Request::basic(Dialect::Standard, "orders:x");
    let post = Request::new(Dialect::Standard);
    for request in [basic, post.clone()] {
        let refusal = request.with("client_assertion", "eyJ").refusal();
        assert_eq!(refusal.error, OAuthError::SeveralAuthenticationMethods);
    }
    let alone = post.without("client_secret").with("client_assertion", "eyJ");
    assert_eq!(alone.refusal().error, OAuthError::MissingClientSecret);
}

#[test]
fn another_authorization_scheme_is_an_unreadable_credential() {
    let request = Request::new(Dialect::Standard)
        .without("client_secret")
        .with_header("Bearer abc");
    let refusal = request.refusal();
    assert_eq!(refusal.error, OAuthError::InvalidGrant);
    assert_eq!(refusal.reason, RefusalReason::UnreadableAuthorization);
}

#[test]
fn several_authorization_headers_are_never_reduced_to_one() {
    let refusal = Request::basic(Dialect::Standard, "a:b")
        .with_header(basic("a:b"))
        .refusal();
    assert_eq!(refusal.error, OAuthError::SeveralAuthenticationMethods);
}

#[test]
fn a_refusal_names_the_client_when_it_could_be_read() {
    let standard = || Request::new(Dialect::Standard);
    let named = Some("my.trusted.app/service".to_owned());
    for request in [
        standard().with("grant_type", "password"),
        standard().without("client_secret"),
        Request {
            broken_body: true,
            ..standard()
        },
        Request {
            content_type: None,
            ..Request::basic(Dialect::Standard, "my.trusted.app/service:x")
        },
        Request::basic(Dialect::Standard, "my.trusted.app/service:"),
        Request::basic(Dialect::Standard, "my.trusted.app/service:x").with("client_id", "another"),
    ] {
        assert_eq!(request.refusal().client_id, named, "{}", request.body());
    }
    for request in [
        standard().without("client_id"),
        standard().with("client_id", ""),
        Request {
            content_type: None,
            ..standard()
        },
        Request::basic(Dialect::Standard, "unreadable"),
    ] {
        assert_eq!(request.refusal().client_id, None, "{}", request.body());
    }
    let long = standard()
        .with("client_id", "x\u{202e}".repeat(2_000))
        .without("client_secret")
        .refusal();
    assert!(
        long.client_id
            .is_some_and(|id| id.chars().count() <= 256 && id.starts_with("x\\u{202e}x"))
    );
}

#[test]
fn a_refusal_shows_neither_the_secret_nor_an_uncut_value() {
    let hostile = "x\r\nSet-Cookie: a=b".repeat(2_000);
    let refusal = Request::new(Dialect::Json)
        .with("grant_type", hostile.replace("\r\n", "\""))
        .refusal();
    let shown = format!("{refusal:?}");
    assert!(!shown.contains("gls_") && shown.len() < 500, "{shown}");
    let request = Request::new(Dialect::Standard).parse().unwrap();
    assert!(!format!("{request:?}").contains("gls_"));
}

#[test]
fn every_parameter_but_resource_may_occur_once() {
    for name in [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "scope",
        "audience",
        "unknown",
        "a%20b",
        "",
    ] {
        for values in [["x", "x"], ["x", ""], ["", "x"], ["", ""]] {
            let body = format!("{name}={}&other=1&{name}={}", values[0], values[1]);
            let refusal = parse_form(Dialect::Standard, body).unwrap_err();
            let name = Displayable::of(&name.replace("%20", " "));
            assert_eq!(refusal.error, OAuthError::DuplicateParameter { name });
        }
    }
    let encoded_twin = parse_form(Dialect::Standard, "client_id=a&client%5Fid=b").unwrap_err();
    assert_eq!(
        encoded_twin.error,
        OAuthError::DuplicateParameter {
            name: Displayable::of("client_id")
        }
    );
}

#[test]
fn hostile_bodies_get_the_tables_answers() {
    let rest = "&grant_type=client_credentials&client_secret=x";
    for (body, reason) in [
        ("client_id=%ff", RefusalReason::Malformed(MalformedBody::NotUtf8)),
        ("client_id=%c0%af", RefusalReason::Malformed(MalformedBody::NotUtf8)),
        (
            "client_id=a%00b",
            RefusalReason::Malformed(MalformedBody::ControlCharacter),
        ),
        (
            "client_id=a%0d%0aSet-Cookie:x=y",
            RefusalReason::Malformed(MalformedBody::ControlCharacter),
        ),
        ("client_id=%", RefusalReason::Malformed(MalformedBody::PercentEncoding)),
        ("unknown=%zz", RefusalReason::Malformed(MalformedBody::PercentEncoding)),
        ("%zz=unknown", RefusalReason::Malformed(MalformedBody::PercentEncoding)),
    ] {
        let refusal = parse_form(Dialect::Standard, format!("{body}{rest}")).unwrap_err();
        assert_eq!(
            (refusal.error, refusal.reason),
            (OAuthError::MalformedBody, reason),
            "{body}"
        );
    }
    // Harmless here: it is a name that no application has.
    let sql = parse_form(Dialect::Standard, format!("client_id=%27+OR+1%3D1%3B--{rest}")).unwrap();
    assert_eq!(sql.client_id, "' OR 1=1;--");
}

#[test]
fn beyond_a_bound_a_body_is_refused() {
    let start = "grant_type=client_credentials&client_id=a&client_secret=b";
    let many = |count: usize| (0..count).fold(start.to_owned(), |body, n| format!("{body}&p{n}={n}"));
    let malformed = |body: &str| {
        parse_form(Dialect::Standard, body)
            .map(|_| ())
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!(malformed(&many(MAX_PARAMETERS - 3)), Ok(()));
    let too_many = RefusalReason::Malformed(MalformedBody::TooManyParameters);
    assert_eq!(malformed(&many(MAX_PARAMETERS - 2)), Err(too_many));

    let beyond = Err(RefusalReason::Malformed(MalformedBody::ValueOutOfBounds));
    for (fits, does_not) in [
        (
            format!("{start}&scope={}", "r+".repeat(256)),
            format!("{start}&scope={}", "r+".repeat(257)),
        ),
        (
            format!("{start}&scope={}", "r".repeat(256)),
            format!("{start}&scope={}", "r".repeat(257)),
        ),
        (
            format!("{start}&audience={}", "a+".repeat(64)),
            format!("{start}&audience={}", "a+".repeat(65)),
        ),
        (
            format!("{start}&resource={}", "a".repeat(1024)),
            format!("{start}&resource={}", "a".repeat(1025)),
        ),
        (
            format!("{start}{}", format!("&resource={}", "a".repeat(1024)).repeat(8)),
            format!("{start}{}", format!("&resource={}", "a".repeat(1024)).repeat(9)),
        ),
    ] {
        assert_eq!(malformed(&fits), Ok(()));
        assert_eq!(malformed(&does_not), beyond);
    }

    let full = format!("{start}&x={}", "x".repeat(MAX_BODY_BYTES - start.len() - 3));
    assert_eq!(malformed(&full), Ok(()));
    assert_eq!(malformed(&(full + "x")), Err(RefusalReason::BodyTooLarge));
}

#[test]
fn an_illegal_scope_token_is_left_for_the_policy_to_refuse() {
    let request = Request::new(Dialect::Standard)
        .with("scope", "read \"é\\")
        .parse()
        .unwrap();
    assert_eq!(request.scope.unwrap().tokens().collect::<Vec<_>>(), ["read", "\"é\\"]);
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{1,24}"
}

fn list() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[!-~é☃]{1,12}", 1..6)
}

/// What a request's body may be made of, so that chance reaches more than the first check.
fn near_miss() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(vec![
            "grant_type", "client_id", "client_secret", "scope", "audience", "resource", "client_assertion",
            "grantType", "clientId", "clientSecret", "client_credentials", "=", "&", "+", "%", "%41", "%00",
            "%ff", "{", "}", "\"", ":", ",", "\\u0000", "null", "[", "]", " ",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_a_client_prints_is_what_is_parsed(
        endpoint in proptest::sample::select(ENDPOINTS.to_vec()),
        client_id in text(),
        client_secret in text(),
        scope in list(),
        audiences in list(),
        use_basic in any::<bool>(),
        form_at_json in any::<bool>(),
    ) {
        let mut request = if use_basic {
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            Request::basic(endpoint, &format!("{}:{}", encode(&client_id), encode(&client_secret)))
        } else {
            Request::new(endpoint).with("client_id", &client_id).with("client_secret", &client_secret)
        };
        request = request.with("scope", scope.join(" ")).with("audience", audiences.join(" "));
        if form_at_json {
            request.content_type = Some(FORM);
        }
        let parsed = request.parse().unwrap();
        prop_assert_eq!(parsed.client_id, client_id);
        prop_assert_eq!(parsed.client_secret.expose(), client_secret);
        let parsed_scope = parsed.scope.map(|scope| scope.as_str().to_owned());
        prop_assert_eq!(parsed_scope, Some(scope.join(" ")));
        prop_assert_eq!(parsed.audiences, audiences);
        let method = if use_basic { AuthMethod::ClientSecretBasic } else { AuthMethod::ClientSecretPost };
        prop_assert_eq!(parsed.auth_method, method);
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_it_accepts_is_clean(
        endpoint in proptest::sample::select(ENDPOINTS.to_vec()),
        content_type in proptest::option::of(prop_oneof![
            4 => proptest::sample::select(vec![FORM.as_bytes().to_vec(), JSON.as_bytes().to_vec()]),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ]),
        authorization in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        body in prop_oneof![near_miss(), proptest::collection::vec(any::<u8>(), 0..300)],
    ) {
        let authorization: Vec<&[u8]> = authorization.iter().map(Vec::as_slice).collect();
        let headers = RequestHeaders { content_type: content_type.as_deref(), authorization: &authorization };
        match TokenRequest::parse(endpoint, headers, &body) {
            Ok(request) => {
                prop_assert!(!request.client_id.is_empty() && !request.client_secret.is_empty());
                prop_assert!(!request.client_id.chars().any(char::is_control));
            }
            Err(refusal) => {
                let description = refusal.error.description();
                prop_assert!(description.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)));
            }
        }
    }
}
