//! Stored events: reading never panics, what is read and written again reads the same, and every fold
//! takes whatever was read.

#![no_main]

/// What the codec needs of its surroundings: the module itself is included, not linked, so that the fuzzer
/// instruments it and the projections, and not a database.
#[path = "."]
mod event_store {
    use std::sync::Arc;

    pub const MAX_EVENT_BYTES: usize = 65_535;

    pub struct EventToAppend {
        pub id: uuid::Uuid,
        pub event_type: &'static str,
        pub bytes: Arc<[u8]>,
    }

    pub struct StoredEvent {
        pub index: u64,
        pub revision: u64,
        pub bytes: Arc<[u8]>,
    }

    #[path = "../../src/event_store/codec.rs"]
    pub mod codec;
}

use event_store::{StoredEvent, codec};
use grantlog_projections::audit_record::AuditRecord;
use grantlog_projections::directory::Directory;
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::reported_calls::ReportedCalls;
use grantlog_projections::service_run::ServiceRun;
use grantlog_projections::sessions::Sessions;
use grantlog_projections::tokens::Tokens;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (mut directory, mut key_ring, mut run) = (Directory::default(), KeyRing::default(), ServiceRun::default());
    let (mut tokens, mut sessions) = (Tokens::default(), Sessions::default());
    let mut reported_calls = ReportedCalls::default();
    // Several events, one a line: folds meet states that earlier events left.
    for (index, bytes) in (0..).zip(input.split(|byte| *byte == b'\n')) {
        let stored = StoredEvent { index, revision: index, bytes: bytes.into() };
        let Ok(recorded) = codec::decode(&stored) else { continue };
        if let Some(peeked) = codec::peek_type(bytes) {
            assert_eq!(peeked, recorded.envelope.event.type_name());
        }
        directory.apply(&recorded);
        key_ring.apply(&recorded);
        run.apply(&recorded);
        tokens.apply(&recorded);
        sessions.apply(&recorded);
        reported_calls.apply(&recorded);
        let _ = AuditRecord::from(&recorded);
        if let Ok(written) = codec::encode(&recorded.envelope) {
            assert_eq!((written.id, written.event_type), (recorded.envelope.id, recorded.envelope.event.type_name()));
            let again = StoredEvent { index, revision: index, bytes: written.bytes };
            let again = codec::decode(&again).expect("what was written can be read");
            assert_eq!(again, recorded);
        }
    }
});
