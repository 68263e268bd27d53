//! Why a command did not do what was asked, and what to do about it.

use crate::cli::Console;
use crate::cli::printable::printable;
use std::io;
use std::path::PathBuf;

/// Field errors that are shown of one refusal.
const MAX_FIELD_ERRORS: usize = 32;

/// Why a command did not do what was asked. Never holds a secret or a token.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody said as whom to call the server.
    #[error("there are no credentials: {} does not exist, and GRANTLOG_CLIENT_ID is not set", profile.display())]
    NoCredentials {
        /// Where a profile was looked for.
        profile: PathBuf,
    },
    /// Nobody said which server to call.
    #[error("there is no URL: {} does not exist, and GRANTLOG_URL is not set", profile.display())]
    NoUrl {
        /// Where a profile was looked for.
        profile: PathBuf,
    },
    /// One half of the credentials is missing.
    #[error("{given} is given, but {missing} is not")]
    HalfCredentials {
        /// What there is.
        given: &'static str,
        /// What there is not.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is not {expected}", path.display())]
    Misshapen {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A text is no URL of a server.
    #[error("{url:?} is no URL of a server: {problem}")]
    InvalidUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// No connection.
    #[error("cannot reach {url}: {cause}")]
    Unreachable {
        /// The server.
        url: String,
        /// What went wrong.
        cause: String,
        /// Whether it was the server's certificate.
        is_certificate: bool,
    },
    /// No answer in time.
    #[error("{url} did not answer within {seconds} seconds")]
    TimedOut {
        /// The server.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// An answer that Grantlog does not give.
    #[error("{url} answered what Grantlog would not: {problem}")]
    Unexpected {
        /// What was called.
        url: String,
        /// What came.
        problem: String,
    },
    /// The token endpoint refused.
    #[error("no token for {client_id}: {code}{}{description}", if description.is_empty() { "" } else { ": " })]
    TokenRefused {
        /// Who asked.
        client_id: String,
        /// The RFC 6749 §5.2 code.
        code: String,
        /// What it said besides.
        description: String,
        /// What may help.
        hint: Option<String>,
    },
    /// The server refused (RFC 9457).
    #[error("{0}")]
    Refused(Box<Problem>),
    /// Nothing is registered by that name.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `application` or `API`.
        what: &'static str,
        /// The name.
        name: String,
        /// How to find what there is.
        hint: String,
    },
    /// The person said no.
    #[error("nothing was done")]
    Declined,
    /// A log cannot be verified, or does not verify.
    #[error("{0}")]
    Verification(String),
    /// A server is there, but not ready.
    #[error("not ready: {0}")]
    NotReady(String),
    /// There are no claims in a token that is opaque.
    #[error("this token is no JWT: there is nothing to decode in it")]
    NoJwt,
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there already.
    #[error("{} is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// What was received is not what the server says it sent.
    #[error("the export is not what the server's manifest says: {0}")]
    NotTheSame(String),
    /// The machine refuses what every command needs.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Standard output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// What the server said (RFC 9457).
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The status.
    pub status: u16,
    /// What kind of problem it is: the end of its `type`.
    pub kind: String,
    /// What happened.
    pub detail: String,
    /// Field by field.
    pub errors: Vec<FieldError>,
    /// When to come back.
    pub retry_after: Option<String>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub struct FieldError {
    /// Its name.
    #[serde(default)]
    pub field: String,
    /// What is wrong with it.
    #[serde(default)]
    pub message: String,
}

impl CliError {
    /// Tells it on the error stream; the exit code.
    pub fn report(&self, console: &mut Console<'_>) -> u8 {
        if let Self::Output(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // The reader, `head` for example, has seen enough: that is no failure.
            return 0;
        }
        console.note(&format!("error: {self}"));
        if let Self::Refused(problem) = self {
            let lines = problem
                .errors
                .iter()
                .map(|error| format!("{}: {}", error.field, error.message));
            for line in lines.filter(|line| *line != problem.detail).take(MAX_FIELD_ERRORS) {
                let _ = writeln!(console.err, "  {}", printable(&line));
            }
        }
        if let Some(hint) = self.hint() {
            console.note(&format!("hint: {hint}"));
        }
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Whether the same may succeed later: the server or what lies before it was not there, or could not then.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { is_certificate, .. } => !is_certificate,
            Self::TimedOut { .. } => true,
            // What stands before a server that is down answers for it.
            Self::Unexpected { problem, .. } => problem.starts_with('5'),
            Self::Refused(problem) => problem.status == 429 || problem.status >= 500,
            Self::TokenRefused { code, .. } => code == "temporarily_unavailable" || code == "slow_down",
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Usage(_) => "--help shows examples".into(),
            Self::NoCredentials { .. } | Self::NoUrl { .. } => "on the server's own machine, start it first (grantlog \
                 serve) and give its --data-dir; elsewhere set GRANTLOG_URL, GRANTLOG_CLIENT_ID and \
                 GRANTLOG_CLIENT_SECRET"
                .into(),
            Self::HalfCredentials { missing, .. } => format!("give {missing} too, or neither"),
            Self::InvalidUrl { .. } => "a URL such as https://id.example.com or http://127.0.0.1:8080".into(),
            Self::Tls(_) => "install the system's CA certificates, or name yours with --ca-file".into(),
            Self::Unreachable {
                is_certificate: true, ..
            } => "when the server's certificate is from your own authority, name its PEM file with --ca-file".into(),
            Self::Unreachable { url, .. } | Self::TimedOut { url, .. } => {
                format!("is the server running at {url}? --url or GRANTLOG_URL names another one")
            }
            Self::Unexpected { .. } => "does the URL name a Grantlog server, with its path if it has one?".into(),
            Self::TokenRefused { hint, .. } => hint.clone()?,
            Self::NotFound { hint, .. } => hint.clone(),
            Self::Refused(problem) => problem.hint()?,
            Self::Exists { .. } => "choose another name, or --force".into(),
            Self::NotTheSame(_) => "nothing was kept; export again, and ask what is between you and the server".into(),
            Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Misshapen { .. }
            | Self::Declined
            | Self::Verification(_)
            | Self::NotReady(_)
            | Self::NoJwt
            | Self::Start(_)
            | Self::Input(_)
            | Self::Output(_) => {
                return None;
            }
        })
    }
}

impl Problem {
    fn hint(&self) -> Option<String> {
        let later = self
            .retry_after
            .as_ref()
            .map(|seconds| format!("try again in {seconds} s"));
        match self.status {
            401 => Some(
                "the server does not accept the token that it has just given: has its log or its key changed?".into(),
            ),
            // What was refused is not a scope that is missing for the call.
            403 if self.kind == "beyond_caller" => Some(
                "it needs the credentials of somebody who has this scope: name another --profile; what only an auditor \
                 has, nobody else can be given"
                    .into(),
            ),
            403 if self.kind == "insufficient_scope" => {
                Some("the application whose credentials these are must have this scope".into())
            }
            412 => Some("somebody else changed it: look at it again, and repeat with its --if-revision".into()),
            _ => later,
        }
    }
}
