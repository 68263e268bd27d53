//! What a filter can speak of: every field of an event in an answer, and every field of the fact in it.

use super::Facts;
use grantlog_projections::values::Timestamp;
use serde_json::{Number, Value as Json};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// Names in a path below `data`.
pub const MAX_PATH_NAMES: usize = 8;
/// How many names an error proposes at the most.
const SUGGESTIONS: usize = 3;

/// One attribute of an event.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::audit) enum Attribute {
    /// One that has a name of its own.
    Named(&'static Named),
    /// A path into the fact.
    Data(Path),
    /// The same in the brackets of a value path: it begins at the object that they speak of, and is of the kind that it
    /// has without brackets.
    Element(Path, Kind),
}

/// Names that lead into JSON, in lower case.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::audit) struct Path {
    names: Box<[Box<str>]>,
    /// Whether it begins at the fact, which is called `data`.
    of_data: bool,
}

/// An attribute with a name of its own.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::audit) struct Named {
    pub name: &'static str,
    pub kind: Kind,
    place: Place,
}

/// What its values are, and so which operators and values it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Kind {
    /// Text, as it is written.
    Text,
    /// A UUID or hex digits: stored in lower case, found in either.
    Id,
    /// The name of an event type.
    Type,
    /// `success` or `refused`.
    Outcome,
    /// A whole number.
    Number,
    /// A point in time.
    Time,
    /// An IP address.
    Address,
    /// Whatever JSON holds.
    Any,
    /// An object, or several (RFC 7643 §2.3.8): they are there or not.
    Complex,
}

/// Where it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Index,
    Id,
    Stream,
    Revision,
    Type,
    Time,
    Actor,
    Address,
    UserAgent,
    TraceId,
    ClientId,
    Outcome,
    Source,
    Data,
    /// In the fact, at any of these paths.
    Fact(&'static [&'static [&'static str]]),
    /// The words of the text there: a scope's tokens (RFC 6749 §3.3).
    Words(&'static [&'static str]),
}

macro_rules! named {
    ($($name:literal $kind:ident $place:expr;)*) => {
        /// All attributes that have a name of their own.
        pub(in crate::audit) const NAMED: &[Named] = &[$(Named { name: $name, kind: Kind::$kind, place: $place }),*];
    };
}

named! {
    "index" Number Place::Index;
    "id" Id Place::Id;
    "stream" Text Place::Stream;
    "revision" Number Place::Revision;
    "type" Type Place::Type;
    "time" Time Place::Time;
    "actor" Text Place::Actor;
    "source.ip" Address Place::Address;
    "source.user_agent" Text Place::UserAgent;
    "trace_id" Id Place::TraceId;
    "client_id" Text Place::ClientId;
    "outcome" Outcome Place::Outcome;
    "reason" Text Place::Fact(&[&["reason"]]);
    "error" Text Place::Fact(&[&["error"]]);
    "detail" Text Place::Fact(&[&["detail"]]);
    // Those of reference tokens, too: both are ids of tokens.
    "jti" Id Place::Fact(&[&["jti"], &["token_id"]]);
    "secret_id" Id Place::Fact(&[&["secret_id"], &["secret", "id"], &["superseded", "id"]]);
    "session_id" Id Place::Fact(&[&["session_id"]]);
    "application_id" Id Place::Fact(&[&["application_id"]]);
    "api_id" Id Place::Fact(&[&["api_id"]]);
    "path" Text Place::Fact(&[&["path"]]);
    "method" Text Place::Fact(&[&["method"]]);
    "via" Text Place::Fact(&[&["via"]]);
    "audience" Text Place::Fact(&[&["audience"], &["audiences"]]);
    "scope" Text Place::Words(&["scope"]);
    "scope_requested" Text Place::Words(&["scope_requested"]);
    "required_scope" Text Place::Words(&["required_scope"]);
    "system_user" Text Place::Fact(&[&["system_user"]]);
    "org_code" Text Place::Fact(&[&["org_code"]]);
    "auth_method" Text Place::Fact(&[&["auth_method"]]);
    "dialect" Text Place::Fact(&[&["dialect"]]);
    "kid" Text Place::Fact(&[&["kid"]]);
    "alg" Text Place::Fact(&[&["alg"]]);
    "token_hint" Text Place::Fact(&[&["token_hint"]]);
    "token_kind" Text Place::Fact(&[&["token_kind"]]);
    "report.id" Id Place::Fact(&[&["report", "id"]]);
    "report.reporter_id" Id Place::Fact(&[&["report", "reporter_id"]]);
    "report.time" Time Place::Fact(&[&["report", "time"]]);
    "report.status" Number Place::Fact(&[&["report", "status"]]);
    "issued_at" Time Place::Fact(&[&["issued_at"]]);
    "expires_at" Time Place::Fact(&[&["expires_at"]]);
    "changes.field" Text Place::Fact(&[&["changes", "field"]]);
    "source" Complex Place::Source;
    "data" Complex Place::Data;
    "changes" Complex Place::Fact(&[&["changes"]]);
    "report" Complex Place::Fact(&[&["report"]]);
}

