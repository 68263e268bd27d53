//! What most events say, read from their stored bytes in one pass and without building anything: nearly the whole log
//! consists of these few types, and everything that follows the log reads each of them. Texts are borrowed as they
//! stand. What is not laid out as the codec lays it out, or has an escape somewhere, is left to the codec.

use crate::event_store::{StoredEvent, codec};
use grantlog_projections::audit_record::Outcome;

/// Types that are skimmed.
const SKIMMED: [&str; 3] = ["TokenIssued", "ApiCallAuthorized", "TokenRefused"];

/// The texts of an event, as its JSON has them. A field that the event does not have is `None`.
#[derive(Debug, Default, PartialEq)]
pub(in crate::audit) struct Skimmed<'a> {
    pub event_type: &'static str,
    pub id: &'a str,
    pub stream: &'a str,
    pub time: &'a str,
    pub actor: &'a str,
    pub source: Option<SkimmedSource<'a>>,
    pub trace_id: Option<&'a str>,
    /// The whole fact.
    pub data: &'a str,
    pub application_id: Option<&'a str>,
    pub application_uri: Option<&'a str>,
    pub client_id: Option<&'a str>,
    pub jti: Option<&'a str>,
    pub secret_id: Option<&'a str>,
    pub scope: Option<&'a str>,
    pub scope_requested: Option<&'a str>,
    pub required_scope: Option<&'a str>,
    pub path: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub token_kind: Option<&'a str>,
}

#[derive(Debug, Default, PartialEq)]
pub(in crate::audit) struct SkimmedSource<'a> {
    pub ip: &'a str,
    pub user_agent: Option<&'a str>,
}

impl<'a> Skimmed<'a> {
    /// `None` when the event has to be decoded.
    pub fn of(stored: &'a StoredEvent) -> Option<Self> {
        let found = codec::peek_type(&stored.bytes)?;
        let event_type = SKIMMED.into_iter().find(|skimmed| *skimmed == found)?;
        // Without either, a text ends at the next quotation mark.
        let is_plain = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(true, |all, byte| all & (*byte >= b' ') & (*byte != b'\\'))
        };
        let text = std::str::from_utf8(&stored.bytes)
            .ok()
            .filter(|_| is_plain(&stored.bytes))?;
        let mut json = Json(text);
        let mut skimmed = Self {
            event_type,
            ..Self::default()
        };
        json.object(|name, json| {
            match name {
                "id" => skimmed.id = json.text()?,
                "stream" => skimmed.stream = json.text()?,
                "time" => skimmed.time = json.text()?,
                "actor" => skimmed.actor = json.text()?,
                "source" => skimmed.source = Some(SkimmedSource::of(json)?),
                "trace_id" => skimmed.trace_id = Some(json.text()?),
                "data" => {
                    let before = json.0;
                    skimmed.fact(json)?;
                    skimmed.data = before.get(..before.len() - json.0.len())?;
                }
                _ => json.pass_over()?,
            }
            Some(())
        })?;
        let is_whole = [skimmed.id, skimmed.stream, skimmed.time, skimmed.actor, skimmed.data]
            .iter()
            .all(|text| !text.is_empty());
        (is_whole && json.0.is_empty()).then_some(skimmed)
    }

    /// The application that it is about, and whether what was asked for was done; `None` when the fact lacks what
    /// it must have.
    pub fn client_and_outcome(&self) -> Option<(Option<&'a str>, Outcome)> {
        match self.event_type {
            "TokenRefused" => Some((self.client_id, Outcome::Refused)),
            _ => Some((Some(self.application_uri?), Outcome::Success)),
        }
    }

    fn fact(&mut self, json: &mut Json<'a>) -> Option<()> {
        json.object(|name, json| {
            let field = match name {
                "application_id" => &mut self.application_id,
                "application_uri" => &mut self.application_uri,
                "client_id" => &mut self.client_id,
                "jti" => &mut self.jti,
                "secret_id" => &mut self.secret_id,
                "scope" => &mut self.scope,
                "scope_requested" => &mut self.scope_requested,
                "required_scope" => &mut self.required_scope,
                "path" => &mut self.path,
                "session_id" => &mut self.session_id,
                "token_kind" => &mut self.token_kind,
                _ => return json.pass_over(),
            };
            *field = Some(json.text()?);
            Some(())
        })
    }
}

impl<'a> SkimmedSource<'a> {
    fn of(json: &mut Json<'a>) -> Option<Self> {
        let mut source = Self::default();
        json.object(|name, json| {
            match name {
                "ip" => source.ip = json.text()?,
                "user_agent" => source.user_agent = Some(json.text()?),
                _ => json.pass_over()?,
            }
            Some(())
        })?;
        Some(source)
    }
}

