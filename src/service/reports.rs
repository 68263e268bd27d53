//! Reports, and the state of everything as it was: both read the whole log, so only a few at a time.

use crate::audit::reports::document::Report;
use crate::audit::reports::{LogCheckpoint, ReportError, ReportFormat, ReportKind, state_as_of};
use crate::audit::transparency::TransparencyError;
use crate::event_store::ExpectedRevision;
use crate::policy::CommandRefused;
use crate::service::applications::AsOf;
use crate::service::record::Circumstances;
use crate::service::shares::{Share, Shares};
use crate::service::{Service, ServiceError};
use grantlog_projections::directory::Directory;
use grantlog_projections::event::ReportProduced;
use grantlog_projections::values::{Actor, ApplicationUri, StreamName};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Readings of the whole log at the same time.
pub const MAX_RUNNING: usize = 2;
/// Readings that wait for one of those; more are refused.
pub const MAX_WAITING: usize = 8;
/// Readings of one caller, those that wait included.
pub const MAX_OF_ONE_CALLER: usize = 4;

/// The places of those who read the whole log.
pub(super) struct LogReaders {
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
    shares: Shares,
}

/// The permits of one reader, and its caller's share: given back when the last who works for it drops them, which may be a thread that its
/// caller did not wait for.
pub(super) type Turn = Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit, Share)>;

impl LogReaders {
    pub fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_RUNNING + MAX_WAITING)),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            shares: Shares::new(MAX_OF_ONE_CALLER),
        }
    }

    /// Waits for its turn; refuses when too many wait already, or too many of the same caller.
    pub async fn turn(&self, caller: &ApplicationUri) -> Result<Turn, ServiceError> {
        let share = self.shares.take(caller, "readings of the whole log")?;
        let busy = || ServiceError::Busy("too many reports are being made at once".into());
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy())?;
        // The semaphores are never closed.
        let running = self.running.clone().acquire_owned().await.map_err(|_| busy())?;
        Ok(Arc::new((place, running, share)))
    }
}

/// A report as it leaves.
pub struct ProducedReport {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// The log's size up to which it speaks.
    pub through_index: u64,
}

impl Service {
    /// Makes a report; that it was made, and the SHA-256 of it, is on the record before it is answered.
    pub async fn report(
        &self,
        kind: &'static ReportKind,
        given: &[(String, String)],
        format: ReportFormat,
        reader: &ApplicationUri,
        circumstances: &Circumstances,
    ) -> Result<ProducedReport, ServiceError> {
        let turn = self.log_readers.turn(reader).await?;
        let parameters = kind.parameters(given, &*self.store).await?;
        let checkpoint = match self.transparency()?.checkpoint_at(parameters.through_index).await {
            Ok(signed) => Ok(LogCheckpoint {
                note: signed.text,
                root: signed.root,
            }),
            // A log that is not the one that was signed is what a report has to say, not why there is none.
            Err(TransparencyError::Stopped(reason)) => Err(reason),
            Err(error) => return Err(error.into()),
        };
        let server = self.settings.issuer.clone();
        let report = kind
            .produce(parameters, self.store.clone(), server, checkpoint, turn.clone())
            .await?;
        let fact = fact(&report, format, reader);
        let rendering = tokio::task::spawn_blocking(move || {
            let bytes = format.render(&report);
            let sha256: [u8; 32] = Sha256::digest(&bytes).into();
            drop(turn);
            (bytes, sha256)
        });
        let (bytes, sha256) = rendering
            .await
            .map_err(|error| ServiceError::Audit(error.to_string()))?;
        let through_index = fact.through_index;
        let fact = ReportProduced {
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            ..fact
        };
        let (stream, actor) = (StreamName::audit_access(), Actor::Application(reader.clone()));
        self.record(stream, ExpectedRevision::Any, &actor, circumstances, [fact.into()])
            .await?;
        Ok(ProducedReport {
            bytes,
            sha256,
            through_index,
        })
    }

    /// All applications and APIs as they were then.
    pub async fn directory_as_of(&self, as_of: AsOf, reader: &ApplicationUri) -> Result<Directory, ServiceError> {
        let turn = self.state_readers.turn(reader).await?;
        Ok(state_as_of(self.store.clone(), as_of.into(), turn).await?)
    }
}

fn fact(report: &Report, format: ReportFormat, reader: &ApplicationUri) -> ReportProduced {
    let parameters: BTreeMap<String, String> = report
        .parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    ReportProduced {
        application_uri: reader.clone(),
        report: report.name.to_owned(),
        format: format.as_str().to_owned(),
        parameters,
        rows: report.rows(),
        through_index: report.through_index,
        sha256: String::new(),
    }
}

impl From<ReportError> for ServiceError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Parameter(invalid) => CommandRefused::invalid(&invalid.parameter, invalid.message).into(),
            ReportError::Log(error) => error.into(),
            ReportError::Event(error) => error.into(),
            ReportError::BrokenOff(_) => Self::Audit(error.to_string()),
        }
    }
}
