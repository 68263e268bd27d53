//! What each application uses: its secrets, its scopes, and where from. Bounded per application, so that neither
//! years nor a flood of sources let it grow: what does not fit is counted, not named.

use crate::event::{Event, TokenKind};
use crate::recorded_event::RecordedEvent;
use crate::values::{ApplicationId, SecretId, Timestamp};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use uuid::Uuid;

/// Source networks that are kept of an application's tokens, and as many of its refusals; the one that was seen
/// longest ago makes room and counts under "other".
pub const MAX_NETWORKS: usize = 64;
/// Source networks that are kept of one secret.
pub const MAX_SECRET_NETWORKS: usize = 32;
/// Secrets of an application that are kept, those of long ago among them.
pub const MAX_SECRETS: usize = 32;
/// Scopes of an application that are kept.
pub const MAX_SCOPES: usize = 256;
/// Reference tokens of an application that are kept: twice as many as it may have at a time.
pub const MAX_REFERENCE_TOKENS: usize = 128;
/// Days of an application, and of each secret, that are kept: the latest.
pub const MAX_DAYS: usize = 100;
/// Prefix length of an IPv4 source network.
pub const IPV4_PREFIX: u8 = 24;
/// Prefix length of an IPv6 source network.
pub const IPV6_PREFIX: u8 = 48;

const SECONDS_PER_DAY: i64 = 86_400;

/// A point in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The event's index.
    pub index: u64,
    /// The event's time.
    pub time: Timestamp,
}

/// How often something was used, first and last. Last is by the log's order: times may step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Moment,
    /// The last time.
    pub last: Moment,
}

impl Use {
    fn count(this: &mut Option<Self>, moment: Moment, times: u64) {
        match this {
            None => {
                *this = Some(Self {
                    count: times,
                    first: moment,
                    last: moment,
                });
            }
            Some(known) => {
                known.count = known.count.saturating_add(times);
                known.last = moment;
            }
        }
    }
}

/// Source networks with their uses, the latest of them by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// By network: /24 of IPv4, /48 of IPv6.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<IpNet, Use>,
    /// Uses from networks that made room for others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other: u64,
}

impl Networks {
    fn count(&mut self, source: Option<IpAddr>, most: usize, moment: Moment, times: u64) {
        let Some(source) = source else { return };
        let network = source_network(source);
        if !self.known.contains_key(&network) && self.known.len() >= most {
            let oldest = self.known.iter().min_by_key(|(_, used)| used.last.index);
            if let Some(gone) = oldest
                .map(|(network, _)| *network)
                .and_then(|oldest| self.known.remove(&oldest))
            {
                self.other = self.other.saturating_add(gone.count);
            }
        }
        let mut used = self.known.get(&network).copied();
        Use::count(&mut used, moment, times);
        self.known.extend(used.map(|used| (network, used)));
    }
}

/// The uses of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUsage {
    /// Tokens that it got.
    #[serde(flatten)]
    pub used: Use,
    /// Where from.
    pub networks: Networks,
    /// Tokens per day, by the day's number since 1970-01-01 (UTC).
    pub days: BTreeMap<i32, u64>,
}

/// The uses of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeUsage {
    /// Tokens that carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Use>,
    /// Those of them whose request named scopes: the others carry all that the application may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Use>,
    /// API calls that Grantlog let through because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exercised: Option<Use>,
}

/// What was answered on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCount {
    /// Tokens issued.
    pub issued: u64,
    /// Token requests refused, the throttled ones too.
    pub refused: u64,
}

/// The uses of one application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationUsage {
    /// Tokens issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Use>,
    /// Token requests refused, the throttled ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Use>,
    /// API calls that Grantlog let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<Use>,
    /// By secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretId, SecretUsage>,
    /// By scope.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, ScopeUsage>,
    /// By reference token: the calls that Grantlog let through with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reference_tokens: BTreeMap<Uuid, Use>,
    /// Where tokens were issued to.
    #[serde(default)]
    pub networks: Networks,
    /// Where refused requests came from.
    #[serde(default)]
    pub refused_networks: Networks,
    /// By day, numbered since 1970-01-01 (UTC).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub days: BTreeMap<i32, DayCount>,
}

