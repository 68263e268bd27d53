//! Where a KurrentDB is, in the vendor's words: `kurrentdb://user:password@host:2113?tls=true`, with several hosts
//! or `+discover` for a cluster.

use eventstore::{Authentication, ClientSettings, Credentials};
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::net::Ipv6Addr;
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
/// What a scheme ends with when one name stands for a whole cluster.
const DISCOVER: &str = "+discover";
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
            .is_some_and(|(scheme, _)| SCHEMES.contains(&scheme.trim_end_matches(DISCOVER)))
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
        if hosts.iter().any(|(name, _)| name.starts_with('[')) && (hosts.len() > 1 || scheme.ends_with(DISCOVER)) {
            return invalid("an IPv6 address is taken for a single node alone: give the nodes of a cluster names");
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
            scheme: self.scheme.trim_end_matches(DISCOVER).to_owned(),
            ..self.clone()
        };
        let name = match name.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => name.to_owned(),
        };
        node.settings(&[(name, port)])
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
        // With this the client asks the first host alone; without it, whoever answers of several.
        let scheme = match hosts.len() {
            1 => &self.scheme,
            _ => self.scheme.trim_end_matches(DISCOVER),
        };
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
        format!("{scheme}://{user}{}?{}", hosts.join(","), query.finish())
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
    // RFC 3986 §3.2.2: an IPv6 address stands in brackets, for it has colons.
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let address = address.parse::<Ipv6Addr>().map(|address| format!("[{address}]"));
            (address.unwrap_or_default(), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at(end);
            let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
            let name = name.chars().all(is_name).then(|| name.to_owned());
            (name.unwrap_or_default(), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0),
        None if port.is_empty() => Some(DEFAULT_PORT),
        None => None,
    };
    match port {
        Some(port) if !name.is_empty() => Ok((name, port)),
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
            match (&*name.to_ascii_lowercase(), &*value.to_ascii_lowercase()) {
                // That is what is done in any case.
                ("tlsverifycert", "true") | ("nodepreference", "leader") => continue,
                (lowercase, _) => return Err(not_offered(&name, lowercase, query)),
            }
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

fn not_offered(name: &str, lowercase: &str, query: &str) -> InvalidKurrentDbUrl {
    InvalidKurrentDbUrl(match lowercase {
        "tlsverifycert" => {
            "tlsVerifyCert can only be true: name the certificate authority with tlsCAFile instead".to_owned()
        }
        "nodepreference" => "nodePreference can only be leader: nobody else knows what is committed".to_owned(),
        // A password with a ? that is not encoded begins the query, and must not be shown.
        _ if query.contains('@') || !name.chars().all(|character| character.is_ascii_alphanumeric()) => {
            format!("it has another parameter than {}", PARAMETERS.join(", "))
        }
        _ => format!("it has the parameter {name}, and may have {}", PARAMETERS.join(", ")),
    })
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
            "kurrentdb://h?nodePreference=Leader&tlsVerifyCert=true",
            "kurrentdb://svc:hush@[2001:db8::1]:2114",
            "kurrentdb://[::1]?tls=false",
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
    fn of_several_hosts_each_is_asked_and_a_single_name_is_looked_up_where_that_is_wished() {
        let is_looked_up = |text: &str| {
            let settings = KurrentDbUrl::parse(text).unwrap().client_settings().unwrap();
            (settings.hosts().len(), settings.is_dns_discovery_enabled())
        };
        assert_eq!(is_looked_up("kurrentdb+discover://cluster.example"), (1, true));
        assert_eq!(is_looked_up("kurrentdb+discover://a:1,b:2,c:3"), (3, false));
        assert_eq!(is_looked_up("kurrentdb://a:1,b:2,c:3"), (3, false));
    }

    #[test]
    fn an_ipv6_address_reaches_the_client_in_brackets_whoever_names_it() {
        let url = KurrentDbUrl::parse("kurrentdb://[2001:db8::1]:2114").unwrap();
        let host = |settings: ClientSettings| (settings.hosts()[0].host.clone(), settings.hosts()[0].port);
        let expected = ("[2001:db8::1]".to_owned(), 2_114);
        assert_eq!(host(url.client_settings().unwrap()), expected);
        let elsewhere = KurrentDbUrl::parse("kurrentdb://a,b").unwrap();
        assert_eq!(
            host(elsewhere.settings_of_node("2001:db8::1", 2_114).unwrap()),
            expected
        );
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
            ("kurrentdb://h?nonsense=1", "the parameter nonsense"),
            ("kurrentdb://svc:12?hush&x@h", "another parameter"),
            ("kurrentdb://[::1]:x", "host:port"),
            ("kurrentdb://[::1]2113", "host:port"),
            ("kurrentdb://[::g]:2113", "host:port"),
            ("kurrentdb://::1", "host:port"),
            ("kurrentdb://[::1]:1,[::1]:2", "IPv6"),
            ("kurrentdb+discover://[::1]:1", "IPv6"),
            ("kurrentdb://h?tls=true&tls=false", "twice"),
            ("kurrentdb://h?userCertFile=/a", "go together"),
            ("kurrentdb://h?tls=false&tlsCAFile=/a", "no certificate is used"),
            ("kurrentdb://h?gossipTimeout=soon", "gossiptimeout"),
            ("kurrentdb://a b", "space"),
        ] {
            let error = KurrentDbUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(said) && !error.contains("hush"), "{text}: {error}");
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
