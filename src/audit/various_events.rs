//! Events of many kinds for property tests: few values of each attribute, so that filters find some; long ones, empty
//! ones and ones that look alike among them; as stored bytes.

use crate::audit::memory_log::{ADDRESSES, CLIENTS};
use grantlog_projections::values::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// When the events begin, in microseconds since the Unix epoch: 2026-03-16T09:30:00Z.
pub const BEGIN: i64 = 1_773_653_400_000_000;

/// Ids of tokens and secrets, and of some events.
pub const IDS: [&str; 4] = [
    "00000000-0000-0000-0000-000000000000",
    "0190163d-8694-739b-aea5-966c26f8ad91",
    "0190163d-8694-739b-aea5-966c26f8ad92",
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
];
pub const TRACES: [&str; 3] = [
    "0af7651916cd43dd8448eb211c80319c",
    "0af7651916cd43dd8448eb211c80319d",
    "",
];

/// Longer than the index keeps of one, alike up to there.
pub fn paths() -> [String; 6] {
    let long = |end: &str| format!("/api/domain/odata/{}{end}", "Crm_Sales_Customers".repeat(4));
    [
        "/admin/applications".into(),
        "/audit/events".into(),
        "/".into(),
        long("(1)"),
        long("(2)"),
        // Cut between the two bytes of a letter.
        format!("{}ü/x", "/aaaaaaa".repeat(8).split_at(63).0),
    ]
}

pub fn reasons() -> [String; 5] {
    [
        "".into(),
        "\u{fc}ber Nacht \u{1f980}".into(),
        "SIGTERM".into(),
        format!("{} one", "because ".repeat(20)),
        format!("{} two", "because ".repeat(20)),
    ]
}

/// The stored bytes of a log's worth of events.
pub fn events(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(event(), count).prop_map(|events| {
        let mut micros = BEGIN;
        let mut stored = |(number, (step, bytes)): (usize, (i64, Fields))| {
            micros += step;
            bytes.stored(number, micros)
        };
        events.into_iter().enumerate().map(&mut stored).collect()
    })
}

#[derive(Debug, Clone)]
struct Fields {
    kind: usize,
    id: Option<&'static str>,
    actor: Option<&'static str>,
    client: Option<&'static str>,
    address: Option<&'static str>,
    trace: Option<&'static str>,
    ids: (&'static str, &'static str, bool),
    path: String,
    reason: Option<String>,
}

fn event() -> impl Strategy<Value = (i64, Fields)> {
    let actors = vec!["orders", "billing/eu", "anonymous", "system", "operator:eve"];
    (
        (-30..60_i64, 0..17_usize),
        proptest::option::weighted(0.2, select(IDS.to_vec())),
        proptest::option::of(select(actors)),
        proptest::option::weighted(0.9, select(CLIENTS[..3].to_vec())),
        proptest::option::weighted(0.8, select(ADDRESSES.to_vec())),
        proptest::option::of(select(TRACES.to_vec())),
        (select(IDS.to_vec()), select(IDS.to_vec()), any::<bool>()),
        select(paths().to_vec()),
        proptest::option::weighted(0.7, select(reasons().to_vec())),
    )
        .prop_map(|((step, kind), id, actor, client, address, trace, ids, path, reason)| {
            let fields = Fields {
                kind,
                id,
                actor,
                client,
                address,
                trace,
                ids,
                path,
                reason,
            };
            (step, fields)
        })
}

