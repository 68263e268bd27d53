//! What an application uses, for those who may read the trail: it names where requests come from.

use crate::audit::usage::answer::UsageAnswer;
use crate::policy::CommandRefused;
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::event::TrailAccess;
use grantlog_projections::values::{ApplicationId, ApplicationUri};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most days that can be told apart: as many as are kept.
pub const MAX_USAGE_DAYS: u32 = grantlog_projections::usage::MAX_DAYS as u32;

/// How long an answer waits for the uses to reach the log's end.
const PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// An application's uses, the deleted ones' too; the reading is on the record before it is answered.
    pub async fn application_usage(
        &self,
        id: ApplicationId,
        days: u32,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<UsageAnswer, ServiceError> {
        let trail = self.trail()?;
        let application = self.snapshot().directory.application(id).cloned();
        let application =
            application.ok_or_else(|| CommandRefused::NotFound(format!("there is no application {id}")))?;
        // What has just happened is worth a moment; uses that are further behind say so in the answer.
        let reached = trail.usage.wait_until_through(self.store.log_size());
        let _ = tokio::time::timeout(PATIENCE, reached).await;
        if let Some(failure) = trail.usage.failed() {
            return Err(ServiceError::Audit(failure));
        }
        let (usage, through) = trail.usage.application(id);
        let log_size = self.store.log_size();
        let answer = UsageAnswer::of(&application, &usage, days, circumstances.now, through, log_size);
        let parameters = BTreeMap::from([
            ("usage_of".to_owned(), application.uri.to_string()),
            ("days".to_owned(), days.to_string()),
        ]);
        let rows = answer.secrets.len() as u64;
        self.record_reading(
            parameters,
            rows,
            through,
            TrailAccess::Statistics,
            reader,
            circumstances,
        )
        .await?;
        Ok(answer)
    }
}
