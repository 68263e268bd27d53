//! What the token endpoint answers, as bytes, in each dialect.

use super::{Dialect, OAuthError};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// A granted token on its way to its client. `Debug` is left out on purpose: it holds the token.
pub struct TokenResponse<'a> {
    /// The whole token.
    pub access_token: &'a str,
    /// Its lifetime from now, in seconds.
    pub expires_in: u32,
    /// The scope that was granted, always said: RFC 6749 §5.1 asks for it when it differs from what
    /// was requested, and some clients raise when it does and nothing says so.
    pub scope: &'a str,
}

impl TokenResponse<'_> {
    /// The answer's body, JSON in every dialect.
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        #[derive(Serialize)]
        struct Flat<'a> {
            access_token: &'a str,
            expires_in: u32,
            token_type: &'static str,
            scope: &'a str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Enveloped<'a> {
            is_success: bool,
            data: Data<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            access_token: &'a str,
            token_type: &'static str,
            expires_in: u32,
            scope: &'a str,
        }
        /// More than the names, the punctuation and the number take: the body is one allocation.
        const AROUND_VALUES_BYTES: usize = 128;

        let Self {
            access_token,
            expires_in,
            scope,
        } = *self;
        let capacity = access_token.len() + scope.len() + AROUND_VALUES_BYTES;
        let token_type = "Bearer";
        match dialect {
            Dialect::Standard | Dialect::Audience => encode(
                &Flat {
                    access_token,
                    expires_in,
                    token_type,
                    scope,
                },
                capacity,
            ),
            Dialect::Json => {
                let data = Data {
                    access_token,
                    token_type,
                    expires_in,
                    scope,
                };
                encode(&Enveloped { is_success: true, data }, capacity)
            }
        }
    }
}

impl OAuthError {
    /// The answer's body, JSON in every dialect. An error without a description has no
    /// `error_description` (it is OPTIONAL in RFC 6749 §5.2), and an empty `message` in the JSON dialect.
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        /// More than any error takes: the body is one allocation.
        const CAPACITY_BYTES: usize = 320;

        struct Flat<'a>(&'static str, &'a str);
        impl Serialize for Flat<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self(code, description) = *self;
                let mut body = serializer.serialize_struct("Flat", 1 + usize::from(!description.is_empty()))?;
                body.serialize_field("error", code)?;
                if !description.is_empty() {
                    body.serialize_field("error_description", description)?;
                }
                body.end()
            }
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Enveloped<'a> {
            is_success: bool,
            error: CodeAndMessage<'a>,
        }
        #[derive(Serialize)]
        struct CodeAndMessage<'a> {
            code: &'static str,
            message: &'a str,
        }

        let code = self.code(dialect);
        let description = self.description();
        match dialect {
            Dialect::Standard | Dialect::Audience => encode(&Flat(code, &description), CAPACITY_BYTES),
            Dialect::Json => {
                let error = CodeAndMessage {
                    code,
                    message: &description,
                };
                encode(
                    &Enveloped {
                        is_success: false,
                        error,
                    },
                    CAPACITY_BYTES,
                )
            }
        }
    }
}

fn encode(body: &impl Serialize, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    // Cannot fail: a `Vec` takes every byte, and strings, numbers and booleans all have a JSON form.
    serde_json::to_writer(&mut bytes, body).expect("strings and numbers encode into memory");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::Displayable;

    fn response() -> TokenResponse<'static> {
        TokenResponse {
            access_token: "eyJ.e30.c2ln",
            expires_in: 3600,
            scope: "read update",
        }
    }

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn the_form_dialects_answer_flat() {
        let expected =
            r#"{"access_token":"eyJ.e30.c2ln","expires_in":3600,"token_type":"Bearer","scope":"read update"}"#;
        assert_eq!(text(response().encode(Dialect::Standard)), expected);
        assert_eq!(text(response().encode(Dialect::Audience)), expected);
    }

    #[test]
    fn the_json_dialect_answers_in_an_envelope() {
        assert_eq!(
            text(response().encode(Dialect::Json)),
            r#"{"isSuccess":true,"data":{"accessToken":"eyJ.e30.c2ln","tokenType":"Bearer","expiresIn":3600,"scope":"read update"}}"#
        );
    }

    #[test]
    fn a_success_is_one_allocation() {
        for dialect in [Dialect::Standard, Dialect::Json] {
            let longest = TokenResponse {
                expires_in: u32::MAX,
                ..response()
            };
            let body = longest.encode(dialect);
            assert_eq!(body.capacity(), longest.access_token.len() + longest.scope.len() + 128);
        }
    }

    #[test]
    fn errors_have_a_code_and_a_description() {
        let error = OAuthError::InvalidClient;
        let expected = r#"{"error":"invalid_client","error_description":"Invalid client_id or client_secret"}"#;
        assert_eq!(text(error.encode(Dialect::Standard)), expected);
        assert_eq!(text(error.encode(Dialect::Audience)), expected);
        assert_eq!(
            text(error.encode(Dialect::Json)),
            r#"{"isSuccess":false,"error":{"code":"invalid_client","message":"Invalid client_id or client_secret"}}"#
        );
    }

    #[test]
    fn an_error_without_a_description_has_none() {
        let error = OAuthError::TemporarilyUnavailable { retry_after_seconds: 1 };
        assert_eq!(
            text(error.encode(Dialect::Standard)),
            r#"{"error":"temporarily_unavailable"}"#
        );
        assert_eq!(
            text(error.encode(Dialect::Json)),
            r#"{"isSuccess":false,"error":{"code":"temporarily_unavailable","message":""}}"#
        );
    }

    #[test]
    fn a_hostile_value_stays_inside_its_string() {
        let error = OAuthError::UnsupportedGrantType {
            grant_type: Displayable::of("\",\"access_token\":\"x\r\n"),
        };
        assert_eq!(
            text(error.encode(Dialect::Standard)),
            r#"{"error":"unsupported_grant_type","error_description":"Unsupported grant type: ?,?access_token?:?x??"}"#
        );
    }

    #[test]
    fn the_longest_error_is_one_allocation() {
        let error = OAuthError::AudienceNotAuthorized {
            audience: Displayable::of(&"x".repeat(1000)),
        };
        assert_eq!(error.encode(Dialect::Json).capacity(), 320);
    }
}
