//! `[[gateway]]`: one table per route, with a `[[gateway.rule]]` per scope.

use super::Origin;
use super::settings::{Accepted, Settings};
use crate::gateway::rule::{Method, PathPattern, Rule};
use crate::gateway::settings::{RouteSettings, authority};
use crate::gateway::{MAX_ROUTES, MAX_RULES};
use grantlog_projections::values::{Audience, Scope};
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

/// The longest prefix.
const MAX_PREFIX_CHARACTERS: usize = 256;
/// Methods that a rule can name.
const MAX_METHODS: usize = 32;
const KIB: u64 = 1_024;
const MIB: u64 = KIB * KIB;

/// Reads every route.
pub(super) fn read(settings: &mut Settings) -> Vec<RouteSettings> {
    // By their small letters, since some upstreams do not tell them from capitals.
    let mut prefixes: BTreeMap<String, String> = BTreeMap::new();
    settings.each_table("gateway", MAX_ROUTES, |table| {
        let origin = table.origin("gateway.prefix");
        let route = route(table);
        if let Some(route) = &route
            && let Some(other) = prefixes.insert(route.prefix.to_ascii_lowercase(), route.prefix.clone())
        {
            let message = match other == route.prefix {
                true => format!("two routes have the prefix {other}"),
                false => in_other_case("prefixes", &other, &route.prefix),
            };
            table.contradiction(origin, message);
        }
        route
    })
}

fn route(table: &mut Settings) -> Option<RouteSettings> {
    let begin = table.beginning();
    for key in ["prefix", "upstream", "audience"] {
        if table.origin(&format!("gateway.{key}")) == Origin::Default {
            table.contradiction(begin.clone(), format!("[[gateway]] has no {key}"));
        }
    }
    // Each key is read whatever the others are, so that every problem is told at once.
    let prefix = table.optional_text("gateway.prefix", prefix);
    let upstream = table.optional_text("gateway.upstream", upstream);
    let strip_prefix = table.boolean("gateway.strip_prefix", false);
    let audience = table.optional_text("gateway.audience", |text| {
        Audience::parse(text).map_err(|error| error.rule.into())
    });
    let mut before: Vec<Rule> = Vec::new();
    let rules = table.each_table("gateway.rule", MAX_RULES, |table| {
        let origin = table.origin("gateway.rule.path");
        let rule = rule(table)?;
        if let Some(other) = before.iter().find(|other| rule.is_in_other_case(other)) {
            let (other, this) = (other.path.to_string(), rule.path.to_string());
            table.contradiction(origin, in_other_case("rules' paths", &other, &this));
        }
        before.push(rule.clone());
        Some(rule)
    });
    let forward_token = table.boolean("gateway.forward_token", false);
    let record_query = table.boolean("gateway.record_query", false);
    let ca_origin = table.origin("gateway.ca_file");
    let ca_file = table.optional_path("gateway.ca_file");
    if ca_file.is_some() && upstream.as_ref().is_some_and(|upstream| upstream.scheme() == "http") {
        let message = "gateway.ca_file is set, but gateway.upstream is http: nothing would be encrypted";
        table.contradiction(ca_origin, message.to_owned());
    }
    let mut seconds = |key, default, range| Duration::from_secs(table.integer(key, default, range));
    let connect_timeout = seconds("gateway.connect_timeout_seconds", 5, 1..=300);
    let response_timeout = seconds("gateway.response_timeout_seconds", 30, 1..=3_600);
    let idle_timeout = seconds("gateway.idle_timeout_seconds", 30, 1..=3_600);
    let keep_alive = seconds("gateway.keep_alive_seconds", 4, 0..=3_600);
    let max_body_bytes = table.integer("gateway.max_body_bytes", 100 * MIB, 0..=1 << 50);
    let max_response_header_bytes = table.integer("gateway.max_response_header_bytes", 64 * KIB, 8 * KIB..=MIB);
    let max_in_flight = table.integer("gateway.max_in_flight", 1_024, 1..=1_000_000);
    let max_idle_connections = table.integer("gateway.max_idle_connections", 256, 1..=100_000);
    let (prefix, upstream, audience) = (prefix?, upstream?, audience?);
    Some(RouteSettings {
        prefix,
        authority: authority(&upstream)?,
        upstream,
        strip_prefix,
        audience,
        rules,
        forward_token,
        record_query,
        ca_file,
        connect_timeout,
        response_timeout,
        idle_timeout,
        max_body_bytes,
        max_response_header_bytes: max_response_header_bytes as usize,
        max_in_flight: max_in_flight as usize,
        max_idle_connections: max_idle_connections as usize,
        keep_alive,
    })
}

fn rule(table: &mut Settings) -> Option<Rule> {
    if table.origin("gateway.rule.scope") == Origin::Default {
        let message = "[[gateway.rule]] has no scope; \"\" lets every token pass that is for the audience";
        table.contradiction(table.beginning(), message.to_owned());
    }
    let methods = table.list("gateway.rule.methods", MAX_METHODS, |text| {
        Method::parse(text).ok_or_else(|| "methods in capital letters, such as GET; none stands for all".into())
    });
    let path = table.text("gateway.rule.path", PathPattern::everything(), |text| {
        let accepted = r#"a path below the prefix such as "/orders/*", "/tenants/{org_code}/**" or "/**""#;
        PathPattern::parse(text).ok_or_else(|| accepted.into())
    });
    let scope = table.text("gateway.rule.scope", Scope::none(), |text| {
        Scope::parse(text).map_err(|error| error.rule.into())
    });
    Some(Rule { methods, path, scope })
}

fn in_other_case(what: &str, one: &str, other: &str) -> String {
    format!(
        "the {what} {one} and {other} differ in upper and lower case alone, which not every upstream tells apart; keep \
         the one that is written as the upstream writes it"
    )
}

fn prefix(text: &str) -> Result<String, Accepted> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_segment =
        |segment: &str| !segment.is_empty() && segment.bytes().all(is_plain) && !matches!(segment, "." | "..");
    match text.strip_prefix('/') {
        Some(below) if text.len() <= MAX_PREFIX_CHARACTERS && below.split('/').all(is_segment) => Ok(text.to_owned()),
        _ => Err(r#"a path such as "/api/domain": letters, digits and -._~, without a slash at the end"#.into()),
    }
}

fn upstream(text: &str) -> Result<Url, Accepted> {
    let accepted = r#"an http or https URL such as "http://127.0.0.1:9000" or "https://erp.example.com/base""#;
    let url = Url::parse(text).map_err(|_| accepted)?;
    let is_bare = url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    match matches!(url.scheme(), "http" | "https") && is_bare && is_anonymous && authority(&url).is_some() {
        true => Ok(url),
        false => Err(accepted.into()),
    }
}
