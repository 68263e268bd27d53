//! The inventory of tokens: access tokens as the trail tells of them, reference tokens as the state knows them, in
//! one order: that of the events that issued them, newest first.

use crate::audit::{AuditEvent, AuditQuery, TimeBound};
use crate::policy::CommandRefused;
use crate::service::record::Circumstances;
use crate::service::token_status::TokenStatus;
use crate::service::{Service, ServiceError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantlog_projections::event::{TokenIssued, TokenKind, TrailAccess};
use grantlog_projections::tokens::ReferenceToken;
use grantlog_projections::values::{
    Actor, ApplicationId, ApplicationUri, Audience, KeyId, OrgCode, Remark, Scope, SecretId, SigningAlgorithm,
    SystemUser, Timestamp, TokenLifetime,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Tokens on a page at the most.
pub const MAX_LIMIT: usize = 1_000;
/// Tokens on a page when the caller does not say.
pub const DEFAULT_LIMIT: usize = 100;
/// Searches of the trail that one page takes at the most, each bounded itself.
const MAX_SEARCHES: usize = 8;
/// Reference tokens that one page looks at, at the most.
const MAX_REFERENCES: usize = 20_000;
/// How long a first page waits for the index to read what has just happened.
const PATIENCE: Duration = Duration::from_secs(1);
/// An access token that was issued longer ago is over: a day, and an hour for clocks that step.
const LONGEST_LIFE_SECONDS: i64 = TokenLifetime::MAX_SECONDS as i64 + 3_600;

/// Which tokens.
#[derive(Debug, Clone, Default)]
pub struct TokenQuery {
    /// Of this application.
    pub client_id: Option<String>,
    /// With this status.
    pub status: Option<TokenStatus>,
    /// Of this kind.
    pub kind: Option<TokenKind>,
    /// Issued then or later.
    pub since: Option<TimeBound>,
    /// Issued before.
    pub until: Option<TimeBound>,
    /// How many at the most.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<TokenCursor>,
}

/// Where a page of the inventory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCursor {
    /// Which question it belongs to.
    query: [u8; 8],
    /// The index of the event above those of the next page.
    before: u64,
    /// What spans were counted back from on the first page, in microseconds since the Unix epoch.
    now: i64,
}

/// A page of the inventory.
#[derive(Debug, Serialize)]
pub struct TokenPage {
    /// The tokens, newest first.
    pub tokens: Vec<ListedToken>,
    /// For the parameter `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The page ended at the bound on its work: there may be more, although it is not full. `next` goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// How many events of the log the access tokens of this answer speak of.
    pub indexed_through: u64,
    /// How many events the log has.
    pub log_size: u64,
}

/// A token as the inventory shows it. What it does not have is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedToken {
    /// Its `jti`, or the id of a reference token.
    pub id: Uuid,
    /// What kind of token it is.
    pub kind: TokenKind,
    /// Whose it is.
    pub client_id: ApplicationUri,
    /// The same by its id.
    pub application_id: ApplicationId,
    /// Whether it opens anything.
    pub status: TokenStatus,
    /// What it allows.
    pub scope: Scope,
    /// Its `aud`; of a reference token none: all of its application's.
    pub audiences: Vec<Audience>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Remark>,
    /// The service account that it acts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_user: Option<SystemUser>,
    /// The organisation that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_code: Option<OrgCode>,
    /// Its last characters.
    pub hint: String,
    /// The secret that it was asked for with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_id: Option<SecretId>,
    /// The key that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<KeyId>,
    /// The algorithm that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<SigningAlgorithm>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_by: Option<Actor>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
    /// Since when it is revoked, as long as that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Its session, if it has one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// Its last call, as far as that is known here: that of its session, or of a reference token ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// The index of the event that issued it.
    pub index: u64,
}