impl Fields {
    fn stored(&self, number: usize, micros: i64) -> Vec<u8> {
        let client = self.client.unwrap_or("orders");
        let (event_type, data) = self.fact(client, micros);
        let id = match self.id {
            Some(id) => id.to_owned(),
            None => format!("0190163d-0000-7000-8000-{number:012x}"),
        };
        // A token's id may be that of its event.
        let data = match self.ids.2 && event_type == "TokenIssued" {
            true => {
                let mut data = data;
                data["jti"] = json!(id);
                data
            }
            false => data,
        };
        let source = self
            .address
            .map(|ip| format!(r#""source":{{"ip":"{ip}","user_agent":"test/1"}},"#));
        let trace = self.trace.map(|trace| format!(r#""trace_id":"{trace}","#));
        let mut text = format!(
            r#"{{"id":"{id}","stream":"token-requests-x","type":"{event_type}","time":"{}","actor":"{}",{}{}"data":{data}}}"#,
            Timestamp::from_unix_micros(micros),
            self.actor.unwrap_or(client),
            source.unwrap_or_default(),
            trace.unwrap_or_default(),
        );
        text.shrink_to_fit();
        text.into_bytes()
    }

    fn fact(&self, client: &str, micros: i64) -> (&'static str, Value) {
        let (one, other, known) = self.ids;
        let application = "0190163d-8694-739b-aea5-966c26f8adff";
        let time = Timestamp::from_unix_micros(micros);
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let mut with = match self.kind {
            0 | 1 => (
                "TokenIssued",
                json!({"jti": one, "application_id": application, "application_uri": client, "secret_id": other,
                    "auth_method": "client_secret_post", "dialect": "standard", "scope": "read update",
                    "audiences": ["https://api.example"], "system_user": "svc", "kid": "2026-03-16", "alg": "ES256",
                    "issued_at": time, "expires_at": time.plus_seconds(3_600), "token_hint": "abcdefgh"}),
            ),
            2 => (
                "TokenRefused",
                json!({"error": "invalid_client", "dialect": "json",
                    "reason": if known { "secret_mismatch" } else { "unknown_client" }}),
            ),
            3 => (
                "RequestsThrottled",
                json!({"client_id": client, "source": "192.0.2.200", "window_seconds": 60, "suppressed": micros % 90}),
            ),
            4 | 5 => (
                "ApiCallAuthorized",
                json!({"via": "admin", "application_id": application, "application_uri": client, "jti": one,
                    "token_hint": "abcdefgh", "audience": "https://api.example", "method": "GET", "path": self.path,
                    "required_scope": "audit:read"}),
            ),
            6 => (
                "ApiCallDenied",
                json!({"via": "admin", "audience": "https://api.example", "method": "GET", "path": self.path,
                    "required_scope": "audit:read", "error": "insufficient_scope", "reason": "insufficient_scope"}),
            ),
            7 => (
                "SecretRotated",
                json!({"application_id": application, "application_uri": client,
                    "secret": {"id": one, "hash": hash},
                    "superseded": [{"id": other, "accepted_until": time}, {"id": IDS[3], "accepted_until": time}]}),
            ),
            8 => (
                "SecretRevoked",
                json!({"application_id": application, "application_uri": client, "secret_id": one}),
            ),
            9 => (
                "ApplicationDisabled",
                json!({"application_id": application, "application_uri": client}),
            ),
            10 => (
                "SessionStarted",
                json!({"session_id": other, "application_id": application, "application_uri": client, "jti": one,
                    "token_expires_at": time}),
            ),
            11 => (
                "SessionEnded",
                json!({"session_id": other, "application_id": application, "application_uri": client, "jti": one,
                    "reason": if known { "idle" } else { "revoked" }}),
            ),
            12 => (
                "TokenRevoked",
                json!({"jti": one, "application_id": application, "application_uri": client, "expires_at": time}),
            ),
            13 => (
                "TokensRevoked",
                json!({"application_id": application, "application_uri": client, "issued_until": time}),
            ),
            14 => (
                "ReferenceTokenIssued",
                json!({"token_id": one, "application_id": application, "application_uri": client, "hash": hash,
                    "hint": "abcd", "scope": "read", "expires_at": time, "description": "because"}),
            ),
            15 => (
                "ReferenceTokenRevoked",
                json!({"token_id": one, "application_id": application, "application_uri": client}),
            ),
            _ => ("ServiceStopped", json!({"version": "0.1.0", "reason": ""})),
        };
        if with.0 == "ApiCallAuthorized" && known {
            with.1["session_id"] = json!(other);
        }
        // Told by an API: the call came from elsewhere, or nobody knows from where.
        if with.0.starts_with("ApiCall") && micros % 3 == 0 {
            with.1["via"] = json!("reported");
            with.1["report"] =
                json!({"id": other, "reporter_id": application, "time": time, "status": micros % 90 + 200});
            if known {
                let address = ADDRESSES[self.path.len() % ADDRESSES.len()];
                with.1["report"]["source"] = json!({"ip": address, "user_agent": "told/1"});
            }
        }
        if let ("TokenRefused", Some(client)) = (with.0, self.client) {
            with.1["client_id"] = json!(client);
        }
        if with.0 == "TokenRefused" && self.client.is_none() && known {
            with.1["client_id"] = json!("");
        }
        if with.0 == "ApiCallDenied" && known {
            with.1["jti"] = json!(one);
            with.1["application_id"] = json!(application);
            with.1["application_uri"] = json!(client);
        }
        let is_free = [
            "SecretRotated",
            "SecretRevoked",
            "ApplicationDisabled",
            "TokenRevoked",
            "TokensRevoked",
            "ReferenceTokenRevoked",
            "ServiceStopped",
        ]
        .contains(&with.0);
        if let (true, Some(reason)) = (is_free, &self.reason) {
            with.1["reason"] = json!(reason);
        }
        with
    }
}
