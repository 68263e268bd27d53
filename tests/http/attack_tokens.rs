//! Tokens of attackers, RFC 8725's list and more, at the server itself: each is refused as RFC 6750 §3.1 has it, and
//! leaves one event with its true reason. Some are truly signed, with the server's own key, taken out of its log.

pub mod forge;

mod revoked;

use crate::scene::{Answer, Scene};
use forge::{Forge, Json};
use grantlog::credentials::signing_key::{RsaBits, SigningKeyPair};
use grantlog_projections::values::{KeyId, SigningAlgorithm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const PATH: &str = "/admin/applications";
const ES256: SigningAlgorithm = SigningAlgorithm::Es256;

/// A token that must be refused.
struct Attack {
    name: String,
    token: String,
    reason: &'static str,
}

fn attack(name: impl Into<String>, reason: &'static str, token: impl Into<String>) -> Attack {
    Attack {
        name: name.into(),
        token: token.into(),
        reason,
    }
}

/// Sends each token, and looks at the answer and at what it left.
async fn all_are_refused(scene: &Scene, attacks: Vec<Attack>) {
    for Attack { name, token, reason } in attacks {
        let before = scene.log_size().await;
        let request = scene.with_token(&token, Method::GET, PATH);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}: {}", answer.body);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.contains("\", error=\"invalid_token\", error_description=\""),
            "{name}: {challenge}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{name}"
        );
        assert_eq!(answer.json()["type"], "urn:grantlog:problem:invalid_token", "{name}");
        let events = scene.log_from(before).await;
        assert_eq!(events.len(), 1, "{name}: {events:?}");
        let (event, data) = (&events[0].event, events[0].data());
        assert_eq!(events[0].kind(), "ApiCallDenied", "{name}");
        assert_eq!(
            (&data["error"], &data["reason"]),
            (&json!("invalid_token"), &json!(reason)),
            "{name}"
        );
        // Nobody is named but who a signature of ours names.
        let is_proven = ["token_expired", "token_not_yet_valid", "wrong_issuer", "wrong_audience"].contains(&reason);
        let expected = if is_proven {
            json!("attacked")
        } else {
            json!("anonymous")
        };
        assert_eq!(event["actor"], expected, "{name}");
        assert_eq!(data["jti"].is_string(), is_proven, "{name}");
    }
}

struct Stage {
    scene: Scene,
    /// A token as the server made it.
    token: String,
    forge: Forge,
}

impl Stage {
    async fn set() -> Self {
        let scene = Scene::start().await;
        let application = scene.register("attacked", json!({"scope": "applications:read"})).await;
        let token = scene.token(&application, &[]).await;
        let forge = Forge::of(&scene, &token).await;
        let stage = Self { scene, token, forge };
        stage.is_let_through(&stage.token).await;
        stage
    }

