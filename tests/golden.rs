//! Every event's stored form, byte for byte: see `tests/golden/README.md` for how to add one.

use grantlog::event_store::{StoredEvent, codec};
use grantlog_projections::Event;
use grantlog_projections::event::*;
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::*;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use uuid::Uuid;

/// An event in its golden file.
struct Golden {
    file: String,
    envelope: Envelope,
}

#[test]
fn an_event_is_stored_as_its_golden_file_says() {
    let mut missing = Vec::new();
    for Golden { file, envelope } in goldens() {
        let bytes = codec::encode(&envelope).expect("it is small").bytes;
        let encoded = String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8");
        match std::fs::read_to_string(folder().join(&file)) {
            Ok(golden) => assert_eq!(
                format!("{encoded}\n"),
                golden,
                "{file}: events of this type would be stored in another form. Golden files are never changed: \
                 tests/golden/README.md says what to do instead"
            ),
            Err(_) => missing.push(format!("tests/golden/{file}\n{encoded}\n")),
        }
    }
    assert!(
        missing.is_empty(),
        "there is no golden file for these events. Read the line, then put it there:\n\n{}",
        missing.join("\n")
    );
}

#[test]
fn a_golden_file_decodes_to_its_event_and_encodes_to_the_same_bytes() {
    for Golden { file, envelope } in goldens() {
        let golden = read(&file);
        let recorded = codec::decode(&stored(&golden)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!((recorded.index, recorded.revision), (7, 3), "{file}");
        assert_eq!(recorded.envelope, envelope, "{file}");
        assert_eq!(
            *codec::encode(&recorded.envelope).unwrap().bytes,
            *golden.as_bytes(),
            "{file}"
        );
        assert_eq!(
            codec::peek_type(golden.as_bytes()),
            Some(envelope.event.type_name()),
            "{file}"
        );
    }
}

#[test]
fn every_type_has_a_golden_file_and_every_golden_file_a_type() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .expect("tests/golden")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    for known in Event::TYPES {
        assert!(
            files.contains(&format!("{known}.json")),
            "there is no tests/golden/{known}.json"
        );
    }
    let expected: BTreeSet<String> = goldens().into_iter().map(|golden| golden.file).collect();
    assert_eq!(files, expected);
    for file in &files {
        let of_type = file.split('.').next().unwrap();
        assert!(Event::TYPES.contains(&of_type), "{file} is of no type");
    }
}

#[test]
fn the_keys_of_the_envelope_are_in_their_order() {
    const ORDER: [&str; 8] = ["id", "stream", "type", "time", "actor", "source", "trace_id", "data"];
    let mut seen = BTreeSet::new();
    for Golden { file, .. } in goldens() {
        let keys = keys_in_order(&read(&file));
        let expected: Vec<&str> = ORDER
            .into_iter()
            .filter(|key| keys.iter().any(|there| there == key))
            .collect();
        assert_eq!(keys, expected, "{file}");
        for always in ["id", "stream", "type", "time", "actor", "data"] {
            assert!(keys.iter().any(|key| key == always), "{file} has no {always}");
        }
        seen.extend(keys);
    }
    assert_eq!(seen.len(), ORDER.len());
}