/// Other names of the same.
const ALIASES: &[(&str, &str)] = &[("source_ip", "source.ip"), ("user_agent", "source.user_agent")];

/// One value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::audit) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    Bool(bool),
    Time(Timestamp),
    Address(IpAddr),
    /// An object: there, and not to be compared.
    Object,
}

impl Value<'_> {
    /// RFC 7644, table 3, `pr`: "a non-empty or non-null value".
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Text(text) if text.is_empty())
    }
}

impl Attribute {
    /// The attribute of this name, in any case (RFC 7644 §3.4.2.2), or what to write instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        let known = |name: &str| NAMED.iter().find(|named| named.name == name).map(Self::Named);
        let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
        if let Some(attribute) = known(alias.map_or(lower.as_str(), |(_, name)| name)) {
            return Ok(attribute);
        }
        let Some(path) = lower.strip_prefix("data.") else {
            return Err(unknown(&lower));
        };
        let path = Path::parse(path, true)?;
        // The same values under their shorter name: so they are found by the same index.
        let is_same = |only: &[&str]| only.iter().copied().eq(path.names.iter().map(AsRef::as_ref));
        let same = NAMED
            .iter()
            .find(|named| matches!(named.place, Place::Fact([only]) if is_same(only)));
        Ok(same.map_or(Self::Data(path), Self::Named))
    }

    /// The attribute of this name in the objects at a path, which brackets speak of.
    pub fn parse_element(objects: &Path, name: &str) -> Result<Self, String> {
        let path = Path::parse(&name.to_ascii_lowercase(), false)?;
        let whole = || objects.names.iter().chain(&path.names).map(AsRef::as_ref);
        let is_same = |place: Place| match place {
            Place::Fact(paths) => paths.iter().any(|known| known.iter().copied().eq(whole())),
            _ => false,
        };
        let same = NAMED.iter().find(|named| is_same(named.place));
        let kind = same.map_or(Kind::Any, |named| named.kind);
        Ok(Self::Element(path, kind))
    }

    /// Its name, when it has one of its own.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Named(named) => Some(named.name),
            Self::Data(_) | Self::Element(..) => None,
        }
    }

    /// What its values are.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Named(named) => named.kind,
            Self::Element(_, kind) => *kind,
            Self::Data(_) => Kind::Any,
        }
    }

    /// Whether any of its values in the event passes the test.
    pub fn any(&self, event: &Facts<'_>, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let place = match self {
            Self::Data(path) => return at(event.data(), &path.names, test),
            Self::Element(path, _) => return at(event.data(), &path.names, &mut |value| test(self.typed(value))),
            Self::Named(named) => named.place,
        };
        let text = |text: &str, test: &mut dyn FnMut(Value<'_>) -> bool| test(Value::Text(text.into()));
        match place {
            Place::Index => test(Value::Number(event.event.index.into())),
            Place::Revision => test(Value::Number(event.event.revision.into())),
            Place::Id => text(&event.event.id.to_string(), test),
            Place::Stream => text(event.event.stream.as_str(), test),
            Place::Type => text(event.event.current_type(), test),
            Place::Time => test(Value::Time(event.event.time)),
            Place::Actor => text(&event.event.actor.to_string(), test),
            Place::Address => event
                .event
                .address()
                .is_some_and(|address| test(Value::Address(address))),
            Place::UserAgent => event
                .event
                .user_agent()
                .is_some_and(|user_agent| text(&user_agent, test)),
            Place::TraceId => event.event.trace_id.as_deref().is_some_and(|id| text(id, test)),
            Place::ClientId => event.event.client_id.as_deref().is_some_and(|id| text(id, test)),
            Place::Outcome => text(event.event.outcome.as_str(), test),
            Place::Source => event.event.source.is_some() && test(Value::Object),
            Place::Data => at::<&str>(event.data(), &[], test),
            Place::Fact(paths) => paths
                .iter()
                .any(|path| at(event.data(), path, &mut |value| test(self.typed(value)))),
            Place::Words(path) => at(event.data(), path, &mut |value| match value {
                Value::Text(words) => words.split_ascii_whitespace().any(|word| text(word, test)),
                other => test(other),
            }),
        }
    }

    /// A time in the fact is a text that holds one.
    fn typed<'a>(&self, value: Value<'a>) -> Value<'a> {
        match &value {
            Value::Text(text) if self.kind() == Kind::Time => Timestamp::parse(text).map_or(value, Value::Time),
            _ => value,
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(named) => f.write_str(named.name),
            Self::Data(path) | Self::Element(path, _) => path.fmt(f),
        }
    }
}

