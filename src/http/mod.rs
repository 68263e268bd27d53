//! The doors: HTTP requests in, answers out. No decision is made here.

pub mod token;

pub mod token_operations;

pub mod metadata;

pub mod admin_applications;

pub mod admin_reference_tokens;

pub mod admin_tokens;

pub mod admin_sessions;

pub mod admin_apis;

pub mod admin_keys;

pub mod verify;

pub mod identity;

pub mod audit;

pub mod audit_tail;

pub mod audit_export;

pub mod reported_calls;

pub mod reports;

pub mod statistics;

pub mod audit_forwarding;

pub mod retention;

pub mod transparency;

pub mod gateway;

pub mod health;

pub mod openapi;

pub mod body;

pub mod call;

pub mod query_token;

pub mod fields;

pub mod origin;

pub mod observed;

pub mod roles;

pub mod tls;

pub mod http2;

pub mod problem;

use crate::forwarding::Forwarding;
use crate::gateway::Gateway;
use crate::service::Service;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, Resource, Responder, guard};
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

/// What every door needs.
pub struct Doors {
    /// What is behind them.
    pub service: Arc<Service>,
    /// What this node is there for.
    pub roles: roles::Roles,
    /// What leaves as it happens.
    pub forwarding: Arc<Forwarding>,
    /// The APIs behind this server.
    pub gateway: Arc<Gateway>,
    /// Whether callers come by TLS.
    pub is_tls: bool,
    /// The path of the issuer, `/id`; empty when it has none. Everything is served below it too.
    pub issuer_path: String,
    /// Whose word about a request's origin is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What outsiders may check the log with.
    pub transparency: Exposure,
    /// A body must have arrived within this time after its head.
    pub body_timeout: Duration,
}

/// What of the transparent log is served without a token.
#[derive(Debug, Clone, Copy)]
pub struct Exposure {
    /// Checkpoints and hashes.
    pub is_public: bool,
    /// Whole events, when the hashes are.
    pub entries_are_public: bool,
}

/// Hangs the doors.
pub fn routes(doors: web::Data<Doors>) -> impl Fn(&mut ServiceConfig) + Clone {
    move |config| {
        config.app_data(doors.clone());
        if !doors.issuer_path.is_empty() {
            // RFC 8414 §3.1: for an issuer with a path, the well-known part comes before the path.
            let inserted = format!("/.well-known/oauth-authorization-server{}", doors.issuer_path);
            config.service(readable(&inserted, metadata::authorization_server));
            config.service(web::scope(&doors.issuer_path).configure(below_issuer));
        }
        below_issuer(config);
        config.default_service(web::to(gateway::call));
    }
}

/// What is there to be read: GET, and HEAD, which RFC 9110 §9.1 wants wherever GET is.
fn readable<H, Args>(path: &str, handler: H) -> Resource
where
    H: Handler<Args>,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    web::resource(path.to_owned())
        .route(read.to(handler))
        .default_service(web::to(problem::use_methods("GET, HEAD")))
}

fn below_issuer(config: &mut ServiceConfig) {
    token::routes(config);
    // Before all that has a pattern in its path: those are tried one by one, which takes longer than the decision.
    verify::routes(config);
    token_operations::routes(config);
    metadata::routes(config);
    health::routes(config);
    admin_applications::routes(config);
    admin_reference_tokens::routes(config);
    admin_tokens::routes(config);
    admin_sessions::routes(config);
    admin_apis::routes(config);
    admin_keys::routes(config);
    audit::routes(config);
    audit_tail::routes(config);
    audit_export::routes(config);
    reported_calls::routes(config);
    reports::routes(config);
    statistics::routes(config);
    transparency::routes(config);
    audit_forwarding::routes(config);
    retention::routes(config);
    openapi::routes(config);
}