#[test]
fn a_minimal_event_has_no_more_than_a_full_one() {
    for Golden { file, .. } in goldens()
        .into_iter()
        .filter(|golden| golden.file.ends_with(".minimal.json"))
    {
        let data = |file: &str| {
            let envelope: serde_json::Value = serde_json::from_str(&read(file)).unwrap();
            envelope["data"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<BTreeSet<String>>()
        };
        let full = file.replace(".minimal", "");
        assert!(data(&file).is_subset(&data(&full)), "{file}");
    }
}

#[test]
fn a_log_of_all_golden_files_folds() {
    let mut directory = grantlog_projections::directory::Directory::default();
    let mut key_ring = grantlog_projections::key_ring::KeyRing::default();
    for Golden { file, .. } in goldens() {
        let recorded = codec::decode(&stored(&read(&file))).unwrap();
        directory.apply(&recorded);
        key_ring.apply(&recorded);
    }
    assert_eq!(directory.application_count(), 1);
    assert_eq!(key_ring.keys().count(), 1);
}

#[test]
fn an_optional_field_that_a_log_of_today_does_not_have_yet_is_ignored_by_an_older_grantlog() {
    // What a later version adds must not stop this one from reading its own fields.
    let golden = read("ServiceStopped.json").replace(r#""reason":"#, r#""later":{"a":[1]},"reason":"#);
    let recorded = codec::decode(&stored(&golden)).unwrap();
    assert_eq!(recorded.envelope.event.type_name(), "ServiceStopped");
}

/// Values that have names of their own on the wire: a renamed variant would change what is stored.
#[test]
fn reasons_and_other_named_values_keep_their_names() {
    fn names<T: serde::Serialize>(values: &[T]) -> Vec<String> {
        values
            .iter()
            .map(|value| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned())
            .collect()
    }
    use RefusalReason as R;
    let refusals = [
        R::UnsupportedContentType,
        R::BodyTooLarge,
        R::DuplicateParameter,
        R::Malformed,
        R::MissingGrantType,
        R::UnsupportedGrantType,
        R::SeveralAuthenticationMethods,
        R::UnreadableAuthorization,
        R::EmptyCredentials,
        R::MissingClientId,
        R::MissingClientSecret,
        R::MissingAudience,
        R::UnknownClient,
        R::Deleted,
        R::Disabled,
        R::PublicClient,
        R::SecretMismatch,
        R::SecretExpired,
        R::SecretRevoked,
        R::NetworkNotAllowed,
        R::SystemUserNotAllowed,
        R::AudienceNotAuthorized,
        R::ScopeNotAllowed,
    ];
    assert_eq!(
        names(&refusals).join(" "),
        "unsupported_content_type body_too_large duplicate_parameter malformed missing_grant_type \
         unsupported_grant_type several_authentication_methods unreadable_authorization empty_credentials \
         missing_client_id missing_client_secret missing_audience unknown_client deleted disabled public_client \
         secret_mismatch secret_expired secret_revoked network_not_allowed system_user_not_allowed \
         audience_not_authorized scope_not_allowed"
    );
    assert_eq!(
        names(DenialReason::ALL).join(" "),
        "missing_token several_tokens malformed_token unknown_key bad_signature unknown_token token_expired \
         token_not_yet_valid token_revoked wrong_issuer wrong_audience application_disabled \
         reference_tokens_not_allowed network_not_allowed insufficient_scope org_mismatch no_rule too_many_sessions \
         unknown_client secret_mismatch secret_expired secret_revoked public_client not_the_clients_token \
         malformed_request refused_by_api ambiguous_path method_not_implemented upgrade_not_implemented \
         body_too_large"
    );
    assert_eq!(
        names(&[Dialect::Standard, Dialect::Audience, Dialect::Json]),
        ["standard", "audience", "json"]
    );
    assert_eq!(
        names(&[AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost]),
        ["client_secret_basic", "client_secret_post"]
    );
    assert_eq!(
        names(&[ClientType::Confidential, ClientType::Public]),
        ["Confidential", "Public"]
    );
    assert_eq!(
        names(&[ReferenceTokens::None, ReferenceTokens::AdministratorsOnly]),
        ["None", "AdministratorsOnly"]
    );
    assert_eq!(names(&[TokenType::AtJwt, TokenType::Jwt]), ["at+jwt", "JWT"]);
    assert_eq!(names(&SigningAlgorithm::ALL), ["ES256", "RS256", "PS256", "EdDSA"]);
    let ways = [
        Via::Admin,
        Via::Gateway,
        Via::ForwardAuth,
        Via::Introspection,
        Via::Reported,
    ];
    assert_eq!(names(&ways), ways.map(Via::as_str));
    assert_eq!(
        names(&ways),
        ["admin", "gateway", "forward_auth", "introspection", "reported"]
    );
    assert_eq!(names(&[TokenKind::Jwt, TokenKind::Reference]), ["jwt", "reference"]);
    let ends = [
        SessionEnd::Idle,
        SessionEnd::Absolute,
        SessionEnd::TokenExpired,
        SessionEnd::Revoked,
    ];
    assert_eq!(names(&ends), ["idle", "absolute", "token_expired", "revoked"]);
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The line of a file, as the log would hold it.
fn read(file: &str) -> String {
    let text = std::fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.strip_suffix('\n').expect("the file ends its line").to_owned()
}

fn stored(golden: &str) -> StoredEvent {
    StoredEvent {
        index: 7,
        revision: 3,
        bytes: golden.as_bytes().into(),
    }
}

fn keys_in_order(json: &str) -> Vec<String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Vec<String>, M::Error> {
            let mut keys = Vec::new();
            while let Some((key, _)) = members.next_entry::<String, IgnoredAny>()? {
                keys.push(key);
            }
            Ok(keys)
        }
    }
    serde_json::Deserializer::from_str(json)
        .deserialize_map(Keys)
        .expect("an object")
}

/// One full event per type, and a minimal one where there is a difference. The envelope is full around full
/// facts, and minimal around minimal ones.
fn goldens() -> Vec<Golden> {
    let stopped = ServiceStopped {
        version: "0.1.0".into(),
        reason: "SIGTERM".into(),
        node: None,
    };
    vec![
        full(
            StreamName::service(),
            ServiceStarted {
                version: "0.1.0".into(),
                store: "sqlite".into(),
                config_digest: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328".into(),
                clean: true,
                node: None,
            },
        ),
        full(StreamName::service(), stopped.clone()),
        minimal(StreamName::service(), stopped.clone()),
        also(
            "node",
            StreamName::service(),
            ServiceStarted {
                version: "0.1.0".into(),
                store: "kurrentdb".into(),
                config_digest: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328".into(),
                clean: false,
                node: node(),
            },
        ),
        also(
            "node",
            StreamName::service(),
            ServiceStopped {
                node: node(),
                ..stopped
            },
        ),
        full(of_application(), registered()),
        minimal(
            of_application(),
            ApplicationRegistered {
                description: None,
                client_type: ClientType::Public,
                scope: Scope::none(),
                audiences: Vec::new(),
                system_user_allowed: false,
                system_user: None,
                org_code: None,
                is_enabled: false,
                owner: None,
                properties: BTreeMap::new(),
                token_lifetime_seconds: None,
                allowed_networks: Vec::new(),
                reference_tokens: ReferenceTokens::None,
                secret: None,
                ..registered()
            },
        ),
        full(of_application(), changed(every_application_change(), reason())),
        minimal(of_application(), changed(Vec::new(), None)),
        full(
            of_application(),
            ApplicationEnabled {
                application_id: application_id(),
                application_uri: uri(),
                reason: reason(),
            },
        ),
        minimal(
            of_application(),
            ApplicationEnabled {
                application_id: application_id(),
                application_uri: uri(),
                reason: None,
            },
        ),
        full(of_application(), disabled(reason())),
        minimal(of_application(), disabled(None)),
        also(
            "revoke_tokens",
            of_application(),
            ApplicationDisabled {
                revoke_tokens: true,
                ..disabled(reason())
            },
        ),
        full(
            of_application(),
            ApplicationDeleted {
                application_id: application_id(),
                application_uri: uri(),
                reason: reason(),
            },
        ),
        minimal(
            of_application(),
            ApplicationDeleted {
                application_id: application_id(),
                application_uri: uri(),
                reason: None,
            },
        ),
        full(of_application(), rotated()),
        minimal(
            of_application(),
            SecretRotated {
                secret: IssuedSecret {
                    hint: None,
                    expires_at: None,
                    ..secret()
                },
                superseded: Vec::new(),
                reason: None,
                ..rotated()
            },
        ),
        full(of_application(), revoked(reason())),
        minimal(of_application(), revoked(None)),
        also(
            "revoke_tokens",
            of_application(),
            SecretRevoked {
                revoke_tokens: true,
                ..revoked(reason())
            },
        ),
        full(of_api(), api_registered()),
        minimal(
            of_api(),
            ApiRegistered {
                scopes: Vec::new(),
                signing_alg: None,
                token_type: TokenType::AtJwt,
                token_lifetime_seconds: None,
                ..api_registered()
            },
        ),
        full(of_api(), api_changed(every_api_change(), reason())),
        minimal(of_api(), api_changed(Vec::new(), None)),
        full(
            of_api(),
            ApiDeleted {
                api_id: ApiId::of(&audience()),
                audience: audience(),
                reason: reason(),
            },
        ),
        minimal(
            of_api(),
            ApiDeleted {
                api_id: ApiId::of(&audience()),
                audience: audience(),
                reason: None,
            },
        ),
        full(
            StreamName::signing_keys(),
            SigningKeyAdded {
                kid: kid(),
                alg: SigningAlgorithm::Es256,
                public_jwk: serde_json::json!({
                    "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "kid": "2026-03-16", "alg": "ES256",
                    "use": "sig"
                }),
                sealed_private_key: "AQECAwQFBgcICQoLDA".into(),
                reason: remark("first key"),
            },
        ),
        full(
            StreamName::signing_keys(),
            SigningKeyActivated {
                kid: kid(),
                alg: SigningAlgorithm::Es256,
                reason: remark("first key"),
            },
        ),
        full(
            StreamName::signing_keys(),
            SigningKeyRetired {
                kid: kid(),
                alg: SigningAlgorithm::Es256,
                reason: remark("its last token has expired"),
            },
        ),
        full(StreamName::token_requests(Some(application_id())), issued()),
        minimal(
            StreamName::token_requests(Some(application_id())),
            TokenIssued {
                scope_requested: None,
                scope: Scope::none(),
                org_code: None,
                ..issued()
            },
        ),
        full(
            StreamName::token_requests(Some(application_id())),
            TokenRefused {
                client_id: Some("my.trusted.app/service".into()),
                application_id: Some(application_id()),
                error: "invalid_scope".into(),
                reason: RefusalReason::ScopeNotAllowed,
                detail: Some("admin".into()),
                dialect: Dialect::Audience,
            },
        ),
        minimal(
            StreamName::token_requests(None),
            TokenRefused {
                client_id: None,
                application_id: None,
                error: "invalid_request".into(),
                reason: RefusalReason::UnsupportedContentType,
                detail: None,
                dialect: Dialect::Json,
            },
        ),
        full(
            StreamName::token_requests(Some(application_id())),
            throttled(Some(application_id())),
        ),
        minimal(StreamName::token_requests(None), throttled(None)),
        also(
            "source",
            StreamName::token_requests(None),
            RequestsThrottled {
                client_id: None,
                ..throttled(None)
            },
        ),
        full(StreamName::tokens(application_id()), token_revoked(reason())),
        minimal(StreamName::tokens(application_id()), token_revoked(None)),
        full(StreamName::tokens(application_id()), tokens_revoked(reason())),
        minimal(StreamName::tokens(application_id()), tokens_revoked(None)),
        full(StreamName::tokens(application_id()), reference_issued()),
        minimal(
            StreamName::tokens(application_id()),
            ReferenceTokenIssued {
                scope: Scope::none(),
                audiences: Vec::new(),
                ..reference_issued()
            },
        ),
        full(StreamName::tokens(application_id()), reference_revoked(reason())),
        minimal(StreamName::tokens(application_id()), reference_revoked(None)),
        full(StreamName::api_calls(Some(application_id())), session_started()),
        minimal(
            StreamName::api_calls(Some(application_id())),
            SessionStarted {
                token_kind: TokenKind::Jwt,
                system_user: None,
                ..session_started()
            },
        ),
        also(
            "node",
            StreamName::api_calls(Some(application_id())),
            SessionStarted {
                node: node(),
                ..session_started()
            },
        ),
        full(StreamName::api_calls(Some(application_id())), session_ended()),
        minimal(
            StreamName::api_calls(Some(application_id())),
            SessionEnded {
                remark: None,
                ..session_ended()
            },
        ),
        full(StreamName::api_calls(Some(application_id())), authorized()),
        minimal(
            StreamName::api_calls(Some(application_id())),
            ApiCallAuthorized {
                system_user: None,
                org_code: None,
                ..authorized()
            },
        ),
        also(
            "session",
            StreamName::api_calls(Some(application_id())),
            ApiCallAuthorized {
                session_id: Some(session_id()),
                ..gateway_call()
            },
        ),
        also(
            "reference",
            StreamName::api_calls(Some(application_id())),
            ApiCallAuthorized {
                session_id: Some(session_id()),
                token_kind: TokenKind::Reference,
                ..gateway_call()
            },
        ),
        also(
            "reported",
            StreamName::api_calls(Some(application_id())),
            ApiCallAuthorized {
                via: Via::Reported,
                session_id: Some(session_id()),
                report: Some(report()),
                ..gateway_call()
            },
        ),
        also(
            "reported.minimal",
            StreamName::api_calls(Some(application_id())),
            ApiCallAuthorized {
                via: Via::Reported,
                report: Some(CallReport {
                    source: None,
                    status: None,
                    ..report()
                }),
                ..gateway_call()
            },
        ),
        full(StreamName::api_calls(Some(application_id())), denied()),
        also(
            "reference",
            StreamName::api_calls(None),
            ApiCallDenied {
                via: Via::ForwardAuth,
                application_id: None,
                application_uri: None,
                jti: None,
                error: "invalid_token".into(),
                reason: DenialReason::UnknownToken,
                token_kind: TokenKind::Reference,
                ..denied()
            },
        ),
        also(
            "reported",
            StreamName::api_calls(Some(application_id())),
            ApiCallDenied {
                via: Via::Reported,
                error: "insufficient_scope".into(),
                reason: DenialReason::RefusedByApi,
                report: Some(CallReport {
                    status: Some(403),
                    ..report()
                }),
                ..denied()
            },
        ),
        minimal(
            StreamName::api_calls(None),
            ApiCallDenied {
                application_id: None,
                application_uri: None,
                jti: None,
                token_hint: None,
                error: "missing_token".into(),
                reason: DenialReason::MissingToken,
                ..denied()
            },
        ),
        full(
            StreamName::audit_access(),
            AuditTrailRead {
                application_uri: uri(),
                filter: BTreeMap::from([
                    ("client_id".into(), "my.trusted.app/service".into()),
                    ("type".into(), "TokenIssued".into()),
                ]),
                rows: 50,
                through_index: 1_234,
                via: TrailAccess::Search,
            },
        ),
        also(
            "via",
            StreamName::audit_access(),
            AuditTrailRead {
                application_uri: uri(),
                filter: BTreeMap::from([("type".into(), "TokenIssued".into())]),
                rows: 0,
                through_index: 1_234,
                via: TrailAccess::Tail,
            },
        ),
        full(
            StreamName::audit_access(),
            AuditTrailExported {
                application_uri: uri(),
                format: "ndjson".into(),
                filter: BTreeMap::from([("type".into(), "TokenIssued".into())]),
                from_index: 12,
                through_index: 1_234,
            },
        ),
        full(
            StreamName::audit_access(),
            ReportProduced {
                application_uri: uri(),
                report: "inventory".into(),
                format: "html".into(),
                parameters: BTreeMap::from([("as_of".into(), "1234".into())]),
                rows: 7,
                through_index: 1_234,
                sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            },
        ),
        full(
            StreamName::retention(),
            LegalHoldPlaced {
                hold_id: Uuid::from_u128(7),
                from_index: 12,
                through_index: Some(1_234),
                reason: Remark::parse("case 2026-7").unwrap(),
            },
        ),
        minimal(
            StreamName::retention(),
            LegalHoldPlaced {
                hold_id: Uuid::from_u128(7),
                from_index: 0,
                through_index: None,
                reason: Remark::parse("case 2026-7").unwrap(),
            },
        ),
        full(
            StreamName::retention(),
            LegalHoldReleased {
                hold_id: Uuid::from_u128(7),
                reason: Some(Remark::parse("settled").unwrap()),
            },
        ),
        minimal(
            StreamName::retention(),
            LegalHoldReleased {
                hold_id: Uuid::from_u128(7),
                reason: None,
            },
        ),
        full(
            StreamName::retention(),
            EventsRemoved {
                from_index: 0,
                through_index: 16_384,
                events: 16_000,
                rule: RetentionRule::Age,
            },
        ),
        full(
            StreamName::retention(),
            IndexPruned {
                through_index: 16_384,
                rule: RetentionRule::Size,
            },
        ),
        full(
            StreamName::token_requests(Some(application_id())),
            EventRemoved {
                leaf_hash: LeafHash([7; 32]),
            },
        ),
        minimal(
            StreamName::audit_access(),
            AuditTrailRead {
                application_uri: uri(),
                filter: BTreeMap::new(),
                rows: 0,
                through_index: 0,
                via: TrailAccess::Search,
            },
        ),
    ]
}

fn full(stream: StreamName, event: impl Into<Event>) -> Golden {
    let event = event.into();
    Golden {
        file: format!("{}.json", event.type_name()),
        envelope: Envelope {
            source: Some(Source {
                ip: "2001:db8::7".parse().unwrap(),
                user_agent: Some("curl/8.14.1".into()),
            }),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            actor: Actor::Application(ApplicationUri::parse("grantlog.admin").unwrap()),
            ..envelope(stream, event)
        },
    }
}

/// A form that came later, or that a type may have besides.
fn also(what: &str, stream: StreamName, event: impl Into<Event>) -> Golden {
    let full = full(stream, event);
    Golden {
        file: full.file.replace(".json", &format!(".{what}.json")),
        ..full
    }
}

fn minimal(stream: StreamName, event: impl Into<Event>) -> Golden {
    let event = event.into();
    Golden {
        file: format!("{}.minimal.json", event.type_name()),
        envelope: envelope(stream, event),
    }
}

fn envelope(stream: StreamName, event: Event) -> Envelope {
    Envelope {
        id: Uuid::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad91),
        stream,
        time: time("2026-03-16T09:30:00.000123Z"),
        actor: Actor::System,
        source: None,
        trace_id: None,
        event,
    }
}

