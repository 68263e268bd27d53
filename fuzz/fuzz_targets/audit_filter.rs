//! Filters of the audit trail: reading never panics, an error points into the text, what is read and printed reads
//! the same, and whatever was read holds for an event or its opposite does. The first line is the filter, each
//! other line a stored event.
//!
//! The modules are included, not linked, so that the fuzzer instruments them and not a database.

#![no_main]

#[allow(dead_code)]
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

#[allow(dead_code, unused_imports)]
#[path = "."]
mod audit {
    #[path = "../../src/audit/cursor.rs"]
    pub mod cursor;
    #[path = "../../src/audit/event.rs"]
    pub mod event;
    #[path = "../../src/audit/filter/mod.rs"]
    pub mod filter;
    #[path = "../../src/audit/network.rs"]
    pub mod network;
    #[path = "../../src/audit/query.rs"]
    pub mod query;
    #[path = "../../src/audit/skim.rs"]
    pub mod skim;

    pub use event::AuditEvent;
}

use audit::AuditEvent;
use audit::filter::Filter;
use event_store::StoredEvent;
use grantlog_projections::values::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let Some(Ok(text)) = lines.next().map(std::str::from_utf8) else { return };
    let now = Timestamp::from_unix_micros(1_773_653_400_000_000);
    let filter = match Filter::parse(text, now) {
        Ok(filter) => filter,
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            assert!(!error.message.chars().any(char::is_control), "{error}");
            return;
        }
    };
    let printed = filter.to_string();
    let opposite = Filter::parse(&format!("not ({text})"), now);
    // Canonical text may be longer than what was given: names, spans and escapes grow.
    if let Ok(again) = Filter::parse(&printed, now) {
        assert_eq!(again, filter, "{printed}");
        assert_eq!(again.to_string(), printed);
    } else {
        assert!(printed.chars().count() > audit::filter::MAX_FILTER_CHARS, "{printed}");
    }
    for (index, bytes) in (0..).zip(lines) {
        let stored = StoredEvent { index, revision: index, bytes: bytes.into() };
        let Ok(event) = AuditEvent::read(&stored) else { continue };
        let matches = filter.matches(&event);
        if let Ok(opposite) = &opposite {
            assert_ne!(opposite.matches(&event), matches, "{printed}");
        }
    }
});
