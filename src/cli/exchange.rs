//! One HTTP request and its answer: time, size and trust are bounded here, and every failure gets a name.

use crate::cli::connection::{Server, read_file};
use crate::cli::error::{CliError, FieldError, Problem};
use crate::outgoing::cause::root_cause;
use crate::outgoing::loopback::is_loopback;
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::time::Duration;
use url::Url;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take, from the connection to the last byte of its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer that goes on may take: a year, so that nothing else than a pause ends it.
const LONGEST_FLOW: Duration = Duration::from_secs(365 * 86_400);
/// The largest answer, in bytes: 1,000 events of 65,535 bytes, and what is around them.
const MAX_ANSWER_BYTES: usize = 80 * 1024 * 1024;
/// Characters that a message repeats of an answer that makes no sense.
const MAX_REPEATED_CHARS: usize = 120;

/// Speaks with one server.
pub struct Exchange {
    http: reqwest::Client,
    base: Url,
}

/// An answer that goes on.
pub struct Flow {
    response: reqwest::Response,
    longest_pause: Duration,
    server: String,
}

impl Flow {
    /// The next bytes; none at the end of a whole answer.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, CliError> {
        let url = || self.server.clone();
        match tokio::time::timeout(self.longest_pause, self.response.chunk()).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(CliError::Unreachable {
                url: url(),
                cause: cause_of(&error),
                is_certificate: false,
            }),
            Err(_) => Err(CliError::TimedOut {
                url: url(),
                seconds: self.longest_pause.as_secs(),
            }),
        }
    }

    /// A header that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.response.headers().get(name)?.to_str().ok()?.parse().ok()
    }

    /// That this is no answer of Grantlog's.
    pub fn unexpected(&self, problem: impl Into<String>) -> CliError {
        CliError::Unexpected {
            url: without_query(self.response.url()),
            problem: problem.into(),
        }
    }
}

/// What came back. No `Debug`: there may be a secret or a token in it.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, whole.
    pub body: String,
    url: String,
    retry_after: Option<String>,
    location: Option<String>,
}

impl Exchange {
    /// Gets ready; nothing is sent yet.
    pub fn new(server: &Server) -> Result<Self, CliError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("grantlog/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            // Credentials go to the server that was named, and to none that it names.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &server.ca_file {
            let not_pem = || CliError::Misshapen {
                path: path.to_owned(),
                expected: "a PEM file of certificates",
            };
            let certificates = Certificate::from_pem_bundle(&read_file(path)?).map_err(|_| not_pem())?;
            if certificates.is_empty() {
                return Err(not_pem());
            }
            builder = builder.tls_certs_only(certificates);
        } else if server.url.scheme() == "http" {
            // The system's certificates take time to read, and a small container has none.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&server.url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| CliError::Tls(cause_of(&error)))?;
        Ok(Self {
            http,
            base: server.url.clone(),
        })
    }