fn registered() -> ApplicationRegistered {
    ApplicationRegistered {
        application_id: application_id(),
        application_uri: uri(),
        name: name("Integration «öffentlich»"),
        description: Some(remark("two\nlines")),
        client_type: ClientType::Confidential,
        scope: scope("read update DomainApi"),
        audiences: vec![audience(), Audience::parse("https://id.example.com/id").unwrap()],
        system_user_allowed: true,
        system_user: Some(system_user()),
        org_code: OrgCode::parse("ACME").ok(),
        is_enabled: true,
        owner: Some(remark("team@example.com")),
        properties: BTreeMap::from([("region".into(), "north".into()), ("tier".into(), "gold".into())]),
        token_lifetime_seconds: TokenLifetime::parse(900).ok(),
        allowed_networks: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        reference_tokens: ReferenceTokens::AdministratorsOnly,
        secret: Some(secret()),
    }
}

fn changed(changes: Vec<ApplicationChange>, reason: Option<Remark>) -> ApplicationChanged {
    ApplicationChanged {
        application_id: application_id(),
        application_uri: uri(),
        changes,
        reason,
    }
}

fn every_application_change() -> Vec<ApplicationChange> {
    use ApplicationChange as C;
    let networks = vec!["10.0.0.0/8".parse().unwrap()];
    let every = vec![
        C::Name(to(name("Before"), name("After"))),
        C::Description(to(None, Some(remark("what it is for")))),
        C::ClientType(to(ClientType::Public, ClientType::Confidential)),
        C::Scope(to(scope("read"), scope("read update"))),
        C::Audiences(to(Vec::new(), vec![audience()])),
        C::SystemUserAllowed(to(false, true)),
        C::SystemUser(to(None, Some(system_user()))),
        C::OrgCode(to(OrgCode::parse("ACME").ok(), None)),
        C::Owner(to(Some(remark("one")), Some(remark("another")))),
        C::Properties(to(BTreeMap::new(), BTreeMap::from([("tier".into(), "gold".into())]))),
        C::TokenLifetimeSeconds(to(None, TokenLifetime::parse(60).ok())),
        C::AllowedNetworks(to(Vec::new(), networks)),
        C::ReferenceTokens(to(ReferenceTokens::None, ReferenceTokens::AdministratorsOnly)),
    ];
    // A new attribute does not compile here until it is in the list above.
    for change in &every {
        match change {
            C::Name(_)
            | C::Description(_)
            | C::ClientType(_)
            | C::Scope(_)
            | C::Audiences(_)
            | C::SystemUserAllowed(_)
            | C::SystemUser(_)
            | C::OrgCode(_)
            | C::Owner(_)
            | C::Properties(_)
            | C::TokenLifetimeSeconds(_)
            | C::AllowedNetworks(_)
            | C::ReferenceTokens(_) => {}
        }
    }
    every
}

