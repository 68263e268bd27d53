use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// How often the same complaint about the collector is logged.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets OpenTelemetry warn that the collector does not answer, but not once per export: a busy server exports
/// many times a second. What it has to say below a warning is of use to its own developers. Everything that is
/// not OpenTelemetry's passes.
#[derive(Debug, Default)]
pub struct CollectorComplaints {
    /// One entry per place in OpenTelemetry's code that logs: as many as it has, and no more.
    last_logged: Mutex<HashMap<Identifier, Instant>>,
}

impl CollectorComplaints {
    fn is_due(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last_logged.get(&metadata.callsite());
        let due = last.is_none_or(|last| now.saturating_duration_since(*last) >= INTERVAL);
        if due {
            last_logged.insert(metadata.callsite(), now);
        }
        due
    }
}

impl<S> Filter<S> for CollectorComplaints {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        is_wanted(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match (is_wanted(metadata), is_opentelemetry(metadata)) {
            (false, _) => Interest::never(),
            (true, false) => Interest::always(),
            // `event_enabled` may say no, which tracing-subscriber expects only of those that it asks each time.
            (true, true) => Interest::sometimes(),
        }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        !is_opentelemetry(event.metadata()) || self.is_due(event.metadata(), Instant::now())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // No hint at all would count as "unknown" and take the other filter's away.
        Some(LevelFilter::TRACE)
    }
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    !is_opentelemetry(metadata) || *metadata.level() <= Level::WARN
}

fn is_opentelemetry(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("opentelemetry")
}
