//! `token`: asking for an access token, as any client would, in each of the endpoint's dialects. Which are out is
//! `inventory`'s.

use crate::cli::client::warn_of_plain_http;
use crate::cli::connection::{Connection, Credentials, SecretText};
use crate::cli::exchange::{Answer, Exchange, form};
use crate::cli::table::Details;
use crate::cli::{CliError, Console, GlobalOptions, inventory, table};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded;
use zeroize::Zeroizing;

/// `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Ask for an access token (OAuth 2.0 client credentials grant)
    #[command(after_help = REQUEST_EXAMPLES)]
    Request(RequestArguments),
    /// List tokens that were issued, newest first
    #[command(after_help = inventory::LIST_EXAMPLES)]
    List(inventory::ListArguments),
    /// Show a token: its claims, its status, its last call
    #[command(after_help = inventory::SHOW_EXAMPLES)]
    Show(inventory::ShowArguments),
    /// Revoke a token: it opens nothing from now on
    #[command(after_help = inventory::REVOKE_EXAMPLES)]
    Revoke(inventory::RevokeArguments),
    /// Revoke all tokens that an application has
    #[command(after_help = inventory::REVOKE_ALL_EXAMPLES)]
    RevokeAll(inventory::RevokeAllArguments),
}

const REQUEST_EXAMPLES: &str = "\
Examples:
  TOKEN=$(grantlog token request)
  grantlog token request --client-id my.trusted.app/service \\
      --client-secret - < secret.txt
  grantlog token request --scope \"read update\" \\
      --audience https://api.example.com --decode
  grantlog token request --dialect json --json

Without --client-id and --client-secret, the credentials are those of the other
commands: see `grantlog --help`. An argument shows in the process list of this
machine and stays in the shell's history: give a secret in the variable
GRANTLOG_CLIENT_SECRET or, with `--client-secret -`, on standard input.";

/// How a token is asked for.
#[derive(Debug, Args)]
pub struct RequestArguments {
    /// Scopes to ask for, space-separated; none: all that the application has
    #[arg(long, value_name = "SCOPES")]
    scope: Vec<String>,
    /// API that the token is for (repeatable); none: all of the application's
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// The same as a resource indicator, RFC 8707 (repeatable)
    #[arg(long, value_name = "URI")]
    resource: Vec<String>,
    /// How the endpoint is spoken to
    #[arg(long, value_enum, default_value_t = Dialect::Standard)]
    dialect: Dialect,
    /// Send id and secret as HTTP Basic (default, but for --dialect json)
    #[arg(long, conflicts_with = "post")]
    basic: bool,
    /// Send id and secret in the body
    #[arg(long)]
    post: bool,
    /// The application's client_id [env: GRANTLOG_CLIENT_ID]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Its secret; `-` reads it from standard input [env: GRANTLOG_CLIENT_SECRET]
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<SecretText>,
    /// Show what the token says instead of the token (its signature is not verified)
    #[arg(long)]
    decode: bool,
    /// Tell scope and lifetime on stderr, also when that is no terminal
    #[arg(long, short)]
    verbose: bool,
}

/// How the token endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// A form to /connect/token
    Standard,
    /// A form to /oauth2/token; needs --audience or --resource
    Audience,
    /// JSON to /token
    Json,
}

/// How a client proves who it is (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// In the `Authorization` header.
    Basic,
    /// In the body.
    Post,
}

/// A question to the token endpoint.
pub struct TokenQuestion<'a> {
    /// How it is put.
    pub dialect: Dialect,
    /// Where the credentials go.
    pub method: AuthenticationMethod,
    /// Who asks.
    pub credentials: &'a Credentials,
    /// What for; none: everything.
    pub scope: Option<&'a str>,
    /// For which APIs.
    pub audiences: &'a [String],
    /// The same as resource indicators.
    pub resources: &'a [String],
}