fn disabled(reason: Option<Remark>) -> ApplicationDisabled {
    ApplicationDisabled {
        application_id: application_id(),
        application_uri: uri(),
        reason,
        revoke_tokens: false,
    }
}

fn rotated() -> SecretRotated {
    SecretRotated {
        application_id: application_id(),
        application_uri: uri(),
        secret: secret(),
        superseded: vec![SupersededSecret {
            id: SecretId(Uuid::from_u128(1)),
            accepted_until: time("2026-03-17T09:30:00Z"),
        }],
        reason: reason(),
    }
}

fn revoked(reason: Option<Remark>) -> SecretRevoked {
    SecretRevoked {
        application_id: application_id(),
        application_uri: uri(),
        secret_id: secret().id,
        reason,
        revoke_tokens: false,
    }
}

fn api_registered() -> ApiRegistered {
    ApiRegistered {
        api_id: ApiId::of(&audience()),
        audience: audience(),
        name: name("Domain API"),
        scopes: api_scopes(),
        signing_alg: Some(SigningAlgorithm::Rs256),
        token_type: TokenType::Jwt,
        token_lifetime_seconds: TokenLifetime::parse(600).ok(),
    }
}

fn api_changed(changes: Vec<ApiChange>, reason: Option<Remark>) -> ApiChanged {
    ApiChanged {
        api_id: ApiId::of(&audience()),
        audience: audience(),
        changes,
        reason,
    }
}

