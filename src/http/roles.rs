//! Which requests a node answers that is not there for everything. What another node has to answer is said so, before
//! anything is decided or recorded.

use crate::http::Doors;
use crate::http::problem::Problem;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Tokens, calls and administration.
    pub token: bool,
    /// The trail and the transparent log.
    pub audit: bool,
}

impl Roles {
    /// Whether there is something that others have to answer.
    pub fn are_some(self) -> bool {
        !(self.token && self.audit)
    }

    /// The role that this request needs and the node lacks.
    fn lacking(self, method: &Method, path: &str, is_gateway: bool) -> Option<&'static str> {
        let is_reading = matches!(*method, Method::GET | Method::HEAD);
        let needs = match path.split('/').nth(1).unwrap_or_default() {
            // What APIs tell of calls is of the calls, wherever the door is.
            "audit" if path == "/audit/api-calls" => Needs::Token,
            "audit" | "checkpoint" | "tile" => Needs::Audit,
            // The state is on every node, and what an application uses on those for audit alone.
            "admin" if is_reading => Needs::Any,
            "admin" | "connect" | "oauth2" | "token" | "verify" | "id" => Needs::Token,
            _ if is_gateway => Needs::Token,
            _ => Needs::Any,
        };
        match needs {
            Needs::Token if !self.token => Some("token"),
            Needs::Audit if !self.audit => Some("audit"),
            _ => None,
        }
    }
}

enum Needs {
    Any,
    Token,
    Audit,
}

/// Answers for what the node is there for, and says of the rest who is.
pub async fn keep_to_roles<B: MessageBody>(
    doors: web::Data<Doors>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    // As routing reads it, which decodes: `/%63onnect/token` is the token endpoint.
    let path = request.match_info().as_str();
    let below_issuer = path
        .strip_prefix(doors.issuer_path.as_str())
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    let is_gateway = doors.gateway.route(request.path()).is_some();
    match doors.roles.lacking(request.method(), below_issuer, is_gateway) {
        Some(role) => {
            let answer = Problem::misdirected(role).error_response();
            Ok(request.into_response(answer).map_into_right_body())
        }
        None => Ok(next.call(request).await?.map_into_left_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN_ALONE: Roles = Roles {
        token: true,
        audit: false,
    };
    const AUDIT_ALONE: Roles = Roles {
        token: false,
        audit: true,
    };

    #[test]
    fn a_node_for_tokens_leaves_the_trail_to_others() {
        for path in [
            "/audit/events",
            "/audit/holds",
            "/audit/export",
            "/checkpoint",
            "/tile/0/000",
        ] {
            assert_eq!(TOKEN_ALONE.lacking(&Method::GET, path, false), Some("audit"), "{path}");
        }
        for path in [
            "/connect/token",
            "/verify/orders",
            "/admin/applications",
            "/audit/api-calls",
            "/api/orders",
        ] {
            assert_eq!(TOKEN_ALONE.lacking(&Method::POST, path, true), None, "{path}");
        }
    }

    #[test]
    fn a_node_for_the_trail_leaves_tokens_and_changes_to_others_and_reads_what_is_administered() {
        for path in [
            "/connect/token",
            "/id/connect/token",
            "/oauth2/token",
            "/token",
            "/connect/introspect",
            "/connect/revoke",
            "/verify",
            "/admin/applications",
            "/audit/api-calls",
        ] {
            assert_eq!(AUDIT_ALONE.lacking(&Method::POST, path, false), Some("token"), "{path}");
        }
        assert_eq!(AUDIT_ALONE.lacking(&Method::GET, "/api/orders", true), Some("token"));
        for path in [
            "/admin/applications",
            "/admin/tokens",
            "/audit/events",
            "/.well-known/jwks.json",
        ] {
            assert_eq!(AUDIT_ALONE.lacking(&Method::GET, path, false), None, "{path}");
        }
    }

    #[test]
    fn who_watches_a_node_is_answered_by_it() {
        for roles in [TOKEN_ALONE, AUDIT_ALONE] {
            for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"] {
                assert_eq!(roles.lacking(&Method::GET, path, false), None, "{path}");
            }
        }
    }
}