/// What is left to read of JSON without white space and escapes.
struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// Hands over each name, with what follows at its value.
    fn object(&mut self, mut field: impl FnMut(&'a str, &mut Self) -> Option<()>) -> Option<()> {
        self.expect('{')?;
        if self.expect('}').is_some() {
            return Some(());
        }
        loop {
            let name = self.text()?;
            self.expect(':')?;
            field(name, self)?;
            if self.expect(',').is_none() {
                return self.expect('}');
            }
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        self.expect('"')?;
        let end = memchr::memchr(b'"', self.0.as_bytes())?;
        let text = self.0.get(..end)?;
        self.0 = self.0.get(end + 1..)?;
        Some(text)
    }

    /// A text, or a list of texts: these types of events have nothing else besides, but for what an API has told of a
    /// call, which is an object and left to the codec.
    fn pass_over(&mut self) -> Option<()> {
        if self.expect('[').is_none() {
            return self.text().map(|_| ());
        }
        if self.expect(']').is_some() {
            return Some(());
        }
        loop {
            self.text()?;
            if self.expect(',').is_none() {
                return self.expect(']');
            }
        }
    }

    fn expect(&mut self, char: char) -> Option<()> {
        self.0 = self.0.strip_prefix(char)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{MemoryLog, facts};
    use crate::event_store::{Direction, EventStore};
    use proptest::prelude::*;
    use serde_json::Value;

    fn stored(text: &str) -> StoredEvent {
        StoredEvent {
            index: 0,
            revision: 0,
            bytes: text.as_bytes().into(),
        }
    }

    const REFUSED: &str = r#"{"id":"01890000-0000-7000-8000-000000000001","stream":"token-requests-unknown","type":"TokenRefused","time":"2026-03-16T09:30:00.000001Z","actor":"anonymous","source":{"ip":"192.0.2.1","user_agent":"cürl/8"},"data":{"client_id":"orders","error":"invalid_client","reason":"unknown_client","dialect":"standard","later":["a","b"],"never":[]}}"#;

    #[test]
    fn a_field_is_found_wherever_it_stands_and_a_new_one_is_passed_over() {
        let stored = stored(REFUSED);
        let skimmed = Skimmed::of(&stored).unwrap();
        assert_eq!((skimmed.client_id, skimmed.jti), (Some("orders"), None));
        assert_eq!(skimmed.source.unwrap().user_agent, Some("cürl/8"));
        assert!(skimmed.data.starts_with(r#"{"client_id""#) && skimmed.data.ends_with(r#""never":[]}"#));
    }

    #[test]
    fn what_the_codec_writes_differently_is_left_to_it() {
        for (what, instead) in [
            ("TokenRefused", "ServiceStopped"),
            ("orders", r"or\/ders"),
            ("orders", "or\nders"),
            (r#""error":"#, r#""error": "#),
            (r#""later":["#, r#""later":[1,"#),
            (r#""trace_id""#, "null"),
            ("}}", "}"),
            ("}}", "}} "),
            ("}}", "}}}"),
            (r#""actor":"anonymous","#, ""),
        ] {
            let text = REFUSED.replace(what, instead);
            assert_eq!(Skimmed::of(&stored(&text)).is_none(), text != REFUSED, "{text}");
        }
        for end in 0..REFUSED.len() {
            let cut = REFUSED.get(..end).unwrap_or_default();
            assert_eq!(Skimmed::of(&stored(cut)), None, "{cut}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_skimmed_is_what_the_json_says(facts in facts(1..40)) {
            let log = MemoryLog::of(&facts);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for stored in runtime.block_on(log.read_all(0, Direction::Forwards, 100)).unwrap() {
                let Some(skimmed) = Skimmed::of(&stored) else { continue };
                let json: Value = serde_json::from_slice(&stored.bytes).unwrap();
                let of = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
                for (name, text) in [
                    ("id", Some(skimmed.id)),
                    ("stream", Some(skimmed.stream)),
                    ("type", Some(skimmed.event_type)),
                    ("time", Some(skimmed.time)),
                    ("actor", Some(skimmed.actor)),
                    ("trace_id", skimmed.trace_id),
                ] {
                    prop_assert_eq!(text.map(str::to_owned), of(&json, name));
                }
                for (name, text) in [
                    ("application_id", skimmed.application_id),
                    ("application_uri", skimmed.application_uri),
                    ("client_id", skimmed.client_id),
                    ("jti", skimmed.jti),
                    ("secret_id", skimmed.secret_id),
                    ("scope", skimmed.scope),
                    ("scope_requested", skimmed.scope_requested),
                    ("required_scope", skimmed.required_scope),
                    ("path", skimmed.path),
                    ("session_id", skimmed.session_id),
                    ("token_kind", skimmed.token_kind),
                ] {
                    prop_assert_eq!(text.map(str::to_owned), of(&json["data"], name));
                }
                prop_assert_eq!(serde_json::from_str::<Value>(skimmed.data).unwrap(), json["data"].clone());
                let source = skimmed.source.unwrap_or_default();
                prop_assert_eq!(source.user_agent.map(str::to_owned), of(&json["source"], "user_agent"));
            }
        }
    }
}