fn every_api_change() -> Vec<ApiChange> {
    use ApiChange as C;
    let every = vec![
        C::Name(to(name("Before"), name("After"))),
        C::Scopes(to(Vec::new(), api_scopes())),
        C::SigningAlg(to(Some(SigningAlgorithm::Ps256), Some(SigningAlgorithm::EdDsa))),
        C::TokenType(to(TokenType::AtJwt, TokenType::Jwt)),
        C::TokenLifetimeSeconds(to(TokenLifetime::parse(600).ok(), None)),
    ];
    for change in &every {
        match change {
            C::Name(_) | C::Scopes(_) | C::SigningAlg(_) | C::TokenType(_) | C::TokenLifetimeSeconds(_) => {}
        }
    }
    every
}

fn api_scopes() -> Vec<ApiScope> {
    vec![
        ApiScope {
            name: scope("read"),
            description: Some(remark("reads")),
        },
        ApiScope {
            name: scope("update"),
            description: None,
        },
    ]
}

fn issued() -> TokenIssued {
    TokenIssued {
        jti: Uuid::from_u128(0x0190_163d_8694_739b_aea5_966c_26f8_ad91),
        application_id: application_id(),
        application_uri: uri(),
        secret_id: secret().id,
        auth_method: AuthMethod::ClientSecretBasic,
        dialect: Dialect::Standard,
        scope_requested: Some(scope("openid read")),
        scope: scope("read"),
        audiences: vec![audience()],
        system_user: system_user(),
        org_code: OrgCode::parse("ACME").ok(),
        kid: kid(),
        alg: SigningAlgorithm::Es256,
        issued_at: time("2026-03-16T09:30:00.000123Z"),
        expires_at: time("2026-03-16T10:30:00Z"),
        token_hint: "Zk3_-a9Q".into(),
    }
}

