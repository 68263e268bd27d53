//! Where a KurrentDB is, in the vendor's words: `kurrentdb://user:password@host:2113?tls=true`, with several hosts
//! or `+discover` for a cluster.

use eventstore::{Authentication, ClientSettings, Credentials};
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use url::form_urlencoded;

/// The port that a host has when the URL names none.
const DEFAULT_PORT: u16 = 2_113;
/// A longer URL is a mistake.
const MAX_URL_BYTES: usize = 4_096;
/// Hosts that a URL may name.
const MAX_HOSTS: usize = 16;
/// How long a node may take to tell who leads, in milliseconds, where the URL does not say: a dead one must not hold
/// up the question to the next.
const GOSSIP_TIMEOUT_MILLISECONDS: u32 = 500;
/// Between finding a node and connecting to it, in milliseconds, where the URL does not say.
const DISCOVERY_INTERVAL_MILLISECONDS: u32 = 5;
/// The schemes, each also with `+discover`. The last are other names for the first.
const SCHEMES: [&str; 4] = ["kurrentdb", "esdb", "kurrent", "kdb"];
/// The parameters that are passed on.
const PARAMETERS: [&str; 9] = [
    "tls",
    "tlsCAFile",
    "userCertFile",
    "userKeyFile",
    "connectionName",
    "gossipTimeout",
    "keepAliveInterval",
    "keepAliveTimeout",
    "discoveryInterval",
];

/// A checked connection string. It may hold a password: what shows it, masks that.
#[derive(Clone, PartialEq, Eq)]
pub struct KurrentDbUrl {
    scheme: String,
    /// As written, still percent-encoded.
    user: Option<(String, String)>,
    hosts: Vec<(String, u16)>,
    parameters: Vec<(String, String)>,
}

/// Why a text is no connection string, and what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKurrentDbUrl(String);

