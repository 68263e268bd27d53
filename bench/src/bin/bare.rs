//! The baseline of `bench/token_endpoint` and `bench/forward_auth`: what a token, and its verification, cost when
//! nothing stands behind them.
//!
//! The same framework with the same settings reads the same form with the same parser, signs the same claims
//! with the same signer and answers with the same encoder. It looks nobody up, verifies no secret, decides
//! nothing, counts nothing and records nothing. `/verify` finds the token with the same function, verifies it through
//! the same cache and answers with the same headers; it asks for no revocation, no application and no session.

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use clap::Parser;
use grantlog::config::{CliOverrides, Config, environment};
use grantlog::credentials::signing_key::{EncodedHeader, RsaBits, SigningKeyPair};
use grantlog::credentials::verification::VerificationKeys;
use grantlog::http::{call, identity};
use grantlog::oauth::claims::AccessTokenClaims;
use grantlog::oauth::{Dialect, MAX_BODY_BYTES, RequestHeaders, TokenRequest, TokenResponse};
use grantlog::service::authorize_call::{Caller, Credential, LEEWAY_SECONDS};
use grantlog::service::verified_tokens::VerifiedTokens;
use grantlog::startup;
use grantlog_projections::event::{SigningKeyAdded, TokenKind};
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::recorded_event::{Envelope, RecordedEvent};
use grantlog_projections::values::{Actor, ApplicationId, Audience, KeyId, Remark, StreamName, TokenType};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use uuid::Uuid;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// The issuer that the tokens name.
    #[arg(long)]
    issuer: String,
}

struct Signing {
    issuer: String,
    key: SigningKeyPair,
    header: EncodedHeader,
    lifetime_seconds: u32,
    properties: BTreeMap<String, String>,
    verification: Arc<VerificationKeys>,
    verified_tokens: VerifiedTokens,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, issuer } = Arguments::parse();
    // The product's own configuration, so that both servers read the same variables.
    let overrides = CliOverrides {
        listen: Some(listen),
        ..CliOverrides::default()
    };
    let config = Config::load(None, environment(), overrides)?;
    let alg = config.tokens.default_signing_algorithm;
    let kid = KeyId::parse("2026-03-16")?;
    let key = SigningKeyPair::generate(alg, RsaBits::try_from(u32::from(config.keys.rsa_bits))?)?;
    let signing = web::Data::new(Signing {
        issuer,
        verification: Arc::new(VerificationKeys::from(&ring_of(&key, &kid)?)),
        verified_tokens: VerifiedTokens::default(),
        key,
        header: EncodedHeader::new(alg, &kid, TokenType::AtJwt),
        lifetime_seconds: config.tokens.default_lifetime.seconds(),
        properties: BTreeMap::new(),
    });
    let tls = config.tls.as_ref();
    let tls = tls
        .map(|tls| startup::tls_config(&tls.certificate_file, &tls.key_file))
        .transpose()?;
    let listener = startup::listen(config.server.listen)?;
    let address = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };

    let server = HttpServer::new(move || {
        App::new()
            .app_data(signing.clone())
            .route("/connect/token", web::post().to(token))
            .route("/verify", web::to(verify))
    })
    .workers(config.server.workers.get())
    .max_connections(config.server.max_connections.div_ceil(config.server.workers.get()))
    .client_request_timeout(config.server.client_request_timeout)
    .keep_alive(config.server.keep_alive);
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    let serving = tokio::spawn(server.run());
    let mut out = std::io::stdout();
    writeln!(out, "listening on {scheme}://{address}")?;
    out.flush()?;
    Ok(serving.await??)
}