fn throttled(application_id: Option<ApplicationId>) -> RequestsThrottled {
    RequestsThrottled {
        client_id: Some("my.trusted.app/service".into()),
        application_id,
        source: "192.0.2.7".parse().unwrap(),
        window_seconds: 60,
        suppressed: 4_711,
    }
}

fn authorized() -> ApiCallAuthorized {
    ApiCallAuthorized {
        via: Via::Admin,
        application_id: application_id(),
        application_uri: uri(),
        jti: Uuid::from_u128(2),
        token_hint: "Zk3_-a9Q".into(),
        system_user: Some(system_user()),
        org_code: OrgCode::parse("ACME").ok(),
        audience: audience(),
        method: "GET".into(),
        path: "/admin/applications".into(),
        required_scope: "applications:read".into(),
        session_id: None,
        token_kind: TokenKind::Jwt,
        report: None,
    }
}

fn denied() -> ApiCallDenied {
    ApiCallDenied {
        via: Via::Admin,
        application_id: Some(application_id()),
        application_uri: Some(uri()),
        jti: Some(Uuid::from_u128(2)),
        token_hint: Some("Zk3_-a9Q".into()),
        audience: audience(),
        method: "DELETE".into(),
        path: "/admin/applications/17f1f1d4-37cd-5a94-9bc2-f9e18b679123".into(),
        required_scope: "applications:write".into(),
        error: "insufficient_scope".into(),
        reason: DenialReason::InsufficientScope,
        token_kind: TokenKind::Jwt,
        report: None,
    }
}