impl KurrentDbUrl {
    /// Whether the text means to be one.
    pub fn is_meant_by(text: &str) -> bool {
        text.split_once("://")
            .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme.trim_end_matches("+discover")))
    }

    /// Checks a connection string.
    pub fn parse(text: &str) -> Result<Self, InvalidKurrentDbUrl> {
        let invalid = |what: &str| Err(InvalidKurrentDbUrl(what.to_owned()));
        if text.len() > MAX_URL_BYTES || text.chars().any(|character| character.is_control() || character == ' ') {
            return invalid("it is longer than 4096 bytes, or holds a space or a control character");
        }
        let Some((scheme, rest)) = text.split_once("://").filter(|_| Self::is_meant_by(text)) else {
            return invalid("it must begin with kurrentdb://, kurrentdb+discover://, esdb:// or esdb+discover://");
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        let (user, hosts) = match place.rsplit_once('@') {
            None => (None, place),
            Some((user, hosts)) => match user.split_once(':') {
                Some((name, password)) if !name.is_empty() && is_encoded(name) && is_encoded(password) => {
                    (Some((name.to_owned(), password.to_owned())), hosts)
                }
                _ => return invalid("before the @ it must have user:password, each percent-encoded"),
            },
        };
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > MAX_HOSTS {
            return invalid("it names more than 16 hosts");
        }
        let parsed = Self {
            scheme: scheme.to_owned(),
            user,
            hosts,
            parameters: parameters(query)?,
        };
        if parsed.parameter("userCertFile").is_some() != parsed.parameter("userKeyFile").is_some() {
            return invalid("userCertFile and userKeyFile go together");
        }
        if !parsed.is_secure() && (parsed.parameter("tlsCAFile").or(parsed.parameter("userCertFile"))).is_some() {
            return invalid("with tls=false no certificate is used: remove tlsCAFile, userCertFile and userKeyFile");
        }
        // The client has the last word: it alone knows all that it accepts.
        parsed.settings(&parsed.hosts)?;
        Ok(parsed)
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.parameter("tls").is_none_or(|tls| tls == "true")
    }

    /// That the files which it names can be read and hold what they should. The client would say nothing, or panic.
    pub(super) fn check_files(&self) -> Result<(), (PathBuf, String)> {
        for (parameter, is_key) in [("tlsCAFile", false), ("userCertFile", false), ("userKeyFile", true)] {
            let Some(path) = self.parameter(parameter).map(Path::new) else {
                continue;
            };
            let checked = match is_key {
                true => PrivateKeyDer::from_pem_file(path).map(drop),
                false => certificates(path),
            };
            checked.map_err(|error| (path.to_owned(), format!("it is no {parameter}: {error}")))?;
        }
        Ok(())
    }

    /// What the client is made with. It is always the leader that is asked: nobody else knows what is committed.
    pub(super) fn client_settings(&self) -> Result<ClientSettings, InvalidKurrentDbUrl> {
        self.settings(&self.hosts)
    }

    /// The same for one node, which another one called the leader.
    pub(super) fn settings_of_node(&self, name: &str, port: u16) -> Result<ClientSettings, InvalidKurrentDbUrl> {
        let node = Self {
            scheme: self.scheme.trim_end_matches("+discover").to_owned(),
            ..self.clone()
        };
        node.settings(&[(name.to_owned(), port)])
    }

    /// Goes with every call: the client would send a percent-encoded password as it stands.
    pub(super) fn authentication(&self) -> Option<Authentication> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (name, password) = self.user.as_ref()?;
        Some(Credentials::new(decoded(name), decoded(password)).into())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    fn settings(&self, hosts: &[(String, u16)]) -> Result<ClientSettings, InvalidKurrentDbUrl> {
        let hosts: Vec<String> = hosts.iter().map(|(name, port)| format!("{name}:{port}")).collect();
        // The client does not decode these, and goes with them where calls are not ours: to ask who leads. A server
        // answers that to those without a name, and not to those with a wrong one.
        let user = self
            .user
            .as_ref()
            .filter(|(name, password)| !name.contains('%') && !password.contains('%'))
            .map_or(String::new(), |(name, password)| format!("{name}:{password}@"));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("nodePreference", "leader");
        // The supervision tries again by itself, and knows how long. To find a node and to connect to it are two
        // attempts, with a pause between them in any case.
        query.append_pair("maxDiscoverAttempts", "2");
        if self.parameter("discoveryInterval").is_none() {
            query.append_pair("discoveryInterval", &DISCOVERY_INTERVAL_MILLISECONDS.to_string());
        }
        if self.parameter("gossipTimeout").is_none() {
            query.append_pair("gossipTimeout", &GOSSIP_TIMEOUT_MILLISECONDS.to_string());
        }
        query.extend_pairs(&self.parameters);
        format!("{}://{user}{}?{}", self.scheme, hosts.join(","), query.finish())
            .parse()
            .map_err(|error: eventstore::ClientSettingsParseError| {
                // The client's own text may hold the whole URL, and with it the password.
                match error.error() {
                    Some(source) => InvalidKurrentDbUrl(format!("it is no URL: {source}")),
                    None => InvalidKurrentDbUrl(error.message().to_owned()),
                }
            })
    }
}

/// At least one certificate, and none that is broken.
fn certificates(path: &Path) -> Result<(), pem::Error> {
    let found = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    match found.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(()),
    }
}

/// RFC 3986 §3.2.1: what else a URL is made of would be taken for that.
fn is_encoded(text: &str) -> bool {
    !text.contains(['/', '?', '#', ',', '@', ':', '[', ']', '\\'])
}

fn host(text: &str) -> Result<(String, u16), InvalidKurrentDbUrl> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().ok().filter(|port| *port > 0)),
        None => (text, Some(DEFAULT_PORT)),
    };
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    match port {
        Some(port) if !name.is_empty() && name.chars().all(is_name) => Ok((name.to_owned(), port)),
        _ => Err(InvalidKurrentDbUrl(
            "after the scheme and user:password@ it must have host:port, several of them separated by commas"
                .to_owned(),
        )),
    }
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, InvalidKurrentDbUrl> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(known) = PARAMETERS.iter().find(|known| known.eq_ignore_ascii_case(&name)) else {
            return Err(InvalidKurrentDbUrl(match name.to_ascii_lowercase().as_str() {
                "tlsverifycert" => {
                    "tlsVerifyCert is not offered: name the certificate authority with tlsCAFile instead".to_owned()
                }
                "nodepreference" => "nodePreference is not offered: it is always the leader that is asked".to_owned(),
                _ => format!("it has another parameter than {}", PARAMETERS.join(", ")),
            }));
        };
        if parameters.iter().any(|(there, _)| there == known) {
            return Err(InvalidKurrentDbUrl(format!("it has {known} twice")));
        }
        if *known == "tls" && !matches!(&*value, "true" | "false") {
            return Err(InvalidKurrentDbUrl("tls is true or false".to_owned()));
        }
        parameters.push(((*known).to_owned(), value.into_owned()));
    }
    Ok(parameters)
}

