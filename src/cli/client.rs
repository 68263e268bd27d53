//! A client of Grantlog's own API: it gets one token, for what the command needs and no more, and uses it.

use crate::cli::connection::{ADMINISTRATOR_PROFILE, AUDITOR_PROFILE, Connection};
use crate::cli::exchange::{Answer, Exchange, Flow};
use crate::cli::token::{AuthenticationMethod, Dialect, TokenAnswer, TokenQuestion};
use crate::cli::{CliError, Console, GlobalOptions};
use crate::outgoing::loopback::is_loopback;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue, IF_MATCH};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;
use url::Url;

/// Scope of reading applications and APIs.
pub const APPLICATIONS_READ: &str = "applications:read";
/// Scope of changing applications and APIs.
pub const APPLICATIONS_WRITE: &str = "applications:write";
/// Scope of seeing and revoking tokens, and of sessions.
pub const TOKENS_REVOKE: &str = "tokens:revoke";
/// Scope of everything about signing keys.
pub const KEYS_WRITE: &str = "keys:write";
/// Scope of reading the trail.
pub const AUDIT_READ: &str = "audit:read";
/// Scope of taking a copy of the trail out.
pub const AUDIT_EXPORT: &str = "audit:export";
/// Scope of legal holds.
pub const AUDIT_HOLD: &str = "audit:hold";

/// Scopes that an auditor has and no administrator can have.
const AUDITORS_ALONE: [&str; 2] = [AUDIT_EXPORT, AUDIT_HOLD];

/// How long to wait where the server may have to read all of its log.
pub const LOG_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// A client with its token.
pub struct Client {
    /// As whom the server is called.
    pub client_id: String,
    exchange: Exchange,
    bearer: HeaderValue,
}

/// What is sent besides the path.
#[derive(Default)]
pub struct Call<'a> {
    /// Parameters of the query.
    pub query: &'a [(&'a str, String)],
    /// A JSON body.
    pub body: Option<Map<String, Value>>,
    /// The revision that must still be the last one.
    pub if_revision: Option<u64>,
    /// How long to wait for the answer, where that is longer than usual.
    pub patience: Option<Duration>,
}

impl Client {
    /// Asks the server who it is, and for a token with these scopes.
    pub async fn sign_in(
        console: &mut Console<'_>,
        options: &GlobalOptions,
        scopes: &[&str],
    ) -> Result<Self, CliError> {
        // What an administrator may not do, another profile on the server's machine may.
        let profile = match scopes.iter().any(|scope| AUDITORS_ALONE.contains(scope)) {
            true => AUDITOR_PROFILE,
            false => ADMINISTRATOR_PROFILE,
        };
        Self::sign_in_for(profile, Some(scopes.join(" ")), console, options).await
    }

    /// Asks the server who it is, and for a token with every scope that the profile may have: who registers or
    /// changes an application that has scopes of Grantlog's own must show these, too.
    pub async fn sign_in_with_all(console: &mut Console<'_>, options: &GlobalOptions) -> Result<Self, CliError> {
        // RFC 6749 §3.3: without a scope the server grants its default, which is all.
        Self::sign_in_for(ADMINISTRATOR_PROFILE, None, console, options).await
    }

