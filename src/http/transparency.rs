//! What an outsider checks the log with: `/checkpoint`, `/tile/…` (C2SP tlog-tiles) and proofs (C2SP tlog-proof).

use crate::audit::transparency::EventProof;
use crate::audit::transparency::tiles::{TileId, parse_tile_level, parse_tile_path};
use crate::http::call::AuthorizedCall;
use crate::http::fields::Parameters;
use crate::http::problem::{Problem, no_such_event, no_such_tile, no_such_token, use_methods};
use crate::http::{Doors, readable};
use crate::service::ServiceError;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use uuid::Uuid;

const READ: &str = "audit:read";
/// A tile with a number of four digits or more has a longer path, which /openapi.json cannot name.
const DEEP_TILE: &str = "tile/{level}/{number:x.*}";
const DEEP_ENTRIES: &str = "tile/entries/{number:x.*}";
/// A tile that is published never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// There may be a newer one at any time.
const MUTABLE: &str = "public, no-cache";
/// What is not for everybody is kept by nobody.
const NO_STORE: &str = "no-store";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/checkpoint", checkpoint))
        .service(readable("/tile/entries/{number}", entries))
        .service(readable("/tile/entries/{number}.p/{width}", entries))
        .service(readable(DEEP_ENTRIES, entries))
        .service(readable("/tile/{level}/{number}", tile))
        .service(readable("/tile/{level}/{number}.p/{width}", tile))
        .service(readable(DEEP_TILE, tile))
        .service(
            web::resource("/audit/events/{index}/proof")
                .route(web::get().to(event_proof))
                .default_service(web::to(use_methods("GET"))),
        )
        .service(
            web::resource("/audit/tokens/{jti}/proof")
                .route(web::get().to(token_proof))
                .default_service(web::to(use_methods("GET"))),
        );
}

type Answer = Result<HttpResponse, Problem>;

async fn checkpoint(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    if !doors.transparency.is_public {
        AuthorizedCall::of(&request, &doors, READ).await?;
    }
    let checkpoint = doors.service.latest_checkpoint().await?;
    let kept = if doors.transparency.is_public {
        MUTABLE
    } else {
        NO_STORE
    };
    Ok(text(kept, "text/plain; charset=utf-8", checkpoint.text))
}

async fn tile(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let is_public = doors.transparency.is_public;
    if !is_public {
        AuthorizedCall::of(&request, &doors, READ).await?;
    }
    let level = request.match_info().get("level").and_then(parse_tile_level);
    let (Some(level), Some((number, width))) = (level, wanted(&request)) else {
        return Err(no_such_tile());
    };
    let tile = doors.service.tile(TileId { level, number }, width).await?;
    bytes(is_public, tile)
}

/// Whole events: unlike their hashes they are for everybody only when the operator says so.
async fn entries(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let is_public = doors.transparency.is_public && doors.transparency.entries_are_public;
    let call = match is_public {
        true => None,
        false => Some(AuthorizedCall::of(&request, &doors, READ).await?),
    };
    let (number, width) = wanted(&request).ok_or_else(no_such_tile)?;
    let reader = call
        .as_ref()
        .map(|call| (&call.caller.application_uri, &call.circumstances));
    let bundle = doors.service.entries(number, width, reader).await?;
    bytes(is_public, bundle)
}

async fn event_proof(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    Parameters::parse(request.query_string())?.finish()?;
    let index: u64 = path
        .parse()
        .map_err(|_| Problem::invalid("index", "must be a whole number from 0"))?;
    let proof = call
        .service
        .prove_event(index, &call.caller.application_uri, &call.circumstances)
        .await?;
    proof_answer(&request, proof.ok_or_else(|| no_such_event(index))?)
}

async fn token_proof(request: HttpRequest, path: web::Path<String>, doors: web::Data<Doors>) -> Answer {
    let call = AuthorizedCall::of(&request, &doors, READ).await?;
    Parameters::parse(request.query_string())?.finish()?;
    let jti: Uuid = path
        .parse()
        .map_err(|_| Problem::invalid("jti", "must be a token's jti, a UUID"))?;
    let proof = call
        .service
        .prove_token(jti, &call.caller.application_uri, &call.circumstances)
        .await?;
    proof_answer(&request, proof.ok_or_else(no_such_token)?)
}

/// A proof for programs that have no parser of C2SP's texts; `checkpoint` has the same signature.
#[derive(Serialize)]
struct ShownProof {
    index: u64,
    leaf_hash: String,
    tree_size: u64,
    root: String,
    hashes: Vec<String>,
    checkpoint: String,
}

fn proof_answer(request: &HttpRequest, proof: EventProof) -> Answer {
    let wants_json = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| {
            accept
                .split(',')
                .any(|kind| kind.trim().starts_with("application/json"))
        });
    if !wants_json {
        let proof = proof.to_text().map_err(ServiceError::from)?;
        return Ok(text(NO_STORE, "text/plain; charset=utf-8", proof));
    }
    let shown = ShownProof {
        index: proof.index,
        leaf_hash: STANDARD.encode(proof.leaf_hash),
        tree_size: proof.checkpoint.size,
        root: STANDARD.encode(proof.checkpoint.root),
        hashes: proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
        checkpoint: proof.checkpoint.text,
    };
    Ok(crate::http::call::ok(&shown))
}

/// Which tile or bundle: its number, and how much of it.
fn wanted(request: &HttpRequest) -> Option<(u64, u64)> {
    let path = request.match_info();
    let number = path.get("number")?;
    match path.get("width") {
        Some(width) => parse_tile_path(&format!("{number}.p/{width}")),
        None => parse_tile_path(number),
    }
}

fn bytes(is_public: bool, found: Option<Vec<u8>>) -> Answer {
    let kept = if is_public { IMMUTABLE } else { NO_STORE };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, kept))
        .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
        .body(found.ok_or_else(no_such_tile)?))
}

fn text(kept: &'static str, kind: &'static str, body: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, kept))
        .insert_header((header::CONTENT_TYPE, kind))
        .body(body)
}
