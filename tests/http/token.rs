//! `src/http/token.rs`: the token endpoint in its three dialects.

mod claims;

mod granted;

mod in_flight;

mod refused;

mod secrets_over_time;

use crate::scene::Answer;
use base64::Engine;
use reqwest::Client;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// A place where tokens are asked for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Connect,
    IdConnect,
    Audience,
    Json,
    /// A form sent to the JSON endpoint.
    FormAtJson,
}

impl Endpoint {
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::IdConnect,
        Self::Audience,
        Self::Json,
        Self::FormAtJson,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Self::Connect => "/connect/token",
            Self::IdConnect => "/id/connect/token",
            Self::Audience => "/oauth2/token",
            Self::Json | Self::FormAtJson => "/token",
        }
    }

    /// As events name the dialect of the answer.
    pub fn dialect(self) -> &'static str {
        match self {
            Self::Connect | Self::IdConnect | Self::FormAtJson => "standard",
            Self::Audience => "audience",
            Self::Json => "json",
        }
    }

    /// The answer of this dialect that says so.
    pub fn refusal(self, code: &str, description: &str) -> Value {
        match self {
            Self::Json => serde_json::json!({"isSuccess": false, "error": {"code": code, "message": description}}),
            _ => serde_json::json!({"error": code, "error_description": description}),
        }
    }

    /// The access token, its type, lifetime and scope, wherever this dialect has them. There is nothing else.
    pub fn grant(self, body: &Value) -> (String, String, u64, String) {
        let (members, names) = match self {
            Self::Json => {
                assert_eq!(body["isSuccess"], true);
                assert_eq!(body.as_object().expect("an object").len(), 2);
                (&body["data"], ["accessToken", "tokenType", "expiresIn", "scope"])
            }
            _ => (body, ["access_token", "token_type", "expires_in", "scope"]),
        };
        assert_eq!(members.as_object().expect("an object").len(), names.len(), "{body}");
        let text = |name: &str| members[name].as_str().expect(name).to_owned();
        let lifetime = members[names[2]].as_u64().expect("a number");
        (text(names[0]), text(names[1]), lifetime, text(names[3]))
    }
}

/// A token request that can be wrong in every way.
#[derive(Debug, Clone)]
pub struct Ask {
    endpoint: Endpoint,
    parameters: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    content_type: Option<&'static str>,
    body: Option<Vec<u8>>,
}

impl Ask {
    /// With these credentials in the body, for the audience `https://orders` where one is needed.
    pub fn at(endpoint: Endpoint, client_id: &str, client_secret: &str) -> Self {
        let ask = Self {
            endpoint,
            parameters: Vec::new(),
            headers: Vec::new(),
            content_type: Some(match endpoint {
                Endpoint::Json => "application/json",
                _ => "application/x-www-form-urlencoded",
            }),
            body: None,
        };
        let ask = ask
            .with("grant_type", "client_credentials")
            .with("client_id", client_id)
            .with("client_secret", client_secret);
        if endpoint == Endpoint::Audience {
            ask.with("audience", "https://orders")
        } else {
            ask
        }
    }

    /// One more parameter, by its name in a form.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    pub fn instead(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// The credentials in a Basic header instead of the body.
    pub fn basic(self) -> Self {
        let value = |name: &str| {
            let found = self.parameters.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let credentials = basic(&value("client_id"), &value("client_secret"));
        self.without("client_id")
            .without("client_secret")
            .header("authorization", credentials.as_bytes())
    }

    pub fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        let value = HeaderValue::from_bytes(value).expect("a header value");
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    pub fn content_type(mut self, content_type: Option<&'static str>) -> Self {
        self.content_type = content_type;
        self
    }

    /// These bytes as body, whatever the parameters.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub async fn send(&self, http: &Client, url: &str) -> Answer {
        let mut request = http.post(format!("{url}{}", self.endpoint.path()));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(content_type) = self.content_type {
            request = request.header("content-type", content_type);
        }
        let body = self.body.clone().unwrap_or_else(|| self.encoded());
        Answer::of(request.body(body).send().await.expect("an answer")).await
    }

    fn encoded(&self) -> Vec<u8> {
        if self.endpoint != Endpoint::Json {
            return url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&self.parameters)
                .finish()
                .into_bytes();
        }
        let members = self.parameters.iter().map(|(name, value)| {
            let name = match name.as_str() {
                "grant_type" => "grantType",
                "client_id" => "clientId",
                "client_secret" => "clientSecret",
                other => other,
            };
            format!("{}:{}", Value::from(name), Value::from(value.as_str()))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes()
    }

    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }
}

/// A Basic header's value; id and secret form-encoded as RFC 6749 §2.3.1 has it.
pub fn basic(client_id: &str, client_secret: &str) -> String {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = format!("{}:{}", encode(client_id), encode(client_secret));
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(credentials)
    )
}

/// The members of an object.
pub fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}