async fn token(request: HttpRequest, body: Payload, signing: web::Data<Signing>) -> HttpResponse {
    let headers = request.headers();
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let Ok(Ok(body)) = body.to_bytes_limited(MAX_BODY_BYTES).await else {
        return HttpResponse::BadRequest().finish();
    };
    let authorization: Vec<&[u8]> = headers
        .get_all(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .collect();
    let headers = RequestHeaders {
        content_type,
        authorization: &authorization,
    };
    let Ok(request) = TokenRequest::parse(Dialect::Standard, headers, &body) else {
        return HttpResponse::BadRequest().finish();
    };
    let scope = request.scope.as_ref().map_or("", |scope| scope.as_str());
    match signing.sign(&request.client_id, scope) {
        None => HttpResponse::InternalServerError().finish(),
        Some(access_token) => {
            let response = TokenResponse {
                access_token: &access_token,
                expires_in: signing.lifetime_seconds,
                scope,
            };
            HttpResponse::Ok()
                .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
                .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
                .insert_header((header::PRAGMA, HeaderValue::from_static("no-cache")))
                .body(response.encode(request.dialect))
        }
    }
}

async fn verify(request: HttpRequest, signing: web::Data<Signing>) -> HttpResponse {
    match signing.verify(&request) {
        None => HttpResponse::Unauthorized().finish(),
        Some(caller) => {
            let mut answer = HttpResponse::Ok();
            answer.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
            for header in identity::headers(&caller).into_iter().flatten() {
                answer.insert_header(header);
            }
            answer.finish()
        }
    }
}

/// A key ring with this key, as the log would build it.
fn ring_of(key: &SigningKeyPair, kid: &KeyId) -> anyhow::Result<KeyRing> {
    let added = SigningKeyAdded {
        kid: kid.clone(),
        alg: key.alg(),
        public_jwk: key.public_jwk(kid),
        sealed_private_key: String::new(),
        reason: Remark::parse("bench")?,
    };
    let mut ring = KeyRing::default();
    ring.apply(&RecordedEvent {
        index: 0,
        revision: 0,
        envelope: Envelope {
            id: Uuid::now_v7(),
            stream: StreamName::signing_keys(),
            time: grantlog::service::now(),
            actor: Actor::System,
            source: None,
            trace_id: None,
            event: added.into(),
        },
    });
    Ok(ring)
}

impl Signing {
    fn verify(&self, request: &HttpRequest) -> Option<Caller> {
        let Credential::Token(token) = call::credential(request) else {
            return None;
        };
        let (mut audience, mut scope) = (None, None);
        for (name, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
            match &*name {
                "audience" => audience = Audience::parse(&value).ok(),
                "scope" => scope = Some(value),
                _ => return None,
            }
        }
        let now = grantlog::service::now();
        let signed = self.verified_tokens.open(token, &self.verification).ok()?;
        let verified = signed
            .token
            .verify(&self.issuer, &audience?, now, LEEWAY_SECONDS)
            .ok()?;
        let may = scope?.split(' ').all(|token| verified.scope.contains(token));
        may.then(|| Caller {
            application_id: ApplicationId::of(&verified.client_id),
            application_uri: verified.client_id,
            scope: verified.scope,
            system_user: verified.system_user,
            org_code: verified.org_code,
            token_id: verified.jti,
            token_kind: TokenKind::Jwt,
            token_issued_at: verified.issued_at,
            token_expires_at: verified.expires_at,
            session_id: verified.jti,
            source_ip: None,
        })
    }

    fn sign(&self, client_id: &str, scope: &str) -> Option<String> {
        let issued_at = grantlog::service::now().unix_seconds();
        let mut jti = Uuid::encode_buffer();
        let claims = AccessTokenClaims {
            iss: &self.issuer,
            client_id,
            aud: &[self.issuer.as_str()],
            scope,
            iat: issued_at,
            exp: issued_at + i64::from(self.lifetime_seconds),
            jti: Uuid::now_v7().hyphenated().encode_lower(&mut jti),
            client_system_user: "svc.bench",
            org_code: None,
            application_properties: &self.properties,
        };
        let claims = serde_json::to_vec(&claims).ok()?;
        self.key.sign_jwt(&self.header, &claims).ok()
    }
}