impl Path {
    /// What brackets stand behind: objects of the fact.
    pub fn of_objects(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        let path = match lower.as_str() {
            "changes" | "report" => Some(lower.as_str()),
            _ => lower.strip_prefix("data."),
        };
        match (path, NAMED.iter().any(|named| named.name == lower)) {
            (Some(path), _) => Self::parse(path, true),
            (None, true) => {
                Err("has no brackets: they stand behind objects of the fact, as in changes[field eq \"scope\"]".into())
            }
            (None, false) => Err(unknown(&lower)),
        }
    }

    fn parse(path: &str, of_data: bool) -> Result<Self, String> {
        let names: Vec<&str> = path.split('.').collect();
        if names.len() > MAX_PATH_NAMES {
            return Err(format!("a path below data may have {MAX_PATH_NAMES} names"));
        }
        if !names.iter().all(|name| is_name(name)) {
            return Err("is not a path: names of letters, digits, `_` and `-`, with dots between them".into());
        }
        let names = names.into_iter().map(Box::from).collect();
        Ok(Self { names, of_data })
    }

    /// Whether any of the objects there passes the test.
    pub fn any(&self, json: &Json, test: &mut dyn FnMut(&Json) -> bool) -> bool {
        objects_at(json, &self.names, test)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = if self.of_data { "data." } else { "" };
        write!(f, "{data}{}", self.names.join("."))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The values at a path: through an object by name in any case, through a list in each of its elements.
fn at<N: AsRef<str>>(json: &Json, path: &[N], test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    match (json, path.split_first()) {
        (Json::Array(elements), _) => elements.iter().any(|element| at(element, path, test)),
        (Json::Object(members), Some((name, rest))) => members
            .iter()
            .any(|(member, value)| member.eq_ignore_ascii_case(name.as_ref()) && at(value, rest, test)),
        (Json::Object(members), None) => !members.is_empty() && test(Value::Object),
        (_, Some(_)) | (Json::Null, None) => false,
        (Json::Bool(value), None) => test(Value::Bool(*value)),
        (Json::Number(value), None) => test(Value::Number(value.clone())),
        (Json::String(value), None) => test(Value::Text(value.as_str().into())),
    }
}

/// The objects at a path, found in the same way.
fn objects_at<N: AsRef<str>>(json: &Json, path: &[N], test: &mut dyn FnMut(&Json) -> bool) -> bool {
    match (json, path.split_first()) {
        (Json::Array(elements), _) => elements.iter().any(|element| objects_at(element, path, test)),
        (Json::Object(members), Some((name, rest))) => members
            .iter()
            .any(|(member, value)| member.eq_ignore_ascii_case(name.as_ref()) && objects_at(value, rest, test)),
        (Json::Object(_), None) => test(json),
        _ => false,
    }
}

/// RFC 7643 §2.1, and names that begin with another sign than a letter: keys of `properties` may.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-$".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

fn unknown(name: &str) -> String {
    // No name is as long as this: what is longer is not worth comparing.
    let wanted: String = name.chars().take(64).collect();
    let names = NAMED.iter().map(|named| named.name);
    let mut nearest: Vec<_> = names
        .chain(ALIASES.iter().map(|(alias, _)| *alias))
        .map(|known| (strsim::jaro_winkler(known, &wanted), known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    nearest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let nearest: Vec<&str> = nearest.into_iter().take(SUGGESTIONS).map(|(_, known)| known).collect();
    let what = match nearest.is_empty() {
        true => "is no attribute of an event".to_owned(),
        false => format!("is no attribute of an event; did you mean {}?", nearest.join(" or ")),
    };
    format!("{what} (a field of the fact itself is data.<name>)")
}