    async fn sign_in_for(
        profile: &str,
        scope: Option<String>,
        console: &mut Console<'_>,
        options: &GlobalOptions,
    ) -> Result<Self, CliError> {
        let connection = Connection::find_with(profile, console, options, None)?;
        warn_of_plain_http(&connection, console);
        let exchange = Exchange::new(&connection.server)?;
        let issuer = issuer(&exchange).await?;
        let question = TokenQuestion {
            dialect: Dialect::Standard,
            method: AuthenticationMethod::Basic,
            credentials: &connection.credentials,
            scope: scope.as_deref(),
            audiences: std::slice::from_ref(&issuer),
            resources: &[],
        };
        let answer = question.ask(&exchange).await.map_err(|error| match error {
            CliError::TokenRefused {
                client_id,
                code,
                description,
                ..
            } => {
                let hint = sign_in_hint(&code, &client_id, scope.as_deref().unwrap_or_default(), &issuer);
                CliError::TokenRefused {
                    client_id,
                    code,
                    description,
                    hint,
                }
            }
            error => error,
        })?;
        let token = TokenAnswer::read(&answer)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.access_token.expose()))
            .map_err(|_| answer.unexpected("a token that fits in no header"))?;
        bearer.set_sensitive(true);
        Ok(Self {
            client_id: connection.credentials.client_id,
            exchange,
            bearer,
        })
    }

    /// Reads what is no text; anything but a success is an error.
    pub async fn bytes(&self, path: &[&str]) -> Result<Vec<u8>, CliError> {
        let request = self.exchange.request(Method::GET, self.exchange.url(path));
        self.exchange
            .bytes(request.header(AUTHORIZATION, self.bearer.clone()))
            .await
    }

    /// Calls the API; anything but a success is an error.
    pub async fn call(&self, method: Method, path: &[&str], call: Call<'_>) -> Result<Answer, CliError> {
        let mut url = self.exchange.url(path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = self
            .exchange
            .request(method, url)
            .header(AUTHORIZATION, self.bearer.clone());
        if let Some(patience) = call.patience {
            request = request.timeout(patience);
        }
        if let Some(revision) = call.if_revision {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(body) = call.body {
            request = request.json(&body);
        }
        self.exchange.send(request).await?.success()
    }
}

impl Client {
    /// Begins to read an answer that goes on; anything but a success is an error. `last_event_id` is that of a
    /// stream of events which goes on behind it (WHATWG HTML §9.2).
    pub async fn flow(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last_event_id: Option<u64>,
        longest_pause: Duration,
    ) -> Result<Flow, CliError> {
        let mut url = self.exchange.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self
            .exchange
            .request(Method::GET, url)
            .header(AUTHORIZATION, self.bearer.clone());
        if let Some(index) = last_event_id {
            request = request.header("Last-Event-ID", index);
        }
        self.exchange.flow(request, longest_pause).await
    }
}

/// Tells when the secret travels in the clear.
pub fn warn_of_plain_http(connection: &Connection, console: &mut Console<'_>) {
    let server = &connection.server;
    if server.url.scheme() == "http" && !is_loopback(&server.url) {
        let host = server.url.host_str().unwrap_or_default();
        console.warn(&format!("the secret and the token go to {host} unencrypted: use https"));
    }
}

/// The server's name for itself (RFC 8414): the audience of its own API.
async fn issuer(exchange: &Exchange) -> Result<String, CliError> {
    #[derive(Deserialize)]
    struct Metadata {
        issuer: String,
    }
    let url = exchange.url(&[".well-known", "oauth-authorization-server"]);
    let answer = exchange.send(exchange.request(Method::GET, url)).await?;
    if !answer.status.is_success() {
        return Err(answer.strange());
    }
    let Metadata { issuer } = answer.parse()?;
    // Taken as it is written: issuers are compared byte by byte (RFC 8414 §3.3).
    match Url::parse(&issuer) {
        Ok(url) if url.has_host() => Ok(issuer),
        _ => Err(answer.unexpected("an issuer that is no URL")),
    }
}

fn sign_in_hint(code: &str, client_id: &str, scope: &str, issuer: &str) -> Option<String> {
    Some(match code {
        "invalid_client" => "do GRANTLOG_CLIENT_ID and GRANTLOG_CLIENT_SECRET, or the profile, belong to this server, \
                             and is the application enabled? `grantlog audit search` there tells the true reason"
            .into(),
        "invalid_scope" if scope.split(' ').any(|scope| AUDITORS_ALONE.contains(&scope)) => format!(
            "only an auditor may: use --profile auditor.json (or run where the data folder is); an administrator can \
             neither have nor give {scope}"
        ),
        "invalid_scope" if scope.split(' ').any(|scope| scope == TOKENS_REVOKE) => format!(
            "this command needs {scope}, which an administrator that is older than this version does not have: \
             `grantlog serve --reset-administrator` gives it, and then: grantlog app change {client_id} --scope \"<all \
             its scopes> {scope}\""
        ),
        "invalid_scope" => format!(
            "this command needs {scope}; an administrator can add it: grantlog app change {client_id} --scope \"<all \
             its scopes> {scope}\""
        ),
        "unauthorized_client" => format!(
            "to call Grantlog's own API, {client_id} needs a system user and the audience {issuer}: grantlog app change"
        ),
        "temporarily_unavailable" => "the server cannot write its log now; its own log says why".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_an_administrator_cannot_give_is_not_said_to_be_his_to_give() {
        let hint = |scope| sign_in_hint("invalid_scope", "ops", scope, "https://id.example.com").unwrap();
        for scope in [AUDIT_EXPORT, AUDIT_HOLD] {
            assert!(
                hint(scope).contains("auditor.json") && !hint(scope).contains("app change"),
                "{scope}"
            );
        }
        let for_tokens = hint("tokens:revoke");
        assert!(for_tokens.contains("serve --reset-administrator"), "{for_tokens}");
        let hint = hint("applications:read audit:read");
        let command = "grantlog app change ops --scope \"<all its scopes> applications:read audit:read\"";
        assert!(hint.contains(command), "{hint}");
    }
}