impl fmt::Display for KurrentDbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(|(name, port)| format!("{name}:{port}")).collect();
        let user = if self.user.is_some() { "***:***@" } else { "" };
        write!(f, "{}://{user}{}", self.scheme, hosts.join(","))
    }
}

impl fmt::Debug for KurrentDbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_connection_strings_are_understood() {
        for text in [
            "kurrentdb://localhost:2113?tls=false",
            "esdb://localhost",
            "kurrentdb://a:1,b:2,c:3?tls=false",
            "kurrentdb+discover://admin:changeit@cluster.example:2113",
            "esdb+discover://cluster.example/?TLS=true&connectionName=node-a",
            "kurrentdb://a_b-c.d?keepAliveInterval=-1&gossipTimeout=200",
        ] {
            let url = KurrentDbUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(KurrentDbUrl::is_meant_by(text));
            assert!(url.client_settings().is_ok(), "{text}");
        }
        let cluster = KurrentDbUrl::parse("kurrentdb://a:1,b:2,c?tls=false").unwrap();
        let hosts = cluster.client_settings().unwrap();
        let hosts: Vec<_> = hosts
            .hosts()
            .iter()
            .map(|host| (host.host.clone(), host.port))
            .collect();
        assert_eq!(hosts, [("a".into(), 1), ("b".into(), 2), ("c".into(), 2113)]);
        let node = cluster.settings_of_node("b", 2).unwrap();
        assert_eq!((node.hosts().len(), node.is_secure_mode_enabled()), (1, false));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (text, said) in [
            ("postgres://db", "it must begin with"),
            ("kurrentdb://", "host:port"),
            ("kurrentdb://h:0", "host:port"),
            ("kurrentdb://h:99999", "host:port"),
            ("kurrentdb://h/path", "host:port"),
            ("kurrentdb://user@h", "user:password"),
            ("kurrentdb://svc:/hush@h:1", "percent-encoded"),
            ("kurrentdb://svc:12/hush@h", "percent-encoded"),
            ("kurrentdb://svc:12#x@db:2113", "percent-encoded"),
            ("kurrentdb://h?tls=yes", "true or false"),
            ("kurrentdb://h?tlsVerifyCert=false", "tlsCAFile"),
            ("kurrentdb://h?nodePreference=follower", "leader"),
            ("kurrentdb://h?nonsense=1", "another parameter"),
            ("kurrentdb://h?tls=true&tls=false", "twice"),
            ("kurrentdb://h?userCertFile=/a", "go together"),
            ("kurrentdb://h?tls=false&tlsCAFile=/a", "no certificate is used"),
            ("kurrentdb://h?gossipTimeout=soon", "gossiptimeout"),
            ("kurrentdb://a b", "space"),
        ] {
            let error = KurrentDbUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let hosts = vec!["h"; 17].join(",");
        assert!(KurrentDbUrl::parse(&format!("kurrentdb://{hosts}")).is_err());
    }

    #[test]
    fn a_password_is_decoded_for_the_server_and_never_shown() {
        let url = KurrentDbUrl::parse("kurrentdb://svc:p%40ss%3Aword@h:1?tls=true").unwrap();
        let sent = url.authentication().unwrap();
        assert_eq!(sent, Authentication::basic("svc", "p@ss:word"));
        for shown in [format!("{url}"), format!("{url:?}")] {
            assert_eq!(shown, "kurrentdb://***:***@h:1");
        }
        for wrong in [
            "kurrentdb://svc:hush@h:1?tls=x",
            "kurrentdb://svc:hush@h:1:2",
            "kurrentdb://svc:hush@[h",
        ] {
            let error = KurrentDbUrl::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