/// A token that was given. No `Debug`: it holds the token.
pub struct TokenAnswer {
    /// The token.
    pub access_token: SecretText,
    /// How many seconds it lives.
    pub expires_in: u64,
    /// What it is for.
    pub scope: String,
}

impl TokenCommand {
    /// Carries it out.
    pub async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        match self {
            Self::Request(arguments) => arguments.run(console, options).await,
            Self::List(arguments) => arguments.run(console, options).await,
            Self::Show(arguments) => arguments.run(console, options).await,
            Self::Revoke(arguments) => arguments.run(console, options).await,
            Self::RevokeAll(arguments) => arguments.run(console, options).await,
        }
    }
}

impl RequestArguments {
    async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let arguments = self;
        if arguments.dialect == Dialect::Json && !arguments.resource.is_empty() {
            return Err(CliError::Usage(
                "the JSON dialect has no --resource: use --audience".into(),
            ));
        }
        if arguments.dialect == Dialect::Audience && arguments.audience.is_empty() && arguments.resource.is_empty() {
            return Err(CliError::Usage(
                "the audience dialect needs --audience or --resource".into(),
            ));
        }
        let own = arguments.credentials(console)?;
        let connection = Connection::find(console, options, own)?;
        warn_of_plain_http(&connection, console);
        let exchange = Exchange::new(&connection.server)?;
        let scope = (!arguments.scope.is_empty()).then(|| arguments.scope.join(" "));
        let in_body = arguments.post || (arguments.dialect == Dialect::Json && !arguments.basic);
        let question = TokenQuestion {
            dialect: arguments.dialect,
            method: if in_body {
                AuthenticationMethod::Post
            } else {
                AuthenticationMethod::Basic
            },
            credentials: &connection.credentials,
            scope: scope.as_deref(),
            audiences: &arguments.audience,
            resources: &arguments.resource,
        };
        let answer = question.ask(&exchange).await?;
        let token = TokenAnswer::read(&answer)?;
        if arguments.verbose || (console.err_is_terminal && !options.remote.json) {
            let TokenAnswer { expires_in, scope, .. } = &token;
            let client_id = &connection.credentials.client_id;
            let scope = if scope.is_empty() { "none" } else { scope };
            console.note(&format!(
                "token for {client_id}, valid for {expires_in} s, scope: {scope}"
            ));
        }
        if arguments.decode {
            let decoded = Decoded::read(token.access_token.expose()).ok_or(CliError::NoJwt)?;
            return decoded.print(console, options.remote.json);
        }
        if options.remote.json {
            return console.json(&answer.body);
        }
        console.line(token.access_token.expose())
    }
}

impl RequestArguments {
    /// Those that are this command's own, if any half of them is given.
    fn credentials(&self, console: &mut Console<'_>) -> Result<Option<Credentials>, CliError> {
        let secret = match &self.client_secret {
            Some(secret) if secret.expose() == "-" => Some(SecretText::from(console.read_line()?)),
            secret => secret.clone(),
        };
        let id_of_environment = (console.variable)("GRANTLOG_CLIENT_ID");
        let id = self.client_id.clone();
        let (id, secret) = match (id, secret) {
            (None, None) => return Ok(None),
            (None, secret) => (id_of_environment, secret),
            // The variable's secret belongs to the variable's id, when there is one.
            (Some(id), None) if id_of_environment.as_ref().is_none_or(|other| *other == id) => {
                let secret = (console.variable)("GRANTLOG_CLIENT_SECRET").map(SecretText::from);
                (Some(id), secret)
            }
            given => given,
        };
        let id = id.map(|id| ("--client-id", id));
        let secret = secret.map(|secret| ("--client-secret", secret));
        Credentials::given(
            id,
            secret,
            ["--client-id", "--client-secret (or GRANTLOG_CLIENT_SECRET)"],
        )
    }
}