    /// The URL of something below the server's own, which may have a path.
    pub fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // An http URL always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A request to be filled.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request and takes its whole answer, whatever its status.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, CliError> {
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        self.whole(response).await
    }

    /// Sends a request and takes the bytes of its answer; anything but a success is an error.
    pub async fn bytes(&self, request: RequestBuilder) -> Result<Vec<u8>, CliError> {
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        let (mut answer, body) = self.receive(response).await?;
        if answer.status.is_success() {
            return Ok(body);
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Err(answer.refusal())
    }

    /// Sends a request whose answer goes on, and waits for its head; anything but a success is an error. Between
    /// two pieces of it there may be so long a pause.
    pub async fn flow(&self, request: RequestBuilder, longest_pause: Duration) -> Result<Flow, CliError> {
        let sent = tokio::time::timeout(CALL_TIMEOUT.max(longest_pause), request.timeout(LONGEST_FLOW).send());
        let response = match sent.await {
            Ok(sent) => sent.map_err(|error| self.failure(&error))?,
            Err(_) => return Err(self.timed_out(CALL_TIMEOUT.max(longest_pause))),
        };
        if !response.status().is_success() {
            let whole = tokio::time::timeout(CALL_TIMEOUT, self.whole(response)).await;
            let answer = whole.map_err(|_| self.timed_out(CALL_TIMEOUT))??;
            return Err(answer.refusal());
        }
        Ok(Flow {
            response,
            longest_pause,
            server: self.base.as_str().trim_end_matches('/').to_owned(),
        })
    }

    fn timed_out(&self, after: Duration) -> CliError {
        CliError::TimedOut {
            url: self.base.as_str().trim_end_matches('/').to_owned(),
            seconds: after.as_secs(),
        }
    }

    async fn whole(&self, response: reqwest::Response) -> Result<Answer, CliError> {
        let (mut answer, body) = self.receive(response).await?;
        answer.body = String::from_utf8(body).map_err(|_| answer.unexpected("no UTF-8"))?;
        Ok(answer)
    }

    async fn receive(&self, mut response: reqwest::Response) -> Result<(Answer, Vec<u8>), CliError> {
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let answer = Answer {
            status: response.status(),
            body: String::new(),
            url: without_query(response.url()),
            retry_after: text(RETRY_AFTER).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())),
            location: text(LOCATION),
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(answer.unexpected(format!("more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((answer, body))
    }

    fn failure(&self, error: &reqwest::Error) -> CliError {
        let url = self.base.as_str().trim_end_matches('/').to_owned();
        if error.is_timeout() {
            let after = if error.is_connect() {
                CONNECT_TIMEOUT
            } else {
                CALL_TIMEOUT
            };
            return CliError::TimedOut {
                url,
                seconds: after.as_secs(),
            };
        }
        let cause = cause_of(error);
        // rustls has its own words for each of these; all begin so.
        let is_certificate = cause.contains("certificate");
        CliError::Unreachable {
            url,
            cause,
            is_certificate,
        }
    }
}

impl Answer {
    /// The body's value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(&self.body).map_err(|error| {
            // With what was expected, and without what was there.
            self.unexpected(format!("JSON that cannot be read, at column {}", error.column()))
        })
    }

    /// The answer, if it is a success.
    pub fn success(self) -> Result<Self, CliError> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(self.refusal())
        }
    }

    /// What the server said when it refused (RFC 9457), or that this is no answer of Grantlog's.
    pub fn refusal(self) -> CliError {
        #[derive(Deserialize)]
        struct ProblemDetails {
            #[serde(default, rename = "type")]
            problem_type: String,
            #[serde(default)]
            title: String,
            #[serde(default)]
            detail: String,
            #[serde(default)]
            errors: Vec<FieldError>,
        }
        let status = self.status.as_u16();
        match serde_json::from_str::<ProblemDetails>(&self.body) {
            Ok(said) if !said.title.is_empty() || !said.detail.is_empty() => {
                let detail = if said.detail.is_empty() {
                    said.title
                } else {
                    said.detail
                };
                let retry_after = self.retry_after;
                let kind = said.problem_type.rsplit(':').next().unwrap_or_default().to_owned();
                CliError::Refused(Box::new(Problem {
                    status,
                    kind,
                    detail,
                    errors: said.errors,
                    retry_after,
                }))
            }
            _ => self.strange(),
        }
    }

    /// That this is no answer of Grantlog's.
    pub fn strange(&self) -> CliError {
        if let (true, Some(location)) = (self.status.is_redirection(), &self.location) {
            return self.unexpected(format!("{}, to {location}", self.status));
        }
        let begin: String = self.body.trim().chars().take(MAX_REPEATED_CHARS).collect();
        self.unexpected(if begin.is_empty() {
            self.status.to_string()
        } else {
            format!("{} {begin}", self.status)
        })
    }

    /// That this is no answer of Grantlog's, in other words.
    pub fn unexpected(&self, problem: impl Into<String>) -> CliError {
        CliError::Unexpected {
            url: self.url.clone(),
            problem: problem.into(),
        }
    }
}

/// Marks a request's body as a form.
pub fn form(request: RequestBuilder, body: String) -> RequestBuilder {
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body)
}

/// What lies at the bottom of it: "Connection refused", say, and not that a request could not be sent.
fn cause_of(error: &(dyn Error + 'static)) -> String {
    let text = root_cause(error).to_string();
    // "Connection refused (os error 111)": the number helps nobody.
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server {
            url: Url::parse(url).unwrap(),
            ca_file: None,
        }
    }

    #[test]
    fn urls_lie_below_the_path_of_the_server() {
        for (base, expected) in [
            ("http://h", "http://h/admin/signing-keys/a%2Fb%3F"),
            ("http://h/", "http://h/admin/signing-keys/a%2Fb%3F"),
            ("http://h/id", "http://h/id/admin/signing-keys/a%2Fb%3F"),
            ("http://h/id/", "http://h/id/admin/signing-keys/a%2Fb%3F"),
        ] {
            let exchange = Exchange::new(&server(base)).unwrap();
            assert_eq!(exchange.url(&["admin", "signing-keys", "a/b?"]).as_str(), expected);
        }
    }
}