/// What an event tells about uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRecord<'a> {
    /// The event's place and time.
    pub moment: Moment,
    /// Whose use.
    pub application_id: ApplicationId,
    /// Where from.
    pub source: Option<IpAddr>,
    /// Of what.
    pub used: Used<'a>,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used<'a> {
    /// A secret, for a token.
    Token {
        /// The secret.
        secret_id: SecretId,
        /// The token's scope, space-separated.
        scope: &'a str,
        /// Whether the request named scopes.
        is_scope_asked: bool,
    },
    /// Nothing: so many requests were refused.
    Refused(u64),
    /// A token, for a call that needed this scope.
    Call {
        /// The scope, space-separated.
        scope: &'a str,
        /// The token's id, when it is a reference token: an access token does not live long enough to be asked.
        reference_token: Option<Uuid>,
    },
}

impl<'a> UsageRecord<'a> {
    /// What the event tells, if it tells anything. Every event type is named, so that adding one does not compile
    /// until it is decided here.
    pub fn of(recorded: &'a RecordedEvent) -> Option<Self> {
        let envelope = &recorded.envelope;
        let source = envelope.source.as_ref().map(|source| source.ip);
        let (application_id, source, used) = match &envelope.event {
            Event::TokenIssued(data) => {
                let used = Used::Token {
                    secret_id: data.secret_id,
                    scope: data.scope.as_str(),
                    is_scope_asked: data.scope_requested.is_some(),
                };
                (data.application_id, source, used)
            }
            Event::TokenRefused(data) => (data.application_id?, source, Used::Refused(1)),
            Event::RequestsThrottled(data) => (data.application_id?, Some(data.source), Used::Refused(data.suppressed)),
            Event::ApiCallAuthorized(data) => {
                let scope = data.required_scope.as_str();
                let source = match &data.report {
                    Some(report) => report.source.as_ref().map(|source| source.ip),
                    None => source,
                };
                let reference_token = (data.token_kind == TokenKind::Reference).then_some(data.jti);
                let used = Used::Call { scope, reference_token };
                (data.application_id, source, used)
            }
            Event::ServiceStarted(_)
            | Event::ServiceStopped(_)
            | Event::ApplicationRegistered(_)
            | Event::ApplicationChanged(_)
            | Event::ApplicationEnabled(_)
            | Event::ApplicationDisabled(_)
            | Event::ApplicationDeleted(_)
            | Event::SecretRotated(_)
            | Event::SecretRevoked(_)
            | Event::ApiRegistered(_)
            | Event::ApiChanged(_)
            | Event::ApiDeleted(_)
            | Event::SigningKeyAdded(_)
            | Event::SigningKeyActivated(_)
            | Event::SigningKeyRetired(_)
            | Event::TokenRevoked(_)
            | Event::TokensRevoked(_)
            | Event::ReferenceTokenIssued(_)
            | Event::ReferenceTokenRevoked(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::ApiCallDenied(_)
            | Event::AuditTrailRead(_)
            | Event::AuditTrailExported(_)
            | Event::ReportProduced(_)
            | Event::LegalHoldPlaced(_)
            | Event::LegalHoldReleased(_)
            | Event::EventsRemoved(_)
            | Event::IndexPruned(_)
            | Event::EventRemoved(_) => return None,
        };
        Some(Self {
            moment: Moment {
                index: recorded.index,
                time: envelope.time,
            },
            application_id,
            source,
            used,
        })
    }
}

/// The uses of all applications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    applications: BTreeMap<ApplicationId, ApplicationUsage>,
}