impl TokenQuestion<'_> {
    /// Asks; anything but a token is an error.
    pub async fn ask(&self, exchange: &Exchange) -> Result<Answer, CliError> {
        let path: &[&str] = match self.dialect {
            Dialect::Standard => &["connect", "token"],
            Dialect::Audience => &["oauth2", "token"],
            Dialect::Json => &["token"],
        };
        let mut request = exchange.request(Method::POST, exchange.url(path));
        if self.method == AuthenticationMethod::Basic {
            request = request.header(AUTHORIZATION, self.basic()?);
        }
        let request = match self.dialect {
            Dialect::Json => self.json(request),
            Dialect::Standard | Dialect::Audience => form(request, self.form()),
        };
        let answer = exchange.send(request).await?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(self.refusal(answer))
        }
    }

    // RFC 6749 §2.3.1: id and secret are form-encoded inside Basic.
    fn basic(&self) -> Result<HeaderValue, CliError> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let Credentials {
            client_id,
            client_secret,
        } = self.credentials;
        let pair = Zeroizing::new(format!("{}:{}", encoded(client_id), encoded(client_secret.expose())));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| CliError::Usage("these credentials fit in no header".into()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if self.method == AuthenticationMethod::Post {
            form.append_pair("client_id", &self.credentials.client_id);
            form.append_pair("client_secret", self.credentials.client_secret.expose());
        }
        if let Some(scope) = self.scope {
            form.append_pair("scope", scope);
        }
        if !self.audiences.is_empty() {
            form.append_pair("audience", &self.audiences.join(" "));
        }
        // RFC 8707 §2: one parameter each.
        form.extend_pairs(self.resources.iter().map(|resource| ("resource", resource)));
        form.finish()
    }

    fn json(&self, request: RequestBuilder) -> RequestBuilder {
        let mut body = Map::new();
        let mut add = |name: &str, value: &str| body.insert(name.to_owned(), Value::from(value));
        add("grantType", "client_credentials");
        if self.method == AuthenticationMethod::Post {
            add("clientId", &self.credentials.client_id);
            add("clientSecret", self.credentials.client_secret.expose());
        }
        if let Some(scope) = self.scope {
            add("scope", scope);
        }
        if !self.audiences.is_empty() {
            add("audience", &self.audiences.join(" "));
        }
        request.json(&body)
    }

    fn refusal(&self, answer: Answer) -> CliError {
        /// RFC 6749 §5.2, and the JSON dialect's own.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Flat {
                error: String,
                #[serde(default)]
                error_description: String,
            },
            Enveloped {
                error: Inner,
            },
        }
        #[derive(Deserialize)]
        struct Inner {
            code: String,
            #[serde(default)]
            message: String,
        }
        let (code, description) = match serde_json::from_str(&answer.body) {
            Ok(Said::Flat {
                error,
                error_description,
            }) => (error, error_description),
            Ok(Said::Enveloped { error }) => (error.code, error.message),
            Err(_) => return answer.refusal(),
        };
        let hint = match &*code {
            "invalid_client" => {
                Some("the audit trail tells the true reason: grantlog audit search --type TokenRefused".into())
            }
            _ => None,
        };
        CliError::TokenRefused {
            client_id: self.credentials.client_id.clone(),
            code,
            description,
            hint,
        }
    }
}

impl TokenAnswer {
    /// Reads an answer in either shape.
    pub fn read(answer: &Answer) -> Result<Self, CliError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Flat(Flat),
            Enveloped { data: Enveloped },
        }
        #[derive(Deserialize)]
        struct Flat {
            access_token: String,
            #[serde(default)]
            expires_in: u64,
            #[serde(default)]
            scope: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Enveloped {
            access_token: String,
            #[serde(default)]
            expires_in: u64,
            #[serde(default)]
            scope: String,
        }
        let said: Said =
            serde_json::from_str(&answer.body).map_err(|_| answer.unexpected("no token, and no reason"))?;
        let (access_token, expires_in, scope) = match said {
            Said::Flat(flat) => (flat.access_token, flat.expires_in, flat.scope),
            Said::Enveloped { data } => (data.access_token, data.expires_in, data.scope),
        };
        // RFC 6750 §2.1: what a token may consist of.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if access_token.is_empty() || !access_token.bytes().all(is_token) {
            return Err(answer.unexpected("a token that is none"));
        }
        Ok(Self {
            access_token: access_token.into(),
            expires_in,
            scope,
        })
    }
}