    async fn is_let_through(&self, token: &str) {
        let request = self.scene.with_token(token, Method::GET, PATH);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    /// What the forge signs is refused for nothing but what is wrong with it.
    async fn forge_works(&self) {
        self.is_let_through(&self.forge.with_claims(|_| {})).await;
    }
}

// RFC 8725 §2.1, §3.1.
#[tokio::test]
async fn a_token_does_not_choose_its_algorithm() {
    let stage = Stage::set().await;
    let forge = &stage.forge;
    let mut attacks = Vec::new();
    for none in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let header = json!({"alg": none, "kid": forge.kid, "typ": "at+jwt"});
        let message = forge.message(&header, &forge.claims);
        attacks.push(attack(format!("alg {none:?}"), "unknown_key", format!("{message}.")));
        let own = stage.token.rsplit_once('.').unwrap().1;
        attacks.push(attack(
            format!("alg {none:?} with a signature"),
            "unknown_key",
            format!("{message}.{own}"),
        ));
    }
    let bare = forge.message(&json!({"alg": "none"}), &forge.claims);
    attacks.push(attack("alg none alone", "malformed_token", format!("{bare}.")));
    let unsigned = stage.token.rsplit_once('.').unwrap().0;
    attacks.push(attack(
        "its signature taken off",
        "bad_signature",
        format!("{unsigned}."),
    ));
    attacks.push(attack("its third part taken off", "malformed_token", unsigned));
    // HMAC keyed by what everybody knows.
    let jwk = forge.public_jwk.to_string();
    let secrets: [(&str, Vec<u8>); 6] = [
        ("the JWK", jwk.clone().into_bytes()),
        ("PEM", forge.public_pem().into_bytes()),
        ("PEM without its last line end", forge.public_pem().trim_end().into()),
        ("DER", forge.public_der()),
        ("the point", forge.public_point()),
        ("nothing", Vec::new()),
    ];
    for (name, secret) in secrets {
        for alg in ["HS256", "HS384", "HS512"] {
            let token = forge.hmac(alg, &secret);
            attacks.push(attack(format!("{alg} keyed by {name}"), "unknown_key", token));
        }
    }
    // The key of another algorithm, under the same name.
    for alg in [
        SigningAlgorithm::Rs256,
        SigningAlgorithm::Ps256,
        SigningAlgorithm::EdDsa,
    ] {
        let pair = SigningKeyPair::generate(alg, RsaBits::Rsa2048).unwrap();
        let header = json!({"alg": alg.as_str(), "kid": forge.kid, "typ": "at+jwt"});
        attacks.push(attack(
            format!("{alg} under the kid of an ES256 key"),
            "unknown_key",
            forge.signed_by(&pair, &header, &forge.claims),
        ));
        let header = json!({"alg": "ES256", "kid": forge.kid, "typ": "at+jwt"});
        attacks.push(attack(
            format!("a signature of {alg} said to be of ES256"),
            "bad_signature",
            forge.signed_by(&pair, &header, &forge.claims),
        ));
    }
    for alg in ["ES384", "ES256K", "es256", "RS512", "ES256 "] {
        attacks.push(attack(
            format!("alg {alg:?}"),
            "unknown_key",
            forge.with_header(|header| header["alg"] = json!(alg)),
        ));
    }
    for alg in [json!(null), json!(["ES256"]), json!({"ES256": 1}), json!(256)] {
        attacks.push(attack(
            format!("alg {alg}"),
            "malformed_token",
            forge.with_header(|header| header["alg"] = alg.clone()),
        ));
    }
    all_are_refused(&stage.scene, attacks).await;
    stage.forge_works().await;
}