impl Usage {
    /// Folds one event in and says whose uses it changed. Total.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Option<ApplicationId> {
        UsageRecord::of(recorded).map(|record| self.add(&record))
    }

    /// The same for an event of which no more than this has been read.
    pub fn add(&mut self, record: &UsageRecord<'_>) -> ApplicationId {
        self.applications.entry(record.application_id).or_default().add(record);
        record.application_id
    }

    /// Puts an application's uses back as they were saved.
    pub fn restore(&mut self, id: ApplicationId, usage: ApplicationUsage) {
        self.applications.insert(id, usage);
    }

    /// An application's uses; none when it has used nothing yet.
    pub fn application(&self, id: ApplicationId) -> Option<&ApplicationUsage> {
        self.applications.get(&id)
    }

    /// All applications that have used anything.
    pub fn applications(&self) -> impl Iterator<Item = (ApplicationId, &ApplicationUsage)> {
        self.applications.iter().map(|(id, usage)| (*id, usage))
    }

    /// How many applications have used anything.
    pub fn len(&self) -> usize {
        self.applications.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.applications.is_empty()
    }
}

impl ApplicationUsage {
    fn add(&mut self, record: &UsageRecord<'_>) {
        let (moment, source) = (record.moment, record.source);
        match record.used {
            Used::Token {
                secret_id,
                scope,
                is_scope_asked,
            } => {
                Use::count(&mut self.issued, moment, 1);
                self.networks.count(source, MAX_NETWORKS, moment, 1);
                self.day(moment.time).issued += 1;
                self.secret(secret_id, source, moment);
                for token in scope.split(' ').filter(|token| !token.is_empty()) {
                    if let Some(scope) = self.scope(token) {
                        Use::count(&mut scope.granted, moment, 1);
                        if is_scope_asked {
                            Use::count(&mut scope.asked, moment, 1);
                        }
                    }
                }
            }
            Used::Refused(times) => {
                Use::count(&mut self.refused, moment, times);
                self.refused_networks.count(source, MAX_NETWORKS, moment, times);
                let day = self.day(moment.time);
                day.refused = day.refused.saturating_add(times);
            }
            Used::Call { scope, reference_token } => {
                Use::count(&mut self.called, moment, 1);
                if let Some(id) = reference_token {
                    self.reference_token(id, moment);
                }
                for token in scope.split(' ').filter(|token| !token.is_empty()) {
                    if let Some(scope) = self.scope(token) {
                        Use::count(&mut scope.exercised, moment, 1);
                    }
                }
            }
        }
        // After the day was counted: of a day that is older than all that are kept nothing stays.
        trim(&mut self.days);
    }

    fn secret(&mut self, id: SecretId, source: Option<IpAddr>, moment: Moment) {
        if !self.secrets.contains_key(&id) && self.secrets.len() >= MAX_SECRETS {
            let oldest = self.secrets.iter().min_by_key(|(_, secret)| secret.used.last.index);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.secrets.remove(&oldest);
            }
        }
        let secret = self.secrets.entry(id).or_insert_with(|| SecretUsage {
            used: Use {
                count: 0,
                first: moment,
                last: moment,
            },
            networks: Networks::default(),
            days: BTreeMap::new(),
        });
        secret.used.count += 1;
        secret.used.last = moment;
        secret.networks.count(source, MAX_SECRET_NETWORKS, moment, 1);
        *secret.days.entry(day_number(moment.time)).or_default() += 1;
        trim(&mut secret.days);
    }

    fn reference_token(&mut self, id: Uuid, moment: Moment) {
        if !self.reference_tokens.contains_key(&id) && self.reference_tokens.len() >= MAX_REFERENCE_TOKENS {
            let oldest = self.reference_tokens.iter().min_by_key(|(_, used)| used.last.index);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.reference_tokens.remove(&oldest);
            }
        }
        let mut used = self.reference_tokens.get(&id).copied();
        Use::count(&mut used, moment, 1);
        self.reference_tokens.extend(used.map(|used| (id, used)));
    }

    /// The scope's uses; none when there are too many scopes already.
    fn scope(&mut self, token: &str) -> Option<&mut ScopeUsage> {
        if !self.scopes.contains_key(token) {
            if self.scopes.len() >= MAX_SCOPES {
                return None;
            }
            self.scopes.insert(token.to_owned(), ScopeUsage::default());
        }
        self.scopes.get_mut(token)
    }

    fn day(&mut self, time: Timestamp) -> &mut DayCount {
        self.days.entry(day_number(time)).or_default()
    }
}