impl Service {
    /// A page of the inventory. It is answered from the trail, so its reading is on the trail before it is answered.
    pub async fn list_tokens(
        &self,
        query: &TokenQuery,
        parameters: BTreeMap<String, String>,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<TokenPage, ServiceError> {
        if let Some(cursor) = query.after
            && cursor.query != query.digest()
        {
            let message = "belongs to another query: repeat the parameters of the page that it came with";
            return Err(CommandRefused::invalid("after", message).into());
        }
        if query.after.is_none() {
            let reached = self.index()?.wait_until_indexed(self.store.log_size());
            let _ = tokio::time::timeout(PATIENCE, reached).await;
            self.show_what_was_answered().await;
        }
        let page = self.token_page(query, circumstances.now).await?;
        let rows = page.tokens.len() as u64;
        let (through, via) = (page.indexed_through, TrailAccess::Search);
        self.record_reading(parameters, rows, through, via, reader, circumstances)
            .await?;
        Ok(page)
    }

    async fn token_page(&self, query: &TokenQuery, now: Timestamp) -> Result<TokenPage, ServiceError> {
        let query = &query.pinned(now);
        let mut page = TokenPage {
            tokens: Vec::new(),
            next: None,
            partial: false,
            indexed_through: self.index()?.indexed_through(),
            log_size: self.store.log_size(),
        };
        // Whatever is newer than the first page belongs on another first page.
        let mut before = query
            .after
            .map_or(page.log_size, |cursor| cursor.before.min(page.log_size));
        let limit = query.limit.clamp(1, MAX_LIMIT);
        let mut references = MAX_REFERENCES;
        for _ in 0..MAX_SEARCHES {
            let (issued, from) = self.issued_before(query, before, now).await?;
            // Reference tokens of the same range of the log, as many as are to be looked at.
            let mut found: Vec<ListedToken> = issued;
            let from = self.references_between(query, from..before, &mut references, now, &mut found);
            found.sort_by_key(|token| std::cmp::Reverse(token.index));
            for token in found {
                // Below the range that all kinds have been looked at in: next time.
                if token.index < from {
                    continue;
                }
                if page.tokens.len() == limit {
                    page.next = Some(query.cursor(before).to_string());
                    return Ok(page);
                }
                before = token.index;
                if query.status.is_none_or(|wanted| wanted == token.status) {
                    page.tokens.push(token);
                }
            }
            before = from;
            if before == 0 {
                return Ok(page);
            }
            if references == 0 {
                break;
            }
        }
        page.partial = page.tokens.len() < limit;
        page.next = Some(query.cursor(before).to_string());
        Ok(page)
    }

    /// Access tokens of events before that index, newest first, and the index from which on these are all.
    async fn issued_before(
        &self,
        query: &TokenQuery,
        before: u64,
        now: Timestamp,
    ) -> Result<(Vec<ListedToken>, u64), ServiceError> {
        if query.kind == Some(TokenKind::Reference) {
            return Ok((Vec::new(), 0));
        }
        // What is older is over, whatever else may be said of it.
        let oldest = match query.status {
            Some(TokenStatus::Active | TokenStatus::Revoked | TokenStatus::Disabled) => {
                Some(now.plus_seconds(-LONGEST_LIFE_SECONDS))
            }
            Some(TokenStatus::Expired) | None => None,
        };
        let since = query.since.map(TimeBound::time).max(oldest);
        if query
            .until
            .is_some_and(|until| since.is_some_and(|since| since >= until.time()))
        {
            return Ok((Vec::new(), 0));
        }
        let search = AuditQuery {
            event_type: Some("TokenIssued"),
            client_id: query.client_id.clone(),
            since: since.map(TimeBound::At),
            until: query.until,
            limit: match query.status {
                None => query.limit,
                Some(_) => MAX_LIMIT,
            },
            ..AuditQuery::default()
        };
        let found = self.search_unrecorded(&search.before(before)).await?;
        let from = found.next.map_or(0, |cursor| cursor.position());
        let tokens = found.events.iter().filter_map(|event| self.issued(event, now));
        Ok((tokens.collect(), from))
    }

    /// Adds the reference tokens of events of this range; answers from which index on these are all.
    fn references_between(
        &self,
        query: &TokenQuery,
        range: std::ops::Range<u64>,
        looks: &mut usize,
        now: Timestamp,
        found: &mut Vec<ListedToken>,
    ) -> u64 {
        if query.kind == Some(TokenKind::Jwt) {
            return range.start;
        }
        let snapshot = self.snapshot();
        let tokens = snapshot.tokens.references_before(range.end);
        for token in tokens.take_while(|token| token.issued_index >= range.start) {
            if *looks == 0 {
                return token.issued_index + 1;
            }
            *looks -= 1;
            let is_wanted = query
                .client_id
                .as_deref()
                .is_none_or(|wanted| token.application_uri.as_str() == wanted)
                && query.since.is_none_or(|since| since.time() <= token.issued_at)
                && query.until.is_none_or(|until| token.issued_at < until.time());
            if is_wanted {
                found.push(self.listed_reference(token, now));
            }
        }
        range.start
    }

    /// An access token as its event tells of it; `None` when the event is another.
    pub(super) fn issued(&self, event: &AuditEvent, now: Timestamp) -> Option<ListedToken> {
        let issued: TokenIssued = serde_json::from_str(event.data.get()).ok()?;
        let standing = self.standing_of_access_token(&issued, now);
        let session = self.snapshot().sessions.of_token(issued.jti).cloned();
        Some(ListedToken {
            id: issued.jti,
            kind: TokenKind::Jwt,
            client_id: issued.application_uri,
            application_id: issued.application_id,
            status: standing.status,
            scope: issued.scope,
            audiences: issued.audiences,
            description: None,
            system_user: Some(issued.system_user),
            org_code: issued.org_code,
            hint: issued.token_hint,
            secret_id: Some(issued.secret_id),
            kid: Some(issued.kid),
            alg: Some(issued.alg),
            issued_by: None,
            issued_at: issued.issued_at,
            expires_at: issued.expires_at,
            revoked_at: standing.revoked_at,
            session_id: session.as_ref().map(|session| session.id),
            last_used_at: session.map(|session| session.last_used_at),
            index: event.index,
        })
    }

    /// A reference token as the inventory shows it.
    pub fn listed_reference(&self, token: &Arc<ReferenceToken>, now: Timestamp) -> ListedToken {
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(token.application_id);
        let standing = self.standing_of_reference_token(token, now);
        let session = snapshot.sessions.of_token(token.id);
        let in_session = session.map(|session| session.last_used_at);
        let ever = self
            .usage()
            .and_then(|usage| usage.reference_token(token.application_id, token.id));
        ListedToken {
            id: token.id,
            kind: TokenKind::Reference,
            client_id: token.application_uri.clone(),
            application_id: token.application_id,
            status: standing.status,
            scope: token.scope.clone(),
            audiences: token.audiences.clone(),
            description: Some(token.description.clone()),
            system_user: application.and_then(|application| application.system_user.clone()),
            org_code: application.and_then(|application| application.org_code.clone()),
            hint: token.hint.clone(),
            secret_id: None,
            kid: None,
            alg: None,
            issued_by: Some(token.issued_by.clone()),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            revoked_at: standing.revoked_at,
            session_id: session.map(|session| session.id),
            last_used_at: in_session.max(ever.map(|(_, last)| last)),
            index: token.issued_index,
        }
    }
}

impl TokenQuery {
    /// With its spans back from now as they were on the first page, and as plain times.
    fn pinned(&self, now: Timestamp) -> Self {
        let first = self.after.map_or(now, |cursor| Timestamp::from_unix_micros(cursor.now));
        let pin = |bound: Option<TimeBound>| {
            bound.map(|bound| match bound {
                TimeBound::At(time) => TimeBound::At(time),
                TimeBound::Ago { seconds, .. } => TimeBound::At(first.plus_seconds(-seconds)),
            })
        };
        Self {
            since: pin(self.since),
            until: pin(self.until),
            // The next page's cursor is of the same question, and counts back from the same time.
            after: Some(TokenCursor {
                query: self.digest(),
                before: self.after.map_or(u64::MAX, |cursor| cursor.before),
                now: first.unix_micros(),
            }),
            ..self.clone()
        }
    }