// RFC 8725 §3.10; RFC 7515 §4.1.11 for crit, RFC 7797 for b64.
#[tokio::test]
async fn a_token_does_not_bring_its_key_or_its_rules() {
    let stage = Stage::set().await;
    let forge = &stage.forge;
    let attacker = SigningKeyPair::generate(ES256, RsaBits::Rsa2048).unwrap();
    let jwk = attacker.public_jwk(&KeyId::parse("mine").unwrap());
    let mut attacks = Vec::new();
    // Under our kid and their own: with the key beside it.
    for kid in [forge.kid.as_str(), "mine"] {
        for (member, value) in [
            ("jwk", jwk.clone()),
            ("jku", json!("https://evil.example/jwks.json")),
            ("x5u", json!("https://evil.example/chain.pem")),
            ("x5c", json!(["MIIB"])),
            ("x5t", json!("AAAA")),
            ("x5t#S256", json!("AAAA")),
        ] {
            let header = json!({"alg": "ES256", "kid": kid, "typ": "at+jwt", member: value});
            let token = forge.signed_by(&attacker, &header, &forge.claims);
            attacks.push(attack(format!("{member} under {kid}"), "malformed_token", token));
        }
    }
    for (member, value) in [
        ("jwk", forge.public_jwk.clone()),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!(["http://example.invalid/UNDEFINED"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("cty", json!("JWT")),
        ("cty", json!("at+jwt")),
        ("epk", jwk.clone()),
        ("unheard-of", json!(1)),
    ] {
        let token = forge.with_header(|header| header[member] = value.clone());
        attacks.push(attack(
            format!("{member}: {value}, truly signed"),
            "malformed_token",
            token,
        ));
    }
    for kid in [
        "",
        "unknown",
        "../../../../dev/null",
        "/proc/self/environ",
        "' OR '1'='1",
        "x' UNION SELECT 'AAAA' --",
        "$(id)",
        "|cat /etc/passwd",
        "https://evil.example/key",
        &format!("{}\u{0}", forge.kid),
        &format!(" {}", forge.kid),
        &forge.kid.replace('-', "\u{2010}"),
        &"k".repeat(4_096),
    ] {
        let token = forge.with_header(|header| header["kid"] = json!(kid));
        let shown: String = kid.chars().take(40).collect();
        attacks.push(attack(format!("kid {shown:?}"), "unknown_key", token));
    }
    for kid in [
        json!(null),
        json!([forge.kid]),
        json!({"kid": forge.kid}),
        json!(20_260_316),
    ] {
        let token = forge.with_header(|header| header["kid"] = kid.clone());
        attacks.push(attack(format!("kid {kid}"), "malformed_token", token));
    }
    attacks.push(attack(
        "no kid",
        "malformed_token",
        forge.with_header(|header| forge::remove(header, "kid")),
    ));
    attacks.push(attack(
        "a key of somebody else under our kid",
        "bad_signature",
        forge.signed_by(&attacker, &forge.header, &forge.claims),
    ));
    all_are_refused(&stage.scene, attacks).await;
    stage.forge_works().await;
}

// RFC 8725 §3.11, RFC 9068 §4, RFC 7516 for five parts.
#[tokio::test]
async fn a_token_of_another_kind_is_no_access_token() {
    let stage = Stage::set().await;
    let forge = &stage.forge;
    let mut attacks = vec![attack(
        "no typ",
        "malformed_token",
        forge.with_header(|header| forge::remove(header, "typ")),
    )];
    for typ in [
        json!("id+jwt"),
        json!("jwt"),
        json!("AT+JWT"),
        json!("at+JWT"),
        json!("at+jwt "),
        json!("application/AT+jwt"),
        json!("dpop+jwt"),
        json!("logout+jwt"),
        json!(""),
        json!(null),
        json!(["at+jwt"]),
    ] {
        let token = forge.with_header(|header| header["typ"] = typ.clone());
        attacks.push(attack(format!("typ {typ}"), "malformed_token", token));
    }
    let (message, signature) = stage.token.rsplit_once('.').unwrap();
    let nested = forge.signed_text(&forge.header.to_string(), &stage.token);
    for (name, token) in [
        (
            "five parts, as a JWE",
            format!("{}.{signature}.{signature}", stage.token),
        ),
        ("four parts", format!("{}.{signature}", stage.token)),
        ("two parts", message.to_owned()),
        ("a token in a token", nested),
        (
            "the JSON serialization",
            json!({"payload": "e30", "signatures": []}).to_string(),
        ),
        (
            "a client secret",
            "gls_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        ),
        ("only dots", "..".to_owned()),
        ("one letter", "A".to_owned()),
    ] {
        attacks.push(attack(name, "malformed_token", token));
    }
    all_are_refused(&stage.scene, attacks).await;
    stage.forge_works().await;
}

// CVE-2022-21449 for zeroes; RFC 7518 §3.4 for the form of ECDSA.
#[tokio::test]
async fn a_signature_is_ours_or_nothing() {
    let stage = Stage::set().await;
    let forge = &stage.forge;
    let (message, signature) = stage.token.rsplit_once('.').unwrap();
    let raw = forge::decoded(signature);
    let with = |bytes: &[u8]| format!("{message}.{}", forge::encoded(bytes));
    let (r, s) = raw.split_at(32);
    let zero = [0_u8; 32];
    let n = forge::P256_ORDER;
    let mut attacks = Vec::new();
    for (name, bytes) in [
        ("of nothing", Vec::new()),
        ("of zeroes", [zero, zero].concat()),
        ("r zero", [&zero[..], s].concat()),
        ("s zero", [r, &zero[..]].concat()),
        ("r and s the order", [n, n].concat()),
        ("s the order", [r, &n[..]].concat()),
        ("r and s swapped", [s, r].concat()),
        ("all ones", vec![0xff; 64]),
        ("cut", raw[..63].to_vec()),
        ("half", r.to_vec()),
        ("longer", [&raw[..], &[0]].concat()),
        ("with a zero in front", [&[0], &raw[..]].concat()),
        ("twice", [&raw[..], &raw[..]].concat()),
        ("as long as for RSA", vec![0x5a; 256]),
        ("as ASN.1", forge::der(r, s)),
        ("as ASN.1 of zeroes", forge::der(&zero, &zero)),
    ] {
        attacks.push(attack(format!("a signature {name}"), "bad_signature", with(&bytes)));
    }
    let other = forge.with_claims(|claims| claims["scope"] = json!("applications:read applications:write"));
    let other: Vec<&str> = other.split('.').collect();
    let own: Vec<&str> = stage.token.split('.').collect();
    for (name, token) in [
        ("another token's signature", format!("{message}.{}", other[2])),
        ("another token's claims", format!("{}.{}.{signature}", own[0], other[1])),
        (
            "claims with a byte less",
            format!("{}.{}.{signature}", own[0], &own[1][..own[1].len() - 4]),
        ),
    ] {
        attacks.push(attack(name, "bad_signature", token));
    }
    all_are_refused(&stage.scene, attacks).await;
}

/// ECDSA's other half: -s fits wherever s fits (SEC 1 §4.1.4), and no standard of JOSE forbids it. Whoever turns s round
/// has the same token as before: of the same id, with the same scope, on the record and revoked as the same.
#[tokio::test]
async fn a_signature_turned_round_is_the_same_token_and_no_other() {
    let stage = Stage::set().await;
    let (message, signature) = stage.token.rsplit_once('.').unwrap();
    let raw = forge::decoded(signature);
    let (r, s) = raw.split_at(32);
    let turned = [r, &forge::minus(s)].concat();
    let token = format!("{message}.{}", forge::encoded(&turned));
    assert_ne!(token, stage.token);
    let before = stage.scene.log_size().await;
    stage.is_let_through(&token).await;
    let events = stage.scene.log_from(before).await;
    let call = events.iter().find(|event| event.kind() == "ApiCallAuthorized").unwrap();
    assert_eq!(call.data()["jti"], crate::scene::claims(&stage.token)["jti"]);
    assert!(
        events.iter().all(|event| event.kind() != "SessionStarted"),
        "it is the same token's session"
    );
}

// RFC 7515 §2, RFC 4648 §3.5, RFC 7519 §4.
#[tokio::test]
async fn a_token_has_one_text() {
    let stage = Stage::set().await;
    let forge = &stage.forge;
    let own: Vec<&str> = stage.token.split('.').collect();
    let (header, claims, signature) = (own[0], own[1], own[2]);
    let mut attacks = Vec::new();
    for (name, token) in [
        ("padding", format!("{}==", stage.token)),
        ("padding in the header", format!("{header}=.{claims}.{signature}")),
        (
            "trailing bits of the signature",
            format!("{header}.{claims}.{}", forge::with_trailing_bits(signature)),
        ),
        ("the other alphabet", format!("{header}.{claims}.+/{}", &signature[2..])),
        ("a space within", format!("{header}.{claims}. {signature}")),
        ("percent encoding", stage.token.replace('.', "%2E")),
        ("a comma and another", format!("{0}, {0}", stage.token)),
        ("quotes", format!("\"{}\"", stage.token)),
        (
            "a token of 17 KiB",
            forge.with_claims(|claims| claims["filler"] = json!("x".repeat(17 * 1_024))),
        ),
        ("letters for ever", "A".repeat(60_000)),
    ] {
        attacks.push(attack(name, "malformed_token", token));
    }
    // The text of the claims is what is signed, and is not looked at before.
    let with_a_tab = format!("{header}.\t{claims}.{signature}");
    attacks.push(attack("a tab within the claims", "bad_signature", with_a_tab));
    // Signed over the text as it stands, so that nothing but the text is wrong.
    for (name, header, claims) in [
        ("a padded header", format!("{header}="), claims.to_owned()),
        ("padded claims", header.to_owned(), format!("{claims}=")),
        (
            "header with trailing bits",
            forge::with_trailing_bits(header),
            claims.to_owned(),
        ),
        (
            "claims with trailing bits",
            header.to_owned(),
            forge::with_trailing_bits(claims),
        ),
    ] {
        let token = forge.signed_message(&format!("{header}.{claims}"));
        attacks.push(attack(format!("{name}, truly signed"), "malformed_token", token));
    }
    let twice = |of: &Json, name: &str, value: Value| forge::twice(of, name, &value);
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("ES256")),
        ("kid", json!("other")),
        ("typ", json!("JWT")),
    ] {
        for header in twice(&forge.header, name, value) {
            let token = forge.signed_text(&header, &forge.claims.to_string());
            attacks.push(attack(format!("{name} twice: {header}"), "malformed_token", token));
        }
    }
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("sub", json!("grantlog.admin")),
        ("client_id", json!("grantlog.admin")),
        ("aud", json!(["https://other"])),
        ("exp", json!(9_999_999_999_i64)),
        ("nbf", json!(0)),
        ("jti", json!("0195a0a0-0000-7000-8000-000000000001")),
        ("scope", json!("applications:write")),
        ("org_code", json!("OTHER")),
    ] {
        let mut claims = forge.claims.clone();
        claims["org_code"] = json!("ACME");
        for claims in twice(&claims, name, value) {
            let token = forge.signed_text(&forge.header.to_string(), &claims);
            attacks.push(attack(format!("{name} twice, truly signed"), "malformed_token", token));
        }
    }
    all_are_refused(&stage.scene, attacks).await;
    stage.forge_works().await;
}