fn trim<T>(days: &mut BTreeMap<i32, T>) {
    while days.len() > MAX_DAYS {
        days.pop_first();
    }
}

/// The network that a source address counts under.
pub fn source_network(source: IpAddr) -> IpNet {
    match source.to_canonical() {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new_assert(ip, IPV4_PREFIX).trunc()),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new_assert(ip, IPV6_PREFIX).trunc()),
    }
}

/// The number of a day since 1970-01-01, UTC.
pub fn day_number(time: Timestamp) -> i32 {
    // chrono's range is far within i32 days.
    i32::try_from(time.unix_seconds().div_euclid(SECONDS_PER_DAY)).unwrap_or(i32::MAX)
}

/// The day of that number, `2026-03-16`.
pub fn day_text(number: i32) -> String {
    Timestamp::from_unix_micros(i64::from(number) * SECONDS_PER_DAY * 1_000_000).day()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = SECONDS_PER_DAY * 1_000_000;

    fn record(index: u64, source: &str, used: Used<'static>) -> UsageRecord<'static> {
        UsageRecord {
            moment: Moment {
                index,
                time: Timestamp::from_unix_micros(1_773_653_400_000_000 + i64::try_from(index).unwrap() * 1_000_000),
            },
            application_id: ApplicationId(Uuid::nil()),
            source: Some(source.parse().unwrap()),
            used,
        }
    }

    fn token(secret: u128, scope: &'static str, is_scope_asked: bool) -> Used<'static> {
        Used::Token {
            secret_id: SecretId(Uuid::from_u128(secret)),
            scope,
            is_scope_asked,
        }
    }

    fn folded(records: &[UsageRecord<'_>]) -> ApplicationUsage {
        let mut usage = Usage::default();
        for record in records {
            usage.add(record);
        }
        usage.application(ApplicationId(Uuid::nil())).unwrap().clone()
    }

    #[test]
    fn each_secret_has_its_count_its_last_use_and_its_networks() {
        let usage = folded(&[
            record(0, "192.0.2.7", token(1, "read", false)),
            record(1, "192.0.2.200", token(1, "read", false)),
            record(2, "2001:db8:7:1::9", token(2, "read update", true)),
        ]);
        let secret = |id| &usage.secrets[&SecretId(Uuid::from_u128(id))];
        assert_eq!((secret(1).used.count, secret(1).used.last.index), (2, 1));
        let networks: Vec<String> = secret(1).networks.known.keys().map(ToString::to_string).collect();
        assert_eq!(networks, ["192.0.2.0/24"]);
        let networks: Vec<String> = secret(2).networks.known.keys().map(ToString::to_string).collect();
        assert_eq!(networks, ["2001:db8:7::/48"]);
        assert_eq!(usage.issued.unwrap().count, 3);
        assert_eq!(usage.scopes["read"].granted.unwrap().count, 3);
        assert_eq!(usage.scopes["read"].asked.unwrap().count, 1);
        assert_eq!(usage.scopes["update"].asked, usage.scopes["update"].granted);
        assert_eq!(usage.days.values().map(|day| day.issued).sum::<u64>(), 3);
    }

    #[test]
    fn a_throttled_flood_counts_in_full_and_a_mapped_address_is_its_ipv4_address() {
        let usage = folded(&[
            record(0, "::ffff:203.0.113.9", Used::Refused(1)),
            record(1, "203.0.113.10", Used::Refused(40)),
        ]);
        assert_eq!(usage.refused.unwrap().count, 41);
        let network = usage.refused_networks.known[&"203.0.113.0/24".parse().unwrap()];
        assert_eq!((network.count, network.last.index), (41, 1));
        assert_eq!(usage.networks, Networks::default());
    }

    #[test]
    fn the_network_that_was_seen_longest_ago_makes_room_and_stays_counted() {
        let sources: Vec<String> = (0..=MAX_NETWORKS).map(|n| format!("10.0.{n}.1")).collect();
        let records: Vec<_> = sources
            .iter()
            .zip(0..)
            .map(|(source, index)| record(index, source, Used::Refused(2)))
            .collect();
        let usage = folded(&records);
        assert_eq!(usage.refused_networks.known.len(), MAX_NETWORKS);
        assert!(
            !usage
                .refused_networks
                .known
                .contains_key(&"10.0.0.0/24".parse().unwrap())
        );
        assert_eq!(usage.refused_networks.other, 2);
    }

    #[test]
    fn only_the_latest_days_and_secrets_are_kept() {
        let records: Vec<_> = (0..300_u64)
            .map(|n| UsageRecord {
                moment: Moment {
                    index: n,
                    time: Timestamp::from_unix_micros(i64::try_from(n).unwrap() * DAY),
                },
                ..record(n, "10.0.0.1", token(u128::from(n), "read", false))
            })
            .collect();
        let usage = folded(&records);
        assert_eq!(usage.days.len(), MAX_DAYS);
        assert_eq!(usage.days.last_key_value().unwrap().0, &299);
        assert_eq!(usage.secrets.len(), MAX_SECRETS);
        assert_eq!(usage.issued.unwrap().count, 300);
        assert_eq!(day_text(299), "1970-10-27");
    }

    #[test]
    fn each_reference_token_has_its_calls_and_the_one_used_longest_ago_makes_room() {
        let call = |id: u128| Used::Call {
            scope: "read",
            reference_token: Some(Uuid::from_u128(id)),
        };
        let most = MAX_REFERENCE_TOKENS as u128;
        let mut records: Vec<_> = (0..most)
            .zip(0..)
            .map(|(id, index)| record(index, "10.0.0.1", call(id)))
            .collect();
        // The first is used again, so it is the second that has not been used for longest.
        records.push(record(1_000, "10.0.0.1", call(0)));
        records.push(record(1_001, "10.0.0.1", call(most)));
        let usage = folded(&records);
        assert_eq!(usage.reference_tokens.len(), MAX_REFERENCE_TOKENS);
        let used = usage.reference_tokens[&Uuid::from_u128(0)];
        assert_eq!((used.count, used.first.index, used.last.index), (2, 0, 1_000));
        assert!(!usage.reference_tokens.contains_key(&Uuid::from_u128(1)));
        assert!(usage.reference_tokens.contains_key(&Uuid::from_u128(most)));
        assert_eq!(usage.called.unwrap().count, records.len() as u64);
    }

    proptest! {
        #[test]
        fn what_is_saved_is_what_was_folded(uses in prop::collection::vec((0u8..5, 0u8..5, 0u8..3), 0..80)) {
            let sources = ["192.0.2.1", "::1", "2001:db8::5", "198.51.100.7", "10.0.0.1"];
            let calls = [None, Some(Uuid::max())].map(|reference_token| Used::Call { scope: "audit:read", reference_token });
            let used = [token(1, "read update", true), token(2, "", false), Used::Refused(3), calls[0], calls[1]];
            let mut usage = Usage::default();
            for (index, (what, source, _)) in uses.iter().enumerate() {
                usage.add(&record(index as u64, sources[*source as usize], used[*what as usize]));
            }
            for (_, application) in usage.applications() {
                let saved = serde_json::to_vec(application).unwrap();
                prop_assert_eq!(&serde_json::from_slice::<ApplicationUsage>(&saved).unwrap(), application);
            }
        }
    }
}
