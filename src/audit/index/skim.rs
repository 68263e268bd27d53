//! The record of an event, skimmed: for the types that nearly the whole log consists of, so that indexing them takes a
//! fraction of the time. What is not skimmed is decoded.

use crate::audit::skim::Skimmed;
use crate::event_store::StoredEvent;
use grantlog_projections::audit_record::{AuditRecord, Outcome};
use grantlog_projections::values::{SecretId, Timestamp};
use uuid::Uuid;

/// What [`AuditRecord`] makes of the decoded event; `None` when it has to be decoded.
pub(super) fn skim(stored: &StoredEvent) -> Option<AuditRecord<'_>> {
    let skimmed = Skimmed::of(stored)?;
    // A refusal has more to it than is skimmed.
    if skimmed.event_type == "TokenRefused" {
        return None;
    }
    // What cannot be read here is for the codec to judge.
    let uuid = |text: &str| Uuid::try_parse(text).ok();
    Some(AuditRecord {
        index: stored.index,
        id: uuid(skimmed.id)?,
        time: Timestamp::parse(skimmed.time).ok()?,
        event_type: skimmed.event_type,
        actor: skimmed.actor.into(),
        trace_id: skimmed.trace_id,
        client_id: Some(skimmed.application_uri?),
        outcome: Outcome::Success,
        source_ip: match skimmed.source {
            Some(source) => Some(source.ip.parse().ok()?),
            None => None,
        },
        reason: None,
        jti: Some(uuid(skimmed.jti?)?),
        session_id: match skimmed.session_id {
            Some(id) => Some(uuid(id)?),
            None => None,
        },
        secret_id: match skimmed.secret_id {
            Some(id) => Some(SecretId(uuid(id)?)),
            None => None,
        },
        superseded: &[],
        path: skimmed.path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::codec;
    use std::net::IpAddr;

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
                r#""source":{"ip":"2001:db8::7","user_agent":"a 'quoted' ü"},"#,
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
        let quoted = r#""source":{"ip":"192.0.2.7","user_agent":"a \"quoted\""},"#;
        assert_eq!(skim(&stored("TokenIssued", quoted, TOKEN)), None);
    }
}
