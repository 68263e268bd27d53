//! The uses that an event tells of, skimmed: for the types that nearly the whole log consists of. What is not skimmed
//! is decoded.

use crate::audit::skim::Skimmed;
use crate::event_store::StoredEvent;
use crate::event_store::codec::{self, DecodeError};
use grantlog_projections::usage::{Moment, UsageRecord, Used};
use grantlog_projections::values::Timestamp;

/// What [`UsageRecord::of`] makes of the decoded event; `None` when it has to be decoded.
pub(in crate::audit) fn skim(stored: &StoredEvent) -> Option<UsageRecord<'_>> {
    let skimmed = Skimmed::of(stored)?;
    let used = match skimmed.event_type {
        "TokenIssued" => Used::Token {
            secret_id: skimmed.secret_id?.parse().ok()?,
            scope: skimmed.scope?,
            is_scope_asked: skimmed.scope_requested.is_some(),
        },
        "ApiCallAuthorized" => Used::Call {
            scope: skimmed.required_scope?,
            reference_token: match skimmed.token_kind {
                Some("reference") => Some(skimmed.jti?.parse().ok()?),
                Some(_) | None => None,
            },
        },
        "TokenRefused" => Used::Refused(1),
        _ => return None,
    };
    Some(UsageRecord {
        moment: Moment {
            index: stored.index,
            time: Timestamp::parse(skimmed.time).ok()?,
        },
        // A refusal without one tells of nobody's use: that is for the codec to say.
        application_id: skimmed.application_id?.parse().ok()?,
        source: match skimmed.source {
            Some(source) => Some(source.ip.parse().ok()?),
            None => None,
        },
        used,
    })
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