// RFC 7519 §4.1, RFC 9068 §2.2 and §4: the right key, and claims that are not right.
#[tokio::test]
async fn a_true_signature_under_wrong_claims_opens_nothing() {
    let stage = Stage::set().await;
    let forge = &stage.forge;
    let now = forge.now();
    let issuer = forge.claims["iss"].as_str().unwrap().to_owned();
    let mut attacks = Vec::new();
    for name in ["iss", "sub", "aud", "client_id", "iat", "nbf", "exp", "jti"] {
        let token = forge.with_claims(|claims| forge::remove(claims, name));
        attacks.push(attack(format!("no {name}"), "malformed_token", token));
    }
    for (name, value, reason) in [
        ("iss", json!("https://evil.example"), "wrong_issuer"),
        ("iss", json!(format!("{issuer}/")), "wrong_issuer"),
        ("iss", json!(issuer.to_uppercase()), "wrong_issuer"),
        ("iss", json!(format!("{issuer}\u{0}")), "wrong_issuer"),
        ("iss", json!(""), "wrong_issuer"),
        ("iss", json!([issuer]), "malformed_token"),
        ("aud", json!(["https://other.example"]), "wrong_audience"),
        ("aud", json!([format!("{issuer}.evil.example")]), "wrong_audience"),
        ("aud", json!([]), "wrong_audience"),
        // Grantlog writes a list: what is not one is not ours.
        ("aud", json!(issuer), "malformed_token"),
        ("aud", json!([[issuer]]), "malformed_token"),
        ("aud", json!({"0": issuer}), "malformed_token"),
        ("aud", json!([issuer, 1]), "malformed_token"),
        ("aud", json!(null), "malformed_token"),
        ("exp", json!(now - 31), "token_expired"),
        ("exp", json!(0), "token_expired"),
        ("exp", json!(-1), "token_expired"),
        ("exp", json!(i64::MIN), "token_expired"),
        ("exp", json!((now + 600).to_string()), "malformed_token"),
        ("exp", json!(now as f64 + 600.5), "malformed_token"),
        ("exp", json!(1e300), "malformed_token"),
        ("exp", json!(u64::MAX), "malformed_token"),
        ("exp", json!(null), "malformed_token"),
        ("exp", json!([now + 600]), "malformed_token"),
        ("exp", json!(true), "malformed_token"),
        ("nbf", json!(now + 120), "token_not_yet_valid"),
        ("nbf", json!(i64::MAX), "token_not_yet_valid"),
        ("nbf", json!("0"), "malformed_token"),
        ("iat", json!(now + 120), "token_not_yet_valid"),
        ("iat", json!(i64::MAX), "token_not_yet_valid"),
        ("iat", json!("now"), "malformed_token"),
        ("sub", json!("grantlog.admin"), "malformed_token"),
        ("client_id", json!("grantlog.admin"), "malformed_token"),
        ("sub", json!(""), "malformed_token"),
        ("sub", json!("attacked\u{0}"), "malformed_token"),
        ("jti", json!("1"), "malformed_token"),
        ("jti", json!(1), "malformed_token"),
        ("scope", json!(["applications:read"]), "malformed_token"),
    ] {
        let token = forge.with_claims(|claims| claims[name] = value.clone());
        attacks.push(attack(format!("{name}: {value}"), reason, token));
    }
    for (name, claims) in [
        ("a list", format!("[{}]", forge.claims)),
        (
            "a list of the values",
            "[\"a\",\"b\",[\"c\"],\"d\",1,2,3,\"e\"]".to_owned(),
        ),
        ("a text", "\"claims\"".to_owned()),
        ("nothing", String::new()),
        ("null", "null".to_owned()),
        ("half an object", forge.claims.to_string()[1..].to_owned()),
        ("more than an object", format!("{}{{}}", forge.claims)),
        ("an object after a space", format!(" {}", forge.claims)),
        ("an object after a byte order mark", format!("\u{feff}{}", forge.claims)),
        ("nested for ever", "[".repeat(8_000)),
    ] {
        let token = forge.signed_text(&forge.header.to_string(), &claims);
        attacks.push(attack(format!("claims as {name}"), "malformed_token", token));
    }
    all_are_refused(&stage.scene, attacks).await;
    // The documented leeway of 30 seconds, on both sides.
    for (name, value) in [
        ("exp", json!(forge.now() - 10)),
        ("nbf", json!(forge.now() + 20)),
        ("iat", json!(forge.now() + 20)),
    ] {
        stage
            .is_let_through(&forge.with_claims(|claims| claims[name] = value.clone()))
            .await;
    }
}

