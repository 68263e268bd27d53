//! What is done again and again while the server serves.

use crate::forwarding::Forwarding;
use crate::service::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often ended lockout windows are reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often signing keys are looked after.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether sessions are over.
const END_SESSIONS_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether something is to be given up.
const RETAIN_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn report(service: Arc<Service>, forwarding: Arc<Forwarding>) {
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.report_suppressed(false).await;
        // Also for those who do not scrape: the lag of a dead sink grows without anything that it does.
        forwarding.gauge();
    }
}

pub(super) async fn look_after(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        service.upkeep().await;
    }
}

pub(super) async fn end_sessions(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(END_SESSIONS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = service.end_sessions_that_are_over().await
            && !error.is_told_elsewhere()
        {
            tracing::warn!(%error, "sessions that are over could not be ended yet");
        }
    }
}

pub(super) async fn retain(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(RETAIN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = service.retain().await {
            tracing::warn!(%error, "what is to be given up could not be yet");
        }
    }
}