/// A call of an API behind Grantlog.
fn gateway_call() -> ApiCallAuthorized {
    ApiCallAuthorized {
        via: Via::Gateway,
        path: "/api/domain/odata/Crm_Sales_Customers".into(),
        required_scope: "read".into(),
        ..authorized()
    }
}

fn report() -> CallReport {
    CallReport {
        id: Uuid::from_u128(0x0190_163d_0000_7000_8000_0000_0000_0005),
        reporter_id: ApplicationId::of(&ApplicationUri::parse("domain.api").unwrap()),
        time: time("2026-03-16T09:29:59.5Z"),
        source: Some(Source {
            ip: "192.0.2.9".parse().unwrap(),
            user_agent: Some("reports/2".into()),
        }),
        status: Some(200),
    }
}

fn token_revoked(reason: Option<Remark>) -> TokenRevoked {
    TokenRevoked {
        jti: issued().jti,
        application_id: application_id(),
        application_uri: uri(),
        expires_at: time("2026-03-16T10:30:00Z"),
        reason,
    }
}

fn tokens_revoked(reason: Option<Remark>) -> TokensRevoked {
    TokensRevoked {
        application_id: application_id(),
        application_uri: uri(),
        issued_until: time("2026-03-16T09:30:00.000123Z"),
        reason,
    }
}

