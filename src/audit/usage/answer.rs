//! An application's uses as an answer shows them: is the old secret still used, and from where; which scopes does
//! nobody need.

use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::usage::{ApplicationUsage, Networks, ScopeUsage, Use, day_number, day_text};
use grantlog_projections::values::{ApplicationId, ApplicationUri, SecretId, Timestamp};
use ipnet::IpNet;
use serde::Serialize;
use std::ops::RangeInclusive;

/// The uses of an application, the last days apart.
#[derive(Debug, Serialize)]
pub struct UsageAnswer {
    /// Its id.
    pub id: ApplicationId,
    /// Its OAuth client_id.
    pub client_id: ApplicationUri,
    /// The last days that are told apart, today among them (UTC).
    pub days: u32,
    /// How many events of the log this speaks of.
    pub indexed_through: u64,
    /// How many events the log has.
    pub log_size: u64,
    /// Tokens issued.
    pub tokens_issued: Option<ShownUse>,
    /// Token requests refused, the throttled ones too.
    pub tokens_refused: Option<ShownUse>,
    /// API calls that Grantlog let through.
    pub calls: Option<ShownUse>,
    /// Its secrets, and those that it had and used.
    pub secrets: Vec<SecretAnswer>,
    /// The scopes that it may have now, and those that its tokens ever carried.
    pub scopes: Vec<ScopeAnswer>,
    /// Scopes that it may have, and that no token of these days carries.
    pub unused_scopes: Vec<String>,
    /// Where its tokens went, the latest first.
    pub networks: Vec<NetworkAnswer>,
    /// Tokens that went to networks of longer ago.
    pub networks_other: u64,
    /// Where its refused requests came from, the latest first.
    pub refused_networks: Vec<NetworkAnswer>,
    /// Refused requests from networks of longer ago.
    pub refused_networks_other: u64,
    /// Those of these days that had any request, the oldest first.
    pub by_day: Vec<DayAnswer>,
}

/// How often, first and last.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ShownUse {
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time, by the log's order.
    pub last: Timestamp,
    /// The index of the last event.
    pub last_index: u64,
}

/// A secret's uses.
#[derive(Debug, Serialize)]
pub struct SecretAnswer {
    /// Its id.
    pub id: SecretId,
    /// Its last four characters; null when it was imported, or is no longer listed.
    pub hint: Option<String>,
    /// When it was made; null when it is no longer listed.
    pub created_at: Option<Timestamp>,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Whether it is accepted now.
    pub accepted: bool,
    /// Tokens that it ever got.
    pub uses: u64,
    /// Those of these days.
    pub uses_in_days: u64,
    /// The first time.
    pub first_used: Option<Timestamp>,
    /// The last time.
    pub last_used: Option<Timestamp>,
    /// The index of the last token's event.
    pub last_used_index: Option<u64>,
    /// Where from, the latest first.
    pub networks: Vec<NetworkAnswer>,
    /// Uses from networks of longer ago.
    pub networks_other: u64,
}

/// A scope's uses.
#[derive(Debug, Serialize)]
pub struct ScopeAnswer {
    /// The scope.
    pub scope: String,
    /// Whether the application may have it now.
    pub allowed: bool,
    /// Tokens that carried it.
    pub tokens: Option<ShownUse>,
    /// Those of them whose request named scopes.
    pub asked: Option<ShownUse>,
    /// API calls that Grantlog let through because of it.
    pub calls: Option<ShownUse>,
}

/// A source network's uses.
#[derive(Debug, Serialize)]
pub struct NetworkAnswer {
    /// The network.
    pub network: IpNet,
    /// How often.
    pub uses: u64,
    /// When last.
    pub last_used: Timestamp,
    /// Whether that was in these days.
    pub in_days: bool,
}

/// A day's requests.
#[derive(Debug, Serialize)]
pub struct DayAnswer {
    /// The day, UTC.
    pub day: String,
    /// Tokens issued.
    pub issued: u64,
    /// Token requests refused, the throttled ones too.
    pub refused: u64,
}

