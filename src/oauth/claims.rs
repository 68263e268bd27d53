//! What an access token says: the JWT profile of RFC 9068, and Grantlog's own claims.

use serde::ser::{SerializeMap, SerializeStruct, Serializer};
use serde::Serialize;
use std::collections::BTreeMap;

/// The claims of a token to be signed. Claims that must agree are one field: `sub` and `azp` are the
/// `client_id`, `scp` is `scope` as an array, `nbf` is `iat`; `gty` is always `["client_credentials"]`.
#[derive(Debug, Clone, Copy)]
pub struct AccessTokenClaims<'a, A = String> {
    /// The issuer, exactly as in the metadata.
    pub iss: &'a str,
    /// The application.
    pub client_id: &'a str,
    /// The audiences; an array on the wire even when there is one.
    pub aud: &'a [A],
    /// The granted scope, single spaces between its tokens.
    pub scope: &'a str,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// When it expires, in seconds since 1970.
    pub exp: i64,
    /// The token's id; no two tokens have the same.
    pub jti: &'a str,
    /// The service account that the token acts as.
    pub client_system_user: &'a str,
    /// The organisation that the application is bound to.
    pub org_code: Option<&'a str>,
    /// The application's properties; on the wire `{k: {"v": value}}`, and absent when there are none.
    pub application_properties: &'a BTreeMap<String, String>,
}

impl<A: Serialize> Serialize for AccessTokenClaims<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const ALWAYS: usize = 13;
        let has_properties = !self.application_properties.is_empty();
        let claims = ALWAYS + usize::from(self.org_code.is_some()) + usize::from(has_properties);
        let mut claims = serializer.serialize_struct("AccessTokenClaims", claims)?;
        claims.serialize_field("iss", self.iss)?;
        claims.serialize_field("sub", self.client_id)?;
        claims.serialize_field("aud", self.aud)?;
        claims.serialize_field("client_id", self.client_id)?;
        claims.serialize_field("azp", self.client_id)?;
        claims.serialize_field("gty", &["client_credentials"])?;
        claims.serialize_field("scope", self.scope)?;
        claims.serialize_field("scp", &ScopeArray(self.scope))?;
        claims.serialize_field("iat", &self.iat)?;
        claims.serialize_field("nbf", &self.iat)?;
        claims.serialize_field("exp", &self.exp)?;
        claims.serialize_field("jti", self.jti)?;
        claims.serialize_field("client_system_user", self.client_system_user)?;
        if let Some(org_code) = self.org_code {
            claims.serialize_field("org_code", org_code)?;
        }
        if has_properties {
            claims.serialize_field("application_properties", &WrappedValues(self.application_properties))?;
        }
        claims.end()
    }
}

struct ScopeArray<'a>(&'a str);

impl Serialize for ScopeArray<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.split(' ').filter(|token| !token.is_empty()))
    }
}

struct WrappedValues<'a>(&'a BTreeMap<String, String>);

#[derive(Serialize)]
struct Wrapped<V> {
    v: V,
}

impl Serialize for WrappedValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, &Wrapped { v: value })?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims<'a>(aud: &'a [&'a str], properties: &'a BTreeMap<String, String>) -> AccessTokenClaims<'a, &'a str> {
        AccessTokenClaims {
            iss: "https://auth.example.com/id",
            client_id: "my.trusted.app/service",
            aud,
            scope: "read update DomainApi",
            iat: 1_700_000_000,
            exp: 1_700_003_600,
            jti: "0198c5a0-0000-7000-8000-000000000001",
            client_system_user: "svc.integration",
            org_code: None,
            application_properties: properties,
        }
    }

    fn properties() -> BTreeMap<String, String> {
        BTreeMap::from([("region".into(), "eu".into()), ("tier".into(), "\"gold\"".into())])
    }

    #[test]
    fn the_claims_are_the_contracts_in_the_contracts_order() {
        let none = BTreeMap::new();
        assert_eq!(
            serde_json::to_string(&claims(&["https://api.example.com"], &none)).unwrap(),
            concat!(
                r#"{"iss":"https://auth.example.com/id","sub":"my.trusted.app/service","aud":["https://api.example.com"],"#,
                r#""client_id":"my.trusted.app/service","azp":"my.trusted.app/service","gty":["client_credentials"],"#,
                r#""scope":"read update DomainApi","scp":["read","update","DomainApi"],"iat":1700000000,"#,
                r#""nbf":1700000000,"exp":1700003600,"jti":"0198c5a0-0000-7000-8000-000000000001","#,
                r#""client_system_user":"svc.integration"}"#
            )
        );
    }

    #[test]
    fn org_code_and_properties_are_there_when_set() {
        let properties = properties();
        let claims = AccessTokenClaims {
            org_code: Some("ACME"),
            ..claims(&[], &properties)
        };
        let json = serde_json::to_string(&claims).unwrap();
        assert!(json.ends_with(
            r#","org_code":"ACME","application_properties":{"region":{"v":"eu"},"tier":{"v":"\"gold\""}}}"#
        ));
    }

    #[test]
    fn an_empty_scope_is_an_empty_array() {
        let none = BTreeMap::new();
        let json = serde_json::to_string(&AccessTokenClaims {
            scope: "",
            ..claims(&[], &none)
        })
        .unwrap();
        assert!(json.contains(r#""scope":"","scp":[],"#));
    }
}