#[tokio::test]
async fn a_token_of_another_server_is_none_of_this_one() {
    let stage = Stage::set().await;
    let other = Stage::set().await;
    // A day's first keys have the same name everywhere.
    assert_eq!(stage.forge.kid, other.forge.kid);
    let lies = other.forge.with_claims(|claims| *claims = stage.forge.claims.clone());
    let attacks = vec![
        attack("another server's token", "bad_signature", other.token.clone()),
        attack(
            "another server's token that says that it is ours",
            "bad_signature",
            lies,
        ),
    ];
    all_are_refused(&stage.scene, attacks).await;
}

#[tokio::test]
async fn a_key_that_is_retired_verifies_nothing_any_more_and_its_tokens_were_good_until_then() {
    let stage = Stage::set().await;
    let rotate = stage
        .scene
        .administer(Method::POST, "/admin/signing-keys/rotate", json!({}));
    assert_eq!(rotate.await.0, StatusCode::OK);
    stage.is_let_through(&stage.token).await;
    let path = format!("/admin/signing-keys/{}/retire", stage.forge.kid);
    // The administrator's own token is of that key, too: it is the last that it does.
    let (status, answer) = stage.scene.administer(Method::POST, &path, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let attacks = vec![
        attack("a token of before", "unknown_key", stage.token.clone()),
        attack(
            "a new token of the old key",
            "unknown_key",
            stage.forge.with_claims(|_| {}),
        ),
    ];
    all_are_refused(&stage.scene, attacks).await;
}