impl UsageAnswer {
    /// What `usage` tells of the application about the `days` up to `now`.
    pub fn of(
        application: &TrustedApplication,
        usage: &ApplicationUsage,
        days: u32,
        now: Timestamp,
        indexed_through: u64,
        log_size: u64,
    ) -> Self {
        let today = day_number(now);
        let first = today.saturating_sub(i32::try_from(days).unwrap_or(i32::MAX).saturating_sub(1));
        let window = first..=today;
        let scopes = scopes(application, usage);
        let unused_scopes = scopes
            .iter()
            .filter(|scope| {
                scope.allowed
                    && !scope
                        .tokens
                        .is_some_and(|tokens| window.contains(&day_number(tokens.last)))
            })
            .map(|scope| scope.scope.clone())
            .collect();
        let by_day = usage.days.range(window.clone()).map(|(day, count)| DayAnswer {
            day: day_text(*day),
            issued: count.issued,
            refused: count.refused,
        });
        Self {
            id: application.id,
            client_id: application.uri.clone(),
            days,
            indexed_through,
            log_size,
            tokens_issued: usage.issued.map(Into::into),
            tokens_refused: usage.refused.map(Into::into),
            calls: usage.called.map(Into::into),
            secrets: secrets(application, usage, &window, now),
            scopes,
            unused_scopes,
            networks: networks(&usage.networks, &window),
            networks_other: usage.networks.other,
            refused_networks: networks(&usage.refused_networks, &window),
            refused_networks_other: usage.refused_networks.other,
            by_day: by_day.collect(),
        }
    }
}

impl From<Use> for ShownUse {
    fn from(used: Use) -> Self {
        Self {
            count: used.count,
            first: used.first.time,
            last: used.last.time,
            last_index: used.last.index,
        }
    }
}

fn secrets(
    application: &TrustedApplication,
    usage: &ApplicationUsage,
    window: &RangeInclusive<i32>,
    now: Timestamp,
) -> Vec<SecretAnswer> {
    let listed = application.secrets.iter().map(|secret| secret.id);
    let gone = usage.secrets.keys().copied();
    let gone = gone.filter(|id| !application.secrets.iter().any(|secret| secret.id == *id));
    let answer = |id: SecretId| {
        let secret = application.secrets.iter().find(|secret| secret.id == id);
        let used = usage.secrets.get(&id);
        SecretAnswer {
            id,
            hint: secret.and_then(|secret| secret.hint.clone()),
            created_at: secret.map(|secret| secret.created_at),
            expires_at: secret.and_then(|secret| secret.expires_at),
            revoked_at: secret.and_then(|secret| secret.revoked_at),
            accepted: secret.is_some_and(|secret| secret.is_accepted_at(now)),
            uses: used.map_or(0, |used| used.used.count),
            uses_in_days: used.map_or(0, |used| used.days.range(window.clone()).map(|(_, count)| count).sum()),
            first_used: used.map(|used| used.used.first.time),
            last_used: used.map(|used| used.used.last.time),
            last_used_index: used.map(|used| used.used.last.index),
            networks: used.map_or_else(Vec::new, |used| networks(&used.networks, window)),
            networks_other: used.map_or(0, |used| used.networks.other),
        }
    };
    listed.chain(gone).map(answer).collect()
}

fn scopes(application: &TrustedApplication, usage: &ApplicationUsage) -> Vec<ScopeAnswer> {
    let allowed = application.scope.tokens();
    let former = usage.scopes.keys().map(String::as_str);
    let former = former.filter(|scope| !application.scope.contains(scope));
    let none = ScopeUsage::default();
    let answer = |scope: &str| {
        let used = usage.scopes.get(scope).unwrap_or(&none);
        ScopeAnswer {
            scope: scope.to_owned(),
            allowed: application.scope.contains(scope),
            tokens: used.granted.map(Into::into),
            asked: used.asked.map(Into::into),
            calls: used.exercised.map(Into::into),
        }
    };
    allowed.chain(former).map(answer).collect()
}

fn networks(networks: &Networks, window: &RangeInclusive<i32>) -> Vec<NetworkAnswer> {
    let mut known: Vec<_> = networks.known.iter().collect();
    known.sort_by_key(|(_, used)| std::cmp::Reverse(used.last.index));
    let answer = |(network, used): (&IpNet, &Use)| NetworkAnswer {
        network: *network,
        uses: used.count,
        last_used: used.last.time,
        in_days: window.contains(&day_number(used.last.time)),
    };
    known.into_iter().map(answer).collect()
}