/// What a JWT says.
struct Decoded {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Decoded {
    fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let header = serde_json::from_slice(&parts.next()??).ok()?;
        let claims = serde_json::from_slice(&parts.next()??).ok()?;
        (parts.next().is_some() && parts.next().is_none()).then_some(Self { header, claims })
    }

    fn print(self, console: &mut Console<'_>, as_json: bool) -> Result<(), CliError> {
        if as_json {
            let document = json!({ "verified": false, "header": self.header, "claims": self.claims });
            return console.json(&document.to_string());
        }
        console.line("The signature is NOT verified: this is what the token says, true or not.")?;
        for (title, members) in [("Header", self.header), ("Claims", self.claims)] {
            console.line("")?;
            console.line(title)?;
            print_members(&members, console)?;
        }
        Ok(())
    }
}

/// What a part of a token says, times also as people read them.
pub(super) fn print_members(members: &Map<String, Value>, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut details = Details::default();
    for (name, value) in members {
        details.add(name, shown(name, value));
    }
    details.print(console)
}

fn shown(name: &str, value: &Value) -> String {
    let time = value
        .as_i64()
        .filter(|_| matches!(name, "iat" | "nbf" | "exp"))
        .and_then(table::unix_time);
    match (value, time) {
        (Value::String(text), _) => text.clone(),
        (_, Some(time)) => format!("{value} ({time})"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(
        credentials: &'a Credentials,
        method: AuthenticationMethod,
        audiences: &'a [String],
    ) -> TokenQuestion<'a> {
        TokenQuestion {
            dialect: Dialect::Standard,
            method,
            credentials,
            scope: Some("read update"),
            audiences,
            resources: audiences,
        }
    }

    #[test]
    fn basic_form_encodes_id_and_secret() {
        let credentials = Credentials {
            client_id: "my.trusted.app/service".into(),
            client_secret: "a:b c+ü".into(),
        };
        let header = question(&credentials, AuthenticationMethod::Basic, &[])
            .basic()
            .unwrap();
        assert!(header.is_sensitive());
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "my.trusted.app%2Fservice:a%3Ab+c%2B%C3%BC");
    }

    #[test]
    fn a_form_holds_the_secret_only_when_it_is_to() {
        let credentials = Credentials {
            client_id: "a".into(),
            client_secret: "s".into(),
        };
        let audiences = ["https://a".to_owned(), "b".to_owned()];
        assert_eq!(
            question(&credentials, AuthenticationMethod::Basic, &audiences).form(),
            "grant_type=client_credentials&scope=read+update&audience=https%3A%2F%2Fa+b&resource=https%3A%2F%2Fa&resource=b"
        );
        assert_eq!(
            question(&credentials, AuthenticationMethod::Post, &[]).form(),
            "grant_type=client_credentials&client_id=a&client_secret=s&scope=read+update"
        );
    }

    #[test]
    fn a_jwt_has_three_parts_of_which_two_are_json() {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let jwt = format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part(r#"{"iat":1}"#), part("x"));
        let decoded = Decoded::read(&jwt).unwrap();
        assert_eq!(
            (&decoded.header["alg"], &decoded.claims["iat"]),
            (&json!("ES256"), &json!(1))
        );
        for other in ["", "glr_opaque", "a.b.c", &format!("{jwt}.x"), &part("{}"), "e30.e30"] {
            assert!(Decoded::read(other).is_none(), "{other}");
        }
    }
}
