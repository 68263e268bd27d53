//! Whether a token is one of the issuer's, for this API, and of this time.

use crate::guard::Refused;
use crate::keys::Keys;
use crate::settings::Settings;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// How far the issuer's clock and this one may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;
/// Longer tokens are not looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Whoever holds a token that is in order.
pub struct Caller {
    /// What the token says, all of it.
    pub claims: Value,
}

/// Checks what RFC 9068 §4 and RFC 8725 ask for. Nothing of the claims is looked at before the signature is good.
pub async fn verify(token: &str, settings: &Settings, keys: &Keys) -> Result<Caller, Refused> {
    let malformed = || Refused::invalid("malformed_token", "it is not a token of this issuer");
    let header = token.split('.').next().filter(|_| token.len() <= MAX_TOKEN_BYTES);
    let header = header
        .and_then(|header| URL_SAFE_NO_PAD.decode(header).ok())
        .ok_or_else(malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| malformed())?;
    // An API may have chosen `JWT` for clients that know no other.
    if !matches!(header.typ.as_str(), "at+jwt" | "application/at+jwt") {
        return Err(malformed());
    }
    let key = keys.get(&header.kid).await;
    // RFC 8725 §3.1: the key decides the algorithm, the token can only repeat it.
    let key = key.filter(|key| format!("{:?}", key.algorithm) == header.alg);
    let key = key.ok_or_else(|| Refused::invalid("unknown_key", "its key is not known"))?;
    let mut validation = Validation::new(key.algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
    let verified = jsonwebtoken::decode::<Value>(token, &key.key, &validation).map_err(|error| match error.kind() {
        ErrorKind::ExpiredSignature => Refused::invalid("token_expired", "it has expired"),
        ErrorKind::ImmatureSignature => Refused::invalid("token_not_yet_valid", "it is not valid yet"),
        ErrorKind::InvalidIssuer => Refused::invalid("wrong_issuer", "it is of another issuer"),
        ErrorKind::InvalidAudience => Refused::invalid("wrong_audience", "it is for another audience"),
        ErrorKind::InvalidSignature => Refused::invalid("bad_signature", "its signature is wrong"),
        _ => malformed(),
    })?;
    let claims = verified.claims;
    if !claims["client_id"].is_string() || claims["jti"].as_str().is_none_or(|jti| Uuid::parse_str(jti).is_err()) {
        return Err(malformed());
    }
    Ok(Caller { claims })
}

/// Exactly what Grantlog writes: whatever else a header may say is about keys from elsewhere (`jwk`, `jku`, `x5u`), or
/// must be understood (`crit`), and no reason to go on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}