    /// The cursor of the page that begins below this index.
    fn cursor(&self, before: u64) -> TokenCursor {
        match self.after {
            Some(cursor) => TokenCursor { before, ..cursor },
            None => TokenCursor {
                query: self.digest(),
                before,
                now: 0,
            },
        }
    }

    /// Of all that decides which tokens there are; not of `limit` and `after`.
    fn digest(&self) -> [u8; 8] {
        let bound = |bound: Option<TimeBound>| match bound {
            None => String::new(),
            Some(TimeBound::At(time)) => time.unix_micros().to_string(),
            Some(TimeBound::Ago { seconds, .. }) => format!("{seconds} s ago"),
        };
        // No part but the last can hold a line feed.
        let text = format!(
            "{}\n{}\n{}\n{}\n{}",
            self.status.map_or("", TokenStatus::as_str),
            self.kind.map_or("", TokenKind::as_str),
            bound(self.since),
            bound(self.until),
            self.client_id.as_deref().unwrap_or("\n"),
        );
        let mut short = [0; 8];
        let digest = Sha256::digest(text.as_bytes());
        short.iter_mut().zip(digest).for_each(|(short, byte)| *short = byte);
        short
    }
}

/// The form of a cursor's bytes.
const CURSOR_VERSION: u8 = 1;
/// The version, the query's digest, the index, and what spans are counted back from.
const CURSOR_BYTES: usize = 1 + 8 + 8 + 8;

impl TokenCursor {
    /// Reads what `Display` wrote; `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; CURSOR_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (query, rest) = rest.split_first_chunk::<8>()?;
        let (before, rest) = rest.split_first_chunk::<8>()?;
        let now = rest.first_chunk::<8>()?;
        (*version == CURSOR_VERSION).then_some(Self {
            query: *query,
            before: u64::from_be_bytes(*before),
            now: i64::from_be_bytes(*now),
        })
    }
}

