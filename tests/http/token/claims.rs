//! The tokens themselves: header, claims, signature, verified by a JWT library through the JWKS.

use super::object;
use crate::scene::{Scene, jose_header};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

/// Verifies as a resource server does: finds the key in the JWKS, and checks issuer and audience.
async fn verified(scene: &Scene, token: &str, audience: &str) -> Value {
    let jwks = scene.http.get(format!("{}/.well-known/jwks.json", scene.url));
    let jwks: JwkSet = jwks.send().await.unwrap().json().await.unwrap();
    let header = jsonwebtoken::decode_header(token).expect("a header");
    let key = jwks
        .find(header.kid.as_deref().expect("a kid"))
        .expect("a published key");
    assert_eq!(
        key.common.key_algorithm.map(|alg| alg.to_string()),
        Some(format!("{:?}", header.alg))
    );
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[&scene.url]);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = 1;
    let key = DecodingKey::from_jwk(key).expect("a usable key");
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .expect("a valid token")
        .claims
}

#[tokio::test]
async fn the_claims_are_exactly_those_listed() {
    let scene = Scene::start().await;
    scene.register_api("https://orders", json!({})).await;
    scene.register_api("https://stock", json!({})).await;
    let more = json!({
        "audiences": ["https://orders", "https://stock"], "org_code": "ACME", "token_lifetime_seconds": 600,
        "properties": {"tier": "gold", "region": "north «ü»"},
    });
    let application = scene.register("my.trusted.app/service", more).await;
    let before = now();
    let token = scene.token(&application, &[("scope", "read DomainApi")]).await;
    let claims = verified(&scene, &token, "https://stock").await;
    let iat = claims["iat"].as_i64().unwrap();
    assert!((before..=now()).contains(&iat), "{before} {iat}");
    let expected = json!({
        "iss": scene.url,
        "sub": "my.trusted.app/service",
        "aud": ["https://orders", "https://stock"],
        "client_id": "my.trusted.app/service",
        "azp": "my.trusted.app/service",
        "gty": ["client_credentials"],
        "scope": "read DomainApi",
        "scp": ["read", "DomainApi"],
        "iat": iat,
        "nbf": iat,
        "exp": iat + 600,
        "jti": claims["jti"],
        "client_system_user": "svc.integration",
        "org_code": "ACME",
        "application_properties": {"region": {"v": "north «ü»"}, "tier": {"v": "gold"}},
    });
    assert_eq!(claims, expected);
    let jti = uuid::Uuid::parse_str(claims["jti"].as_str().unwrap()).unwrap();
    assert_eq!(jti.get_version_num(), 7);
}

#[tokio::test]
async fn what_an_application_does_not_have_is_no_claim() {
    let scene = Scene::start().await;
    let application = scene.register("plain", json!({"scope": ""})).await;
    let token = scene.token(&application, &[]).await;
    let claims = verified(&scene, &token, &scene.url).await;
    let mut names: Vec<&String> = object(&claims).keys().collect();
    names.sort();
    assert_eq!(
        names,
        [
            "aud",
            "azp",
            "client_id",
            "client_system_user",
            "exp",
            "gty",
            "iat",
            "iss",
            "jti",
            "nbf",
            "scope",
            "scp",
            "sub"
        ]
    );
    assert_eq!(claims["aud"], json!([scene.url]), "the default audience");
    assert_eq!((&claims["scope"], &claims["scp"]), (&json!(""), &json!([])));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);
}

#[tokio::test]
async fn each_algorithm_and_type_that_an_api_chooses_signs_its_tokens() {
    let scene = Scene::start().await;
    for (name, algorithm) in [
        ("ES256", Algorithm::ES256),
        ("RS256", Algorithm::RS256),
        ("PS256", Algorithm::PS256),
        ("EdDSA", Algorithm::EdDSA),
    ] {
        for token_type in ["at+jwt", "JWT"] {
            let audience = format!("https://{name}/{token_type}");
            let more = json!({"signing_alg": name, "token_type": token_type, "token_lifetime_seconds": 120});
            scene.register_api(&audience, more).await;
            let uri = format!("{name}/{}", token_type.replace('+', "-"));
            let application = scene.register(&uri, json!({"audiences": [audience]})).await;
            let token = scene.token(&application, &[]).await;

            let header = jose_header(&token);
            let kid = header["kid"].as_str().unwrap();
            assert_eq!(header, json!({"alg": name, "kid": kid, "typ": token_type}));
            let suffix = if name == "ES256" {
                String::new()
            } else {
                format!("-{}", name.to_lowercase())
            };
            assert!(kid.ends_with(&suffix), "{kid}");
            assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, algorithm);
            let claims = verified(&scene, &token, &audience).await;
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 120);
        }
    }
    let log = scene.log().await;
    let added: Vec<&Value> = log
        .iter()
        .filter(|event| event.kind() == "SigningKeyAdded")
        .map(|event| &event.data()["alg"])
        .collect();
    assert_eq!(
        added,
        ["ES256", "RS256", "PS256", "EdDSA"],
        "one key each, made when first needed"
    );
}

#[tokio::test]
async fn a_changed_token_is_not_verified() {
    let scene = Scene::start().await;
    let administrator = scene
        .register("admin-like", json!({"scope": "applications:read"}))
        .await;
    let token = scene.token(&administrator, &[]).await;
    let answer = scene
        .with_token(&token, reqwest::Method::GET, "/admin/applications")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims = crate::scene::claims(&token);
    claims["scope"] = json!("applications:read applications:write");
    let encode = |value: &Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let none = encode(&json!({"alg": "none", "typ": "at+jwt", "kid": jose_header(&token)["kid"]}));
    let hs256 = encode(&json!({"alg": "HS256", "typ": "at+jwt", "kid": jose_header(&token)["kid"]}));
    for (forged, reason) in [
        (
            format!("{}.{}.{}", parts[0], encode(&claims), parts[2]),
            "bad_signature",
        ),
        (format!("{none}.{}.", parts[1]), "unknown_key"),
        (format!("{hs256}.{}.{}", parts[1], parts[2]), "unknown_key"),
        (format!("{}.{}.", parts[0], parts[1]), "bad_signature"),
        (format!("{}.{}", parts[0], parts[1]), "malformed_token"),
        (format!("{token}="), "malformed_token"),
        (format!("{token}.x"), "malformed_token"),
        ("x".repeat(20_000), "malformed_token"),
    ] {
        let answer = scene
            .with_token(&forged, reqwest::Method::GET, "/admin/applications")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{reason}");
        let denied = scene.log().await.pop().unwrap();
        assert_eq!(
            (denied.kind(), denied.data()["reason"].as_str().unwrap()),
            ("ApiCallDenied", reason)
        );
        assert_eq!(
            denied.event["actor"], "anonymous",
            "nothing is believed of what is not signed"
        );
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
