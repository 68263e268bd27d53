//! Counts over the trail; the counting is on the record before it is answered.

use crate::audit::statistics::{Statistics, StatisticsError, StatisticsQuery, count};
use crate::audit::{AuditQuery, Order, TimeBound};
use crate::policy::CommandRefused;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::TrailAccess;
use grantlog_projections::values::ApplicationUri;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an answer waits for the index to reach the log's end.
const PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// Counts events.
    pub async fn audit_statistics(
        &self,
        query: StatisticsQuery,
        filter: BTreeMap<String, String>,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<Statistics, ServiceError> {
        let turn = self.log_readers.turn(reader).await?;
        // What has just happened is worth a moment; an index that is further behind says so in the answer.
        let reached = self.index()?.wait_until_indexed(self.store.log_size());
        let _ = tokio::time::timeout(PATIENCE, reached).await;
        // The index knows where the window begins and ends: only that part of the log is read.
        let edge = |order: Order| AuditQuery {
            since: query.since.map(TimeBound::At),
            until: query.until.map(TimeBound::At),
            order,
            limit: 1,
            ..AuditQuery::default()
        };
        let first = self.search_unrecorded(&edge(Order::Asc)).await?;
        let last = self.search_unrecorded(&edge(Order::Desc)).await?;
        let indexed_through = first.indexed_through;
        let range = match (first.events.first(), last.events.first()) {
            (Some(first), Some(last)) => first.index..indexed_through.min(last.index + 1),
            _ => 0..0,
        };
        let counted = count(query, range, self.store.clone(), indexed_through, turn).await?;
        let rows = counted.totals.len() as u64;
        self.record_reading(
            filter,
            rows,
            indexed_through,
            TrailAccess::Statistics,
            reader,
            circumstances,
        )
        .await?;
        Ok(counted)
    }
}

impl From<StatisticsError> for ServiceError {
    fn from(error: StatisticsError) -> Self {
        match error {
            StatisticsError::TooManyEvents { .. } => CommandRefused::invalid("since", error).into(),
            StatisticsError::TooManyBuckets => CommandRefused::invalid("interval", error).into(),
            StatisticsError::Reading(error) => error.into(),
        }
    }
}
