//! Token requests in every dialect. The first byte chooses endpoint, content type and how the
//! `Authorization` header is made of the first line; the rest is the body.
//!
//! The module is included, not linked: it is pure, so that the fuzzer instruments these few files and
//! not a whole web server. That it builds here at all shows that it needs nothing else.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../src/oauth/mod.rs"]
mod oauth;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use oauth::{Dialect, RequestHeaders, TokenRequest};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let endpoint = match choice & 0b11 {
        0 => Dialect::Standard,
        1 => Dialect::Audience,
        _ => Dialect::Json,
    };
    let content_type: Option<&[u8]> = match choice >> 2 & 0b11 {
        0 => Some(b"application/x-www-form-urlencoded"),
        1 => Some(b"application/json; charset=utf-8"),
        2 => None,
        _ => Some(rest),
    };
    let (header, body) = match choice >> 4 & 0b11 {
        0 => (None, rest),
        way => {
            let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let (line, body) = rest.split_at(end);
            let header = match way {
                1 => line.to_vec(),
                2 => [b"Basic ", line].concat(),
                _ => [b"Basic ", STANDARD.encode(line).as_bytes()].concat(),
            };
            (Some(header), body.get(1..).unwrap_or_default())
        }
    };
    let authorization: Vec<&[u8]> = header.iter().map(Vec::as_slice).collect();
    let headers = RequestHeaders {
        content_type,
        authorization: &authorization,
    };

    match TokenRequest::parse(endpoint, headers, body) {
        Ok(request) => {
            let secret = request.client_secret.expose();
            assert!(!request.client_id.is_empty() && !secret.is_empty());
            let scope = request.scope.iter().flat_map(|scope| scope.tokens());
            let lists = scope.chain(request.audiences.iter().chain(&request.resources).map(String::as_str));
            for value in lists.chain([request.client_id.as_str(), secret]) {
                assert!(!value.is_empty() && !value.chars().any(char::is_control));
            }
            let names_an_audience = !request.audiences.is_empty() || !request.resources.is_empty();
            assert!(names_an_audience || request.dialect != Dialect::Audience);
        }
        Err(refusal) => {
            assert_eq!(refusal.dialect, oauth::answer_dialect(endpoint, content_type));
            // RFC 6749 §5.2's characters, and nothing that leaves its JSON string.
            let description = refusal.error.description();
            assert!(
                description
                    .bytes()
                    .all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e))
            );
            let body = refusal.error.encode(refusal.dialect);
            let answer: serde_json::Value = serde_json::from_slice(&body).expect("an answer is JSON");
            assert_eq!(answer.as_object().map(serde_json::Map::len), Some(2));
            if let Some(client_id) = refusal.client_id {
                assert!(client_id.chars().count() <= 256 && !client_id.chars().any(char::is_control));
            }
        }
    }
});
