//! The uses that an event tells of, read from the stored bytes without building the event: for the types that
//! nearly the whole log consists of. What is not skimmed is decoded.

use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::event::TokenKind;
use grantlog_projections::usage::{Moment, UsageRecord, Used};
use grantlog_projections::values::{ApplicationId, SecretId, Timestamp};
use serde::Deserialize;
use std::net::IpAddr;
use uuid::Uuid;

/// What [`UsageRecord::of`] makes of the decoded event; `None` when it has to be decoded.
pub(in crate::audit) fn skim(stored: &StoredEvent) -> Option<UsageRecord<'_>> {
    match codec::peek_type(&stored.bytes)? {
        "TokenIssued" => {
            let skimmed: Skimmed<Token<'_>> = serde_json::from_slice(&stored.bytes).ok()?;
            let used = Used::Token {
                secret_id: skimmed.data.secret_id,
                scope: skimmed.data.scope,
                is_scope_asked: skimmed.data.scope_requested.is_some(),
            };
            Some(skimmed.record(stored.index, skimmed.data.application_id, used))
        }
        "ApiCallAuthorized" => {
            let skimmed: Skimmed<Call<'_>> = serde_json::from_slice(&stored.bytes).ok()?;
            // A call that an API has told of came from elsewhere than the report.
            if skimmed.data.report.is_some() {
                return None;
            }
            let is_reference = skimmed.data.token_kind == TokenKind::Reference;
            let used = Used::Call {
                scope: skimmed.data.required_scope,
                reference_token: is_reference.then_some(skimmed.data.jti),
            };
            Some(skimmed.record(stored.index, skimmed.data.application_id, used))
        }
        _ => None,
    }
}

/// Hands on the uses that an event tells of, if it tells of any.
pub(in crate::audit) fn usage_record(
    stored: &StoredEvent,
    take: impl FnOnce(&UsageRecord<'_>),
) -> Result<(), DecodeError> {
    const TELLING: [&str; 4] = ["TokenIssued", "ApiCallAuthorized", "TokenRefused", "RequestsThrottled"];
    if codec::peek_type(&stored.bytes).is_some_and(|found| !TELLING.contains(&found)) {
        return Ok(());
    }
    match skim(stored) {
        Some(record) => take(&record),
        None => {
            let recorded = codec::decode(stored)?;
            if let Some(record) = UsageRecord::of(&recorded) {
                take(&record);
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Skimmed<T> {
    time: Timestamp,
    #[serde(default)]
    source: Option<SkimmedSource>,
    data: T,
}

impl<T> Skimmed<T> {
    fn record<'a>(&self, index: u64, application_id: ApplicationId, used: Used<'a>) -> UsageRecord<'a> {
        UsageRecord {
            moment: Moment { index, time: self.time },
            application_id,
            source: self.source.as_ref().map(|source| source.ip),
            used,
        }
    }
}

#[derive(Deserialize)]
struct SkimmedSource {
    ip: IpAddr,
}

/// Texts are borrowed: with an escape in them, reading fails and the codec judges.
#[derive(Deserialize)]
struct Token<'a> {
    application_id: ApplicationId,
    secret_id: SecretId,
    #[serde(default)]
    scope_requested: Option<serde::de::IgnoredAny>,
    scope: &'a str,
}

#[derive(Deserialize)]
struct Call<'a> {
    application_id: ApplicationId,
    required_scope: &'a str,
    jti: Uuid,
    #[serde(default)]
    token_kind: TokenKind,
    #[serde(default)]
    report: Option<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::memory_log::{MemoryLog, facts, tokens};
    use crate::event_store::{Direction, EventStore};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_skimmed_is_what_decoding_finds(facts in facts(1..20)) {
            let log = MemoryLog::of(&facts);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for stored in runtime.block_on(log.read_all(0, Direction::Forwards, 100)).unwrap() {
                let decoded = codec::decode(&stored).unwrap();
                if let Some(skimmed) = skim(&stored) {
                    prop_assert_eq!(Some(skimmed), UsageRecord::of(&decoded));
                }
            }
        }
    }

    #[test]
    fn a_call_is_skimmed_with_its_reference_token_and_without_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ApiCallAuthorized.minimal.json");
        let text = std::fs::read_to_string(path).unwrap();
        let with_reference = text.replace(r#""jti":"#, r#""token_kind":"reference","jti":"#);
        for (text, is_reference) in [(text, false), (with_reference, true)] {
            let stored = StoredEvent {
                index: 0,
                revision: 0,
                bytes: text.trim_end().as_bytes().into(),
            };
            let decoded = codec::decode(&stored).unwrap();
            let skimmed = skim(&stored).unwrap();
            assert_eq!(Some(skimmed), UsageRecord::of(&decoded));
            let Used::Call { reference_token, .. } = skimmed.used else {
                panic!("{skimmed:?}")
            };
            assert_eq!(reference_token.is_some(), is_reference);
        }
    }

    #[test]
    fn a_token_is_skimmed_with_and_without_a_scope_that_was_asked_for() {
        let log = MemoryLog::of(&tokens(1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stored = runtime.block_on(log.read_indexes(&[0])).unwrap().remove(0);
        assert!(skim(&stored).is_some());
        let text = String::from_utf8(stored.bytes.to_vec()).unwrap();
        let asked = text.replace(r#""dialect":"#, r#""scope_requested":"read","dialect":"#);
        stored.bytes = asked.into_bytes().into();
        let decoded = codec::decode(&stored).unwrap();
        assert_eq!(skim(&stored), UsageRecord::of(&decoded));
        assert!(matches!(
            skim(&stored).unwrap().used,
            Used::Token {
                is_scope_asked: true,
                ..
            }
        ));
    }
}