fn reference_issued() -> ReferenceTokenIssued {
    ReferenceTokenIssued {
        token_id: reference_id(),
        application_id: application_id(),
        application_uri: uri(),
        hash: SecretHash([9; 32]),
        hint: "Qz7k".into(),
        scope: scope("read"),
        audiences: vec![audience()],
        expires_at: time("2027-03-16T09:30:00Z"),
        description: remark("the nightly import"),
    }
}

fn reference_revoked(reason: Option<Remark>) -> ReferenceTokenRevoked {
    ReferenceTokenRevoked {
        token_id: reference_id(),
        application_id: application_id(),
        application_uri: uri(),
        reason,
    }
}

fn node() -> Option<NodeName> {
    NodeName::parse("grantlog-1").ok()
}

fn session_started() -> SessionStarted {
    SessionStarted {
        session_id: session_id(),
        application_id: application_id(),
        application_uri: uri(),
        jti: reference_id(),
        token_kind: TokenKind::Reference,
        system_user: Some(system_user()),
        token_expires_at: time("2027-03-16T09:30:00Z"),
        node: None,
    }
}

fn session_ended() -> SessionEnded {
    SessionEnded {
        session_id: session_id(),
        application_id: application_id(),
        application_uri: uri(),
        jti: reference_id(),
        reason: SessionEnd::Revoked,
        remark: reason(),
    }
}

fn reference_id() -> Uuid {
    Uuid::from_u128(0x0190_163d_0000_7000_8000_0000_0000_0003)
}

fn session_id() -> Uuid {
    Uuid::from_u128(0x0190_163d_0000_7000_8000_0000_0000_0004)
}

fn secret() -> IssuedSecret {
    IssuedSecret {
        id: SecretId(Uuid::from_u128(0x0190_163d_0000_7000_8000_0000_0000_0002)),
        hash: SecretHash([7; 32]),
        hint: Some("x9Ab".into()),
        expires_at: Some(time("2027-03-16T09:30:00Z")),
    }
}

fn of_application() -> StreamName {
    StreamName::application(application_id())
}

fn of_api() -> StreamName {
    StreamName::api(ApiId::of(&audience()))
}

fn application_id() -> ApplicationId {
    ApplicationId::of(&uri())
}

fn uri() -> ApplicationUri {
    ApplicationUri::parse("my.trusted.app/service").unwrap()
}

fn audience() -> Audience {
    Audience::parse("https://api.example.com/domain").unwrap()
}

fn system_user() -> SystemUser {
    SystemUser::parse("svc.integration").unwrap()
}

fn kid() -> KeyId {
    KeyId::parse("2026-03-16").unwrap()
}

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn remark(text: &str) -> Remark {
    Remark::parse(text).unwrap()
}

fn reason() -> Option<Remark> {
    Some(remark("asked for by the owner"))
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn to<T>(from: T, to: T) -> FromTo<T> {
    FromTo { from, to }
}
