//! The record of an event, read from the stored bytes without building the event: for the types that nearly the
//! whole log consists of, so that indexing them takes a third of the time. What is not skimmed is decoded.

use crate::event_store::{StoredEvent, codec};
use grantlog_projections::audit_record::{AuditRecord, Outcome};
use grantlog_projections::values::{SecretId, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::net::IpAddr;
use uuid::Uuid;

/// Types that are skimmed: successes of the application in their `application_uri`.
const SKIMMED: [&str; 2] = ["TokenIssued", "ApiCallAuthorized"];

/// What [`AuditRecord`] makes of the decoded event; `None` when it has to be decoded.
pub(super) fn skim(stored: &StoredEvent) -> Option<AuditRecord<'_>> {
    let found = codec::peek_type(&stored.bytes)?;
    let event_type = SKIMMED.into_iter().find(|skimmed| *skimmed == found)?;
    // What cannot be read here, such as a name with escapes, is for the codec to judge.
    let skimmed: Skimmed<'_> = serde_json::from_slice(&stored.bytes).ok()?;
    // A call that an API has told of came from elsewhere than the report.
    if skimmed.data.report.is_some() {
        return None;
    }
    Some(AuditRecord {
        index: stored.index,
        id: skimmed.id,
        time: skimmed.time,
        event_type,
        actor: skimmed.actor.into(),
        trace_id: skimmed.trace_id,
        client_id: Some(skimmed.data.application_uri),
        outcome: Outcome::Success,
        source_ip: skimmed.source.map(|source| source.ip),
        reason: None,
        jti: Some(skimmed.data.jti),
        session_id: skimmed.data.session_id,
        secret_id: skimmed.data.secret_id,
        superseded: &[],
        path: skimmed.data.path,
    })
}

#[derive(Deserialize)]
struct Skimmed<'a> {
    id: Uuid,
    time: Timestamp,
    actor: &'a str,
    #[serde(default)]
    source: Option<SkimmedSource>,
    #[serde(default)]
    trace_id: Option<&'a str>,
    #[serde(borrow)]
    data: SkimmedData<'a>,
}

#[derive(Deserialize)]
struct SkimmedSource {
    ip: IpAddr,
}

#[derive(Deserialize)]
struct SkimmedData<'a> {
    application_uri: &'a str,
    jti: Uuid,
    #[serde(default)]
    secret_id: Option<SecretId>,
    #[serde(default)]
    path: Option<&'a str>,
    #[serde(default)]
    session_id: Option<Uuid>,
    #[serde(default)]
    report: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(event_type: &str, source: &str, data: &str) -> StoredEvent {
        let text = format!(
            r#"{{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"token-requests-x","type":"{event_type}","time":"2026-03-16T09:30:00.123456Z","actor":"my.trusted.app/service",{source}"trace_id":"0af7651916cd43dd8448eb211c80319c","data":{data}}}"#
        );
        StoredEvent {
            index: 41,
            revision: 3,
            bytes: text.into_bytes().into(),
        }
    }

    const TOKEN: &str = r#"{"jti":"0190163d-8694-739b-aea5-966c26f8ad91","application_id":"0190163d-8694-739b-aea5-966c26f8ad92","application_uri":"my.trusted.app/service","secret_id":"0190163d-8694-739b-aea5-966c26f8ad93","auth_method":"client_secret_post","dialect":"standard","scope":"read update","audiences":["https://api"],"system_user":"svc.integration","kid":"2026-03-16","alg":"ES256","issued_at":"2026-03-16T09:30:00.123456Z","expires_at":"2026-03-16T10:30:00.000000Z","token_hint":"abcdefgh"}"#;
    const CALL: &str = r#"{"application_id":"0190163d-8694-739b-aea5-966c26f8ad92","application_uri":"my.trusted.app/service","via":"admin","jti":"0190163d-8694-739b-aea5-966c26f8ad91","token_hint":"abcdefgh","system_user":"svc.integration","audience":"https://id.example.com","method":"GET","path":"/admin/applications","required_scope":"applications:read","session_id":"0190163d-8694-739b-aea5-966c26f8ad94"}"#;

    #[test]
    fn what_is_skimmed_is_what_decoding_finds() {
        for (event_type, data) in [("TokenIssued", TOKEN), ("ApiCallAuthorized", CALL)] {
            for source in [
                "",
                r#""source":{"ip":"192.0.2.7"},"#,
                r#""source":{"ip":"2001:db8::7","user_agent":"a \"quoted\" ü\u001b"},"#,
            ] {
                let stored = stored(event_type, source, data);
                let decoded = codec::decode(&stored).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(
                    skim(&stored),
                    Some(AuditRecord::from(&decoded)),
                    "{event_type} {source}"
                );
            }
        }
    }

    #[test]
    fn a_call_with_its_session_is_found_by_it() {
        let stored = stored("ApiCallAuthorized", "", CALL);
        let session_id = skim(&stored).and_then(|record| record.session_id);
        assert_eq!(session_id, Uuid::parse_str("0190163d-8694-739b-aea5-966c26f8ad94").ok());
    }

    #[test]
    fn a_call_that_an_api_told_of_is_decoded_and_came_from_where_the_api_says() {
        let told = |source: &str| {
            let report = format!(
                r#""report":{{"id":"0190163d-8694-739b-aea5-966c26f8ad95","reporter_id":"0190163d-8694-739b-aea5-966c26f8ad96","time":"2026-03-16T09:29:59.000000Z"{source}}},"via":"reported""#
            );
            let data = CALL.replace(r#""via":"admin""#, &report);
            stored("ApiCallAuthorized", r#""source":{"ip":"192.0.2.7"},"#, &data)
        };
        for (source, ip) in [(r#","source":{"ip":"203.0.113.9"}"#, Some("203.0.113.9")), ("", None)] {
            let stored = told(source);
            assert_eq!(skim(&stored), None);
            let decoded = codec::decode(&stored).unwrap();
            let ip: Option<IpAddr> = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(AuditRecord::from(&decoded).source_ip, ip);
            // What filters compare is what the index finds.
            assert_eq!(crate::audit::AuditEvent::read(&stored).unwrap().address(), ip);
        }
    }

    #[test]
    fn every_golden_event_that_is_skimmed_is_what_decoding_finds() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let mut skimmed = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let stored = StoredEvent {
                index: 41,
                revision: 3,
                bytes: std::fs::read(&path).unwrap().trim_ascii_end().into(),
            };
            let decoded = codec::decode(&stored).unwrap();
            let record = AuditRecord::from(&decoded);
            if let Some(found) = skim(&stored) {
                assert_eq!(found, record, "{path:?}");
                skimmed += 1;
            }
            let event = crate::audit::AuditEvent::read(&stored).unwrap();
            assert_eq!(event.address(), record.source_ip, "{path:?}");
        }
        assert!(skimmed >= 6, "{skimmed}");
    }

    #[test]
    fn other_types_and_unusual_bytes_are_left_to_the_codec() {
        assert_eq!(skim(&stored("TokenRefused", "", TOKEN)), None);
        assert_eq!(skim(&stored("TokenIssued", "", "{}")), None);
        assert_eq!(skim(&stored("TokenIssued", r#""source":{"ip":"here"},"#, TOKEN)), None);
        let reported = CALL.replace(r#""via":"#, r#""report":{},"via":"#);
        assert_eq!(skim(&stored("ApiCallAuthorized", "", &reported)), None);
        let escaped = TOKEN.replace("my.trusted.app/service", r"my.trusted.app\/service");
        assert_eq!(skim(&stored("TokenIssued", "", &escaped)), None);
    }
}