impl fmt::Display for TokenCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(CURSOR_BYTES);
        bytes.push(CURSOR_VERSION);
        bytes.extend(self.query);
        bytes.extend(self.before.to_be_bytes());
        bytes.extend(self.now.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_print_and_parse(before in any::<u64>(), now in any::<i64>(), query in any::<[u8; 8]>()) {
            let cursor = TokenCursor { query, before, now };
            prop_assert_eq!(TokenCursor::parse(&cursor.to_string()), Some(cursor));
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,60}") {
            let _ = TokenCursor::parse(&text);
        }
    }

    fn an_hour_before(now: i64) -> TokenQuery {
        let now = Timestamp::from_unix_micros(now * 1_000_000);
        TokenQuery {
            since: Some(TimeBound::Ago {
                seconds: 3_600,
                time: now.plus_seconds(-3_600),
            }),
            ..TokenQuery::default()
        }
    }

    #[test]
    fn a_span_back_from_now_means_on_every_page_what_it_meant_on_the_first() {
        let at = |now: i64| Timestamp::from_unix_micros(now * 1_000_000);
        let first = an_hour_before(10_000).pinned(at(10_000));
        let second = TokenQuery {
            after: Some(first.cursor(7)),
            ..an_hour_before(10_042)
        };
        assert_eq!(second.digest(), second.after.unwrap().query);
        assert_eq!(second.pinned(at(10_042)).since, first.since);
        assert_eq!(first.since, Some(TimeBound::At(at(6_400))));
    }

    #[test]
    fn every_condition_is_part_of_what_a_cursor_belongs_to() {
        let any = TokenQuery::default();
        let others = [
            TokenQuery {
                client_id: Some("orders".into()),
                ..any.clone()
            },
            TokenQuery {
                client_id: Some(String::new()),
                ..any.clone()
            },
            TokenQuery {
                status: Some(TokenStatus::Active),
                ..any.clone()
            },
            TokenQuery {
                kind: Some(TokenKind::Jwt),
                ..any.clone()
            },
            an_hour_before(10_000),
        ];
        for other in &others {
            assert_ne!(other.digest(), any.digest());
        }
        let wider = TokenQuery {
            limit: 7,
            ..any.clone()
        };
        assert_eq!(wider.digest(), any.digest());
    }
}
