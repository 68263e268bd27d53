//! Taking a copy of the audit trail out, in constant memory: a few batches of events are read and written at the
//! same time, and no more than the reader takes.

use crate::audit::export::manifest::{Manifest, Tally};
use crate::audit::export::{BATCH_EVENTS, ExportError, ExportFormat, Part, write_range};
use crate::audit::selection::Selection;
use crate::audit::transparency::TransparencyError;
use crate::policy::CommandRefused;
use crate::service::authorize_call::Caller;
use crate::service::record::Circumstances;
use crate::service::streams::{CHECK_EVERY, Ended, Outlet, Place};
use crate::service::{Service, ServiceError};
use futures_util::stream::{self, Stream, StreamExt};
use grantlog_projections::event::{AuditTrailExported, AuditTrailRead, TrailAccess};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Batches of one export that are read and written at the same time.
const MAX_BATCHES_IN_FLIGHT: usize = 3;
/// Characters of a parameter that the event of its export keeps.
const MAX_RECORDED_CHARS: usize = 256;

/// What to take a copy of.
pub struct ExportRequest {
    /// How it is written.
    pub format: ExportFormat,
    /// Which events of the range; its query's `from_index` is the range's begin.
    pub selection: Selection,
    /// The conditions as they were put, whole.
    pub filter: BTreeMap<String, String>,
    /// The index after the last of the range; none: what the log has now.
    pub through_index: Option<u64>,
}

/// An export that has begun.
pub struct Export {
    /// From the first index to the one after the last.
    pub range: Range<u64>,
    /// Its parts in order. One that ends with an error, or without having come to the range's end, is not whole.
    pub parts: mpsc::Receiver<Result<Vec<u8>, ExportBrokeOff>>,
}

/// An export ended before its range did. Why is in the server's log, unless it stopped or the caller may not read
/// any more.
#[derive(Debug, thiserror::Error)]
#[error("the export broke off")]
pub struct ExportBrokeOff;

impl Service {
    /// Takes a copy of a range of the log; that it is taken is on the record before the first byte is handed over.
    pub async fn export_audit(
        self: &Arc<Self>,
        request: ExportRequest,
        required_scope: &'static str,
        caller: Caller,
        circumstances: &Circumstances,
    ) -> Result<Export, ServiceError> {
        let place = self.streams.exports.take(&caller.application_uri)?;
        let range = self.range(&request)?;
        let fact = AuditTrailExported {
            application_uri: caller.application_uri.clone(),
            format: request.format.as_str().to_owned(),
            filter: cut(&request.filter),
            from_index: range.start,
            through_index: range.end,
        };
        self.record_access(fact.into(), &caller.application_uri, circumstances)
            .await?;
        let (outlet, parts) = self.streams.open(place.clone());
        let writing = Writing {
            service: self.clone(),
            caller,
            required_scope,
            outlet,
        };
        let format = request.format;
        let batches = self.batches(range.clone(), format, Arc::new(request.selection), place);
        tokio::spawn(writing.run(format.head(), batches));
        Ok(Export { range, parts })
    }

    /// What an export with these parameters is, without handing it over. That it was asked for is on the record.
    pub async fn export_manifest(
        self: &Arc<Self>,
        request: ExportRequest,
        caller: &Caller,
        circumstances: &Circumstances,
    ) -> Result<Manifest, ServiceError> {
        let place = self.streams.exports.take(&caller.application_uri)?;
        let range = self.range(&request)?;
        let mut filter = cut(&request.filter);
        filter.insert("format".into(), request.format.as_str().into());
        filter.insert("from_index".into(), range.start.to_string());
        let fact = AuditTrailRead {
            application_uri: caller.application_uri.clone(),
            filter,
            rows: 0,
            through_index: range.end,
            via: TrailAccess::Statistics,
        };
        self.record_access(fact.into(), &caller.application_uri, circumstances)
            .await?;

        let format = request.format;
        let mut tally = Tally::default();
        tally.add(0, &format.head());
        let mut batches = Box::pin(self.batches(range.clone(), format, Arc::new(request.selection), place.clone()));
        while let Some(part) = batches.next().await {
            let part = part.map_err(|error| ServiceError::Audit(error.to_string()))?;
            // Hashing is work in proportion to the log, too.
            let place = place.clone();
            let hashing = tokio::task::spawn_blocking(move || {
                tally.add_part(&part);
                drop(place);
                tally
            });
            tally = hashing.await.map_err(|error| ServiceError::Audit(error.to_string()))?;
        }
        let manifest = tally.manifest(format, range.clone(), request.filter);
        Ok(Manifest {
            checkpoint: self.checkpoint_of(range.end).await?,
            ..manifest
        })
    }

    /// The checkpoint of the tree up to a range's end. Whoever exports from a server whose tree is broken needs
    /// the export all the more: it is then without one.
    async fn checkpoint_of(&self, size: u64) -> Result<Option<String>, ServiceError> {
        match self.checkpoint_at(size).await {
            Ok(checkpoint) => Ok(Some(checkpoint.text)),
            Err(ServiceError::Transparency(TransparencyError::Overloaded)) => {
                Err(ServiceError::Busy("the transparent log cannot answer just now".into()))
            }
            Err(error) => {
                tracing::warn!(%error, size, "an export's manifest is without a checkpoint");
                Ok(None)
            }
        }
    }

    /// The range's end is what the log has now, unless it was given.
    fn range(&self, request: &ExportRequest) -> Result<Range<u64>, ServiceError> {
        let log_size = self.store.log_size();
        let from = request.selection.query().from_index;
        let through = request.through_index.unwrap_or(log_size);
        if through > log_size {
            let message = format!("must be {log_size} at the most: the log has so many events");
            return Err(CommandRefused::invalid("through_index", message).into());
        }
        if from > through {
            let message = format!("must be {through} at the most, the range's end");
            return Err(CommandRefused::invalid("from_index", message).into());
        }
        Ok(from..through)
    }

    /// The parts of a range, in order, a few of them under way at the same time. Each keeps the place until it is
    /// written, whether or not anybody still waits for it.
    fn batches(
        &self,
        range: Range<u64>,
        format: ExportFormat,
        selection: Arc<Selection>,
        place: Arc<Place>,
    ) -> impl Stream<Item = Result<Part, ExportError>> + Send + 'static {
        let store = self.store.clone();
        let begins = stream::unfold(range.start, move |from| async move {
            (from < range.end).then(|| {
                (
                    from..range.end.min(from.saturating_add(BATCH_EVENTS)),
                    from.saturating_add(BATCH_EVENTS),
                )
            })
        });
        begins
            .map(move |range| {
                // Each on a task of its own: it goes on while the part before it waits for the reader.
                let (place, part) = (
                    place.clone(),
                    write_range(store.clone(), range, format, selection.clone()),
                );
                tokio::spawn(async move {
                    let part = part.await;
                    drop(place);
                    part
                })
            })
            .buffered(MAX_BATCHES_IN_FLIGHT)
            .map(|written| written?)
    }
}

fn cut(filter: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    filter
        .iter()
        .map(|(name, value)| (name.clone(), value.chars().take(MAX_RECORDED_CHARS).collect()))
        .collect()
}

/// An export on its way to its reader.
struct Writing {
    service: Arc<Service>,
    caller: Caller,
    required_scope: &'static str,
    outlet: Outlet<Result<Vec<u8>, ExportBrokeOff>>,
}

impl Writing {
    async fn run(mut self, head: Vec<u8>, batches: impl Stream<Item = Result<Part, ExportError>>) {
        if let Err(Ended::Because(_)) = self.write(head, batches).await {
            self.outlet.send_last(Err(ExportBrokeOff));
        }
    }

    async fn write(
        &mut self,
        head: Vec<u8>,
        batches: impl Stream<Item = Result<Part, ExportError>>,
    ) -> Result<(), Ended> {
        let mut batches = std::pin::pin!(batches);
        let mut checked = Instant::now();
        if !head.is_empty() {
            self.outlet.send(Ok(head)).await?;
        }
        while let Some(part) = batches.next().await {
            let part = part.map_err(|error| {
                tracing::error!(%error, "an export of the audit trail broke off");
                Ended::Because(crate::service::streams::EndReason::LogEnded)
            })?;
            if checked.elapsed() >= CHECK_EVERY {
                checked = Instant::now();
                self.service
                    .may_still(&self.caller, self.required_scope)
                    .map_err(Ended::Because)?;
            }
            if !part.bytes.is_empty() {
                self.outlet.send(Ok(part.bytes)).await?;
            }
        }
        Ok(())
    }
}
